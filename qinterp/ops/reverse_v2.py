"""Elements in reverse order along some axes (clause O-reverse_v2).

Source: tflite/kernels/reverse.cc Eval, which asks for adjacent axes; any will do here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_type
from qinterp.ops._operator import Move, Operator

REVERSE_V2 = Operator("reverse_v2", ("input", "axes"))


@REVERSE_V2.reads_tflite("REVERSE_V2", "ReverseV2Options")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@REVERSE_V2.infers
def shapes(call: Call) -> list[Shape]:
    """The input's shape."""
    return [call["input"].shape]


@REVERSE_V2.moves
def move(call: Call) -> Move:
    """Every axis that is named runs backwards."""
    check_same_type(call, [call["input"], call.output])
    given = call.integers("axes")
    axes = tuple(axis_of(call, axis, len(call["input"].shape)) for axis in given)
    call.check(len(set(axes)) == len(axes), f"axes {given} are not distinct")
    return lambda values, fill: [np.flip(values[0], axes)]
