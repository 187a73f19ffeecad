"""Twins of logistic."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.numerics.elementary import exp, logistic
from qinterp.twin import _fixed_point_16 as fixed_point
from qinterp.twin._arithmetic import fitted, float_of
from qinterp.twin._sigmoid import argument, logistic_of
from qinterp.twin._tables import table_code
from qinterp.twin._twin import Index, Twin, scale, twin
from qinterp.twin._unary import call_library, f32, float32, real


@twin("logistic", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, _plain)


@twin("logistic", "float64_table")
def float64_table(t: Twin, output: int, index: Index) -> int:
    """One code of the table whose function is worked out in float64."""

    def function(t: Twin, x: Fraction) -> float:
        if abs(x) > 100:
            return float(x > 0)
        e = float_of(exp(x, 60), 64)
        return float(float_of(float_of(e / float_of(1 + e, 64), 64), 32))

    return table_code(t, index, function)


@twin("logistic", "gemmlowp")
def gemmlowp(t: Twin, output: int, index: Index) -> int:
    """One code, in Q0.15, by gemmlowp's fixed point where the scale is one of its own."""
    finer = _finer(scale(t.call["input"]))
    if finer not in (0,):
        return int(sigmoid_table(t, output, index))
    code = fitted(int(t.at("input", index)) * 2**finer, 16, "saturate")
    t.say("argument", Fraction(code, 4096), text="Q3.12")
    return fixed_point.logistic(code, 3)


def _finer(step: Fraction) -> int:
    """The exponent of a scale that is a power of two, to a thousandth, from 2**-12 on."""
    exact = math.log2(step)
    return round(exact) + 12 if abs(exact - round(exact)) < 1e-3 else -1


@twin("logistic", "sigmoid_table")
def sigmoid_table(t: Twin, output: int, index: Index) -> int:
    """One code, in Q0.15."""
    return logistic_of(t, argument(t, int(t.at("input", index)), (0,)))


def _plain(t: Twin, x: Fraction) -> float:
    e = call_library(t, "exp", -x)
    if e == float("inf"):
        return 0.0
    return float(f32(1 / f32(1 + Fraction(e))))


def in_pieces(t: Twin, x: Fraction) -> Fraction:
    """In float32: exp(x) below -9, 1 from where there are no more digits."""
    if x > Fraction(float.fromhex("0x1.09e79ep+4")):
        return Fraction(1)
    if x < -9:
        return Fraction(call_library(t, "exp", x))
    return Fraction(_plain(t, x))


float32("logistic", in_pieces)
real("logistic", lambda t, x: logistic(min(max(x, Fraction(-1000)), Fraction(1000)), 60))
