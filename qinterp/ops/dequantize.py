"""Codes to real numbers (clause O-dequantize).

Source: tflite/kernels/dequantize.cc; tflite/kernels/internal/reference/dequantize.h,
integer_ops/dequantize.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._operator import ANY_FAMILY, Operator, Run
from qinterp.ops._tables import lookup
from qinterp.ops._tails import Elementwise, with_tail

DEQUANTIZE = Operator("dequantize", ("input",))


@DEQUANTIZE.reads_tflite("DEQUANTIZE", "DequantizeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """DEQUANTIZE has no attributes."""
    return {}


@DEQUANTIZE.infers
def shapes(call: Call) -> list[Shape]:
    """The input's."""
    return [call["input"].shape]


@DEQUANTIZE.recipe("dequantize", family=ANY_FAMILY)
def dequantize(call: Call) -> Run:
    """``out = s * (x - z)``, rounded once to float32."""
    call.types(input=("int8", "uint8", "int16", "int4", "float16"), output=("float32",))
    tensor = call["input"]
    if tensor.dtype == "float16":
        return lambda values, notes: [values[0].astype(np.float32)]
    q = call.quantization(tensor)
    if tensor.dtype == "int16":
        call.check(not q.zero_point.any(), "the zero point of int16 must be 0")
    along = [1] * len(tensor.shape)
    if q.axis is not None:
        along[q.axis] = q.scale.size
    scale, zero_point = q.scale.reshape(along), q.zero_point.astype(np.int32).reshape(along)

    def real(x: Array) -> Array:
        # differences of 16-bit codes are exact in float32
        return np.asarray((x.astype(np.int32) - zero_point).astype(np.float32) * scale)

    if q.axis is None:
        return _pointwise(call, lambda x: real(x).reshape(x.shape))
    return lambda values, notes: [real(values[0])]


def _pointwise(call: Call, real: Callable[[Array], Array]) -> Run:
    """``real`` of each code, by a table where there are few codes."""
    tensor = call["input"]
    if tensor.numpy_dtype.itemsize == 1:
        return lookup(call, real(np.arange(256, dtype=np.uint8).view(tensor.numpy_dtype)))

    def into(values: Sequence[Any], out: Array) -> None:
        out[...] = real(values[0])

    return Elementwise(call, into)


@dataclass(frozen=True)
class ScaledThenShifted:
    """The code scaled first, then the scaled zero point subtracted, each in float32.

    Attributes
    ----------
    block, along : elements that do not fill a block are dequantized as the recipe ``dequantize``
        does it.
    """

    block: int = 8
    along: Literal["flat"] = "flat"

    def __post_init__(self) -> None:
        if self.block < 2:
            raise ValueError(f"block must be at least 2, got {self.block}")


@DEQUANTIZE.recipe("scaled_then_shifted", ScaledThenShifted)
def scaled_then_shifted(call: Call) -> Run:
    """``out = s * x - s * z`` (tflite/kernels/internal/optimized/optimized_ops.h Dequantize)."""
    call.types(input=("int8", "uint8", "int16"), output=("float32",))
    params: ScaledThenShifted = call.params
    scale, zero_point = call.per_tensor(call["input"])
    shift = np.float32(-zero_point * scale)

    def real(x: Array) -> Array:
        return np.asarray(x.astype(np.float32) * np.float32(scale) + shift)

    return with_tail(call, _pointwise(call, real), dequantize(call), params)
