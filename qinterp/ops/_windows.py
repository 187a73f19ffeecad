"""Sliding windows: output sizes and padding (clause W1).

Source: tflite/kernels/padding.h ComputeOutSize, ComputePaddingWithOffset.
"""

from __future__ import annotations

from qinterp.ir import Call

Pair = tuple[int, int]
PADDINGS = ("same", "valid")


def window(
    call: Call, image: Pair, kernel: Pair, strides: Pair, dilations: Pair = (1, 1)
) -> tuple[Pair, Pair]:
    """Output height and width, and the padding at the top and the left.

    The node's ``padding`` is "same", "valid", or (top, bottom, left, right).
    """
    padding = call.attributes["padding"]
    call.check(
        min(*strides, *dilations) >= 1,
        f"strides {strides} and dilations {dilations} must be at least 1",
    )
    call.check(min(kernel) >= 1, f"the window {kernel} must be at least 1 by 1")
    sizes, before = [], []
    for axis in range(2):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        if padding == "same":
            size = -(-image[axis] // strides[axis])
            total = max((size - 1) * strides[axis] + extent - image[axis], 0)
            start = total // 2
        else:
            start, end = (0, 0) if padding == "valid" else padding[2 * axis : 2 * axis + 2]
            size = (image[axis] + start + end - extent + strides[axis]) // strides[axis]
        call.check(
            size >= 0 and (size > 0 or image[axis] == 0),
            f"a window of {extent} does not fit an image of {image[axis]} (padding {padding})",
        )
        sizes.append(size)
        before.append(start)
    return (sizes[0], sizes[1]), (before[0], before[1])
