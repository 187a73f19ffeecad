"""Twin of select."""

from __future__ import annotations

from qinterp.twin._twin import Index, Number, Twin, twin


@twin("select", "choose")
def select(t: Twin, output: int, index: Index) -> Number:
    """An element of x or y by the condition at the same index, at its start, or anywhere."""
    chosen = t.at("condition", _within(t, "condition", index))
    t.say("condition", chosen)
    name = "x" if chosen else "y"
    element: Number = t.at(name, _within(t, name, index))
    return element


def _within(t: Twin, operand: str, index: Index) -> Index:
    """The part of ``index`` that the operand has, which may be one element of another rank."""
    shape = t.call[operand].shape
    if set(shape) <= {1}:
        return tuple(0 for _ in shape)
    return index[: len(shape)]
