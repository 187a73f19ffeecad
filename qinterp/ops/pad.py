"""A border around a tensor, of the zero point or of a given value (clause O-pad).

Source: tflite/kernels/pad.cc Prepare, EvalInt; tflite/kernels/internal/reference/pad.h PadImpl.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import check_same_parameters, check_same_type, pairs
from qinterp.ops._operator import Move, Operator

PAD = Operator("pad", ("input", "paddings", "value?"))


@PAD.reads_tflite("PAD", "PadOptions")
@PAD.reads_tflite("PADV2", "PadV2Options")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@PAD.infers
def shapes(call: Call) -> list[Shape]:
    """Every dimension grows by its pair of paddings."""
    value = call.get("value")
    if value is not None:
        call.check(math.prod(value.shape) == 1, f"value {value.describe()} must be one element")
    shape = call["input"].shape
    borders = pairs(call, "paddings", len(shape))
    return [tuple(before + d + after for d, (before, after) in zip(shape, borders, strict=True))]


@PAD.moves
def move(call: Call) -> Move:
    """The input in the middle of a tensor of the fill value."""
    check_same_type(call, [call["input"], call.output])
    check_same_parameters(call, [call.output, call.get("value")])
    shape = call.output.shape
    inner = call["input"].shape
    borders = pairs(call, "paddings", len(inner))
    inside = tuple(slice(b, b + d) for d, (b, _) in zip(inner, borders, strict=True))

    def pad(values: Sequence[Any], fill: Any) -> list[Array]:
        x, _, *value = values
        out = np.full(shape, value[0].reshape(()) if value else fill, x.dtype)
        out[inside] = x
        return [out]

    return pad
