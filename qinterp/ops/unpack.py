"""A tensor taken apart along an axis, which goes (clause O-unpack).

Source: tflite/kernels/unpack.cc Prepare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import axis_of, check_same_parameters
from qinterp.ops._operator import Move, Operator

UNPACK = Operator("unpack", ("input",), {"axis": 0, "parts": 1})


@UNPACK.reads_tflite("UNPACK", "UnpackOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of an UNPACK."""
    return {"axis": options.axis, "parts": options.num}


@UNPACK.infers
def shapes(call: Call) -> list[Shape]:
    """One output for every element along the axis."""
    shape = call["input"].shape
    axis = axis_of(call, call.attributes["axis"], len(shape))
    parts = call.attributes["parts"]
    call.check(shape[axis] == parts, f"dimension {axis} is {shape[axis]}, not {parts}")
    return [(*shape[:axis], *shape[axis + 1 :])] * parts


@UNPACK.moves
def move(call: Call) -> Move:
    """Output i is what stands at position i of the axis."""
    check_same_parameters(call, [call["input"], *call.outputs])
    axis, parts = call.attributes["axis"], range(call.attributes["parts"])

    def unpack(values: Sequence[Any], fill: Any) -> list[Array]:
        front = np.moveaxis(values[0], axis, 0)
        return [front[i, ...] for i in parts]

    return unpack
