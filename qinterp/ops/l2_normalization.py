"""Rows divided by their Euclidean norm (clause O-l2_normalization).

Source: tflite/kernels/l2norm.cc; tflite/kernels/internal/reference/integer_ops/l2normalization.h,
l2normalization.h.
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
from qinterp.numerics import elementary
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import (
    NAMED_STAGES,
    AddZeroPoint,
    Clamp,
    MultiplyHigh,
    ShiftLeft,
    ShiftRight,
    Stage,
)
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._elementwise import Real, apply_stages, quantize_real
from qinterp.ops._fixed_point import inverse_sqrt, wrap32
from qinterp.ops._operator import Notes, Operator, Run

L2_NORMALIZATION = Operator("l2_normalization", ("input",), {"activation": "none"})

EPSILON = 1e-6
"""Norms below it count as it."""

_OUTPUTS = {"int8": (1 / 128, 0), "uint8": (1 / 128, 128)}
_FRACTION_BITS = 7


@dataclass(frozen=True)
class InverseSquareRoot:
    """Every element times the inverse root of the row's sum of squares, in fixed point.

    Attributes
    ----------
    stages, uint8_stages : from an element less the zero point to the output code; the multiplier
        is that of the inverse root times 128.
    """

    stages: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]
    uint8_stages: tuple[Stage, ...] = (
        ShiftLeft(amount="literal", by=_FRACTION_BITS),
        MultiplyHigh("ties_toward_positive"),
        ShiftRight("ties_to_away", "total", _FRACTION_BITS),
        AddZeroPoint(),
        Clamp(),
    )


@L2_NORMALIZATION.reads_tflite("L2_NORMALIZATION", "L2NormOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of an L2_NORMALIZATION."""
    return {"activation": options.enum("fused_activation_function")}


@L2_NORMALIZATION.infers
def shapes(call: Call) -> list[Shape]:
    """The input's shape; its last dimension is normalized."""
    shape = call["input"].shape
    call.check(len(shape) >= 1, f"operand 'input' must have a dimension, got {shape}")
    activation = call.attributes["activation"]
    if activation != "none":
        call.unsupported(f"a fused activation ({activation!r}) is not computed by any kernel")
    return [shape]


@L2_NORMALIZATION.recipe("inverse_square_root", InverseSquareRoot, family="tflite")
def inverse_square_root(call: Call) -> Run:
    """``out = zo + r(x - z)`` with the multiplier of ``128 / sqrt(sum((x - z)**2))``."""
    call.types(input=("int8", "uint8"), output=(call["input"].dtype,))
    params: InverseSquareRoot = call.params
    dtype = call.output.dtype
    if call.per_tensor(call.output) != _OUTPUTS[dtype]:
        wanted = _OUTPUTS[dtype]
        call.unsupported(f"the output must have scale {wanted[0]} and zero point {wanted[1]}")
    x_zero_point, zero_point = call.per_tensor(call["input"])[1], call.per_tensor(call.output)[1]
    program = params.stages if dtype == "int8" else params.uint8_stages
    depth = call["input"].shape[-1]
    bounds = activation_bounds(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(call.output.shape, call.output.numpy_dtype)]
        rows = values[0].reshape(-1, depth).astype(np.int64) - x_zero_point
        total = wrap32((rows * rows).sum(1))
        notes.add("accumulator", total)
        multiplier, shift = inverse_sqrt(total)
        by_row = Rescale(np.ones(total.size), multiplier, shift + _FRACTION_BITS)
        stages = Requantizer(program, by_row, zero_point=zero_point, bounds=bounds)
        codes = apply_stages(stages, rows.T, call.output.numpy_dtype)
        return [np.ascontiguousarray(codes.T).reshape(call.output.shape)]

    return run


@L2_NORMALIZATION.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real quotient, rounded once."""
    call.types(input=INTEGERS, output=INTEGERS)
    scale, x_zero_point = call.per_tensor(call["input"])
    s_out = call.per_tensor(call.output)[0]
    depth = call["input"].shape[-1]
    bounds = activation_bounds(call)
    least = Fraction(EPSILON) / Fraction(scale)  # in steps of the input
    shape = call.output.shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, call.output.numpy_dtype)]
        rows = values[0].reshape(-1, depth).astype(np.int64) - x_zero_point
        total = (rows * rows).sum(1, keepdims=True)
        notes.add("accumulator", total)
        approx = rows / np.maximum(np.sqrt(total), float(least)) / s_out

        def exact(i: int, digits: int) -> Fraction:
            square = int(total.flat[i // depth])
            steps = int(rows.flat[i]) / Fraction(s_out)
            if square <= least * least:
                return steps / least
            # digits of the quotient, whose size is at most that of its bounds
            return steps * elementary.rsqrt(Fraction(square), digits + 12)

        return [quantize_real(call, approx, exact, bounds).reshape(shape)]

    return run


@L2_NORMALIZATION.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Squares added one after the other in float32, a root, a division."""
    call.types(input=("float32",), output=("float32",))
    depth = call["input"].shape[-1]
    ones = np.ones((1, depth), np.float32)
    least = np.float32(EPSILON)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(call.output.shape, np.float32)]
        rows = values[0].reshape(-1, depth)
        with np.errstate(all="ignore"):
            norm = np.sqrt(_kernels.matmul_float32(rows * rows, ones, None))
            return [(rows / np.maximum(norm, least)).reshape(call.output.shape)]

    return run
