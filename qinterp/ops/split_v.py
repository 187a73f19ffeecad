"""A tensor cut into parts of given sizes (clause O-split_v).

Source: tflite/kernels/split_v.cc ResizeOutputTensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_type, one_integer
from qinterp.ops._operator import Move, Operator

SPLIT_V = Operator("split_v", ("input", "sizes", "axis"))


@SPLIT_V.reads_tflite("SPLIT_V", "SplitVOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@SPLIT_V.infers
def shapes(call: Call) -> list[Shape]:
    """One of the sizes may be -1: what is left over."""
    axis, sizes = _cuts(call)
    shape = call["input"].shape
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@SPLIT_V.moves
def move(call: Call) -> Move:
    """Consecutive parts."""
    check_same_type(call, [call["input"], *call.outputs])
    axis, sizes = _cuts(call)
    ends = list(accumulate(sizes))[:-1]
    return lambda values, fill: np.split(values[0], ends, axis)


def _cuts(call: Call) -> tuple[int, list[int]]:
    axis = axis_of(call, one_integer(call, "axis"), len(call["input"].shape))
    whole = call["input"].shape[axis]
    sizes = call.integers("sizes")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = whole - sum(size for size in sizes if size != -1)
    call.check(
        min(sizes, default=0) >= 0 and sum(sizes) == whole,
        f"sizes {call.integers('sizes')} do not add up to {whole}",
    )
    return axis, sizes
