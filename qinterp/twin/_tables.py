"""Interpolated tables of 16-bit functions, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from qinterp.twin._arithmetic import fitted, float_of, rounded

Function = Callable[[Fraction], Fraction]


def entry(
    function: Function, grid: tuple[Fraction, int], out: tuple[Fraction, int], i: int, bits: int
) -> int:
    """Entry ``i`` of the 513: the sample, moved by half the error in the middle of its step.

    Parameters
    ----------
    function : gives floats of ``bits`` bits.
    grid, out : scale and zero point of the argument and of the value.
    """

    def f(value: Fraction) -> Fraction:
        return float_of(value, bits)

    def near(value: Fraction) -> Fraction:
        return Fraction(rounded(value, "ties_to_away"))

    low, high = (f(grid[0] * (code - grid[1])) for code in (-32768, 32767))
    out_low, out_high = (f(out[0] * (code - out[1])) for code in (-32768, 32767))
    step = f(f(high - low) / 512)
    gain = f(65536 / f(out_high - out_low))

    def code(x: Fraction) -> Fraction:
        return f(function(x) * gain)

    if i == 512:
        value = near(code(high))
    else:
        start = f(low + f(i * step))
        sample = near(code(start))
        straight = near(f(f(code(f(low + f((i + 1) * step))) + sample) / 2))
        error = straight - near(code(f(start + f(step / 2))))
        value = sample - near(error / 2)
    return int(min(max(value, Fraction(-32768)), Fraction(32767)))


def interpolated(entries: Callable[[int], int], code: int) -> int:
    """The value at ``code``, between two entries."""
    index, offset = divmod(code + 32768, 128)
    first = entries(index)
    slope = fitted(entries(index + 1) - first, 16, "wrap")
    moved = rounded(Fraction(slope * offset, 128), "ties_toward_positive")
    return fitted(first + moved, 16, "wrap")
