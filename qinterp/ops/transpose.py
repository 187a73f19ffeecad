"""Dimensions in another order (clause O-transpose).

Source: tflite/kernels/transpose.cc ResizeOutputTensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_type, one_per_dimension
from qinterp.ops._operator import Move, Operator

TRANSPOSE = Operator("transpose", ("input", "permutation"))


@TRANSPOSE.reads_tflite("TRANSPOSE", "TransposeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@TRANSPOSE.infers
def shapes(call: Call) -> list[Shape]:
    """Dimension i of the output is dimension ``permutation[i]`` of the input."""
    shape = call["input"].shape
    return [tuple(shape[axis] for axis in _order(call))]


@TRANSPOSE.moves
def move(call: Call) -> Move:
    """A permutation of the dimensions."""
    check_same_type(call, [call["input"], call.output])
    order = _order(call)
    return lambda values, fill: [values[0].transpose(order)]


def _order(call: Call) -> list[int]:
    given = one_per_dimension(call, "permutation")
    order = [axis_of(call, axis, len(given)) for axis in given]
    call.check(len(set(order)) == len(order), f"{given} is not a permutation")
    return order
