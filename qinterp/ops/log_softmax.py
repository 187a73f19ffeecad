"""Logarithm of the softmax over the last axis (clause O-log_softmax).

Source: tflite/kernels/activations.cc LogSoftmaxPrepare, LogSoftmaxEval; tflite/kernels/internal/
reference/log_softmax.h, integer_ops/log_softmax.h; quantization_util.cc
PreprocessLogSoftmaxScalingExp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import (
    AddZeroPoint,
    Clamp,
    MultiplyHigh,
    Round,
    ShiftLeft,
    ShiftRight,
    Stage,
)
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._elementwise import Real, apply_stages, quantize_real
from qinterp.ops._fixed_point import (
    divide_power,
    exp_on_negative_values,
    log_at_least_1,
    wrap32,
)
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import Libm, functions
from qinterp.ops._unary import unary

LOG_SOFTMAX = unary("log_softmax", "LOG_SOFTMAX", "LogSoftmaxOptions")

_GUARD = 12
_DOUBLE_ROUNDING = (
    ShiftLeft(),
    MultiplyHigh("ties_toward_positive"),
    ShiftRight("ties_to_away"),
)


@dataclass(frozen=True)
class Gemmlowp:
    """Differences to the maximum, less the logarithm of the sum of their exponentials.

    Attributes
    ----------
    input_bits, sum_bits, output_bits : integer bits of the scaled difference, of the sum and of
        the output.
    rescale : stages that bring a difference to ``input_bits``.
    unscale : stages from ``input_bits`` to a difference of codes, for the least one that fits.
    finish : stages of the result; their shift leaves the output's fraction bits.
    """

    input_bits: int = 5
    sum_bits: int = 12
    output_bits: int = 4
    rescale: tuple[Stage, ...] = _DOUBLE_ROUNDING
    unscale: tuple[Stage, ...] = _DOUBLE_ROUNDING
    finish: tuple[Stage, ...] = (ShiftRight("ties_to_away"), AddZeroPoint(), Clamp())


@LOG_SOFTMAX.recipe("gemmlowp", Gemmlowp, family="tflite")
def gemmlowp(call: Call) -> Run:
    """``out = x - max - log(sum(exp(x - max)))``."""
    types = ("int8", "uint8")
    call.types(input=types, output=(call["input"].dtype,))
    params: Gemmlowp = call.params
    kind, dtype = call.output.int_type, call.output.numpy_dtype
    unit, out_zero_point = call.per_tensor(call.output)
    call.check(
        unit == 16 / 256 and out_zero_point == kind.max,
        f"output {call.output.describe()} must have scale 1/16 and zero point {kind.max}",
    )
    scale = call.per_tensor(call["input"])[0]
    bits = params.input_bits
    factor = min(scale * (1 << (31 - bits)), (1 << 31) - 1.0)
    call.check(factor > 1.0, f"the input scale {scale} is too small")
    multiplier = call.policy.multiplier
    rescale = Rescale.of_factor(factor, multiplier)
    mantissa, shift = int(rescale.multiplier[0]), int(rescale.shift[0])
    inverse = Rescale.of_factor((1 << (31 - shift)) / mantissa, multiplier)
    call.check(inverse.shift[0] <= 0, f"the input scale {scale} is too small")
    unscale = Requantizer(params.unscale, inverse)
    last_shift = np.array([-(31 - bits - params.output_bits)])
    finish = Requantizer(
        params.finish,
        Rescale(np.ones(1), np.zeros(1, np.int64), last_shift),
        zero_point=kind.max,
        bounds=(kind.min, kind.max),
    )
    least = -(((1 << bits) - 1 << (31 - bits)) >> shift)
    differences = -np.arange(256)
    scaled = apply_stages(Requantizer(params.rescale, rescale), differences)
    near = differences >= least
    exponentials = exp_on_negative_values(np.where(near, scaled, 0), bits)
    terms = np.where(near, divide_power(exponentials, params.sum_bits), 0)
    shape = call["input"].shape
    call.check(len(shape) >= 1, f"input {call['input'].describe()} has no last axis")

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, dtype)]
        rows = values[0].reshape(-1, shape[-1]).astype(np.int16)
        below = rows.max(axis=1, keepdims=True) - rows
        total = wrap32(terms[below].sum(axis=1, keepdims=True))
        notes.add("accumulator", total)
        logarithm = log_at_least_1(total, params.sum_bits, bits)
        limit = np.maximum(least - 1, apply_stages(unscale, wrap32(logarithm - (1 << 31))))
        codes = apply_stages(finish, wrap32(scaled[below] - logarithm))
        codes = np.where(-below > limit, codes, kind.min)
        return [codes.astype(dtype).reshape(shape)]

    return run


@dataclass(frozen=True)
class FloatTable(Libm):
    """Exponentials from a table of floats, the logarithm of their sum, all in float32.

    Attributes
    ----------
    stages : from the float to the output code.
    """

    stages: tuple[Stage, ...] = (Round("ties_to_even"), AddZeroPoint(), Clamp())


@LOG_SOFTMAX.recipe("float_table", FloatTable)
def float_table(call: Call) -> Run:
    """``out = x * s - (max * si + log(sum)) / so`` with ``s = si / so``, on raw codes.

    Source: tflite/kernels/internal/optimized/optimized_ops.h LogSoftmax.
    """
    types = ("int8", "uint8")
    call.types(input=types, output=(call["input"].dtype,))
    params: FloatTable = call.params
    library = functions(params)
    scale = np.float32(call.per_tensor(call["input"])[0])
    unit, zero_point = call.per_tensor(call.output)
    kind, dtype, shape = call.output.int_type, call.output.numpy_dtype, call["input"].shape
    stages = Requantizer(
        params.stages,
        Rescale.of_factor(1.0, Multiplier("none")),
        zero_point=zero_point,
        bounds=(kind.min, kind.max),
    )
    with np.errstate(all="ignore"):
        table = library["exp"](-scale * np.arange(256, dtype=np.float32))
    step = scale / np.float32(unit)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, dtype)]
        rows = values[0].reshape(-1, shape[-1]).astype(np.int16)
        most = rows.max(axis=1, keepdims=True)
        total = np.cumsum(table[most - rows], axis=1, dtype=np.float32)[:, -1:]
        moved = (scale * most.astype(np.float32) + library["log"](total)) / np.float32(unit)
        value = step * rows.astype(np.float32) - moved
        return [apply_stages(stages, value, dtype).reshape(shape)]

    return run


@LOG_SOFTMAX.recipe("float32", Libm, floats=True)
def float32(call: Call) -> Run:
    """``x - max - log(sum)``; the terms of the sum are added one after the other."""
    call.types(input=("float32",), output=("float32",))
    shape = call["input"].shape
    library = functions(call.params)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, np.float32)]
        rows = values[0]
        with np.errstate(all="ignore"):
            # NaN never is the maximum, and it is at least the least finite number
            most = np.fmax.reduce(rows, axis=-1, keepdims=True, initial=np.finfo(np.float32).min)
            below = rows - most
            total = np.cumsum(library["exp"](below), axis=-1, dtype=np.float32)[..., -1:]
            return [below - library["log"](total)]

    return run


@LOG_SOFTMAX.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function of the dequantized row, rounded once."""
    call.types(input=INTEGERS, output=INTEGERS)
    shape = call["input"].shape
    scale = call.per_tensor(call["input"])[0]
    unit = call.per_tensor(call.output)[0]
    bounds = activation_bounds(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, call.output.numpy_dtype)]
        x = values[0].astype(np.int64)
        below = x - x.max(axis=-1, keepdims=True)
        total = np.exp(below * scale).sum(axis=-1, keepdims=True)
        approx = (below * scale - np.log(total)) / unit
        rows = below.reshape(-1, shape[-1])

        def exact(i: int, digits: int) -> Fraction:
            row, column = divmod(i, shape[-1])
            distances, counts = np.unique(rows[row], return_counts=True)
            total = sum(
                int(n) * elementary.exp(int(d) * Fraction(scale), digits + _GUARD)
                for d, n in zip(distances, counts, strict=True)
            )
            logarithm = elementary.log(Fraction(total), digits + _GUARD)
            return (int(rows[row, column]) * Fraction(scale) - logarithm) / Fraction(unit)

        return [quantize_real(call, approx, exact, bounds)]

    return run
