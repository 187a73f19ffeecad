"""Twins of leaky_relu."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import bounds, fitted, run_stages
from qinterp.twin._twin import Index, Twin, twin, zero_point
from qinterp.twin._unary import f32, factor_of, float32, requantized, stages_at


@twin("leaky_relu", "rescaled")
def rescaled(t: Twin, output: int, index: Index) -> int:
    """One code; a negative slope is the mirror image of a positive one."""
    x = t.code("input", index)
    alpha = Fraction(t.call.attributes["alpha"])
    if x >= 0:
        return requantized(t, x, index)
    if alpha >= 0 or t.params.sign == "in_factor":
        return requantized(t, x, index, alpha)
    by = factor_of(t, -alpha)
    t.say("accumulator", x)
    steps = run_stages(t, stages_at(t, index), x, by, 0, (-(2**31), 2**31 - 1))
    low, high = bounds(t)
    return min(max(fitted(zero_point(t.call.output) - steps, 32, "wrap"), low), high)


def _leaky(t: Twin, x: Fraction) -> Fraction:
    return x if x > 0 else f32(x * Fraction(t.call.attributes["alpha"]))


float32("leaky_relu", _leaky)
