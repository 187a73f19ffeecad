"""Rounding, fitting, stages and scale preparation in Python integers and fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from qinterp.ir import Tensor
from qinterp.twin._twin import Twin, scale, zero_point

HALF = Fraction(1, 2)


def rounded(value: Fraction, rule: str) -> int:
    """``value`` to an integer by the rounding called ``rule``."""
    low = math.floor(value)
    if value == low:
        return low
    if rule == "toward_negative":
        return low
    if rule == "toward_positive":
        return low + 1
    if rule == "toward_zero":
        return low if value > 0 else low + 1
    if rule == "away_from_zero":
        return low + 1 if value > 0 else low
    above = value - low
    if above != HALF:
        return low + 1 if above > HALF else low
    if rule == "ties_to_even":
        return low if low % 2 == 0 else low + 1
    if rule == "ties_toward_positive":
        return low + 1
    if rule == "ties_toward_negative":
        return low
    if rule == "ties_to_away":
        return low + 1 if value > 0 else low
    assert rule == "ties_toward_zero", rule
    return low if value > 0 else low + 1


def fitted(value: int, bits: int, rule: str) -> int:
    """``value`` in ``bits`` signed bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if low <= value <= high:
        return value
    if rule == "wrap":
        return (value - low) % (1 << bits) + low
    if rule == "indefinite":
        return low
    return high if value > high else low


def float_of(value: Fraction, precision: int) -> Fraction:
    """``value`` rounded to the nearest IEEE float of 32 or 64 bits, ties to even."""
    if value == 0:
        return Fraction(0)
    digits, least = (24, -149) if precision == 32 else (53, -1074)
    # the exponent of the leading bit: 2**e <= abs(value) < 2**(e + 1)
    e = value.numerator.bit_length() - value.denominator.bit_length()
    e += 1 if abs(value) >= Fraction(2) ** (e + 1) else 0
    e -= 1 if abs(value) < Fraction(2) ** e else 0
    ulp = Fraction(2) ** max(e - digits + 1, least)
    return rounded(value / ulp, "ties_to_even") * ulp


def bits_of(precision: str) -> int:
    """32 or 64."""
    return int(precision.removeprefix("float"))


@dataclass(frozen=True)
class Factor:
    """A real factor as a backend holds it: exactly, as a float, as mantissa and shift."""

    exact: Fraction
    mantissa: int = 0
    shift: int = 0
    pre: int = 0
    post: int = 0


def effective(t: Twin, a: Fraction, b: Fraction, out: Fraction) -> Factor:
    """``a * b / out`` by the policy's effective scale and multiplier."""
    form = t.policy.effective_scale
    if form.precision == "exact":
        value = a * b / out
    else:
        last = bits_of(form.precision)
        first = bits_of(form.product_precision or form.precision)
        if form.form == "product_then_divide":
            value = float_of(float_of(float_of(a * b, first), last) / out, last)
        else:
            value = float_of(float_of(float_of(a / out, first), last) * b, last)
    return factor(value, t.policy.multiplier)


def factor(value: Fraction, multiplier: Any) -> Factor:
    """``value`` with its mantissa and shift."""
    if multiplier.form == "none" or value == 0:
        return Factor(value)
    if multiplier.form == "pre_post_shift":
        return _between_shifts(value, multiplier)
    if multiplier.form == "fixed_point":
        return Factor(value, rounded(value * 2**multiplier.bits, multiplier.rounding))
    shift = 0
    while abs(value) >= Fraction(2) ** shift:
        shift += 1
    while abs(value) < Fraction(2) ** (shift - 1):
        shift -= 1
    mantissa = rounded(value / Fraction(2) ** shift * 2**multiplier.bits, multiplier.rounding)
    if abs(mantissa) == 2**multiplier.bits and multiplier.renormalize:
        mantissa, shift = mantissa // 2, shift + 1
    if shift < multiplier.flush_below:
        return Factor(value)
    if multiplier.reduce_to is not None:
        less = 2 ** (multiplier.bits - multiplier.reduce_to)
        shorter = rounded(Fraction(mantissa, less), "ties_toward_positive")
        mantissa = min(shorter, 2**multiplier.reduce_to - 1)
    return Factor(value, mantissa, shift)


def _between_shifts(value: Fraction, multiplier: Any) -> Factor:
    exponent = math.floor(math.log2(value))  # of a float32: its logarithm is far enough from k + 1
    if value == Fraction(2) ** exponent:
        return Factor(value, 2 ** max(exponent, 0), min(exponent, 0), 0, max(-exponent, 0))
    # the least shifts that bring the value to a half and, within the limit, to 2**bits
    post = max(-exponent - 1, min(multiplier.bits - exponent, multiplier.post_limit), 0)
    longest = Fraction(2**multiplier.bits - 1)
    most = post // 2
    pre = next(p for p in range(most + 1) if p == most or value * 2 ** (post + p) >= longest)
    mantissa = rounded(value * 2 ** (post + pre), multiplier.rounding)
    return Factor(value, mantissa, -(pre + post), pre, post)


def run_stages(
    t: Twin,
    stages: Sequence[Any],
    x: int | Fraction,
    by: Factor,
    zero: int = 0,
    bounds: tuple[int, int] = (0, 0),
) -> int:
    """A stage list on one integer, or on a float32 given as a Fraction, explaining each stage."""
    lane: Any = x
    precision = 32 if isinstance(x, Fraction) else 0  # of the lane, 0 for an integer
    for stage in stages:
        kind = stage.stage
        exact: Fraction | None = None
        text = ""
        if kind in ("shift_left", "shift_right"):
            amount = _amount(stage, by)
            text = f"by {amount}"
            exact = lane * Fraction(2) ** (amount if kind == "shift_left" else -amount)
            if kind == "shift_left":
                lane = fitted(math.floor(exact), stage.bits, stage.overflow)
            else:
                lane = rounded(exact, stage.rounding)
        elif kind == "multiply":
            lane = fitted(lane * by.mantissa, stage.bits, stage.overflow)
            text = f"by {by.mantissa}"
        elif kind == "multiply_high":
            exact = Fraction(lane * by.mantissa, 2 ** (stage.bits - 1))
            lane = fitted(rounded(exact, stage.rounding), stage.bits, stage.overflow)
            text = f"by {by.mantissa} / 2**{stage.bits - 1}"
        elif kind == "to_float":
            precision = bits_of(stage.precision)
            exact = Fraction(lane)
            lane = float_of(exact, precision)
        elif kind in ("scale", "divide_scale"):
            precision = bits_of(stage.precision)
            operand = float_of(by.exact, precision)
            lane = float_of(lane, precision)
            exact = lane * operand if kind == "scale" else lane / operand
            lane = float_of(exact, precision)
            text = f"by {float(operand)!r}"
        elif kind == "scale_exact":
            exact = lane * by.exact
            lane = fitted(rounded(exact, stage.rounding), 64, "saturate")
        elif kind == "round":
            exact, precision = lane, 0
            lane = fitted(rounded(lane, stage.rounding), stage.bits, stage.overflow)
        elif kind == "add_zero_point":
            text = f"{zero:+d}"
            if precision:
                lane = float_of(lane + zero, precision)
            else:
                lane = fitted(lane + zero, stage.bits, stage.overflow)
        elif kind in ("saturate", "wrap"):
            lane = fitted(lane, stage.bits, kind)
        elif kind == "clamp":
            lane = min(max(lane, bounds[0]), bounds[1])
            text = f"to {bounds[0]}..{bounds[1]}"
        elif kind == "clamp_float":
            low = float_of(Fraction(bounds[0] - zero), precision)
            high = float_of(Fraction(bounds[1] - zero), precision)
            lane = max(lane, low) if stage.low else lane
            lane = min(lane, high) if stage.high else lane
        else:
            raise AssertionError(f"the twin does not know stage {kind!r}")
        _say(t, kind, lane, exact, text)
    result: int = lane
    return result


def _say(t: Twin, kind: str, lane: Any, exact: Fraction | None, text: str) -> None:
    if t.lines is not None:
        t.say(kind, lane, exact if exact is not None and exact != lane else None, text)


def _amount(stage: Any, by: Factor) -> int:
    amounts: dict[str, int] = {
        "literal": stage.by,
        "left": max(by.shift, 0),
        "right": max(-by.shift, 0),
        "total": stage.by - by.shift,
        "pre": by.pre,
        "post": by.post,
    }
    return amounts[stage.amount]


ACTIVATION_LIMITS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
    "relu_0_to_1": (0.0, 1.0),
}


def storage(tensor: Tensor) -> tuple[int, int]:
    """Least and greatest code of the tensor's type."""
    bits = int(tensor.dtype.lstrip("uint"))
    return (0, 2**bits - 1) if tensor.dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def bounds(t: Twin) -> tuple[int, int]:
    """The codes between which the output is clamped."""

    def make() -> tuple[int, int]:
        low, high = storage(t.call.output)
        least, most = ACTIVATION_LIMITS[t.call.attributes.get("activation", "none")]
        if least is not None:
            low = max(low, _bound(t, least))
        if most is not None:
            high = min(high, _bound(t, most))
        return low, high

    made: tuple[int, int] = t.shared("bounds", make)
    return made


def _bound(t: Twin, real: float) -> int:
    rule = t.policy.activation_bounds
    out = t.call.output
    quotient = Fraction(real) / scale(out)
    if rule.precision != "exact":
        quotient = float_of(quotient, bits_of(rule.precision))
    if rule.zero_point == "before_rounding":
        moved = quotient + zero_point(out)
        if rule.precision != "exact":
            moved = float_of(moved, bits_of(rule.precision))
        return rounded(moved, rule.rounding)
    return rounded(quotient, rule.rounding) + zero_point(out)


def quantized(t: Twin, value: Fraction) -> int:
    """A real number as a code of the output, by the ``real`` recipes: one rounding, one clamp."""
    out = t.call.output
    steps = value / scale(out)
    code = rounded(steps, t.params.rounding) + zero_point(out)
    t.say("real value / output scale", steps)
    low, high = bounds(t)
    return min(max(code, low), high)
