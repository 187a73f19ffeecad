"""Twins of abs."""

from __future__ import annotations

from qinterp.twin._arithmetic import fitted
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import float32, requantized


@twin("abs", "requantize")
def requantize(t: Twin, output: int, index: Index) -> int:
    """One code."""
    if t.call["input"].quantization is None:
        bits = t.call.output.int_type.bits
        return fitted(abs(int(t.at("input", index))), bits, "wrap")
    return requantized(t, abs(t.code("input", index)), index)


float32("abs", lambda t, x: abs(x))
