"""Twins of gelu."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.numerics.elementary import erfc, pi, rsqrt, tanh
from qinterp.numerics.libm import EIGEN_PACKET
from qinterp.twin._tables import interpolated_code, table_code
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library, f32, real

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


def _from_cubic(
    t: Twin, x: Fraction, cubic: Fraction, library: str = "", erfc: str = "erfc"
) -> Fraction:
    half = f32(x / 2)
    if t.call.attributes["approximate"]:
        argument = f32(f32(rsqrt(pi(30) / 2, 30)) * f32(x + cubic))
        value = Fraction(call_library(t, "tanh", argument, library))
        return f32(half * f32(1 + value))
    argument = f32(-f32(rsqrt(Fraction(2), 30)) * x)
    return f32(half * Fraction(call_library(t, erfc, argument, library)))


@twin("gelu", "float32")
def float32(t: Twin, output: int, index: Index) -> float:
    """One value; elements that do not fill a packet have another exponential."""
    x = Fraction(t.at("input", index))
    shape = t.call["input"].shape
    flat = 0
    for i, size in zip(index, shape, strict=True):
        flat = flat * size + i
    name = "erfc" if flat < math.prod(shape) // EIGEN_PACKET * EIGEN_PACKET else "erfc_scalar"
    cubic = f32(f32(Fraction(44715, 10**6)) * f32(f32(x * x) * x))
    return float(_from_cubic(t, x, cubic, "eigen", name))


def _real(t: Twin, x: Fraction) -> Fraction:
    if abs(x) > _LARGE:
        return max(x, Fraction(0))
    if t.call.attributes["approximate"]:
        argument = rsqrt(pi(300) / 2, 300) * (x + Fraction(44715, 10**6) * x**3)
        return x / 2 * (1 + tanh(argument, 300 if x < 0 else 60))
    return x / 2 * erfc(-x * rsqrt(Fraction(2), 80), 60)


real("gelu", _real)
