"""Twin of embedding_lookup."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Number, Twin, scale, twin


@twin("embedding_lookup", "lookup")
def lookup(t: Twin, output: int, index: Index) -> Number:
    """An element of the row that the index operand names."""
    row = t.at("indices", index[:1])
    t.say("row", row)
    table = t.call["table"]
    if table.dtype == t.call.output.dtype:
        same: Number = t.at("table", (row, *index[1:]))
        return same
    element = t.at("table", _place(table.shape, (row, *index[1:]), table.dtype == "int4"))
    if element > 127:
        element -= 256  # bytes are read as int8
    channel = 0 if t.params.scales == "first" else row
    return float(float_of(Fraction(element) * scale(table, channel), 32))


def _place(shape: Sequence[int], index: Index, packed: bool) -> Index:
    """Where an element is read; a packed row from the start of the byte in which it begins."""
    flat = 0
    for i, size in zip(index, shape, strict=True):
        flat = flat * size + i
    if packed:
        flat -= index[0] * prod(shape[1:]) % 2
    place = []
    for size in reversed(shape):
        flat, i = divmod(flat, size)
        place.append(i)
    return tuple(reversed(place))
