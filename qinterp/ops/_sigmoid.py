"""logistic and tanh of 16-bit codes by one table of 256 entries (clause L2).

Source: tflite/kernels/internal/reference/integer_ops/logistic.h, tanh.h; tflite/kernels/
activations.cc SigmoidPrepare, TanhPrepare.
"""

from __future__ import annotations

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.elementary import log32
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.sigmoid import sigmoid_table


def power_of_two(scale: float) -> int | None:
    """The exponent of a scale that is within a thousandth of a power of two, else None."""
    bits = log32(np.array([scale], np.float32)) * (np.float32(1) / log32(np.array([2], np.float32)))
    nearest = round(float(bits[0]))
    return nearest if abs(bits[0] - np.float32(nearest)) < np.float32(1e-3) else None


def check_grids(call: Call) -> None:
    """ModelFormatError unless the zero points are 0 and the output's scale is 2**-15."""
    unit, out_zero_point = call.per_tensor(call.output)
    zero_point = call.per_tensor(call["input"])[1]
    call.check(zero_point == out_zero_point == 0, "the zero points of int16 must be 0")
    call.check(
        power_of_two(unit) == -15, f"output {call.output.describe()} must have scale 1/32768"
    )


def argument(code: Array, scale: float, shifts: tuple[int, ...]) -> Array:
    """Codes as multiples of 1/(24 * 512) of the table's argument.

    Parameters
    ----------
    shifts : with a scale of 2**(shift - 12) codes are only shifted and tripled.
    """
    exponent = power_of_two(scale)
    if exponent is not None and exponent + 12 in shifts:
        return code * (3 << (exponent + 12))
    multiplier, shift = scale * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    half = 1 << (shift - 1) if shift else 0
    product = _kernels.fit(code * int(multiplier) + half, 32, OVERFLOW_CODE["wrap"])
    return product >> shift


def logistic_of(x: Array) -> Array:
    """The logistic function in Q0.15, of multiples of 1/(24 * 512)."""
    size = np.abs(x)
    value = np.where(size >> 9 >= 255, 0x7FFF << 10, look_up(size, 9))
    value = np.where(x >= 0, value + (1 << 9), (1 << 25) - value + (1 << 9) - 1)
    result: Array = value >> 10
    return result


def tanh_of(x: Array) -> Array:
    """``2 * sigmoid(2 x) - 1`` in Q0.15, of multiples of 1/(24 * 512)."""
    size = np.abs(x)
    value = np.where(size >> 8 >= 255, 0xFFFF << 8, look_up(size, 8)) - (1 << 23)
    result: Array = np.where(x >= 0, value + (1 << 7), -value + (1 << 7) - 1) >> 8
    return result


def look_up(size: Array, bits: int) -> Array:
    """The table at ``size / 2**bits``, interpolated, with 16 + ``bits`` fraction bits."""
    table = np.array(sigmoid_table())
    index = np.minimum(size >> bits, 254)
    fraction = size & ((1 << bits) - 1)
    between: Array = (table[index] << bits) + fraction * (table[index + 1] - table[index])
    return between
