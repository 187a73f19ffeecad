"""Twin of mean."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.twin._accumulate import accumulate
from qinterp.twin._arithmetic import (
    Factor,
    bounds,
    factor,
    float_of,
    quantized,
    rounded,
    run_stages,
)
from qinterp.twin._float_sums import by_factor
from qinterp.twin._reduce import reduced
from qinterp.twin._tails import in_tail
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("mean", "divided_multiplier")
def divided_multiplier(t: Twin, output: int, index: Index) -> int:
    """The sum, rescaled by a multiplier that the count divides."""
    codes = reduced(t, index)
    tensor, out = t.call["input"], t.call.output
    if tensor.dtype in ("int32", "int64"):
        return _truncated(t, codes)
    if not codes:
        return 0
    total = accumulate(t, [(code, 1) for code in codes], zero_point(tensor), 0, None)
    by = t.shared("factor", lambda: _divided(t, len(codes)))
    t.say("divided multiplier", by.mantissa, text=f"shift {by.shift}, {len(codes)} elements")
    return run_stages(t, t.params.stages, total, by, zero_point(out), bounds(t))


def _divided(t: Twin, count: int) -> Factor:
    by = factor(float_of(scale(t.call["input"]) / scale(t.call.output), 64), t.policy.multiplier)
    digits = 0
    while 2 ** (digits + 1) <= count:
        digits += 1
    digits = max(0, min(digits, 32, 31 + by.shift))
    mantissa = rounded(Fraction(by.mantissa * 2**digits, count), t.params.division)
    return Factor(float_of(by.exact / count, 64), mantissa, by.shift - digits)


@twin("mean", "float_zero_point")
def float_zero_point(t: Twin, output: int, index: Index) -> int:
    """The sum by a float32 factor and zero point."""
    if t.call["input"].dtype in ("int32", "int64"):
        return _truncated(t, reduced(t, index))
    return by_factor(t, index, mean=True, zero_point_in_float=True)


@twin("mean", "float_bias_mean")
def float_bias_mean(t: Twin, output: int, index: Index) -> int:
    """The raw sum rescaled, and one integer for both zero points."""
    codes = reduced(t, index)
    tensor, out = t.call["input"], t.call.output
    if not codes:
        return 0
    total = accumulate(t, [(code, 1) for code in codes], 0, 0, None)
    moved = float_of(float_of(zero_point(tensor) * scale(tensor), 32) / scale(out), 32)
    moved = float_of(moved + (Fraction(1, 2) if moved > 0 else Fraction(-1, 2)), 32)
    bias = zero_point(out) - rounded(moved, "toward_zero")
    t.say("bias", bias, prepared=True)
    ratio = float_of(scale(tensor) / float_of(len(codes) * scale(out), 32), 32)
    stages, tail = t.params.stages, t.params.tail
    if tail is not None and in_tail(t, tail, index):
        stages = tail.requantize
    return run_stages(t, stages, total, factor(ratio, t.policy.multiplier), bias, bounds(t))


@twin("mean", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real mean, rounded once."""
    codes = reduced(t, index)
    tensor = t.call["input"]
    if tensor.dtype in ("int32", "int64"):
        return _truncated(t, codes)
    if not codes:
        return zero_point(t.call.output)
    total = sum(codes) - len(codes) * zero_point(tensor)
    t.say("sum of codes less zero points", total, text=f"{len(codes)} elements")
    return quantized(t, Fraction(total, len(codes)) * scale(tensor))


@twin("mean", "float32")
def mean_float(t: Twin, output: int, index: Index) -> float:
    """Float32 additions and a division."""
    values = reduced(t, index)
    total = Fraction(0)
    for value in values:
        total = float_of(total + Fraction(value), 32)
    return float(float_of(total / len(values), 32)) if values else math.nan


def _truncated(t: Twin, values: list[int]) -> int:
    total = sum(values)
    t.say("sum", total)
    return rounded(Fraction(total, len(values)), "toward_zero") if values else 0
