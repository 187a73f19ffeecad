"""An image resized by repeating or dropping elements (clause O-resize_nearest_neighbor).

Source: tflite/kernels/internal/reference/resize_nearest_neighbor.h GetNearestNeighbor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ops._operator import Move
from qinterp.ops._resize import image_sizes, resize

RESIZE_NEAREST_NEIGHBOR = resize(
    "resize_nearest_neighbor", "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"
)


@RESIZE_NEAREST_NEIGHBOR.moves
def move(call: Call) -> Move:
    """The element at the place that belongs to the output's, in float32."""
    call.types(output=(call["input"].dtype,))
    rows, columns = (_nearest(call, *sizes) for sizes in image_sizes(call))
    return lambda values, fill: [values[0][:, rows[:, None], columns]]


def _nearest(call: Call, size: int, output_size: int) -> npt.NDArray[np.intp]:
    """The input position of every output position along one axis."""
    align = call.attributes["align_corners"]
    half_pixel = call.attributes["half_pixel_centers"]
    scale = np.float32(size) / np.float32(output_size)
    if align and output_size > 1:
        scale = np.float32(size - 1) / np.float32(output_size - 1)
    offset = np.float32(0.5 if half_pixel else 0.0)
    place = (np.arange(output_size, dtype=np.float32) + offset) * scale
    nearest = _round_away(place) if align else np.floor(place)
    return np.clip(nearest, 0, size - 1).astype(np.intp)


def _round_away(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """To the nearest integer, ties away from zero, of numbers that are not negative."""
    whole = np.floor(x)
    rounded: npt.NDArray[np.float32] = whole + (x - whole >= np.float32(0.5))
    return rounded
