"""A mean over axes, one after the other, in 8 bits (clause O-chained_means).

Sources: glow lib/Importer/TFLiteModelLoader.cpp loadReduce; glow lib/Optimizer/Lower/Lower.cpp
lowerBatchedReduceMeanNode; glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_batchedreduceadd_i8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import activation_bounds
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops.mean import MEAN
from qinterp.ops.whole_quotient import CODES, real_steps, whole_steps


@dataclass(frozen=True)
class ChainedMeans:
    """Every axis gives a sum, saturated to a code of its own grid, divided by a code of the length.

    Attributes
    ----------
    quotient : of the codes, its fraction cut off, or of float32 values.
    stages : from the quotient to a code of the output.
    """

    quotient: Literal["whole", "real"]
    stages: tuple[Stage, ...]


@MEAN.recipe("chained_means", ChainedMeans)
def chained_means(call: Call) -> Run:
    """The axes in the order in which the model names them."""
    call.types(input=CODES, output=(call["input"].dtype,))
    rank = len(call["input"].shape)
    axes = [axis % rank for axis in call.integers("axes")]
    if not axes or len(set(axes)) < len(axes):
        call.unsupported(f"a mean over axes {axes}")
    grids = [call["input"], *(call.output for _ in axes[1:])]
    lengths = [call["input"].shape[axis] for axis in axes]
    output = call.quantization(call.output)
    for grid, length in zip(grids, lengths, strict=True):
        # the source drops a division by one, also where that changes the grid
        if length == 1 and not call.quantization(grid).same_as(output):
            call.unsupported("a mean over an axis of length one that changes the scale")
    steps = [
        _Step(call, grid, length, axis)
        for grid, length, axis in zip(grids, lengths, axes, strict=True)
        if length > 1
    ]
    shape, dtype = call.output.shape, call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        codes = values[0].astype(np.int64)
        for step in steps:
            codes = step(codes)
        return [codes.astype(dtype).reshape(shape)]

    return run


class _Step:
    """The mean over one axis, from a grid to the output's; the axis stays, with length one."""

    def __init__(self, call: Call, tensor: Tensor, length: int, axis: int) -> None:
        params: ChainedMeans = call.params
        scale, zero_point = call.per_tensor(tensor)
        self._axis, self._zero_point = axis, zero_point
        self._low, self._high = tensor.int_type.min, tensor.int_type.max
        code = call.policy.activation_bounds.code(float(length), scale, self._zero_point)
        self._divisor = min(max(code, self._low), self._high) - self._zero_point
        if self._divisor == 0 and params.quotient == "whole":
            call.unsupported(f"a mean over {length} elements, which is zero on a grid of {scale}")
        out_scale, out_zero_point = call.per_tensor(call.output)
        steps = whole_steps if params.quotient == "whole" else real_steps
        self._quotient, factor = steps(scale, scale, out_scale)
        self._stages = Requantizer(
            params.stages,
            Rescale.of_factor(factor, call.policy.multiplier),
            zero_point=out_zero_point,
            bounds=activation_bounds(call),
        )

    def __call__(self, codes: Array) -> Array:
        """Codes of the output's grid."""
        total = (codes - self._zero_point).sum(axis=self._axis, keepdims=True)
        total = np.clip(total + self._zero_point, self._low, self._high) - self._zero_point
        return apply_stages(self._stages, self._quotient(total, np.array(self._divisor)))
