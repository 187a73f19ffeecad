"""Division with broadcasting (clause O-div).

Source: tflite/kernels/div.cc; tflite/kernels/internal/reference/div.h DivElementwise;
tflite/kernels/internal/common.h GetReciprocal; gemmlowp fixedpoint.h RoundingDivideByPOT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Rescale
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._binary import (
    Binary,
    Codes,
    floats,
    integers,
    one_type,
    operand_scales,
    pairwise,
    real_types,
    shapes,
    subtract_zero_points,
)
from qinterp.ops._elementwise import Real, quantize_real
from qinterp.ops._fixed_point import (
    divide_power,
    leading_zeros,
    multiply,
    reciprocal,
    wrap32,
)
from qinterp.ops._operator import Notes, Run

DIV = Binary("div", {"activation": "none"})
DIV.infers(shapes)


@dataclass(frozen=True)
class Reciprocal:
    """The divisor's reciprocal in fixed point times the dividend with all its leading bits used.

    Attributes
    ----------
    precision : of ``scale1 / (scale2 * output scale)``, every operation.
    far_shift : a shift right of the quotient by 32 and more, or by less than 0, takes the amount
        modulo 32, as x86 does (C++ leaves it undefined), or is what mathematics says.
    """

    precision: Literal["float32", "float64"] = "float32"
    far_shift: Literal["modulo_32", "exact"] = "modulo_32"


@DIV.reads_tflite("DIV", "DivOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a DIV."""
    return {"activation": options.enum("fused_activation_function")}


@DIV.recipe("reciprocal", Reciprocal, family="tflite")
def by_reciprocal(call: Call) -> Run:
    """``out = zo + (x1 - z1) * reciprocal(x2 - z2) * multiplier``, each product rounded."""
    one_type(call, *INTEGERS)
    params: Reciprocal = call.params
    kind = np.dtype(params.precision).type
    scale1, scale2, scale_out = (
        kind(call.per_tensor(t)[0]) for t in (call["input1"], call["input2"], call.output)
    )
    rescale = Rescale.of_factor(float(scale1 / (scale2 * scale_out)), call.policy.multiplier)
    multiplier, shift = int(rescale.multiplier[0]), int(rescale.shift[0])
    zero_point = call.per_tensor(call.output)[1]
    low, high = activation_bounds(call)
    dtype = call.output.numpy_dtype
    subtract = subtract_zero_points(call)
    shift_right = _shift_modulo_32 if params.far_shift == "modulo_32" else divide_power

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        factor, over_unit = reciprocal(np.abs(b), 31)
        a = np.where(b < 0, -a, a)
        headroom = leading_zeros(np.where(a < 0, ~a, a)) - 1  # the sign bits that repeat
        quotient = multiply(wrap32(a << headroom), factor)
        notes.add("accumulator", quotient)
        scaled = multiply(quotient, multiplier)
        steps = shift_right(scaled, over_unit + headroom - shift)
        return np.clip(wrap32(steps + zero_point), low, high).astype(dtype)

    return without_zeros(call, pairwise(call, evaluate))


@DIV.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real quotient, rounded once."""
    real_types(call)
    scale1, scale2 = operand_scales(call)
    ratio = scale1 / (scale2 * Fraction(call.per_tensor(call.output)[0]))
    bounds = activation_bounds(call)
    subtract = subtract_zero_points(call)

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = np.broadcast_arrays(*subtract(x1, x2))
        b = np.where(b == 0, 1, b)  # of a table's pair that does not occur

        def exact(i: int, digits: int) -> Fraction:
            return Fraction(int(a.flat[i]), int(b.flat[i])) * ratio

        return quantize_real(call, a / b * float(ratio), exact, bounds)

    return without_zeros(call, pairwise(call, evaluate))


@DIV.recipe("integers")
def plain(call: Call) -> Run:
    """The quotient, its fraction cut off."""
    run = integers(call, _truncated, "int32")

    def checked(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        least = np.iinfo(values[0].dtype).min
        if ((values[0] == least) & (values[1] == -1)).any():
            call.bad_input(f"divides {least} by -1, which does not fit")
        return run(values, notes)

    return without_zeros(call, checked)


@DIV.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 division, then the activation."""
    return floats(call, np.divide)


def without_zeros(call: Call, run: Run) -> Run:
    """``run``, an InputError where a divisor is zero."""
    divisor = call["input2"]
    zero = divisor.zero_point if divisor.quantization else 0

    def checked(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        zeros = int(np.count_nonzero(values[1] == zero))
        if zeros:
            call.bad_input(f"{zeros} elements of the divisor {divisor.describe()} are zero")
        return run(values, notes)

    return checked


def _truncated(a: Array, b: Array) -> Array:
    rounded_up: Array = a // b + ((a % b != 0) & ((a < 0) != (b < 0)))
    return rounded_up


def _shift_modulo_32(x: Codes, amount: Codes) -> Codes:
    """RoundingDivideByPOT, which takes its amount modulo 32, and of its mask modulo 64."""
    low = amount & 31
    mask = np.where((amount & 63) >= 32, -1, (1 << low) - 1)
    above = (x & mask) > (mask >> 1) + (x < 0)
    return (x >> low) + above
