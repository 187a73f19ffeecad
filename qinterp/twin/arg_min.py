"""Twin of arg_min."""

from __future__ import annotations

import math

from qinterp.twin._twin import Index, Twin, twin


@twin("arg_min", "first_index")
def first_index(t: Twin, output: int, index: Index) -> int:
    """The first index of the smallest element along the axis."""
    shape = t.call["input"].shape
    axis = t.call.integers("axis")[0] % len(shape)
    best = 0
    for i in range(shape[axis]):
        candidate, current = _at(t, index, axis, i), _at(t, index, axis, best)
        if candidate < current or (math.isnan(current) and not math.isnan(candidate)):
            best = i
    t.say("smallest element", _at(t, index, axis, best))
    return best


def _at(t: Twin, index: Index, axis: int, position: int) -> float:
    element: float = t.at("input", (*index[:axis], position, *index[axis:]))
    return element
