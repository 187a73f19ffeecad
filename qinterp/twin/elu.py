"""Twins of elu."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import expm1
from qinterp.twin._tables import table_code
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library, f32, float32, real


@twin("elu", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, _elu)


@twin("elu", "exponential_less_one")
def exponential_less_one(t: Twin, output: int, index: Index) -> int:
    """One code of the table with a rounded exponential."""

    def function(t: Twin, x: Fraction) -> float:
        return float(x) if x >= 0 else float(f32(Fraction(call_library(t, "exp", x)) - 1))

    return table_code(t, index, function)


def _elu(t: Twin, x: Fraction) -> float:
    return float(x) if x >= 0 else call_library(t, "expm1", x)


float32("elu", lambda t, x: Fraction(_elu(t, x)))
real("elu", lambda t, x: x if x >= 0 else expm1(max(x, Fraction(-1000)), 60))
