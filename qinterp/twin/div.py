"""Twin of div."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.twin._arithmetic import bounds, factor, fitted, float_of, quantized, rounded
from qinterp.twin._binary import codes, integer, operands, reals
from qinterp.twin._fixed_point import product, reciprocal
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("div", "reciprocal")
def by_reciprocal(t: Twin, output: int, index: Index) -> int:
    """One quotient by the divisor's reciprocal."""
    a, b = codes(t, index)
    if b < 0:
        a, b = -a, -b
    inverse, over_unit = reciprocal(b, 31)
    t.say("reciprocal", inverse, text=f"to be shifted right by {over_unit}")
    headroom = 0
    while headroom < 31 and -(2**31) <= a * 2 ** (headroom + 1) < 2**31:
        headroom += 1
    quotient = product(a * 2**headroom, inverse)
    t.say("accumulator", quotient)
    out = t.call.output
    bits = int(t.params.precision[5:])
    below = float_of(scale(t.call["input2"]) * scale(out), bits)
    by = factor(float_of(scale(t.call["input1"]) / below, bits), t.policy.multiplier)
    scaled = product(quotient, by.mantissa)
    amount = over_unit + headroom - by.shift
    if 0 <= amount < 32 or t.params.far_shift == "exact":
        steps = rounded(scaled / Fraction(2) ** amount, "ties_to_away")
    else:
        # of the amount five bits are left; what would be rounded is compared with -1 or 0
        steps = math.floor(Fraction(scaled, 2 ** (amount % 32)))
        if amount % 64 < 32:
            rest = scaled % 2 ** (amount % 32)
            steps += rest > 2 ** (amount % 32) // 2 - (scaled >= 0)
        else:
            steps += scaled > -1 + (scaled < 0)
    t.say("steps", steps, text=f"shifted right by {amount}")
    low, high = bounds(t)
    return min(max(fitted(steps + zero_point(out), 32, "wrap"), low), high)


@twin("div", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real quotient, rounded once."""
    a, b = reals(t, index)
    return quantized(t, a / b)


@twin("div", "integers")
def plain(t: Twin, output: int, index: Index) -> int:
    """One quotient without its fraction."""
    a, b = operands(t, index)
    return integer(t, math.trunc(Fraction(a, b)))


@twin("div", "float32")
def div_float(t: Twin, output: int, index: Index) -> float:
    """One float32 division; a quotient by zero is the last finite number."""
    a, b = operands(t, index)
    if b == 0:
        infinite = math.copysign(1, a) * math.copysign(1, b) * 2.0**127 * (2 - 2.0**-23)
        return math.nan if a == 0 else clamp_float(t, Fraction(infinite))
    return clamp_float(t, float_of(Fraction(a) / Fraction(b), 32))
