"""An average as a sum of steps that is rescaled and divided (clause O-scaled_average).

Sources: glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_avg_pool_i8, libjit_defs.h
libjit_div_round_i32; glow lib/Backends/Interpreter/InterpreterNodes.cpp fwdAvgPoolInstI8Impl;
glow lib/Importer/TFLiteModelLoader.cpp loadReduce (a mean over height and width is a pool).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import accumulated, activation_bounds
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._pool import Windows
from qinterp.ops._reduce import integer_sum, reduced_count
from qinterp.ops.average_pool_2d import AVERAGE_POOL_2D
from qinterp.ops.mean import MEAN

CODES = ("int8", "uint8")


@dataclass(frozen=True)
class ScaledAverage:
    """The sum of codes less their zero point, brought to the output and divided by their number.

    Attributes
    ----------
    before : by input scale / output scale, rounded to float32.
    stages : from there to a code. Their factor is one over the number of codes, exactly; without
        ``before`` it is the quotient of the scales over that number, each rounded to float32.
    """

    stages: tuple[Stage, ...]
    before: tuple[Stage, ...] = ()


class _Divide:
    """From sums to codes, by how many codes went into each."""

    def __init__(self, call: Call, counts: npt.NDArray[np.int64]) -> None:
        params: ScaledAverage = call.params
        scale, _ = call.per_tensor(call["input"])
        scale_out, zero_point = call.per_tensor(call.output)
        multiplier = call.policy.multiplier
        ratio = np.float32(scale) / np.float32(scale_out)
        self._counts = counts
        self._dtype = call.output.numpy_dtype
        self._before = Requantizer(params.before, Rescale.of_factor(float(ratio), multiplier))
        self._stages = {}
        for count in np.unique(counts).tolist():
            factor: Any = Fraction(1, count) if params.before else float(ratio / np.float32(count))
            self._stages[count] = Requantizer(
                params.stages,
                Rescale.of_factor(factor, multiplier),
                zero_point=zero_point,
                bounds=activation_bounds(call),
            )

    def __call__(self, total: Array) -> Array:
        """Codes of sums (N, places, C), the counts being (places)."""
        steps = apply_stages(self._before, total)
        out = np.empty(total.shape, self._dtype)
        for count, stages in self._stages.items():
            here = self._counts == count
            out[:, here] = apply_stages(stages, steps[:, here], self._dtype)
        return out


@AVERAGE_POOL_2D.recipe("scaled_average", ScaledAverage)
def pooled(call: Call) -> Run:
    """The average of every window, over the taps that lie in the image."""
    call.types(input=CODES, output=(call["input"].dtype,))
    windows = Windows.of(call)
    zero_point = call.per_tensor(call["input"])[1]
    divide = _Divide(call, windows.counts.reshape(-1))
    total = windows.sums(call, zero_point, call.policy.accumulator.codes)
    n, h, w, c = call.output.shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc = accumulated(call, total(values[0]), notes)
        return [divide(acc.reshape(n, h * w, c)).reshape(n, h, w, c)]

    return run


@MEAN.recipe("scaled_average", ScaledAverage)
def reduced(call: Call) -> Run:
    """The mean over the axes."""
    call.types(input=CODES, output=(call["input"].dtype,))
    zero_point = call.per_tensor(call["input"])[1]
    count = reduced_count(call)
    if count == 0:
        call.unsupported("a mean of no elements")
    divide = _Divide(call, np.array([count]))
    total = integer_sum(call, zero_point, call.policy.accumulator.codes)
    shape = call.output.shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc = accumulated(call, total(values[0]), notes)
        return [divide(acc.reshape(1, 1, math.prod(shape))).reshape(shape)]

    return run
