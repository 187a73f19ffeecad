"""Twin of shape."""

from __future__ import annotations

from qinterp.twin._twin import Index, Twin, twin


@twin("shape", "dimensions")
def dimensions(t: Twin, output: int, index: Index) -> int:
    """One dimension."""
    return t.call["input"].shape[index[0]]
