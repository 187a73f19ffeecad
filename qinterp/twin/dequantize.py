"""Twin of dequantize."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import float_of
from qinterp.twin._tails import in_tail
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("dequantize", "dequantize")
def dequantize(t: Twin, output: int, index: Index) -> float:
    """One real number."""
    x = t.at("input", index)
    tensor = t.call["input"]
    if tensor.dtype == "float16":
        return float(x)
    axis = tensor.quantization.axis if tensor.quantization else None
    channel = index[axis] if axis is not None else 0
    exact = scale(tensor, channel) * (int(x) - zero_point(tensor, channel))
    t.say("scale * (code - zero point)", float(exact))
    return float(float_of(Fraction(exact), 32))


@twin("dequantize", "scaled_then_shifted")
def scaled_then_shifted(t: Twin, output: int, index: Index) -> float:
    """One real number; both products rounded, and their difference."""
    if in_tail(t, t.params, index):
        return dequantize(t, output, index)
    step, zero = scale(t.call["input"]), zero_point(t.call["input"])
    scaled = float_of(step * int(t.at("input", index)), 32)
    t.say("scale * code", float(scaled))
    return float(float_of(scaled - float_of(step * zero, 32), 32))
