"""Twins of tanh."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.numerics.elementary import tanh
from qinterp.twin import _fixed_point_16 as fixed_point
from qinterp.twin._arithmetic import fitted
from qinterp.twin._sigmoid import argument, tanh_of
from qinterp.twin._tables import table_code
from qinterp.twin._twin import Index, Twin, scale, twin
from qinterp.twin._unary import call_library, float32, real


@twin("tanh", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, lambda t, x: call_library(t, "tanh", x))


@twin("tanh", "gemmlowp")
def gemmlowp(t: Twin, output: int, index: Index) -> int:
    """One code, in Q0.15, by gemmlowp's fixed point where the scale is one of its own."""
    finer = _finer(scale(t.call["input"]))
    if finer not in (0, 1):
        return int(sigmoid_table(t, output, index))
    code = fitted(int(t.at("input", index)) * 2**finer, 16, "saturate")
    t.say("argument", Fraction(code, 4096), text="Q3.12")
    return fixed_point.tanh(code, 3)


def _finer(step: Fraction) -> int:
    """The exponent of a scale that is a power of two, to a thousandth, from 2**-12 on."""
    exact = math.log2(step)
    return round(exact) + 12 if abs(exact - round(exact)) < 1e-3 else -1


@twin("tanh", "sigmoid_table")
def sigmoid_table(t: Twin, output: int, index: Index) -> int:
    """One code, in Q0.15."""
    return tanh_of(t, argument(t, int(t.at("input", index)), (0, 1)))


float32("tanh", lambda t, x: Fraction(call_library(t, "tanh", x)))
real("tanh", lambda t, x: tanh(x, 60))
