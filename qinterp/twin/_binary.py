"""What the twins of elementwise operators of two operands share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from qinterp.ir import Tensor
from qinterp.twin._arithmetic import (
    ACTIVATION_LIMITS,
    Factor,
    bounds,
    factor,
    fitted,
    float_of,
    rounded,
    run_stages,
)
from qinterp.twin._tails import in_tail
from qinterp.twin._twin import Index, Twin, scale, zero_point


def operands(t: Twin, index: Index) -> tuple[Any, Any]:
    """The two elements as they are stored."""
    first, second = (t.at(name, t.broadcast(name, index)) for name in ("input1", "input2"))
    return first, second


def codes(t: Twin, index: Index) -> tuple[int, int]:
    """The two elements less their zero points."""
    first, second = (t.code(name, t.broadcast(name, index)) for name in ("input1", "input2"))
    return first, second


def reals(t: Twin, index: Index) -> tuple[Fraction, Fraction]:
    """The two elements as the real numbers that they stand for."""
    first, second = codes(t, index)
    return first * scale(t.call["input1"]), second * scale(t.call["input2"])


def integer(t: Twin, value: int, *, activated: bool = True) -> int:
    """An integer in the width of the output, then the activation if it is read."""
    dtype = t.call.output.dtype
    bits = int(dtype.lstrip("uint"))
    value = value % 2**bits if dtype[0] == "u" else fitted(value, bits, "wrap")
    named = t.call.attributes.get("activation", "none") if activated else "none"
    low, high = ACTIVATION_LIMITS[named]
    value = value if low is None else max(value, int(low))
    return value if high is None else min(value, int(high))


def below_one(
    t: Twin,
    stages: Sequence[Any],
    x: int,
    real_factor: Fraction,
    zero: int = 0,
    limits: tuple[int, int] = (0, 0),
) -> int:
    """Stages for a factor below one; one above leaves the sign of what is shifted right."""
    by: Factor = t.shared(
        ("below one", real_factor), lambda: factor(real_factor, t.policy.multiplier)
    )
    kinds = [stage.stage for stage in stages]
    if by.shift > 0 and "shift_left" not in kinds:
        cut = kinds.index("shift_right")
        high = run_stages(t, stages[:cut], x, by)
        x = 1 if high >= 0 else -1
        t.say("shifted right by a negative amount", x)
        stages = stages[cut + 1 :]
    return run_stages(t, stages, x, by, zero, limits)


def on_common_scale(
    t: Twin, left: int, index: Index, stages: Sequence[Any] | None = None
) -> tuple[int, int, Fraction]:
    """Both elements on twice the larger scale, with ``left`` more bits, and that scale."""
    twice = 2 * max(scale(t.call["input1"]), scale(t.call["input2"]))
    found = []
    for name, code in zip(("input1", "input2"), codes(t, index), strict=True):
        t.say(f"{name} - zero point, shifted", code << left, text=f"left by {left}")
        ratio = float_of(scale(t.call[name]) / twice, int(t.params.precision[5:]))
        found.append(below_one(t, stages or t.params.input_stages, code << left, ratio))
    return found[0], found[1], twice


def rescaled_sum(t: Twin, index: Index, sign: int) -> int:
    """``input1 + sign * input2`` by the recipes of add and sub."""
    out = t.call.output
    asked = out.dtype == "int16" and t.call.attributes["power_of_two_int16"]
    if asked and t.params.power_of_two:
        exponents = [_exponent(tensor) for tensor in (t.call["input1"], t.call["input2"], out)]
        if None not in exponents:
            return _aligned_sum(t, index, sign, exponents)
    left = t.params.left_shift
    if left is None:
        left = 15 if out.dtype == "int16" else 20
    tail = t.params.tail
    stages = tail if tail is not None and in_tail(t, tail, index) else t.params
    a, b, twice = on_common_scale(t, left, index, stages.input_stages)
    total = fitted(a + sign * b, 32, "wrap")
    t.say("accumulator", total)
    ratio = float_of(twice / (scale(out) * 2**left), int(t.params.precision[5:]))
    return below_one(t, stages.output_stages, total, ratio, zero_point(out), bounds(t))


def weighted_sum(t: Twin, index: Index, sign: int) -> int:
    """``input1 + sign * input2`` by integer weights."""
    out = t.call.output
    digits = int(t.params.precision[5:])
    ratios = [float_of(scale(t.call[n]) / scale(out), digits) for n in ("input1", "input2")]
    shift = 0
    while max(ratios) * 2**shift >= 2 ** (t.params.bits + 1):
        shift -= 1
    while max(ratios) * Fraction(2) ** shift < 2**t.params.bits:
        shift += 1
    first, second = (rounded(r * 2**shift, t.params.rounding) for r in ratios)
    t.say("weights", first, text=f"and {second}, shift {shift}", prepared=True)
    a, b = codes(t, index)
    total = a * first + sign * b * second
    t.say("accumulator", total)
    by = Factor(Fraction(1, 2**shift), 1, -shift)
    return run_stages(t, t.params.stages, total, by, zero_point(out), bounds(t))


def _exponent(tensor: Tensor) -> int | None:
    """The exponent of a scale that is a power of two, to a thousandth of the exponent."""
    value = math.log2(scale(tensor))
    return round(value) if abs(value - round(value)) < 1e-3 else None


def _aligned_sum(t: Twin, index: Index, sign: int, exponents: Sequence[Any]) -> int:
    first, second = codes(t, index)
    terms = []
    for code, exponent in ((first, exponents[0]), (second, exponents[1])):
        finer = exponents[2] - exponent
        if finer < 16:
            by = Factor(Fraction(1, 2**finer), 1, -finer)
            terms.append(run_stages(t, t.params.aligned_stages, code, by))
        else:
            terms.append(1 if code >= 0 else -1)
    total = terms[0] + sign * terms[1]
    t.say("accumulator", total)
    low, high = bounds(t)
    return min(max(total, low), high)
