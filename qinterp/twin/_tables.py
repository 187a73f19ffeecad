"""Tables of functions of one code, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from qinterp.twin._arithmetic import fitted, float_of, rounded, storage
from qinterp.twin._twin import Index, Twin, scale, zero_point

Function = Callable[[Fraction], Fraction | float]


def entry(
    function: Function, grid: tuple[Fraction, int], out: tuple[Fraction, int], i: int, bits: int
) -> int:
    """Entry ``i`` of the 513: the sample, moved by half the error in the middle of its step.

    Parameters
    ----------
    function : gives floats of ``bits`` bits.
    grid, out : scale and zero point of the argument and of the value.
    """

    def f(value: Any) -> Any:
        if not isinstance(value, float):
            value = float_of(value, bits)
            if abs(value) >= 2 ** (128 if bits == 32 else 1024):
                return math.inf if value > 0 else -math.inf
        return value

    def near(value: Any) -> Any:
        return value if isinstance(value, float) else Fraction(rounded(value, "ties_to_away"))

    low, high = (f(grid[0] * (code - grid[1])) for code in (-32768, 32767))
    out_low, out_high = (f(out[0] * (code - out[1])) for code in (-32768, 32767))
    step = f(f(high - low) / 512)
    gain = f(65536 / f(out_high - out_low))

    def code(x: Fraction) -> Any:
        value = function(x)
        # infinities go on as floats, in whose arithmetic Python joins fractions
        return f((Fraction(value) if math.isfinite(value) else value) * gain)

    if i == 512:
        value = near(code(high))
    else:
        start = f(low + f(i * step))
        sample = near(code(start))
        straight = near(f(f(code(f(low + f((i + 1) * step))) + sample) / 2))
        error = straight - near(code(f(start + f(step / 2))))
        value = sample - near(error / 2)
    return 0 if value != value else int(min(max(value, -32768), 32767))


def interpolated(entries: Callable[[int], int], code: int) -> int:
    """The value at ``code``, between two entries."""
    index, offset = divmod(code + 32768, 128)
    first = entries(index)
    slope = fitted(entries(index + 1) - first, 16, "wrap")
    moved = rounded(Fraction(slope * offset, 128), "ties_toward_positive")
    return fitted(first + moved, 16, "wrap")


def table_code(t: Twin, index: Index, function: Callable[[Twin, Fraction], float]) -> int:
    """One code of a table made in float32.

    Parameters
    ----------
    function : of a float32 value, with a float32 result, perhaps infinite.
    """
    steps = t.code("input", index)
    made: int = t.shared(("code", steps), lambda: _table_code(t, steps, function))
    return made


def _table_code(t: Twin, steps: int, function: Callable[[Twin, Fraction], float]) -> int:
    out = t.call.output
    x = float_of(steps * scale(t.call["input"]), 32)
    value = function(t, x)
    t.say("argument", float(x))
    t.say("function", value)
    low, high = storage(out)
    indefinite = t.params.overflow == "indefinite"
    if not math.isfinite(value):
        if indefinite:
            return low
        return 0 if math.isnan(value) else low if value < 0 else high
    exact = float_of(Fraction(value) * float_of(1 / scale(out), 32), 32)
    zero = zero_point(out)
    if t.params.zero_point == "before_rounding":
        exact, zero = float_of(exact + zero, 32), 0
    nearest = Fraction(rounded(exact, t.params.rounding))
    t.say("rounded", int(nearest), exact)
    moved = float_of(float_of(nearest, 32) + zero, 32)
    if abs(moved) >= 2**31 and indefinite:
        return low
    return min(max(int(moved), low), high)


def interpolated_code(t: Twin, index: Index, function: Callable[[Twin, Fraction], float]) -> int:
    """One code between the entries of a table made in float32."""
    tensor, out = t.call["input"], t.call.output

    def of(x: Fraction) -> float:
        return function(t, x)

    def entries(i: int) -> int:
        grids = ((scale(tensor), zero_point(tensor)), (scale(out), zero_point(out)))
        made: int = t.shared(("entry", i), lambda: entry(of, *grids, i, 32))
        t.say(f"entry {i}", made)
        return made

    return interpolated(entries, int(t.at("input", index)))
