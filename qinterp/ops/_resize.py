"""What the operators that resize images share.

Source: tflite/kernels/resize_bilinear.cc, resize_nearest_neighbor.cc Prepare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._operator import Operator


def resize(kind: str, builtin: str, options_table: str) -> Operator:
    """Declare an operator that resizes an NHWC image, with its TFLite form."""
    operator = Operator(
        kind, ("input", "size"), {"align_corners": False, "half_pixel_centers": False}
    )

    @operator.reads_tflite(builtin, options_table)
    def from_tflite(options: Any) -> Mapping[str, Any]:
        return {
            "align_corners": bool(options.align_corners),
            "half_pixel_centers": bool(options.half_pixel_centers),
        }

    @operator.infers
    def shapes(call: Call) -> list[Shape]:
        n, h, w, c = call.rank("input", 4)
        call.rank("size", 1)
        size = call.integers("size")
        call.check(
            len(size) == 2 and min(size) > 0, f"size {size} must be a positive height and width"
        )
        call.check(h > 0 and w > 0, f"an image of {[h, w]} cannot be resized")
        return [(n, *size, c)]

    return operator


def image_sizes(call: Call) -> tuple[tuple[int, int], tuple[int, int]]:
    """(input, output) of height and of width."""
    _, h, w, _ = call["input"].shape
    _, oh, ow, _ = call.output.shape
    return (h, oh), (w, ow)
