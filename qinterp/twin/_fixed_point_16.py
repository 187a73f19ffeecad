"""gemmlowp's 16-bit fixed-point functions in Python integers (fixedpoint/fixedpoint.h)."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from qinterp.twin._arithmetic import fitted, rounded

ONE = 32767


def product(a: int, b: int) -> int:
    """``a * b / 2**15``, ties toward positive, saturated."""
    return fitted(rounded(Fraction(a * b, 2**15), "ties_toward_positive"), 16, "saturate")


def power(a: int, exponent: int) -> int:
    """``a * 2**exponent``, ties away from zero, saturated."""
    return fitted(rounded(a * Fraction(2) ** exponent, "ties_to_away"), 16, "saturate")


def short(constant: int) -> int:
    """The upper half of a constant of 32 bits, rounded."""
    return rounded(Fraction(constant, 2**16), "ties_to_away")


@cache
def logistic(a: int, m: int) -> int:
    """Q0.15 of ``a`` in Qm.(15 - m)."""
    if a == 0:
        return 2**14
    positive = power(_newton(_exp(-abs(a), m)), 1)
    return positive if a > 0 else ONE - positive


@cache
def tanh(a: int, m: int) -> int:
    """Q0.15 of ``a`` in Qm.(15 - m)."""
    if a == 0:
        return 0
    positive = power(_wrapped(_newton(_exp(-abs(a), m + 1)) - 2**13), 2)
    return positive if a > 0 else -positive


def _wrapped(a: int) -> int:
    return fitted(a, 16, "wrap")


def _exp(a: int, m: int) -> int:
    if a == 0:
        return ONE
    n = 15 - m
    quarter = 2**n // 4
    near = a % quarter - quarter  # in [-1/4, 0)
    result = _series(power(near, m))
    for e, c in zip(
        range(-2, 5),
        (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242),
        strict=True,
    ):
        if m > e and (near - a) // 2 ** (n + e) % 2:
            result = product(result, short(c))
    if m > 5 and a < -(32 * 2**n):
        return 0
    return result


def _series(a: int) -> int:
    x = _wrapped(a + 2**12)
    square = product(x, x)
    cube, fourth = product(square, x), product(square, square)
    tail = product(_wrapped(power(fourth, -2) + cube), short(715827883))
    tail = power(_wrapped(tail + square), -1)
    constant = short(1895147668)
    return fitted(constant + product(constant, _wrapped(x + tail)), 16, "saturate")


def _newton(a: int) -> int:
    half = rounded(Fraction(a + ONE, 2), "ties_to_away")
    x = _wrapped(short(1515870810) + product(half, short(-1010580540)))
    for _ in range(3):
        x = _wrapped(x + power(product(x, _wrapped(2**13 - product(half, x))), 2))
    return x
