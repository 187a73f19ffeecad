"""The elements under a window of a pool."""

from __future__ import annotations

from typing import Any

from qinterp.twin._accumulate import window_start
from qinterp.twin._twin import Index, Twin


def under_window(t: Twin, index: Index) -> list[Any]:
    """The raw elements of the image under an output's window, row by row."""
    n, oy, ox, channel = index
    _, h, w, _ = t.call["input"].shape
    kernel, (sy, sx) = t.call.attributes["filter"], t.call.attributes["strides"]
    top, left = window_start(t, kernel, (h, w))
    return [
        t.at("input", (n, y, x, channel))
        for y in range(max(0, oy * sy - top), min(h, oy * sy - top + kernel[0]))
        for x in range(max(0, ox * sx - left), min(w, ox * sx - left + kernel[1]))
    ]
