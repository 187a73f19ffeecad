"""gemmlowp's fixed-point functions on arrays of 32-bit integers held in int64 (clause F1).

``Qm.n`` is an integer of which ``n = 31 - m`` bits stand after the binary point.

Source: gemmlowp fixedpoint/fixedpoint.h; tflite/kernels/internal/common.h (GetReciprocal,
GetInvSqrtQuantizedMultiplierExp, log_x_for_x_greater_than_or_equal_to_1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.numerics.rounding import OVERFLOW_CODE, ROUNDING_CODE

Integers = npt.NDArray[Any]

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)
_WRAP = OVERFLOW_CODE["wrap"]
_AWAY = ROUNDING_CODE["ties_to_away"]

# exp(-2**k) in Q0.31 for k from -2
_EXPONENTIALS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_MINUS_EIGHTH = 1895147668
_ONE_THIRD = 715827883


def wrap32(x: Integers) -> Integers:
    """``x`` modulo 2**32, signed."""
    return _kernels.fit(x, 32, _WRAP)


def multiply(a: Integers, b: Integers | int) -> Integers:
    """SaturatingRoundingDoublingHighMul: ``a * b / 2**31``, ties toward positive."""
    product: Any = a * b
    high: Integers = np.minimum((product + (1 << 30)) >> 31, INT32_MAX)
    return high


def divide_power(x: Integers, exponent: Integers | int) -> Integers:
    """RoundingDivideByPOT: ``x / 2**exponent``, ties away from zero."""
    return _kernels.round_shift(x, exponent, _AWAY)


def multiply_power(x: Integers, exponent: int) -> Integers:
    """SaturatingRoundingMultiplyByPOT: ``x * 2**exponent``, saturated or rounded."""
    if exponent <= 0:
        return divide_power(x, -exponent)
    return _saturate(x << exponent)


def leading_zeros(x: Integers) -> Integers:
    """Zeros before the first digit of 32-bit ``x``: 32 for 0, 0 for a negative number."""
    # frexp is exact here: float64 holds every 32-bit integer
    digits = np.frexp(np.maximum(x, 0).astype(np.float64))[1].astype(np.int64)
    return np.where(x < 0, 0, 32 - digits)


def exp_on_negative_values(a: Integers, integer_bits: int) -> Integers:
    """``exp(a)`` in Q0.31 of ``a <= 0`` in Q(integer_bits)."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    within = (a & (quarter - 1)) - quarter  # a modulo 1/4, in [-1/4, 0)
    result = _exp_between_minus_quarter_and_0(multiply_power(within, integer_bits))
    rest = within - a
    for k, factor in enumerate(_EXPONENTIALS, -2):
        if integer_bits > k:
            taken = (rest & (1 << (fraction_bits + k))) != 0
            result = np.where(taken, multiply(result, factor), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (fraction_bits + 5)), 0, result)
    return np.where(a == 0, INT32_MAX, result)


def _exp_between_minus_quarter_and_0(a: Integers) -> Integers:
    """Taylor's series around -1/8, all in Q0.31."""
    x = a + (1 << 28)
    x2 = multiply(x, x)
    x3 = multiply(x2, x)
    x4 = multiply(x2, x2)
    tail = divide_power(multiply(divide_power(x4, 2) + x3, _ONE_THIRD) + x2, 1)
    return _EXP_MINUS_EIGHTH + multiply(x + tail, _EXP_MINUS_EIGHTH)


def one_over_one_plus_x(a: Integers) -> Integers:
    """``1 / (1 + a)`` for ``a`` in [0, 1], both in Q0.31: three Newton-Raphson steps."""
    half = _half_sum(a, INT32_MAX)
    x = 1515870810 + multiply(half, -1010580540)  # 48/17 - 32/17 * half, Q2.29
    for _ in range(3):
        off = (1 << 29) - multiply(half, x)
        x = wrap32(x + multiply_power(multiply(x, off), 2))
    return multiply_power(x, 1)


def _half_sum(a: Integers, b: int) -> Integers:
    total = a + b
    return divide_power(total, 1)


def reciprocal(x: Integers, integer_digits: int) -> tuple[Integers, Integers]:
    """``1 / x`` of ``x > 0`` in Q(integer_digits).

    Returns
    -------
    A factor in Q0.31, and by how many bits the result is yet to be shifted right.
    """
    headroom = leading_zeros(x)
    fraction = wrap32((x << headroom) - (1 << 31))
    return one_over_one_plus_x(fraction), integer_digits - headroom


def inverse_sqrt(x: Integers) -> tuple[Integers, Integers]:
    """``1 / sqrt(x)`` of integers ``x >= 0`` as a multiplier and a shift (left when positive)."""
    shift = np.full(x.shape, 11, np.int64)
    value = np.maximum(x, 2)
    while (value >= 1 << 29).any():
        big = value >= 1 << 29
        value = np.where(big, value >> 2, value)
        shift += big
    pairs = (leading_zeros(value) - 1) // 2 - 1
    shift -= pairs
    scaled = (value << (2 * pairs)) >> 1  # Q3.28
    half = divide_power(scaled, 1)
    guess = np.full(x.shape, 1 << 28, np.int64)
    for _ in range(5):
        cube = multiply_power(multiply(multiply(guess, guess), guess), 6)
        step = multiply(guess, 3 << 27) - multiply(half, cube)
        guess = multiply_power(wrap32(step), 3)
    multiplier = multiply(guess, 1518500250)
    multiplier = wrap32(multiplier << np.maximum(-shift, 0))
    shift = -np.maximum(shift, 0)
    small = x <= 1
    return np.where(small, INT32_MAX, multiplier), np.where(small, 0, shift)


def log_at_least_1(x: Integers, integer_bits: int, output_bits: int) -> Integers:
    """The natural logarithm of ``x >= 1`` in Q(integer_bits), as Q(output_bits)."""
    accumulated = output_bits + 1  # a bit of headroom
    root, fourth_root = 1518500250, 1805811301  # of 1/2, in Q0.31
    quarter = int(divide_power(np.array([536870912]), accumulated)[0])
    zeros = leading_zeros(x)
    shifted = _saturate(x << np.maximum(zeros - 1, 0))
    r_a = multiply_power(multiply(shifted, root), 1)
    z_a = _saturate(multiply_power(integer_bits - zeros, 31 - accumulated) + quarter)
    room = leading_zeros(multiply(x, root)) - 1
    r_b = _saturate(x << np.maximum(room, 0))
    z_b = _saturate(multiply_power(integer_bits - room, 31 - accumulated) - quarter)
    r = np.minimum(r_a, r_b)
    z = np.maximum(z_a, z_b)
    p = _half_sum(r, fourth_root)
    q = wrap32(2 * (r - fourth_root))
    square = multiply(q, q)
    numerator = multiply(q, r) + multiply(multiply(q, square), 117049297)
    denominator = multiply(p, 1057819769 + q + multiply(square, 127690142))
    denominator = denominator + multiply(q, 638450708)
    ratio = multiply(divide_power(numerator, accumulated), one_over_one_plus_x(denominator))
    return multiply_power(multiply(z, 1488522236) + ratio, accumulated - output_bits)


def _saturate(x: Integers) -> Integers:
    result: Integers = np.clip(x, INT32_MIN, INT32_MAX)
    return result
