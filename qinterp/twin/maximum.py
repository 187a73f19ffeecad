"""Twin of maximum."""

from __future__ import annotations

from qinterp.twin._arithmetic import quantized
from qinterp.twin._binary import operands, reals
from qinterp.twin._twin import Index, Number, Twin, twin


@twin("maximum", "codes", "integers", "float32")
def codes(t: Twin, output: int, index: Index) -> Number:
    """The larger element as it is stored."""
    a, b = operands(t, index)
    element: Number = a if a > b else b
    return element


@twin("maximum", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The larger real value, rounded once."""
    return quantized(t, max(reals(t, index)))
