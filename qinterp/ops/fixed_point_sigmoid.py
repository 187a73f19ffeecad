"""logistic and tanh of 8-bit codes in gemmlowp's 32-bit fixed point (clause O-fixed_point_sigmoid).

Source: tensorflow/lite/kernels/internal/reference/integer_ops/logistic.h, tanh.h (int8);
tensorflow/lite/micro/kernels/logistic_common.cc, tanh.cc; gemmlowp fixedpoint/fixedpoint.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import NAMED_STAGES, AddZeroPoint, Clamp, Stage
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._fixed_point import (
    INT32_MAX,
    divide_power,
    exp_on_negative_values,
    multiply,
    multiply_power,
    one_over_one_plus_x,
    wrap32,
)
from qinterp.ops._operator import Run
from qinterp.ops._tables import codes_of, lookup
from qinterp.ops.logistic import LOGISTIC
from qinterp.ops.tanh import TANH

_RESCALE = tuple(s for s in NAMED_STAGES["gemmlowp"] if not isinstance(s, AddZeroPoint | Clamp))


@dataclass(frozen=True)
class FixedPoint:
    """The argument as a fixed-point number, the function of it, rounded to 8 bits.

    Attributes
    ----------
    input_bits : integer bits of the argument.
    rescale : stages that bring ``code - zero_point`` to the argument.
    """

    input_bits: int = 4
    rescale: tuple[Stage, ...] = _RESCALE

    def __post_init__(self) -> None:
        if not 1 <= self.input_bits <= 30:
            raise ValueError(f"input_bits must be in 1..30, got {self.input_bits}")


@LOGISTIC.recipe("fixed_point", FixedPoint)
def fixed_logistic(call: Call) -> Run:
    """``out = logistic(x) * 256 - 128``; the output's scale is not read."""
    zero_point = call.per_tensor(call.output)[1]
    call.check(zero_point == -128, f"output {call.output.describe()} must have zero point -128")
    return _table(call, lambda x, bits: divide_power(_logistic(x, bits), 23) - 128)


@TANH.recipe("fixed_point", FixedPoint)
def fixed_tanh(call: Call) -> Run:
    """``out = tanh(x) * 128``; the output's scale and zero point are not read."""
    return _table(call, lambda x, bits: divide_power(_tanh(x, bits), 24))


def _table(call: Call, function: Callable[[Array, int], Array]) -> Run:
    call.types(input=("int8",), output=("int8",))
    params: FixedPoint = call.params
    scale, zero_point = call.per_tensor(call["input"])
    rescale = Rescale.of_factor(scale * 2.0 ** (31 - params.input_bits), call.policy.multiplier)
    shift = int(np.frexp(scale)[1]) + 31 - params.input_bits
    longest = ((1 << params.input_bits) - 1) * 2.0 ** (31 - params.input_bits)
    radius = int(np.floor(longest / 2.0**shift))
    steps = codes_of("int8") - zero_point
    inside = np.abs(steps) < radius
    x = apply_stages(Requantizer(params.rescale, rescale), np.where(inside, steps, 0))
    codes = np.clip(function(x, params.input_bits), -128, 127)
    return lookup(call, np.where(inside, codes, np.where(steps < 0, -128, 127)))


def _logistic(x: Array, bits: int) -> Array:
    """``1 / (1 + exp(-x))`` in Q0.31."""
    above = one_over_one_plus_x(exp_on_negative_values(-np.abs(x), bits))
    return np.where(x == 0, 1 << 30, np.where(x > 0, above, INT32_MAX - above))


def _tanh(x: Array, bits: int) -> Array:
    """``(1 - exp(-2x)) / (1 + exp(-2x))`` in Q0.31."""
    above = _one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(x), bits + 1))
    return np.where(x == 0, 0, np.where(x > 0, above, -above))


def _one_minus_x_over_one_plus_x(a: Array) -> Array:
    """``2 / (1 + a) - 1`` for ``a`` in [0, 1], both in Q0.31: three Newton-Raphson steps."""
    half = divide_power(a + INT32_MAX, 1)
    x = 1515870810 + multiply(half, -1010580540)
    for _ in range(3):
        off = (1 << 29) - multiply(half, x)
        x = wrap32(x + multiply_power(multiply(x, off), 2))
    return multiply_power(wrap32(x - (1 << 29)), 2)
