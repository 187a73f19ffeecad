"""A box cut out of a tensor (clause O-slice).

Source: tflite/kernels/slice.cc CalculateOutputShapeVector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import check_same_type, one_per_dimension
from qinterp.ops._operator import Move, Operator

SLICE = Operator("slice", ("input", "begin", "size"))


@SLICE.reads_tflite("SLICE", "SliceOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@SLICE.infers
def shapes(call: Call) -> list[Shape]:
    """A size of -1 stands for all that follows."""
    return [tuple(box.stop - box.start for box in _box(call))]


@SLICE.moves
def move(call: Call) -> Move:
    """The elements of the box."""
    check_same_type(call, [call["input"], call.output])
    box = _box(call)
    return lambda values, fill: [values[0][*box, ...]]


def _box(call: Call) -> tuple[slice, ...]:
    begins, sizes = one_per_dimension(call, "begin"), one_per_dimension(call, "size")
    box = []
    for whole, begin, size in zip(call["input"].shape, begins, sizes, strict=True):
        end = whole if size == -1 else begin + size
        call.check(
            0 <= begin <= end <= whole and size >= -1,
            f"{size} elements from {begin} are not within a dimension of {whole}",
        )
        box.append(slice(begin, end))
    return tuple(box)
