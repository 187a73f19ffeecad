"""A tensor cut into equal parts (clause O-split).

Source: tflite/kernels/split.cc ResizeOutputTensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_type, one_integer
from qinterp.ops._operator import Move, Operator

SPLIT = Operator("split", ("axis", "input"), {"parts": 1})


@SPLIT.reads_tflite("SPLIT", "SplitOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a SPLIT."""
    return {"parts": options.num_splits}


@SPLIT.infers
def shapes(call: Call) -> list[Shape]:
    """The dimension must divide into the parts."""
    shape = list(call["input"].shape)
    axis = axis_of(call, one_integer(call, "axis"), len(shape))
    parts = call.attributes["parts"]
    call.check(
        parts > 0 and shape[axis] % parts == 0, f"{shape[axis]} does not divide into {parts} parts"
    )
    shape[axis] //= parts
    return [tuple(shape)] * parts


@SPLIT.moves
def move(call: Call) -> Move:
    """Consecutive parts."""
    check_same_type(call, [call["input"], *call.outputs])
    axis = one_integer(call, "axis")
    parts = call.attributes["parts"]
    return lambda values, fill: np.split(values[1], parts, axis)
