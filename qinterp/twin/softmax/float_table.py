"""Twin of the 8-bit softmax by a table of floats."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from qinterp.numerics.libm import LIBRARIES
from qinterp.twin._arithmetic import Factor, float_of, run_stages, storage
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.softmax.gemmlowp import row


@twin("softmax", "float_table")
def float_table(t: Twin, output: int, index: Index) -> int:
    """One probability."""
    most, inverse = t.shared(("row", index[:-1]), lambda: _row(t, index[:-1]))
    out = t.call.output
    e = _exponential(t, most - int(t.at("input", index)))
    t.say("largest code of the row", most)
    t.say("exponential", e)
    t.say("1 / (sum * scale)", inverse)
    value = float_of(float_of(e * inverse, 32) + Fraction(t.params.offset), 32)
    return run_stages(t, t.params.stages, value, Factor(Fraction(1)), zero_point(out), storage(out))


def _row(t: Twin, where: Index) -> tuple[int, Fraction]:
    codes = row(t, (*where, 0))
    most, total = max(codes), Fraction(0)
    for code in codes:
        total = float_of(total + _exponential(t, most - code), 32)
    return most, float_of(1 / float_of(total * scale(t.call.output), 32), 32)


def _exponential(t: Twin, distance: int) -> Fraction:
    def make() -> Fraction:
        beta = float_of(Fraction(t.call.attributes["beta"]), 32)
        step = float_of(-scale(t.call["input"]) * beta, 32)
        x = np.array([float(float_of(step * distance, 32))], np.float32)
        return Fraction(float(LIBRARIES[t.params.library]["exp"](x)[0]))

    made: Fraction = t.shared(("exponential", distance), make)
    return made
