"""Twin of the rectifiers that clamp codes of the input."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import float_of, rounded
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("relu6", "clamped_codes")
def relu6(t: Twin, output: int, index: Index) -> int:
    """A code of the input, between those of 0 and 6."""
    tensor = t.call["input"]
    rule = t.policy.activation_bounds
    ratio = Fraction(6) / scale(tensor)
    if rule.precision != "exact":
        ratio = float_of(ratio, 32 if rule.precision == "float32" else 64)
    zero = zero_point(tensor)
    if rule.zero_point == "before_rounding":
        moved = ratio + zero
        if rule.precision != "exact":
            moved = float_of(moved, 32 if rule.precision == "float32" else 64)
        six = rounded(moved, rule.rounding)
    else:
        six = rounded(ratio, rule.rounding) + zero
    six = min(six, 127 if tensor.dtype == "int8" else 32767)
    code = int(t.at("input", index))
    t.say("code", code, text=f"between {zero} and {six}")
    return min(max(code, zero), six)
