"""The same elements in another shape (clause O-reshape).

Source: tflite/kernels/reshape.cc GetOutputShape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._operator import Move, Operator

RESHAPE = Operator("reshape", ("input", "shape?"), {"new_shape": ()}, keeps_order=True)


@RESHAPE.reads_tflite("RESHAPE", "ReshapeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """The shape is an operand, or an option of older files."""
    return {"new_shape": options.new_shape}


@RESHAPE.infers
def shapes(call: Call) -> list[Shape]:
    """One dimension may be -1: what is left over."""
    given = call.get("shape")
    if given is not None and len(given.shape) == 1:
        shape = call.integers("shape")
    else:
        shape = [int(d) for d in call.attributes["new_shape"]]
        if shape == [0] and given is None:  # a scalar, as old converters wrote it
            shape = []
    size = math.prod(call["input"].shape)
    open_dimensions = [i for i, d in enumerate(shape) if d == -1]
    call.check(
        len(open_dimensions) <= 1 and min(shape, default=0) >= -1, f"cannot reshape to {shape}"
    )
    if open_dimensions:
        rest = math.prod(d for d in shape if d != -1)
        call.check(rest > 0 and size % rest == 0, f"cannot reshape {size} elements to {shape}")
        shape[open_dimensions[0]] = size // rest
    call.check(math.prod(shape) == size, f"cannot reshape {size} elements to {shape}")
    return [tuple(shape)]


@RESHAPE.moves
def move(call: Call) -> Move:
    """Elements keep their row-major order."""
    call.types(output=(call["input"].dtype,))
    shape = call.output.shape
    return lambda values, fill: [values[0].reshape(shape)]
