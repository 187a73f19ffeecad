"""Twins of exp."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import exp
from qinterp.twin._tables import interpolated_code, table_code
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library, float32, real


@twin("exp", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, _exp)


@twin("exp", "interpolated_table")
def interpolated_table(t: Twin, output: int, index: Index) -> int:
    """One code between two entries."""
    return interpolated_code(t, index, _exp)


def _exp(t: Twin, x: Fraction) -> float:
    return call_library(t, "exp", x)


float32("exp", lambda t, x: Fraction(_exp(t, x)))
real("exp", lambda t, x: exp(min(max(x, Fraction(-1000)), Fraction(1000)), 60))
