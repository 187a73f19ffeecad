"""A rectifier as a comparison, a product and a selection (clause O-gated_product).

Sources: glow lib/Optimizer/Lower/Lower.cpp lowerPReluNode, lowerLeakyReluNode (the slope is a code
of the input's grid); glow lib/Importer/TFLiteModelLoader.cpp loadBinaryArithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import Stage
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import tabled
from qinterp.ops.common_grid import CODES, CommonGrid, from_grid, to_grid
from qinterp.ops.leaky_relu import LEAKY_RELU
from qinterp.ops.prelu import PRELU


@dataclass(frozen=True)
class GatedProduct(CommonGrid):
    """``x`` or ``slope * x``, whichever it is, by the common grid to the output.

    Attributes
    ----------
    gate : from the input to what is compared with zero, by the input's scale.
    product : from the product to a code of the slope's grid, by input scale * slope scale / slope
        scale, every operation in float32.
    """

    gate: tuple[Stage, ...] = ()
    product: tuple[Stage, ...] = ()


@LEAKY_RELU.recipe("gated_product", GatedProduct)
def leaky_relu(call: Call) -> Run:
    """The slope is one code."""
    tensor = call["input"]
    scale, zero_point = call.per_tensor(tensor)
    kind = tensor.int_type
    code = call.policy.activation_bounds.code(call.attributes["alpha"], scale, zero_point)
    slope = np.array(min(max(code, kind.min), kind.max))
    return tabled(call, _gated(call, tensor, lambda values: slope))


@PRELU.recipe("gated_product", GatedProduct)
def prelu(call: Call) -> Run:
    """The slopes are an operand."""
    return _gated(call, call["alpha"], lambda values: values[1])


def _gated(call: Call, slope: Tensor, slopes: Callable[[Sequence[Any]], Any]) -> Run:
    """``slope`` says on which grid the codes that ``slopes`` gives are."""
    call.types(input=CODES, output=(call["input"].dtype,))
    if slope.dtype != call["input"].dtype:
        call.unsupported(f"{slope.describe()} is not of the input's type")
    params: GatedProduct = call.params
    multiplier = call.policy.multiplier
    scale, zero_point = call.per_tensor(call["input"])
    slope_scale, slope_zero_point = call.per_tensor(slope)
    gate = Requantizer(params.gate, Rescale.of_factor(scale, multiplier))
    product_scale = np.float32(slope_scale) * np.float32(scale)
    kind = slope.int_type
    to_slope_grid = Requantizer(
        params.product,
        Rescale.of_factor(float(product_scale / np.float32(slope_scale)), multiplier),
        zero_point=slope_zero_point,
        bounds=(kind.min, kind.max),
    )
    above, below = to_grid(call, call["input"]), to_grid(call, slope)
    finish = from_grid(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0].astype(np.int64) - zero_point
        product = x * (slopes(values).astype(np.int64) - slope_zero_point)
        notes.add("accumulator", product)
        scaled = below(apply_stages(to_slope_grid, product))
        return [finish(np.where(apply_stages(gate, x) >= 0, above(values[0]), scaled))]

    return run
