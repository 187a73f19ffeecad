"""Sums of raw codes, rescaled in float32."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._accumulate import accumulate
from qinterp.twin._arithmetic import Factor, bounds, float_of, run_stages
from qinterp.twin._reduce import reduced
from qinterp.twin._twin import Index, Twin, scale, zero_point


def f32(value: Fraction) -> Fraction:
    """Rounded to float32."""
    return float_of(value, 32)


def by_factor(t: Twin, index: Index, *, mean: bool, zero_point_in_float: bool) -> int:
    """The sum times the factor, moved by what the zero points come to."""
    codes = reduced(t, index)
    tensor, out = t.call["input"], t.call.output
    if 0 in tensor.shape:
        return 0
    total = accumulate(t, [(code, 1) for code in codes], 0, 0, None)
    count = len(codes)
    factor = f32(scale(tensor) / scale(out))
    if mean:
        factor = f32(factor * f32(Fraction(1, count)))
    t.say("factor", factor, prepared=True)
    if zero_point_in_float:
        moved = f32(zero_point(out) - f32(f32(Fraction(count * zero_point(tensor))) * factor))
    else:
        moved = f32(f32(-zero_point(tensor) * factor) * count)
    value = f32(f32(f32(Fraction(total)) * factor) + moved)
    t.say("sum * factor + offset", value, text=f"offset {float(moved)!r}")
    return run_stages(t, t.params.stages, value, Factor(Fraction(1)), zero_point(out), bounds(t))
