"""Sums of raw codes, rescaled in float32 (clauses O-mean.2 and O-sum.2).

Source: tflite/kernels/internal/optimized/reduce.h QuantizedMeanOrSum; XNNPACK
src/operators/reduce-nd.c, src/reference/unary-elementwise.cc (conversion of a quantized int32).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import AddZeroPoint, Clamp, Round, Stage
from qinterp.ops._accumulate import INTEGERS, accumulated, activation_bounds
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._reduce import constant, integer_sum, reduced_count

_UNSCALED = Rescale.of_factor(1.0, Multiplier("none"))


@dataclass(frozen=True)
class FloatBias:
    """``sum * factor - zero point * factor * count``; every operation in float32.

    Attributes
    ----------
    stages : from that float to the output code.
    """

    stages: tuple[Stage, ...] = (Round("ties_to_away"), AddZeroPoint(), Clamp())


@dataclass(frozen=True)
class FloatZeroPoint:
    """``sum * factor + zero point'``, the zero points of input and output in one float32.

    Attributes
    ----------
    stages : from that float to the output code.
    """

    stages: tuple[Stage, ...] = (Round("ties_to_even", 64, "saturate"), Clamp())


def float_bias_sum(call: Call) -> Run:
    """The sum by :class:`FloatBias`."""
    factor, zero_point, _ = _scales(call)
    bias = np.float32(-zero_point) * factor * np.float32(reduced_count(call))
    return _rescaled(call, factor, bias)


def float_zero_point(call: Call, *, mean: bool) -> Run:
    """The sum, or the mean, by :class:`FloatZeroPoint`."""
    factor, zero_point, out_zero_point = _scales(call)
    count = reduced_count(call)
    if mean and count:
        factor = factor * (np.float32(1) / np.float32(count))
    moved = np.float32(out_zero_point) - np.float32(count * zero_point) * factor
    return _rescaled(call, factor, moved)


def _scales(call: Call) -> tuple[np.float32, int, int]:
    scale, zero_point = call.per_tensor(call["input"])
    unit, out_zero_point = call.per_tensor(call.output)
    return np.float32(scale) / np.float32(unit), zero_point, out_zero_point


def _rescaled(call: Call, factor: np.float32, offset: np.float32) -> Run:
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    if 0 in call["input"].shape:
        return constant(call, 0)
    stages = Requantizer(
        call.params.stages,
        _UNSCALED,
        zero_point=call.per_tensor(call.output)[1],
        bounds=activation_bounds(call),
    )
    total = integer_sum(call, 0, call.policy.accumulator.codes)
    dtype = call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc = accumulated(call, total(values[0]), notes)
        value = acc.astype(np.float32) * factor + offset
        return [apply_stages(stages, value, dtype)]

    return run
