"""Twin of embedding_lookup."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Number, Twin, scale, twin


@twin("embedding_lookup", "lookup")
def lookup(t: Twin, output: int, index: Index) -> Number:
    """An element of the row that the index operand names."""
    row = t.at("indices", index[:1])
    t.say("row", row)
    table = t.call["table"]
    element: Number = t.at("table", (row, *index[1:]))
    if table.dtype == t.call.output.dtype:
        return element
    return float(float_of(Fraction(element) * scale(table, row), 32))
