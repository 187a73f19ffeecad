"""Which elements the remainder of a vectorized loop computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from qinterp.twin._twin import Index, Twin


def in_tail(t: Twin, tail: Any, index: Index) -> bool:
    """Whether the output's element at ``index`` is left over from the blocks of its loop."""
    shape = t.call.output.shape
    place = 0
    for i, n in zip(index, shape, strict=True):
        place = place * n + i
    run = math.prod(shape)
    if tail.along == "channel":
        run = shape[-1]
    elif tail.along == "row" and len(t.call.inputs) > 1:
        run = _row([tensor.shape for tensor in t.call.inputs[:2] if tensor is not None], shape)
    inside = place % run
    whole: int = run - run % tail.block
    return inside >= whole


def _row(operands: Sequence[Sequence[int]], shape: Sequence[int]) -> int:
    """Elements up to the first dimension in which an operand stands still or starts again."""
    padded = [[1] * (len(shape) - len(operand)) + list(operand) for operand in operands]
    row, axis = 1, len(shape)
    while axis > 0 and padded[0][axis - 1] == padded[1][axis - 1]:
        axis -= 1
        row *= shape[axis]
    if row > 1 or axis == 0:
        return row
    still = 0 if padded[0][axis - 1] == 1 else 1
    while axis > 0 and padded[still][axis - 1] == 1:
        axis -= 1
        row *= shape[axis]
    return row
