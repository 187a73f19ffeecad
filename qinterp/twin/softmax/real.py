"""Twin of the real softmax."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import exp
from qinterp.twin._arithmetic import quantized
from qinterp.twin._twin import Index, Twin, scale, twin
from qinterp.twin.softmax.gemmlowp import row


@twin("softmax", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """One probability."""
    step = scale(t.call["input"]) * Fraction(t.call.attributes["beta"])

    def terms() -> tuple[int, Fraction]:
        codes = row(t, index)
        most = max(codes)
        return most, sum((_term(t, (code - most) * step) for code in codes), Fraction(0))

    most, total = t.shared(("row", index[:-1]), terms)
    return quantized(t, _term(t, (int(t.at("input", index)) - most) * step) / total)


def _term(t: Twin, x: Fraction) -> Fraction:
    made: Fraction = t.shared(("exp", x), lambda: exp(max(x, Fraction(-1000)), 80))
    return made
