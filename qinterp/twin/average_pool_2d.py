"""Twin of average_pool_2d."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._accumulate import accumulate
from qinterp.twin._arithmetic import bounds, factor, float_of, quantized, run_stages
from qinterp.twin._pool import under_window
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("average_pool_2d", "average_of_codes")
def average_of_codes(t: Twin, output: int, index: Index) -> int:
    """The codes' sum over their number."""
    codes = under_window(t, index)
    total = accumulate(t, [(code, 1) for code in codes], 0, 0, None)
    by = factor(Fraction(1, len(codes)), t.policy.multiplier)
    return run_stages(t, t.params.stages, total, by, 0, bounds(t))


@twin("average_pool_2d", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real average, rounded once."""
    codes = under_window(t, index)
    tensor = t.call["input"]
    total = sum(codes) - len(codes) * zero_point(tensor)
    t.say("sum of codes less zero points", total, text=f"{len(codes)} taps")
    return quantized(t, Fraction(total, len(codes)) * scale(tensor))


@twin("average_pool_2d", "float32")
def average_float(t: Twin, output: int, index: Index) -> float:
    """Float32 additions and a division."""
    values = under_window(t, index)
    total = Fraction(0)
    for value in values:
        total = float_of(total + Fraction(value), 32)
    return clamp_float(t, float_of(total / len(values), 32))
