"""The same elements with one more dimension of one (clause O-expand_dims).

Source: tflite/kernels/expand_dims.cc ExpandTensorDim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_parameters, one_integer
from qinterp.ops._operator import Move, Operator

EXPAND_DIMS = Operator("expand_dims", ("input", "axis"), keeps_order=True)


@EXPAND_DIMS.reads_tflite("EXPAND_DIMS", "ExpandDimsOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@EXPAND_DIMS.infers
def shapes(call: Call) -> list[Shape]:
    """The new dimension stands at ``axis`` of the output."""
    shape = call["input"].shape
    axis = axis_of(call, one_integer(call, "axis"), len(shape) + 1)
    return [(*shape[:axis], 1, *shape[axis:])]


@EXPAND_DIMS.moves
def move(call: Call) -> Move:
    """Elements keep their row-major order."""
    check_same_parameters(call, [call["input"], call.output])
    shape = call.output.shape
    return lambda values, fill: [values[0].reshape(shape)]
