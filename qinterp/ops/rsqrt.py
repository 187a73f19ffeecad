"""``1 / sqrt(x)`` (clause O-rsqrt).

Source: tflite/kernels/elementwise.cc SetRsqrtOutputMultiplier, RsqrtEvalQuantizedInt8,
RsqrtEvalQuantizedInt16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.numerics.libm import Function
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import (
    AddZeroPoint,
    Clamp,
    MultiplyHigh,
    ShiftLeft,
    ShiftRight,
    Stage,
)
from qinterp.ops._elementwise import Real, apply_stages
from qinterp.ops._fixed_point import inverse_sqrt
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import Libm, interpolated
from qinterp.ops._unary import pointwise, real_table, unary

RSQRT = unary("rsqrt", "RSQRT")

_DOUBLE_ROUNDING = (
    ShiftLeft(),
    MultiplyHigh("ties_toward_positive"),
    ShiftRight("ties_to_away"),
)


@dataclass(frozen=True)
class FixedPoint:
    """The inverse root of the code in fixed point, rescaled.

    Attributes
    ----------
    fraction_bits : of the inverse root.
    root : stages that shift the inverse root to them.
    rescale : stages from the inverse root to the output.
    product : the type of the root of the input's scale, and of it times the output's.
    """

    fraction_bits: int = 20
    root: tuple[Stage, ...] = _DOUBLE_ROUNDING
    rescale: tuple[Stage, ...] = (*_DOUBLE_ROUNDING, AddZeroPoint(), Clamp())
    product: Literal["float32", "float64"] = "float32"


@RSQRT.recipe("fixed_point", FixedPoint, family="tflite")
def fixed_point(call: Call) -> Run:
    """``out = zo + r(1 / sqrt(x - zi))``; of 0, the greatest code."""
    call.types(input=("int8", "int16"), output=(call["input"].dtype,))
    params: FixedPoint = call.params
    scale, zero_point = call.per_tensor(call["input"])
    unit, out_zero_point = call.per_tensor(call.output)
    kind = call.output.int_type
    precise = np.dtype(params.product).type
    factor = 1.0 / float(np.sqrt(precise(scale)) * precise(unit))
    rescale = Rescale.of_factor(factor, call.policy.multiplier)
    by_factor = Requantizer(
        params.rescale,
        Rescale(rescale.scale, rescale.multiplier, rescale.shift - params.fraction_bits),
        zero_point=out_zero_point,
        bounds=(kind.min, kind.max),
    )

    def function(code: Array) -> Array:
        x = np.maximum(code - zero_point, 0)
        multiplier, shift = inverse_sqrt(x)
        by_root = Rescale(np.ones(x.size), multiplier, shift + params.fraction_bits)
        root = apply_stages(Requantizer(params.root, by_root), np.ones((1, x.size), np.int64))
        return np.where(x == 0, kind.max, apply_stages(by_factor, root[0]))

    return _not_negative(call, pointwise(call, function))


@RSQRT.recipe("interpolated_table", Libm)
def interpolated_table(call: Call) -> Run:
    """513 entries with linear interpolation, for 16-bit codes."""
    zero_points = (call.per_tensor(t)[1] for t in (call["input"], call.output))
    call.check(not any(zero_points), "the zero points of int16 must be 0")
    greatest = np.float32(32767) * np.float32(call.per_tensor(call.output)[0])

    def function(x: Array, library: Mapping[str, Function]) -> Array:
        return np.where(x <= 0, greatest, np.float32(1) / np.sqrt(x))

    return _not_negative(call, interpolated(call, function))


@RSQRT.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """A square root and a division, each rounded to float32."""
    call.types(input=("float32",), output=("float32",))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            return [np.asarray(np.float32(1) / np.sqrt(values[0]))]

    return run


@RSQRT.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once; of 0 it is infinite."""

    def approximate(x: Array) -> Array:
        result: Array = 1.0 / np.sqrt(np.maximum(x, 0.0))
        return result

    def exact(x: Fraction, digits: int) -> Fraction:
        return elementary.rsqrt(x, digits)

    return _not_negative(call, real_table(call, approximate, exact))


def _not_negative(call: Call, look_up: Run) -> Run:
    zero_point = call.per_tensor(call["input"])[1]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if values[0].size and values[0].min() < zero_point:
            call.bad_input(f"{call['input'].describe()} has values below 0")
        return look_up(values, notes)

    return run
