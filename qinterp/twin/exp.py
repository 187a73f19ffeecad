"""Twins of exp."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import exp
from qinterp.twin._arithmetic import storage
from qinterp.twin._dequantized import dequantized
from qinterp.twin._tables import interpolated_code, table_code
from qinterp.twin._twin import Index, Number, Twin, scale, twin
from qinterp.twin._unary import call_library, f32, float32, real

_LARGEST = Fraction(float.fromhex("0x1.62e42ep+6"))  # argument with a finite float32 result


@twin("exp", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, _exp)


@twin("exp", "interpolated_table")
def interpolated_table(t: Twin, output: int, index: Index) -> int:
    """One code between two entries."""
    return interpolated_code(t, index, _exp)


@twin("exp", "dequantized")
def by_float(t: Twin, output: int, index: Index) -> Number:
    """One code, by way of float32; infinity becomes the greatest."""
    x = f32(t.code("input", index) * scale(t.call["input"]))
    if x > _LARGEST:
        return storage(t.call.output)[1]
    return dequantized(t, output, index)


def _exp(t: Twin, x: Fraction) -> float:
    return call_library(t, "exp", x)


float32("exp", lambda t, x: Fraction(_exp(t, x)))
real("exp", lambda t, x: exp(min(max(x, Fraction(-1000)), Fraction(1000)), 60))
