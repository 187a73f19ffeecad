"""Twins of logistic and tanh of 8-bit codes in 32-bit fixed point."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.twin._arithmetic import factor, fitted, rounded, run_stages
from qinterp.twin._fixed_point import exponential, one_over_one_plus, power, product
from qinterp.twin._twin import Index, Twin, scale, twin


@twin("logistic", "fixed_point")
def logistic(t: Twin, output: int, index: Index) -> int:
    """One code of 256 steps over 0 .. 1."""
    x = _argument(t, index)
    if isinstance(x, float):
        return 127 if x > 0 else -128
    value = 2**30
    if x:
        positive = one_over_one_plus(exponential(-abs(x), t.params.input_bits))
        value = positive if x > 0 else 2**31 - 1 - positive
    t.say("logistic", value, text="Q0.31")
    return min(rounded(Fraction(value, 2**23), "ties_to_away") - 128, 127)


@twin("tanh", "fixed_point")
def tanh(t: Twin, output: int, index: Index) -> int:
    """One code of 256 steps over -1 .. 1."""
    x = _argument(t, index)
    if isinstance(x, float):
        return 127 if x > 0 else -128
    value = 0
    if x:
        # the same number with one more integer bit is twice the argument
        positive = _one_minus_over_one_plus(exponential(-abs(x), t.params.input_bits + 1))
        value = positive if x > 0 else -positive
    t.say("tanh", value, text="Q0.31")
    return fitted(rounded(Fraction(value, 2**24), "ties_to_away"), 8, "saturate")


def _argument(t: Twin, index: Index) -> int | float:
    """The argument with its integer bits, or an infinity where it has more."""
    bits = t.params.input_bits
    exact = scale(t.call["input"]) * 2 ** (31 - bits)
    digits = 0
    while exact >= Fraction(2) ** digits:
        digits += 1
    while exact < Fraction(2) ** (digits - 1):
        digits -= 1
    radius = math.floor((2**bits - 1) * 2 ** (31 - bits) / Fraction(2) ** digits)
    code = t.code("input", index)
    t.say("code less zero point", code, text=f"saturates from {radius}")
    if abs(code) >= radius:
        return math.copysign(math.inf, code)
    return run_stages(t, t.params.rescale, code, factor(exact, t.policy.multiplier))


def _one_minus_over_one_plus(a: int) -> int:
    """(1 - a) / (1 + a) for a in 0 .. 1, no integer bits."""
    half = rounded(Fraction(a + 2**31 - 1, 2), "ties_to_away")
    x = 1515870810 + product(half, -1010580540)
    for _ in range(3):
        x = fitted(x + power(product(x, 2**29 - product(half, x)), 2), 32, "wrap")
    return power(fitted(x - 2**29, 32, "wrap"), 2)
