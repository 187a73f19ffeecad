"""Real results, carried to as many digits as decide their rounding (clause X1).

A float64 approximation decides almost every element; the few that lie too close to a rounding
boundary are worked out again, exactly or with more digits (A. Ziv, "Fast evaluation of elementary
mathematical functions with correctly rounded last bit", 1991).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from qinterp.numerics.rounding import Rounding
from qinterp.numerics.scales import round_fraction

Exact = Callable[[int, int], Fraction]
"""Flat index and decimal digits to a value that is off by less than ``10**-digits``."""

_DIGITS = (40, 80, 160)
_HALF = Fraction(1, 2)


def round_real(
    approx: npt.NDArray[np.float64],
    exact: Exact,
    *,
    rounding: Rounding = "ties_to_even",
    error: float = 2.0**-36,
    bounds: tuple[int, int] = (-(1 << 31), (1 << 31) - 1),
) -> npt.NDArray[np.int64]:
    """Integers nearest to real values, correctly rounded and clamped to ``bounds``.

    Parameters
    ----------
    approx : the values, off by at most ``error * max(1, abs(value))``; infinities saturate.
    exact : gives an element as exactly as asked; called only where ``approx`` cannot decide.
    rounding : one of the ``ties_*`` rules.
    """
    low, high = bounds
    value = np.clip(approx, low - 2.0, high + 2.0)
    nearest = np.rint(value)
    distance = np.abs(np.abs(value - np.floor(value)) - 0.5)
    near_tie = distance <= error * np.maximum(1.0, np.abs(value))
    near_tie &= (value >= low - 1.0) & (value <= high + 1.0)
    result: npt.NDArray[np.int64] = nearest.astype(np.int64)
    flat = result.reshape(-1)
    for i in np.flatnonzero(near_tie.reshape(-1) | np.isnan(value).reshape(-1)):
        flat[i] = _decide(int(i), exact, rounding, low, high)
    return np.clip(result, low, high)


def _decide(i: int, exact: Exact, rounding: Rounding, low: int, high: int) -> int:
    for digits in _DIGITS:
        value = exact(i, digits)
        doubled = 2 * value
        tie = Fraction(round_fraction(doubled, "ties_to_even"), 2)
        if abs(value - tie) > Fraction(1, 10 ** (digits - 2)) or tie.denominator == 1:
            break
    return min(max(round_fraction(value, rounding), low - 1), high + 1)
