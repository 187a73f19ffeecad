"""``x * min(max(x + 3, 0), 6) / 6`` (clause O-hard_swish).

Source: tflite/kernels/activations.cc HardSwishPrepare; tflite/kernels/internal/reference/
hard_swish.h HardSwish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.rounding import OVERFLOW_CODE, ROUNDING_CODE, Rounding
from qinterp.numerics.scales import Multiplier
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Notes, Run
from qinterp.ops._unary import pointwise, real_table, unary

HARD_SWISH = unary("hard_swish", "HARD_SWISH", "HardSwishOptions")

_WRAP, _SATURATE = OVERFLOW_CODE["wrap"], OVERFLOW_CODE["saturate"]


@dataclass(frozen=True)
class FixedPoint:
    """Two 16-bit rescalings of the input, and the 16-bit product of what they give.

    Attributes
    ----------
    rescale : rounding of the products with the two multipliers.
    shift : rounding of the shift that follows the one between 0 and 1.
    product : rounding of the product of both.
    output_shift : rounding of the last shift.
    """

    rescale: Rounding = "ties_toward_positive"
    shift: Rounding = "ties_to_away"
    product: Rounding = "toward_zero"
    output_shift: Rounding = "ties_to_away"


@HARD_SWISH.recipe("fixed_point", FixedPoint, family="tflite")
def fixed_point(call: Call) -> Run:
    """16-bit fixed point; the input carries seven more bits than its code."""
    types = ("int8", "uint8")
    call.types(input=types, output=(call["input"].dtype,))
    params: FixedPoint = call.params
    scale, zero_point = call.per_tensor(call["input"])
    unit, out_zero_point = call.per_tensor(call.output)
    fine = np.float32(1 / 128) * np.float32(scale)
    multiplier = call.policy.multiplier
    output, exponent = _short(fine / np.float32(unit), multiplier)
    call.check(exponent <= 0, "the output's scale must be above 1/128 of the input's")
    relu, relu_exponent = _short(fine / (np.float32(3) / np.float32(32768)), multiplier)
    kind = call.output.int_type

    def function(code: Array) -> Array:
        x = (code - zero_point) << 7
        preshift = _high(x, output, params.rescale)
        left = min(max(relu_exponent, 0), 32)  # 16 bits are saturated by then
        gate = _kernels.fit(x << max(left - 1, 0), 16, _SATURATE)
        gate = _high(gate, relu, params.rescale)
        gate = _kernels.fit(gate << min(left, 1), 16, _SATURATE)
        gate = _shift_right(gate, max(-relu_exponent, 0), params.shift)
        gate = (gate + (1 << 15)) >> 1  # -1 .. 1 to 0 .. 1
        product = _high(gate, preshift, params.product)
        shifted = _shift_right(product, -exponent, params.output_shift)
        return np.clip(_kernels.fit(shifted + out_zero_point, 16, _WRAP), kind.min, kind.max)

    return pointwise(call, function)


@HARD_SWISH.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """``x * min(6, max(0, x + 3)) / 6``, from left to right."""
    call.types(input=("float32",), output=("float32",))
    zero, three, six = np.float32(0), np.float32(3), np.float32(6)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        with np.errstate(all="ignore"):
            return [np.asarray(x * np.fmin(six, np.fmax(zero, x + three)) / six)]

    return run


@HARD_SWISH.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once."""

    def exact(x: Fraction, digits: int) -> Fraction:
        return x * min(max(x + 3, Fraction(0)), Fraction(6)) / 6

    return real_table(call, lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0, exact)


def _short(factor: Any, multiplier: Multiplier) -> tuple[int, int]:
    """A float32 factor as a 16-bit mantissa and an exponent."""
    mantissa, exponent = multiplier.of(float(factor))
    if mantissa >= (1 << 31) - 1 - (1 << 15):
        return (1 << 15) - 1, exponent
    return (mantissa + (1 << 15)) >> 16, exponent


def _high(a: Array, b: Any, rounding: Rounding) -> Array:
    """``a * b / 2**15`` in 16 bits."""
    product = _kernels.round_shift(a * b, 15, ROUNDING_CODE[rounding])
    return _kernels.fit(product, 16, _SATURATE)


def _shift_right(x: Array, amount: int, rounding: Rounding) -> Array:
    """``x / 2**amount``; from 16 on the kernel's 16-bit mask is all ones: 1, or -1 below 0."""
    if amount > 15:
        return np.where(x >= 0, 1, -1)
    return _kernels.round_shift(x, amount, ROUNDING_CODE[rounding])
