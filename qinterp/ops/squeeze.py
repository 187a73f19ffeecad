"""The same elements without dimensions of one (clause O-squeeze).

Source: tflite/kernels/squeeze.cc Prepare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_type
from qinterp.ops._operator import Move, Operator

SQUEEZE = Operator("squeeze", ("input",), {"axes": ()}, keeps_order=True)


@SQUEEZE.reads_tflite("SQUEEZE", "SqueezeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a SQUEEZE."""
    return {"axes": options.squeeze_dims}


@SQUEEZE.infers
def shapes(call: Call) -> list[Shape]:
    """The axes that are named go, or, where none is, all of one element."""
    shape = call["input"].shape
    axes = {axis_of(call, axis, len(shape)) for axis in call.attributes["axes"]}
    for axis in axes:
        call.check(shape[axis] == 1, f"axis {axis} of {call['input'].describe()} is not 1")
    axes = axes or {i for i, size in enumerate(shape) if size == 1}
    return [tuple(size for i, size in enumerate(shape) if i not in axes)]


@SQUEEZE.moves
def move(call: Call) -> Move:
    """Elements keep their row-major order."""
    check_same_type(call, [call["input"], call.output])
    shape = call.output.shape
    return lambda values, fill: [values[0].reshape(shape)]
