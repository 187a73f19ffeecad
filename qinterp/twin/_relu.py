"""Twins of the rectifiers with fixed bounds."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import requantized
from qinterp.twin.conv_2d import clamp_float


def rectifier(kind: str) -> None:
    """Declare the twins of ``kind``."""

    @twin(kind, "requantize_and_clamp")
    def rescaled(t: Twin, output: int, index: Index) -> int:
        return requantized(t, t.code("input", index), index)

    @twin(kind, "float32")
    def clamped(t: Twin, output: int, index: Index) -> float:
        return clamp_float(t, Fraction(t.at("input", index)))

    del rescaled, clamped
