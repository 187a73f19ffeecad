"""Tensors stacked along a new axis (clause O-pack).

Source: tflite/kernels/pack.cc Prepare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import axis_of, check_same_parameters
from qinterp.ops._operator import Move, Operator

PACK = Operator("pack", ("values*",), {"axis": 0})


@PACK.reads_tflite("PACK", "PackOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a PACK."""
    return {"axis": options.axis}


@PACK.infers
def shapes(call: Call) -> list[Shape]:
    """All operands have one shape."""
    call.check(bool(call.inputs), "takes at least one operand")
    described = ", ".join(t.describe() for t in call.inputs if t)
    shape, *others = [t.shape for t in call.inputs if t]
    call.check(all(other == shape for other in others), f"shapes differ: {described}")
    axis = axis_of(call, call.attributes["axis"], len(shape) + 1)
    return [(*shape[:axis], len(call.inputs), *shape[axis:])]


@PACK.moves
def move(call: Call) -> Move:
    """Operand i at position i of the new axis."""
    check_same_parameters(call, [*call.inputs, call.output])
    axis = call.attributes["axis"]
    return lambda values, fill: [np.stack(values, axis)]
