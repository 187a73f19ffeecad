"""Sum over axes (clause O-sum).

Source: tflite/kernels/reduce.cc EvalSum, QuantizedMeanOrSum; tflite/kernels/internal/reference/
reduce.h QuantizedMeanOrSum, ReduceGeneric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import NAMED_STAGES, Stage
from qinterp.ops._accumulate import EXACT_SUM, INTEGERS, activation_bounds
from qinterp.ops._elementwise import Real, real_finish
from qinterp.ops._float_sums import FloatBias, FloatZeroPoint, float_bias_sum, float_zero_point
from qinterp.ops._operator import Notes, Run
from qinterp.ops._reduce import (
    PLAIN_INTEGERS,
    constant,
    float_sum,
    gatherer,
    integer_sum,
    reduction,
)

SUM = reduction("sum", "SUM")


@dataclass(frozen=True)
class RescaledSum:
    """The sum times the multiplier of input scale / output scale.

    Attributes
    ----------
    stages : from the sum to the output code.
    bytes_as_uint8 : codes are read, clamped and written as if they were unsigned bytes, which is
        what LiteRT's reference kernel does to int8.
    """

    stages: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]
    bytes_as_uint8: bool = True


@SUM.recipe("rescaled_sum", RescaledSum, family="tflite")
def rescaled_sum(call: Call) -> Run:
    """``out = zo + r(sum(x - z))``."""
    if call["input"].dtype in PLAIN_INTEGERS:
        return _plain_sum(call)
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    params: RescaledSum = call.params
    if params.bytes_as_uint8 and call.output.dtype == "int16":
        call.unsupported(
            "the kernel reads int16 as bytes and leaves half of the output unwritten; recipe "
            "parameter bytes_as_uint8 = false sums the codes"
        )
    if 0 in call["input"].shape:
        return constant(call, 0)
    scale, x_zero_point = call.per_tensor(call["input"])
    s_out, zero_point = call.per_tensor(call.output)
    stages = Requantizer(
        params.stages,
        Rescale.of_factor(scale / s_out, call.policy.multiplier),
        zero_point=zero_point,
        bounds=(0, 255) if params.bytes_as_uint8 else activation_bounds(call),
    )
    read = np.uint8 if params.bytes_as_uint8 else None
    accumulator = call.policy.accumulator.codes
    return integer_sum(call, x_zero_point, accumulator, read).finished(stages)


@SUM.recipe("float_bias", FloatBias)
def float_bias(call: Call) -> Run:
    """The sum of codes times a float32 factor, plus a float32 bias, rounded."""
    return _plain_sum(call) if call["input"].dtype in PLAIN_INTEGERS else float_bias_sum(call)


@SUM.recipe("float_zero_point", FloatZeroPoint)
def by_float_zero_point(call: Call) -> Run:
    """The sum of codes times a float32 factor, plus a float32 zero point, rounded."""
    if call["input"].dtype in PLAIN_INTEGERS:
        return _plain_sum(call)
    return float_zero_point(call, mean=False)


@SUM.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real sum, rounded once."""
    if call["input"].dtype in PLAIN_INTEGERS:
        return _plain_sum(call)
    call.types(input=INTEGERS, output=INTEGERS)
    scale, x_zero_point = call.per_tensor(call["input"])
    total = integer_sum(call, x_zero_point, EXACT_SUM)
    finish = real_finish(call, Fraction(scale))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc, _ = total(values[0])
        notes.add("accumulator", acc)
        return [finish(acc)]

    return run


@SUM.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Elements added one after the other in float32."""
    call.types(input=("float32",), output=("float32",))
    total = float_sum(call)
    return lambda values, notes: [total(values[0])]


def _plain_sum(call: Call) -> Run:
    """Plain integers: added modulo their own width."""
    call.types(output=(call["input"].dtype,))
    rows = gatherer(call)
    shape, dtype = call.output.shape, call.output.numpy_dtype
    return lambda values, notes: [rows(values[0]).sum(1, dtype=dtype).reshape(shape)]
