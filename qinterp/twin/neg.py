"""Twins of neg."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import fitted, quantized
from qinterp.twin._twin import Index, Twin, scale, twin
from qinterp.twin._unary import float32


@twin("neg", "codes")
def codes(t: Twin, output: int, index: Index) -> int:
    """One stored integer."""
    return fitted(-int(t.at("input", index)), t.call.output.int_type.bits, "wrap")


@twin("neg", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """One code."""
    if t.call["input"].quantization is None:
        return fitted(-int(t.at("input", index)), t.call.output.int_type.bits, "wrap")
    return quantized(t, -t.code("input", index) * Fraction(scale(t.call["input"])))


float32("neg", lambda t, x: -x)
