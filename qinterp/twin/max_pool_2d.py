"""Twin of max_pool_2d."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import bounds, quantized
from qinterp.twin._pool import under_window
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("max_pool_2d", "greatest_code")
def greatest_code(t: Twin, output: int, index: Index) -> int:
    """The greatest code between the bounds."""
    greatest: int = max(under_window(t, index))
    t.say("greatest code", greatest)
    low, high = bounds(t)
    return min(max(greatest, low), high)


@twin("max_pool_2d", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real maximum, rounded once."""
    tensor = t.call["input"]
    greatest: int = max(under_window(t, index)) - zero_point(tensor)
    t.say("greatest code less zero point", greatest)
    return quantized(t, greatest * scale(tensor))


@twin("max_pool_2d", "float32")
def max_float(t: Twin, output: int, index: Index) -> float:
    """The greatest element."""
    return clamp_float(t, Fraction(max(under_window(t, index))))
