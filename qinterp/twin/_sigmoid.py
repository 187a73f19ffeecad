"""logistic and tanh of 16-bit codes from the specification's table of 256 entries."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.numerics.elementary import log
from qinterp.numerics.sigmoid import sigmoid_table
from qinterp.twin._arithmetic import fitted, float_of, rounded
from qinterp.twin._twin import Twin, scale


def argument(t: Twin, code: int, shifts: tuple[int, ...]) -> int:
    """The code in steps of 1/(24 * 512)."""
    multiplier, shift = t.shared("multiplier", lambda: _multiplier(t, shifts))
    exact = Fraction(code * multiplier, 2**shift)
    if shift == 0:
        return fitted(code * multiplier, 32, "wrap")
    wrapped = fitted(code * multiplier + 2 ** (shift - 1), 32, "wrap")
    value = math.floor(Fraction(wrapped, 2**shift))
    t.say("argument", value, exact, "in steps of 1/12288")
    return value


def _multiplier(t: Twin, shifts: tuple[int, ...]) -> tuple[int, int]:
    s = scale(t.call["input"])
    logarithm = log(s, 30) / log(Fraction(2), 30)
    exponent = rounded(logarithm, "ties_to_even")
    if abs(logarithm - exponent) < Fraction(1, 1000) and exponent + 12 in shifts:
        return 3 * 2 ** (exponent + 12), 0
    value = float_of(float_of(s * 4096, 64) * 3, 64)
    shift = 0
    while value <= Fraction(32767, 2) and shift <= 30:
        value, shift = value * 2, shift + 1
    return math.floor(value), shift


def logistic_of(t: Twin, x: int) -> int:
    """The logistic function in Q0.15, of steps of 1/(24 * 512)."""
    size = abs(x)
    # in units of 2**-25: 16 bits of the table, 9 of the interpolation
    value = interpolated(size, 9) if size < 255 * 512 else 32767 * 1024
    t.say("logistic of the size", value, text="Q0.25")
    return (2**25 - value + 511) // 1024 if x < 0 else (value + 512) // 1024


def tanh_of(t: Twin, x: int) -> int:
    """Tanh in Q0.15, of steps of 1/(24 * 512)."""
    size = abs(x)
    # twice the sigmoid of twice the argument, less one, in units of 2**-23
    value = (interpolated(size, 8) if size < 255 * 256 else 65535 * 256) - 2**23
    t.say("tanh of the size", value, text="Q0.23")
    return (-value + 127) // 256 if x < 0 else (value + 128) // 256


def interpolated(size: int, bits: int) -> int:
    """The table at ``size / 2**bits``, with 16 + ``bits`` fraction bits."""
    table = sigmoid_table()
    index, rest = divmod(size, 2**bits)
    value: int = table[index] * 2**bits + rest * (table[index + 1] - table[index])
    return value
