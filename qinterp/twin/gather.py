"""Twin of gather."""

from __future__ import annotations

from qinterp.twin._twin import Index, Number, Twin, twin


@twin("gather", "gather")
def gather(t: Twin, output: int, index: Index) -> Number:
    """The element of the slice that the index operand names."""
    axis: int = t.call.attributes["axis"]
    axis += len(t.call["input"].shape) if axis < 0 else 0
    batch: int = t.call.attributes["batch_dims"]
    rank = len(t.call["indices"].shape)
    batch += rank if batch < 0 else 0
    end = axis + rank - batch
    position = t.at("indices", index[:batch] + index[axis:end])
    t.say("index", position, text=f"along axis {axis}")
    element: Number = t.at("input", (*index[:axis], position, *index[end:]))
    return element
