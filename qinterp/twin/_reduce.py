"""The elements that go into one output of a reduction."""

from __future__ import annotations

from itertools import product
from typing import Any

from qinterp.twin._twin import Index, Twin


def reduced(t: Twin, index: Index) -> list[Any]:
    """Raw elements in their order in the input."""
    shape = t.call["input"].shape
    axes = {int(a) % max(len(shape), 1) for a in t.values[1].reshape(-1)}  # type: ignore[union-attr]
    kept = iter(index)
    ranges: list[Any] = []
    for axis, size in enumerate(shape):
        if axis not in axes:
            ranges.append((next(kept),))
        else:
            ranges.append(range(size))
            if t.call.attributes["keep_dims"]:
                next(kept)
    return [t.at("input", position) for position in product(*ranges)]
