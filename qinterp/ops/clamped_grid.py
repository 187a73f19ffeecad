"""Rectifiers whose bounds are codes of one grid, and clamp there (clause O-clamped_grid).

Sources: glow lib/LLVMIRCodeGen/LLVMIRGen.cpp ClipInst, libjit.cpp libjit_element_clip_i8; glow
lib/Optimizer/Lower/Lower.cpp lowerClipNode, lib/Graph/Graph.cpp createMax, createMin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp.errors import SchemeError
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.scales import ACTIVATIONS
from qinterp.ops._operator import Notes, Operator, Run
from qinterp.ops._tables import tabled
from qinterp.ops.common_grid import CommonGrid, from_grid, to_grid
from qinterp.ops.relu6 import RELU6
from qinterp.ops.relu_n1_to_1 import RELU_N1_TO_1

Grid = Literal["input", "output"]


@dataclass(frozen=True)
class ClampedGrid(CommonGrid):
    """A change of grids with a clamp before or after it.

    Attributes
    ----------
    low, high : the grids that a bound becomes a code of, by the policy's activation bounds, one
        after the other; it clamps on the last.
    """

    low: tuple[Grid, ...] = ("output",)
    high: tuple[Grid, ...] = ("output",)

    def __post_init__(self) -> None:
        if not (self.low and self.high):
            raise ValueError("low and high must name the grid of the bound")


def _bound(call: Call, real: float, grids: Sequence[Grid]) -> tuple[Grid, int]:
    """The last grid, and the code of the bound there."""
    rule, grid, code = call.policy.activation_bounds, grids[0], 0
    if rule.precision != "float32":
        raise SchemeError(call.where("bounds that change grids need activation_bounds of float32"))
    for grid in grids:
        tensor = call["input"] if grid == "input" else call.output
        scale, zero_point = call.per_tensor(tensor)
        kind = tensor.int_type
        code = min(max(rule.code(real, scale, zero_point), kind.min), kind.max)
        real = float(np.float32(scale) * np.float32(code - zero_point))
    return grid, code


def _clamped(call: Call) -> Run:
    params: ClampedGrid = call.params
    low, high = ACTIVATIONS[call.attributes["activation"]]
    assert low is not None
    assert high is not None
    bounds = {"low": _bound(call, low, params.low), "high": _bound(call, high, params.high)}
    rescale, finish = to_grid(call, call["input"]), from_grid(call, bounded=False)

    def clamp(x: Array, grid: Grid) -> Array:
        if bounds["low"][0] == grid:
            x = np.maximum(x, bounds["low"][1])
        return np.minimum(x, bounds["high"][1]) if bounds["high"][0] == grid else x

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = rescale(clamp(values[0].astype(np.int64), "input"))
        notes.add("accumulator", x)
        return [clamp(finish(x), "output").astype(call.output.numpy_dtype)]

    return tabled(call, run)


def _declare(operator: Operator) -> None:
    operator.recipe("clamped_grid", ClampedGrid)(_clamped)


for _operator in (RELU6, RELU_N1_TO_1):
    _declare(_operator)
