"""Mean over axes (clause O-mean).

Source: tflite/kernels/reduce.cc PrepareMeanOrSum, EvalMean; tflite/kernels/internal/reference/
reduce.h QuantizedMeanOrSum, Mean.
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
from qinterp.numerics.rounding import Rounding
from qinterp.numerics.scales import round_fraction
from qinterp.numerics.stages import NAMED_STAGES, Stage
from qinterp.ops._accumulate import EXACT_SUM, INTEGERS, activation_bounds
from qinterp.ops._elementwise import Real, real_finish
from qinterp.ops._float_sums import FloatZeroPoint, float_zero_point
from qinterp.ops._operator import Notes, Run
from qinterp.ops._reduce import (
    PLAIN_INTEGERS,
    constant,
    float_sum,
    gatherer,
    integer_sum,
    reduced_count,
    reduction,
)
from qinterp.ops._tails import with_tail
from qinterp.scheme import Tail

MEAN = reduction("mean", "MEAN")


@dataclass(frozen=True)
class DividedMultiplier:
    """The sum times the multiplier of input scale / output scale, that divided by the count.

    Attributes
    ----------
    stages : from the sum to the output code.
    division : rounding of the mantissa divided by the count.
    """

    stages: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]
    division: Rounding = "toward_zero"

    def divide(self, mantissa: int, shift: int, count: int) -> tuple[int, int]:
        """Mantissa and shift of the factor over ``count``.

        The mantissa keeps as many digits as the shift leaves room for.
        """
        left = max(min(count.bit_length() - 1, 32, 31 + shift), 0)
        return round_fraction(Fraction(mantissa << left, count), self.division), shift - left


@MEAN.recipe("divided_multiplier", DividedMultiplier, family="tflite")
def divided_multiplier(call: Call) -> Run:
    """``out = zo + r(sum(x - z))`` with the multiplier divided by the count."""
    if call["input"].dtype in PLAIN_INTEGERS:
        return _truncated_mean(call)
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    count = reduced_count(call)
    if count == 0:
        return constant(call, 0)
    params: DividedMultiplier = call.params
    scale, x_zero_point = call.per_tensor(call["input"])
    s_out, zero_point = call.per_tensor(call.output)
    whole, exponent = call.policy.multiplier.of(scale / s_out)
    mantissa, shift = params.divide(whole, exponent, count)
    stages = Requantizer(
        params.stages,
        Rescale(
            np.array([scale / s_out / count]),
            np.array([mantissa], np.int64),
            np.array([shift], np.int64),
        ),
        zero_point=zero_point,
        bounds=activation_bounds(call),
    )
    return integer_sum(call, x_zero_point, call.policy.accumulator.codes).finished(stages)


_REST = Tail(16, "channel", NAMED_STAGES["gemmlowp"])


@dataclass(frozen=True)
class FloatBiasMean:
    """The sum of raw codes rescaled; the zero points are one integer, rounded in float32.

    Attributes
    ----------
    stages : from the sum to the output code; their zero point is that integer.
    tail : the remainder of a vectorized loop; None: there is no such loop.
    """

    stages: tuple[Stage, ...] = NAMED_STAGES["double_rounding_toward_positive"]
    tail: Tail | None = _REST


@MEAN.recipe("float_bias_mean", FloatBiasMean)
def float_bias_mean(call: Call) -> Run:
    """``out = r(sum(x)) + bias`` over height and width (optimized/integer_ops/mean.h Mean)."""
    call.types(input=("int8", "uint8"), output=(call["input"].dtype,))
    count = reduced_count(call)
    if count == 0:
        return constant(call, 0)
    params: FloatBiasMean = call.params
    scale, x_zero_point = (np.float32(v) for v in call.per_tensor(call["input"]))
    unit, zero_point = call.per_tensor(call.output)
    moved = x_zero_point * scale / np.float32(unit)
    moved += np.copysign(np.float32(0.5), moved if moved > 0 else np.float32(-1))
    factor = scale / (np.float32(count) * np.float32(unit))
    rescale = Rescale.of_factor(float(factor), call.policy.multiplier)
    total = integer_sum(call, 0, call.policy.accumulator.codes)

    def by(stages: Sequence[Stage]) -> Run:
        to_code = Requantizer(
            stages,
            rescale,
            zero_point=zero_point - int(moved),
            bounds=activation_bounds(call),
        )
        return total.finished(to_code)

    tail = params.tail
    body = by(params.stages)
    return body if tail is None else with_tail(call, body, by(tail.requantize), tail)


@MEAN.recipe("float_zero_point", FloatZeroPoint)
def by_float_zero_point(call: Call) -> Run:
    """The sum of codes times a float32 factor, plus a float32 zero point, rounded."""
    if call["input"].dtype in PLAIN_INTEGERS:
        return _truncated_mean(call)
    return float_zero_point(call, mean=True)


@MEAN.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real mean, rounded once."""
    if call["input"].dtype in PLAIN_INTEGERS:
        return _truncated_mean(call)
    call.types(input=INTEGERS, output=INTEGERS)
    count = reduced_count(call)
    scale, x_zero_point = call.per_tensor(call["input"])
    if count == 0:
        return constant(call, call.per_tensor(call.output)[1])
    total = integer_sum(call, x_zero_point, EXACT_SUM)
    finish = real_finish(call, Fraction(scale) / count)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc, _ = total(values[0])
        notes.add("accumulator", acc)
        return [finish(acc)]

    return run


@MEAN.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Elements added one after the other in float32, then one division; NaN of nothing."""
    call.types(input=("float32",), output=("float32",))
    count = reduced_count(call)
    total = float_sum(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(invalid="ignore"):
            return [np.asarray(total(values[0]) / np.float32(count))]

    return run


def _truncated_mean(call: Call) -> Run:
    """Plain integers: the quotient truncated, the sum in 64 bits."""
    call.types(output=(call["input"].dtype,))
    count = reduced_count(call)
    if count == 0:
        return constant(call, 0)
    rows = gatherer(call)
    shape, dtype = call.output.shape, call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        total = rows(values[0]).sum(1, dtype=np.int64)
        notes.add("accumulator", total)
        floor, rest = np.divmod(total, count)
        return [(floor + ((rest != 0) & (total < 0))).astype(dtype).reshape(shape)]

    return run
