"""Twins of tanh."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import tanh
from qinterp.twin._sigmoid import argument, interpolated
from qinterp.twin._tables import table_code
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library, float32, real


@twin("tanh", "float_table")
def table(t: Twin, output: int, index: Index) -> int:
    """One code of the table."""
    return table_code(t, index, lambda t, x: call_library(t, "tanh", x))


@twin("tanh", "sigmoid_table")
def sigmoid_table(t: Twin, output: int, index: Index) -> int:
    """One code, in Q0.15."""
    x = argument(t, int(t.at("input", index)), (0, 1))
    size = abs(x)
    # twice the sigmoid of twice the argument, less one, in units of 2**-23
    value = (interpolated(size, 8) if size < 255 * 256 else 65535 * 256) - 2**23
    t.say("tanh of the size", value, text="Q0.23")
    if x < 0:
        return (-value + 127) // 256
    return (value + 128) // 256


float32("tanh", lambda t, x: Fraction(call_library(t, "tanh", x)))
real("tanh", lambda t, x: tanh(x, 60))
