"""Twins of gelu."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import erfc, pi, rsqrt, tanh
from qinterp.twin._tables import interpolated_code, table_code
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library, f32, float32, real

_LARGE = 300  # the function is its argument above, and 0 below the negative, in all digits asked


@twin("gelu", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, _gelu)


@twin("gelu", "interpolated_table")
def interpolated_table(t: Twin, output: int, index: Index) -> int:
    """One code between two entries."""
    return interpolated_code(t, index, _gelu)


def _gelu(t: Twin, x: Fraction) -> float:
    cubic = f32(Fraction(44715, 10**6))
    for _ in range(3):
        cubic = f32(cubic * x)
    return float(_from_cubic(t, x, cubic))


def _from_cubic(t: Twin, x: Fraction, cubic: Fraction, library: str = "") -> Fraction:
    half = f32(x / 2)
    if t.call.attributes["approximate"]:
        argument = f32(f32(rsqrt(pi(30) / 2, 30)) * f32(x + cubic))
        value = Fraction(call_library(t, "tanh", argument, library))
        return f32(half * f32(1 + value))
    argument = f32(-f32(rsqrt(Fraction(2), 30)) * x)
    return f32(half * Fraction(call_library(t, "erfc", argument, library)))


def _of_array(t: Twin, x: Fraction) -> Fraction:
    cubic = f32(f32(Fraction(44715, 10**6)) * f32(f32(x * x) * x))
    return _from_cubic(t, x, cubic, "eigen")


float32("gelu", _of_array)


def _real(t: Twin, x: Fraction) -> Fraction:
    if abs(x) > _LARGE:
        return max(x, Fraction(0))
    if t.call.attributes["approximate"]:
        argument = rsqrt(pi(300) / 2, 300) * (x + Fraction(44715, 10**6) * x**3)
        return x / 2 * (1 + tanh(argument, 300 if x < 0 else 60))
    return x / 2 * erfc(-x * rsqrt(Fraction(2), 80), 60)


real("gelu", _real)
