"""Real numbers to codes, and codes to codes of another grid (clause O-quantize).

Source: tflite/kernels/quantize.cc; tflite/kernels/internal/reference/quantize.h AffineQuantize,
PerChannelQuantize; reference/requantize.h Requantize.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.real import round_real
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import AddZeroPoint, Clamp, DivideScale, Round, Stage
from qinterp.ops._dequantized import Dequantized, dequantized
from qinterp.ops._elementwise import Real, apply_stages
from qinterp.ops._fused import fuse_float
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run
from qinterp.ops._tails import Elementwise, with_tail
from qinterp.ops._unary import pointwise

QUANTIZE = Operator("quantize", ("input",))

CODES = ("int8", "uint8", "int16", "int4")


@dataclass(frozen=True)
class FloatTail:
    """The remainder of a vectorized loop.

    Attributes
    ----------
    block, along : see :class:`qinterp.scheme.Tail`.
    stages : from the float to the code; their scale is the output's.
    """

    block: int
    stages: tuple[Stage, ...]
    along: Literal["flat"] = "flat"

    def __post_init__(self) -> None:
        if self.block < 2:
            raise ValueError(f"block must be at least 2, got {self.block}")


@dataclass(frozen=True)
class FromFloat:
    """A float as a code.

    Attributes
    ----------
    stages : from the float to the code; their scale is the output's.
    inverse : their scale is one over the output's, rounded to float32.
    tail : the stages in the remainder of a vectorized loop; None: there is no such loop.
    """

    stages: tuple[Stage, ...] = (
        DivideScale("float32"),
        Round("ties_to_away"),
        AddZeroPoint(),
        Clamp(),
    )
    inverse: bool = False
    tail: FloatTail | None = None


@QUANTIZE.reads_tflite("QUANTIZE", "QuantizeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """QUANTIZE has no attributes."""
    return {}


@QUANTIZE.infers
def shapes(call: Call) -> list[Shape]:
    """The input's."""
    call.quantization(call.output)
    return [call["input"].shape]


@QUANTIZE.recipe("from_float", FromFloat)
def from_float(call: Call) -> Run:
    """``out = zo + round(x / so)``."""
    call.types(input=("float32",), output=CODES)
    params: FromFloat = call.params
    body = _by_stages(call, params.stages, params.inverse)
    if params.tail is None:
        return body
    return with_tail(call, body, _by_stages(call, params.tail.stages, False), params.tail)


def _by_stages(call: Call, stages: Sequence[Stage], inverse: bool) -> Run:
    kind, dtype = call.output.int_type, call.output.numpy_dtype
    q = call.quantization(call.output)
    scales = np.float32(1) / q.scale if inverse else q.scale
    none = np.zeros(1, np.int64)
    channels = [
        Requantizer(
            stages,
            Rescale(np.array([float(scale)]), none, none),
            zero_point=int(zero_point),
            bounds=(kind.min, kind.max),
        )
        for scale, zero_point in zip(scales, q.zero_point, strict=True)
    ]
    axis = q.axis
    if axis is None:
        to_code = channels[0]
        fast = fuse_float(to_code, dtype)
        into = to_code if fast is None else fast.into

        def whole(values: Sequence[Any], out: Array) -> None:
            into(values[0], out)

        return Elementwise(call, whole)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        out = np.empty(x.shape, dtype)
        for to_code, source, target in zip(
            channels, np.moveaxis(x, axis, 0), np.moveaxis(out, axis, 0), strict=True
        ):
            target[...] = apply_stages(to_code, source, dtype)
        return [out]

    return run


# not ``floats=True``: it has codes for output, so that there is nothing to quantize after it
QUANTIZE.float_recipe = "from_float"


@QUANTIZE.recipe("dequantized", Dequantized, family="float")
@dequantized
def by_float(call: Call) -> Run:
    """Codes as float32, and those as codes."""
    return lambda values, notes: [values[0]]


@QUANTIZE.recipe("requantize", family=ANY_FAMILY)
def requantize(call: Call) -> Run:
    """``out = zo + r(x - zi)`` by the policy's requantization."""
    types = ("int8", "uint8", "int16", "int32")
    call.types(input=types, output=types)
    kind = call["input"].dtype
    scale, zero_point = call.per_tensor(call["input"])
    out_scale, out_zero_point = call.per_tensor(call.output)
    if (kind, call.output.dtype) == ("int16", "int16"):
        call.check(zero_point == out_zero_point == 0, "the zero points of int16 must be 0")
    policy = call.policy
    rescale = Rescale.of_scales(scale, 1.0, out_scale, policy.effective_scale, policy.multiplier)
    limits = call.output.int_type
    dtype = call.output.numpy_dtype
    wrap = OVERFLOW_CODE["wrap"]

    def by(stages: Sequence[Stage]) -> Run:
        to_code = Requantizer(
            stages, rescale, zero_point=out_zero_point, bounds=(limits.min, limits.max)
        )

        if kind != "int32":
            return pointwise(call, lambda code: apply_stages(to_code, code - zero_point))

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            x = _kernels.fit(values[0].astype(np.int64) - zero_point, 32, wrap)
            notes.add("accumulator", x)
            return [apply_stages(to_code, x, dtype)]

        return run

    body = by(policy.requantize)
    return with_tail(call, body, by(policy.tail.requantize), policy.tail) if policy.tail else body


@QUANTIZE.recipe("real", Real)
def real(call: Call) -> Run:
    """The quotient of a float and the scale, rounded once."""
    call.types(input=("float32",), output=CODES)
    q = call.quantization(call.output)
    shape = call["input"].shape
    along = [1] * len(shape)
    if q.axis is not None:
        along[q.axis] = q.scale.size
    scale = np.broadcast_to(q.scale.astype(np.float64).reshape(along), shape)
    zero_point = q.zero_point.reshape(along)
    kind, dtype = call.output.int_type, call.output.numpy_dtype
    limits = (kind.min - int(q.zero_point.max()), kind.max - int(q.zero_point.min()))
    params: Real = call.params

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0].astype(np.float64)
        if np.isnan(x).any():
            call.bad_input("the input has NaN, which no code stands for")

        def exact(i: int, digits: int) -> Fraction:
            return Fraction(float(x.flat[i])) / Fraction(float(scale.flat[i]))

        codes = round_real(x / scale, exact, rounding=params.rounding, bounds=limits)
        return [np.asarray(np.clip(codes + zero_point, kind.min, kind.max), dtype)]

    return run
