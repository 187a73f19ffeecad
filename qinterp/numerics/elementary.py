"""Elementary functions that are the same on every machine (clause X2).

Two forms of each:

* ``exp(x, digits)`` on a :class:`~fractions.Fraction`: a fraction off by less than
  ``10**-digits`` of its own size (a relative error). Only these decide; they use integers alone.
* ``exp32(x)`` on a float32 array: the float32 nearest to the function of each element, ties to
  even; ``exp64`` likewise on float64. A float64 approximation decides nearly every element of the
  float32 forms: its error is far below the margin that it is given, whichever library computed it,
  so that the result does not depend on the library.

This is the only arithmetic that the fast code and the twins share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.numerics.scales import round_fraction

Exact = Callable[[Fraction, int], Fraction]
Floats = npt.NDArray[Any]

MAX_ARGUMENT = 1_000_000
"""Largest argument of the exponential: its value has half a million digits."""

_ZERO, _ONE = Fraction(0), Fraction(1)
_MARGIN = 2.0**-43  # the approximations below are good to 2**-48 of the value, or better
_DIGITS = (25, 50, 100, 200)
_ERFC_ZERO = 12.0  # from here on erfc is less than any float32


# ---- fractions ------------------------------------------------------------------------------


def exp(x: Fraction, digits: int) -> Fraction:
    """The exponential, to a relative error below ``10**-digits``.

    Raises
    ------
    OverflowError : beyond ``MAX_ARGUMENT``.
    """
    return _exp(x, _bits(digits))


def expm1(x: Fraction, digits: int) -> Fraction:
    """``exp(x) - 1``, to a relative error below ``10**-digits``."""
    if x == 0:
        return _ZERO
    return _exp(x, _bits(digits) + _leading_zeros(x) + 2) - 1


def log(x: Fraction, digits: int) -> Fraction:
    """The natural logarithm of a positive number, to a relative error below ``10**-digits``."""
    if x <= 0:
        raise ValueError(f"the logarithm of {x} is not a real number")
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    mantissa = x / Fraction(2) ** exponent  # in (1/2, 2)
    if mantissa > Fraction(4, 3):
        mantissa, exponent = mantissa / 2, exponent + 1
    z = (mantissa - 1) / (mantissa + 1)
    if z == 0 and exponent == 0:
        return _ZERO
    # for exponent = 0 the sum starts with z itself; otherwise it stays away from 0
    bits = _bits(digits) + 8 + (_leading_zeros(z) if exponent == 0 else exponent.bit_length())
    total = exponent * _log2(bits) + 2 * _atanh(z, bits)
    return Fraction(total, 1 << bits)


def tanh(x: Fraction, digits: int) -> Fraction:
    """The hyperbolic tangent, to a relative error below ``10**-digits``."""
    bits = _bits(digits)
    if abs(x) > bits:  # 1 less a term below exp(-2 * bits)
        return Fraction(1 if x > 0 else -1) * (1 - Fraction(1, 1 << bits + 1))
    grown = expm1(2 * abs(x), digits + 2)
    return (grown if x >= 0 else -grown) / (grown + 2)


def logistic(x: Fraction, digits: int) -> Fraction:
    """``1 / (1 + exp(-x))``, to a relative error below ``10**-digits``."""
    if x > 2 * _bits(digits):
        return 1 - Fraction(1, 1 << _bits(digits) + 1)
    if x >= 0:
        return 1 / (1 + exp(-x, digits + 2))
    grown = exp(x, digits + 2)
    return grown / (1 + grown)


def erf(x: Fraction, digits: int) -> Fraction:
    """The error function, to a relative error below ``10**-digits``."""
    if x == 0:
        return _ZERO
    size = abs(x)
    if size * size > _bits(digits):
        value = 1 - Fraction(1, 1 << _bits(digits) + 1)
    else:
        value = _erf_series(size, _bits(digits) + 4)
    return value if x > 0 else -value


def erfc(x: Fraction, digits: int) -> Fraction:
    """``1 - erf(x)``, to a relative error below ``10**-digits``."""
    bits = _bits(digits) + 4
    square = x * x
    if x <= 0:
        return 1 - erf(x, digits + 1)
    if square > bits:  # the asymptotic series reaches terms below exp(-square)
        return _erfc_asymptotic(x, bits)
    lost = math.ceil(square * Fraction(3, 2)) + 2 * (math.ceil(x) + 1).bit_length() + 4
    return 1 - _erf_series(x, bits + lost)


def sqrt(x: Fraction, digits: int) -> Fraction:
    """The square root of ``x >= 0``, to a relative error below ``10**-digits``."""
    if x < 0:
        raise ValueError(f"the square root of {x} is not a real number")
    if x == 0:
        return _ZERO
    shift = 2 * (_bits(digits) + _leading_zeros(x))
    return Fraction(math.isqrt((x.numerator << shift) // x.denominator), 1 << shift // 2)


def rsqrt(x: Fraction, digits: int) -> Fraction:
    """``1 / sqrt(x)``, to a relative error below ``10**-digits``."""
    return 1 / sqrt(x, digits + 1)


def pi(digits: int) -> Fraction:
    """The number pi, to a relative error below ``10**-digits``."""
    bits = _bits(digits) + 4
    return Fraction(_sqrt_pi(bits) ** 2, 1 << 2 * bits)


def _bits(digits: int) -> int:
    """Bits that hold a relative error of a quarter of ``10**-digits``."""
    return digits * 10 // 3 + 4


def _leading_zeros(x: Fraction) -> int:
    """At least the zeros between the binary point and the first digit."""
    return max(0, x.denominator.bit_length() - x.numerator.bit_length() + 1)


def _exp(x: Fraction, bits: int) -> Fraction:
    """To a relative error below ``2**-bits``."""
    if abs(x) > MAX_ARGUMENT:
        raise OverflowError(f"exp of an argument beyond +-{MAX_ARGUMENT}")
    fine = bits + 64
    argument = (x.numerator << fine) // x.denominator
    log2 = _log2(fine)
    power = (2 * argument + log2) // (2 * log2)
    rest = argument - power * log2
    # exp(rest) = exp(rest / 2**halvings) ** 2**halvings: fewer terms, and a loss of that many bits
    halvings = 4 + bits // 64
    rest >>= halvings
    total = term = 1 << fine
    n = 1
    while term:
        term = term * rest >> fine
        term = term // n if term >= 0 else -(-term // n)
        total += term
        n += 1
    for _ in range(halvings):
        total = total * total >> fine
    shift = fine - power
    return Fraction(total, 1 << shift) if shift >= 0 else Fraction(total << -shift)


def _atanh(z: Fraction, bits: int) -> int:
    """The inverse hyperbolic tangent of ``abs(z) <= 1/5``, times ``2**bits``."""
    fine = bits + 16
    size = abs(z)
    power = (size.numerator << fine) // size.denominator
    square = power * power >> fine
    total, n = 0, 1
    while power:
        total += power // n
        power = power * square >> fine
        n += 2
    total >>= 16
    return total if z >= 0 else -total


@lru_cache(maxsize=64)
def _log2(bits: int) -> int:
    """The natural logarithm of 2, times ``2**bits``, rounded down by less than two."""
    fine = bits + 8
    terms = ((18, 26), (-2, 4801), (8, 8749))
    return sum(f * _atanh(Fraction(1, d), fine) for f, d in terms) >> 8


@lru_cache(maxsize=64)
def _sqrt_pi(bits: int) -> int:
    """The square root of pi, times ``2**bits``."""
    fine = 2 * bits + 16
    pi = 16 * _arctan(5, fine) - 4 * _arctan(239, fine)
    return math.isqrt(pi >> 16)


def _arctan(inverse: int, bits: int) -> int:
    total, n, power = 0, 1, (1 << bits) // inverse
    while power:
        total += power // n if n % 4 == 1 else -(power // n)
        power //= inverse * inverse
        n += 2
    return total


def _erf_series(x: Fraction, bits: int) -> Fraction:
    """``2 x exp(-x**2) / sqrt(pi) * sum((2 x**2)**n / (1 * 3 * .. * (2n + 1)))``, x > 0."""
    fine = bits + 16
    square = x * x
    doubled = (2 * square.numerator << fine) // square.denominator
    total = term = 1 << fine
    n = 1
    while term:
        term = (term * doubled >> fine) // (2 * n + 1)
        total += term
        n += 1
    factor = 2 * x * _exp(-square, bits + 4)
    return factor * Fraction(total, _sqrt_pi(fine))


def _erfc_asymptotic(x: Fraction, bits: int) -> Fraction:
    """``exp(-x**2) / (x sqrt(pi)) * sum(+-(1 * 3 * .. * (2n - 1)) / (2 x**2)**n)``, x large."""
    fine = bits + 16
    square = x * x
    total = term = 1 << fine
    n = 1
    while term:
        term = term * (2 * n - 1) * square.denominator // (2 * square.numerator)
        total += term if n % 2 == 0 else -term
        n += 1
    return _exp(-square, bits + 4) * Fraction(total, _sqrt_pi(fine)) / x


# ---- floats ---------------------------------------------------------------------------------


def nearest_float(value: Fraction, bits: int = 32) -> float:
    """The IEEE float of 32 or 64 bits nearest to ``value``, ties to even, as a Python float."""
    digits, least, most = (24, -149, 128) if bits == 32 else (53, -1074, 1024)
    if value == 0:
        return 0.0
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    unit = max(exponent - digits + 1, least)
    code = round_fraction(value / Fraction(2) ** unit, "ties_to_even")
    if abs(code).bit_length() + unit > most:
        return math.copysign(math.inf, value)
    return math.ldexp(code, unit)


def exp32(x: Floats) -> Floats:
    """The exponential of a float32 array, correctly rounded."""
    return _rounded32(x, np.exp, exp)


def expm132(x: Floats) -> Floats:
    """``exp(x) - 1`` of a float32 array, correctly rounded."""
    return _rounded32(x, np.expm1, expm1)


def log32(x: Floats) -> Floats:
    """The natural logarithm of a float32 array, correctly rounded; NaN below 0."""
    return _rounded32(x, np.log, log)


def tanh32(x: Floats) -> Floats:
    """The hyperbolic tangent of a float32 array, correctly rounded."""
    return _rounded32(x, np.tanh, tanh)


def logistic32(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))`` of a float32 array, correctly rounded."""
    return _rounded32(x, lambda v: 1.0 / (1.0 + np.exp(-v)), logistic)


def erf32(x: Floats) -> Floats:
    """The error function of a float32 array, correctly rounded."""
    return _rounded32(x, approximate_erf, erf)


def erfc32(x: Floats) -> Floats:
    """``1 - erf(x)`` of a float32 array, correctly rounded."""
    return _rounded32(x, approximate_erfc, erfc)


def exp64(x: Floats) -> Floats:
    """The exponential of a float64 array, correctly rounded (element by element: for tables)."""
    return _rounded64(x, np.exp, exp)


def _rounded32(x: Floats, approximation: Callable[[Floats], Floats], exact: Exact) -> Floats:
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise TypeError(f"expected float32, got {x.dtype}")
    with np.errstate(all="ignore"):
        value = np.asarray(approximation(x.astype(np.float64)))
        low = (value * (1.0 - _MARGIN)).astype(np.float32)
        high = (value * (1.0 + _MARGIN)).astype(np.float32)
    for i in np.flatnonzero((low != high) & ~np.isnan(value)):
        low.flat[i] = _decide(Fraction(float(x.flat[i])), exact, 32)
    return low


def _rounded64(x: Floats, approximation: Callable[[Floats], Floats], exact: Exact) -> Floats:
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        value = np.asarray(approximation(x))
    result = value.copy()
    ordinary = np.isfinite(x) & (np.abs(x) < 1e4) & ~np.isnan(value)
    for i in np.flatnonzero(ordinary):
        result.flat[i] = _decide(Fraction(float(x.flat[i])), exact, 64)
    return result


def _decide(x: Fraction, exact: Exact, bits: int) -> float:
    for digits in _DIGITS:
        value = exact(x, digits)
        slack = abs(value) / 10**digits
        found = nearest_float(value - slack, bits)
        if found == nearest_float(value + slack, bits):
            return found
    return nearest_float(value, bits)  # it is a tie, or a float itself


def approximate_erf(x: Floats) -> Floats:
    """The error function of a float64 array, to 2**-48 of the value for a float32 argument.

    Squares of other arguments are rounded, which shows in the tail: 2**-52 times the square.
    """
    size = np.abs(x)
    near = np.minimum(size, 1.0)
    square = near * near
    total = np.zeros_like(square)
    for n in range(24, -1, -1):  # the series of _erf_series; all its terms are positive
        total = 1.0 + total * (2.0 * square / (2 * n + 3))
    small = near * np.exp(-square) * total * _two_over_sqrt_pi()
    value = np.where(size < 1.0, small, 1.0 - _erfc_positive(size))
    return np.copysign(value, x)


def approximate_erfc(x: Floats) -> Floats:
    """``1 - erf(x)`` of a float64 array, as accurate as :func:`approximate_erf`."""
    size = np.abs(x)
    tail = _erfc_positive(size)
    value = np.where(x > 0.5, tail, 1.0 - approximate_erf(np.minimum(x, 0.5)))
    return np.where(np.isnan(x), x, value)


def _erfc_positive(x: Floats) -> Floats:
    """``exp(-x**2) / (1 + 2 x)`` times a fitted factor near one: good for the tail too."""
    x = np.minimum(x, _ERFC_ZERO)
    scaled = np.polynomial.chebyshev.chebval(_fit_variable(x), _erfc_fit())
    result: Floats = np.exp(-x * x) / (1.0 + 2.0 * x) * scaled
    return result


def _fit_variable(x: Any) -> Any:
    """0 .. ``_ERFC_ZERO`` to -1 .. 1, in the variable in which the factor is smooth."""
    t = (x - 3) / (x + 3)
    end = (_ERFC_ZERO - 3) / (_ERFC_ZERO + 3)
    return 2 * (t + 1) / (end + 1) - 1


@cache
def _two_over_sqrt_pi() -> float:
    return float(Fraction(2 << 80, _sqrt_pi(80)))


@cache
def _erfc_fit() -> Floats:
    """Chebyshev coefficients of ``(1 + 2 x) exp(x**2) erfc(x)`` in ``_fit_variable``."""
    count = 32
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    end = (_ERFC_ZERO - 3) / (_ERFC_ZERO + 3)
    samples = []
    for node in nodes:
        t = (Fraction(float(node)) + 1) * Fraction(end + 1) / 2 - 1
        x = 3 * (1 + t) / (1 - t)
        samples.append(float((1 + 2 * x) * erfc(x, 20) * exp(x * x, 20)))
    return np.polynomial.chebyshev.chebfit(nodes, samples, count - 1)
