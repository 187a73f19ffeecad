"""Real numbers to codes, and codes to codes of another grid (clause O-quantize).

Source: tflite/kernels/quantize.cc; tflite/kernels/internal/reference/quantize.h AffineQuantize,
PerChannelQuantize; reference/requantize.h Requantize.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import AddZeroPoint, Clamp, DivideScale, Round, Stage
from qinterp.ops._elementwise import Real, apply_stages, quantize_real
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run

QUANTIZE = Operator("quantize", ("input",))

CODES = ("int8", "uint8", "int16", "int4")
# what Prepare of quantize.cc lets through
_FROM_CODES = {
    "int8": ("int8", "uint8", "int16"),
    "uint8": ("int8", "uint8", "int16"),
    "int16": ("int8", "int16", "int32"),
    "int32": ("int8", "int16"),
}


@dataclass(frozen=True)
class FromFloat:
    """A float as a code.

    Attributes
    ----------
    stages : from the float to the code; their scale is the output's.
    inverse : their scale is one over the output's, rounded to float32.
    """

    stages: tuple[Stage, ...] = (
        DivideScale("float32"),
        Round("ties_to_away"),
        AddZeroPoint(),
        Clamp(),
    )
    inverse: bool = False


@QUANTIZE.reads_tflite("QUANTIZE", "QuantizeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """QUANTIZE has no attributes."""
    return {}


@QUANTIZE.infers
def shapes(call: Call) -> list[Shape]:
    """The input's."""
    call.quantization(call.output)
    return [call["input"].shape]


@QUANTIZE.recipe("from_float", FromFloat, floats=True)
def from_float(call: Call) -> Run:
    """``out = zo + round(x / so)``."""
    call.types(input=("float32",), output=CODES)
    params: FromFloat = call.params
    kind, dtype = call.output.int_type, call.output.numpy_dtype
    q = call.quantization(call.output)
    scales = np.float32(1) / q.scale if params.inverse else q.scale
    none = np.zeros(1, np.int64)
    channels = [
        Requantizer(
            params.stages,
            Rescale(np.array([float(scale)]), none, none),
            zero_point=int(zero_point),
            bounds=(kind.min, kind.max),
        )
        for scale, zero_point in zip(scales, q.zero_point, strict=True)
    ]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        if q.axis is None:
            return [apply_stages(channels[0], x, dtype)]
        out = np.empty(x.shape, dtype)
        for to_code, source, target in zip(
            channels, np.moveaxis(x, q.axis, 0), np.moveaxis(out, q.axis, 0), strict=True
        ):
            target[...] = apply_stages(to_code, source, dtype)
        return [out]

    return run


@QUANTIZE.recipe("requantize", family=ANY_FAMILY)
def requantize(call: Call) -> Run:
    """``out = zo + r(x - zi)`` by the policy's requantization."""
    kind = call["input"].dtype
    call.types(input=tuple(_FROM_CODES), output=_FROM_CODES.get(kind, ()))
    scale, zero_point = call.per_tensor(call["input"])
    out_scale, out_zero_point = call.per_tensor(call.output)
    if (kind, call.output.dtype) == ("int16", "int16"):
        call.check(zero_point == out_zero_point == 0, "the zero points of int16 must be 0")
    policy = call.policy
    rescale = Rescale.of_scales(
        scale, 1.0, out_scale, policy.effective_scale, policy.multiplier
    )
    limits = call.output.int_type
    to_code = Requantizer(
        policy.requantize, rescale, zero_point=out_zero_point, bounds=(limits.min, limits.max)
    )
    dtype = call.output.numpy_dtype
    wrap = OVERFLOW_CODE["wrap"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0].astype(np.int64) - zero_point
        if kind == "int32":
            x = _kernels.fit(x, 32, wrap)
        notes.add("accumulator", x)
        return [apply_stages(to_code, x, dtype)]

    return run


@QUANTIZE.recipe("real", Real)
def real(call: Call) -> Run:
    """The quotient of a float and the scale, rounded once."""
    call.types(input=("float32",), output=CODES)
    scale, _ = call.per_tensor(call.output)
    kind = call.output.int_type

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0].astype(np.float64)

        def exact(i: int, digits: int) -> Fraction:
            value = float(x.flat[i])
            if np.isnan(value):
                call.bad_input("the input has NaN, which no code stands for")
            return Fraction(value) / Fraction(scale)

        return [quantize_real(call, x / scale, exact, (kind.min, kind.max))]

    return run
