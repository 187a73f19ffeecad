"""Twin of minimum."""

from __future__ import annotations

from qinterp.twin._arithmetic import quantized
from qinterp.twin._binary import operands, reals
from qinterp.twin._twin import Index, Number, Twin, twin


@twin("minimum", "codes", "integers", "float32")
def codes(t: Twin, output: int, index: Index) -> Number:
    """The smaller element as it is stored."""
    a, b = operands(t, index)
    element: Number = a if a < b else b
    return element


@twin("minimum", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The smaller real value, rounded once."""
    return quantized(t, min(reals(t, index)))
