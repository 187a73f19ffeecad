"""Twin of the float32 softmax."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library


@twin("softmax", "float32")
def float32(t: Twin, output: int, index: Index) -> float:
    """One probability."""
    terms, total = t.shared(("row", index[:-1]), lambda: _row(t, index[:-1]))
    term = terms[index[-1]]
    t.say("exponential", term)
    t.say("sum", total)
    return float(float_of(term / total, 32))


def _row(t: Twin, where: Index) -> tuple[list[Fraction], Fraction]:
    depth = t.call["input"].shape[-1]
    x = [Fraction(t.at("input", (*where, i))) for i in range(depth)]
    beta, most = Fraction(t.call.attributes["beta"]), max(x)
    terms = []
    total = Fraction(0)
    for value in x:
        scaled = float_of(float_of(value - most, 32) * beta, 32)
        terms.append(Fraction(call_library(t, "exp", scaled)))
        total = float_of(total + terms[-1], 32)
    return terms, total
