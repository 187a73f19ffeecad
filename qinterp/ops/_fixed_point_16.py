"""gemmlowp's fixed-point functions of 16-bit codes, as tables of all 65,536 of them.

Source: gemmlowp fixedpoint/fixedpoint.h logistic, tanh, exp_on_negative_values,
one_over_one_plus_x_for_x_in_0_1, one_minus_x_over_one_plus_x_for_x_in_0_1 with int16 raw types.
A Qm.n number has m integer bits and n = 15 - m fraction bits.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.numerics.rounding import OVERFLOW_CODE, ROUNDING_CODE

Integers = npt.NDArray[np.int64]

_ONE = 32767
_AWAY = ROUNDING_CODE["ties_to_away"]
_UP = ROUNDING_CODE["ties_toward_positive"]
# exp(-2**e) for e = -2 .. 4 in Q0.31
_EXPONENTIALS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_CODES = np.arange(-32768, 32768, dtype=np.int64)


@cache
def logistic_table(integer_bits: int) -> npt.NDArray[np.int16]:
    """``1 / (1 + exp(-a))`` in Q0.15, by code + 32768 of ``a`` in Q(integer_bits)."""
    half = _one_over_one_plus(_exp(-np.abs(_CODES), integer_bits))
    table = np.where(_CODES > 0, half, _ONE - half)
    return np.where(_CODES == 0, 1 << 14, table).astype(np.int16)


@cache
def tanh_table(integer_bits: int) -> npt.NDArray[np.int16]:
    """``tanh(a)`` in Q0.15, by code + 32768 of ``a`` in Q(integer_bits)."""
    # twice the argument is the same code with one integer bit more
    t = _one_minus_over_one_plus(_exp(-np.abs(_CODES), integer_bits + 1))
    table = np.where(_CODES < 0, -t, t)
    return np.where(_CODES == 0, 0, table).astype(np.int16)


def _constant(q0_31: int) -> int:
    """A constant of 32 bits in 16 bits."""
    return int(_kernels.round_shift(np.array([q0_31]), 16, _AWAY)[0])


def _wrap(x: Integers) -> Integers:
    return _kernels.fit(x, 16, OVERFLOW_CODE["wrap"])


def _times(a: Integers, b: Integers | int) -> Integers:
    """SaturatingRoundingDoublingHighMul of 16 bits."""
    product = _kernels.round_shift(a * b, 15, _UP)
    return _kernels.fit(product, 16, OVERFLOW_CODE["saturate"])


def _power(x: Integers, exponent: int) -> Integers:
    """``x * 2**exponent``, saturated or rounded away from zero at ties."""
    if exponent <= 0:
        return _kernels.round_shift(x, -exponent, _AWAY)
    return _kernels.fit(x << exponent, 16, OVERFLOW_CODE["saturate"])


def _exp(a: Integers, integer_bits: int) -> Integers:
    """``exp(a)`` in Q0.15 of ``a <= 0``."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    within = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(_power(within, integer_bits))
    rest = within - a
    for e, q0_31 in zip(range(-2, 5), _EXPONENTIALS, strict=True):
        if integer_bits > e:
            bit = (rest >> (fraction_bits + e)) & 1
            result = np.where(bit == 1, _times(result, _constant(q0_31)), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (36 - integer_bits - 16)), 0, result)
    return np.where(a == 0, _ONE, result)


def _exp_near_zero(a: Integers) -> Integers:
    """``exp(a)`` for ``a`` in [-1/4, 0), all in Q0.15: Taylor's series around -1/8."""
    x = _wrap(a + (1 << 12))
    x2 = _times(x, x)
    x3 = _times(x2, x)
    x4 = _times(x2, x2)
    series = _times(_wrap(_power(x4, -2) + x3), _constant(715827883))
    series = _power(_wrap(series + x2), -1)
    constant = _constant(1895147668)
    total = constant + _times(_wrap(x + series), constant)
    return _kernels.fit(total, 16, OVERFLOW_CODE["saturate"])


def _reciprocal_steps(a: Integers) -> Integers:
    """``2 / (1 + a)`` in Q2.13 of ``a`` in [0, 1]: three Newton-Raphson steps."""
    half = (a + _ONE + 1) // 2  # never negative, so that ties go away from zero
    x = _wrap(_constant(1515870810) + _times(half, _constant(-1010580540)))
    for _ in range(3):
        error = _wrap((1 << 13) - _times(half, x))
        x = _wrap(x + _power(_times(x, error), 2))
    return x


def _one_over_one_plus(a: Integers) -> Integers:
    return _power(_reciprocal_steps(a), 1)


def _one_minus_over_one_plus(a: Integers) -> Integers:
    return _power(_wrap(_reciprocal_steps(a) - (1 << 13)), 2)
