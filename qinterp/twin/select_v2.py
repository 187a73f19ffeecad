"""Twin of select_v2."""

from __future__ import annotations

from qinterp.twin._twin import Index, Number, Twin, twin


@twin("select_v2", "choose")
def select(t: Twin, output: int, index: Index) -> Number:
    """An element of x or y by the condition, each broadcast."""
    chosen = t.at("condition", _within(t, "condition", index))
    t.say("condition", chosen)
    name = "x" if chosen else "y"
    element: Number = t.at(name, _within(t, name, index))
    return element


def _within(t: Twin, operand: str, index: Index) -> Index:
    """The index into an operand, which may be one element of another rank."""
    shape = t.call[operand].shape
    return tuple(0 for _ in shape) if set(shape) <= {1} else t.broadcast(operand, index)
