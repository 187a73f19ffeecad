"""A tensor broadcast to a given shape (clause O-broadcast_to).

Source: tflite/kernels/broadcast_to.cc ResizeOutputTensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import check_same_type
from qinterp.ops._operator import Move, Operator

BROADCAST_TO = Operator("broadcast_to", ("input", "shape"))


@BROADCAST_TO.reads_tflite("BROADCAST_TO", "BroadcastToOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@BROADCAST_TO.infers
def shapes(call: Call) -> list[Shape]:
    """Dimensions of one stretch; new ones stand in front."""
    given = call["input"].shape
    shape = tuple(call.integers("shape"))
    tail = shape[len(shape) - len(given) :]
    call.check(
        len(given) <= len(shape)
        and min(shape, default=0) >= 0
        and all(have in (1, want) for have, want in zip(given, tail, strict=True)),
        f"{call['input'].describe()} does not broadcast to {list(shape)}",
    )
    return [shape]


@BROADCAST_TO.moves
def move(call: Call) -> Move:
    """Elements repeated."""
    check_same_type(call, [call["input"], call.output])
    shape = call.output.shape
    return lambda values, fill: [np.array(np.broadcast_to(values[0], shape))]
