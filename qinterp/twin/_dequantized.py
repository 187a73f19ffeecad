"""Twin of the ``dequantized`` recipes: the float twin on dequantized operands, then quantized."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir.tensor import Array
from qinterp.twin._arithmetic import Factor, float_of, run_stages, storage
from qinterp.twin._twin import TWINS, Index, Number, Twin, scale, zero_point

_BEYOND = Fraction(2) ** 400  # for an infinity: saturates like one


def dequantized(t: Twin, output: int, index: Index) -> Number:
    """One element: the float twin's, as a code of the output."""

    def reals() -> Twin:
        values = [
            value if value is None or tensor is None else _real(tensor, value)
            for tensor, value in zip(t.call.inputs, t.values, strict=False)
        ]
        return Twin(t.call.dequantized(), values, {}, t.lines)

    inner: Twin = t.shared("float", reals)
    value = TWINS[t.call.node.kind, "float32"](inner, output, index)
    t.say("float32 result", float(value))
    tensor = t.call.outputs[output]
    if tensor.quantization is None:
        return value
    by = Factor(scale(tensor))
    real = Fraction(value) if math.isfinite(value) else (_BEYOND if value > 0 else -_BEYOND)
    return run_stages(t, t.params.quantize, real, by, zero_point(tensor), storage(tensor))


def _real(tensor: Any, value: Array) -> Array:
    if tensor.quantization is None:
        return value
    axis = tensor.quantization.axis
    out = np.empty(value.shape, np.float32)
    for index in np.ndindex(*value.shape):
        channel = index[axis] if axis is not None else 0
        code = float_of(Fraction(int(value[index]) - zero_point(tensor, channel)), 32)
        out[index] = float(float_of(code * scale(tensor, channel), 32))
    return out
