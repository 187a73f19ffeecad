"""Twins of prelu."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._twin import Index, Twin, scale, twin
from qinterp.twin._unary import f32, requantized


@twin("prelu", "rescaled")
def rescaled(t: Twin, output: int, index: Index) -> int:
    """One code."""
    x = t.code("input", index)
    if x >= 0:
        return requantized(t, x, index)
    alpha = t.code("alpha", t.broadcast("alpha", index))
    return requantized(t, x * alpha, index, scale(t.call["alpha"]))


@twin("prelu", "float32")
def float32(t: Twin, output: int, index: Index) -> float:
    """One float32 multiplication at most."""
    x = Fraction(t.at("input", index))
    if x >= 0:
        return float(x)
    return float(f32(x * Fraction(t.at("alpha", t.broadcast("alpha", index)))))
