"""Twin of squared_difference."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import bounds, fitted, float_of, quantized
from qinterp.twin._binary import below_one, integer, on_common_scale, operands, reals
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("squared_difference", "rescaled_square")
def rescaled(t: Twin, output: int, index: Index) -> int:
    """One square of the difference of two rescaled inputs."""
    left = t.params.left_shift
    a, b, twice = on_common_scale(t, left, index)
    square = fitted((a - b) ** 2, 32, "wrap")
    t.say("accumulator", square)
    out = t.call.output
    ratio = float_of(twice**2 / (scale(out) * 4**left), 64)
    return below_one(t, t.params.output_stages, square, ratio, zero_point(out), bounds(t))


@twin("squared_difference", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The square of the real difference, rounded once."""
    a, b = reals(t, index)
    return quantized(t, (a - b) ** 2)


@twin("squared_difference", "integers")
def plain(t: Twin, output: int, index: Index) -> int:
    """One square in the width of the type."""
    a, b = operands(t, index)
    return integer(t, (a - b) ** 2)


@twin("squared_difference", "float32")
def square_float(t: Twin, output: int, index: Index) -> float:
    """One float32 subtraction and one multiplication."""
    a, b = operands(t, index)
    difference = float_of(Fraction(a) - Fraction(b), 32)
    return float(float_of(difference**2, 32))
