"""Twin of quantize."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.twin._arithmetic import (
    Factor,
    effective,
    fitted,
    float_of,
    rounded,
    run_stages,
    storage,
)
from qinterp.twin._tails import in_tail
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("quantize", "from_float")
def from_float(t: Twin, output: int, index: Index) -> int:
    """One float as a code."""
    out = t.call.output
    channel = _channel(t, index)
    by, stages = scale(out, channel), t.params.stages
    if t.params.tail is not None and in_tail(t, t.params.tail, index):
        stages = t.params.tail.stages
    elif t.params.inverse:
        by = float_of(1 / by, 32)
    x = t.at("input", index)
    t.say("input", x)
    if not math.isfinite(x):
        # 2**200 has the same fate as infinity, and NaN that of a number too large
        x = math.copysign(2.0**200, x)
    return run_stages(t, stages, Fraction(x), Factor(by), zero_point(out, channel), storage(out))


@twin("quantize", "requantize")
def requantize(t: Twin, output: int, index: Index) -> int:
    """One code on the output's grid."""
    out = t.call.output
    value = fitted(t.code("input", index), 32, "wrap")
    t.say("accumulator", value)
    by = t.shared("factor", lambda: effective(t, scale(t.call["input"]), Fraction(1), scale(out)))
    tail = t.policy.tail
    in_rest = tail is not None and in_tail(t, tail, index)
    stages = tail.requantize if in_rest else t.policy.requantize
    return run_stages(t, stages, value, by, zero_point(out), storage(out))


@twin("quantize", "dequantized")
def by_float(t: Twin, output: int, index: Index) -> int:
    """One code, by way of a float32."""
    tensor, out = t.call["input"], t.call.output
    value = float_of(float_of(Fraction(t.code("input", index)), 32) * scale(tensor), 32)
    t.say("dequantized", float(value))
    by = Factor(scale(out))
    return run_stages(t, t.params.quantize, value, by, zero_point(out), storage(out))


@twin("quantize", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """One float as a code."""
    x = t.at("input", index)
    out = t.call.output
    low, high = storage(out)
    if math.isinf(x):
        return high if x > 0 else low
    channel = _channel(t, index)
    steps = Fraction(x) / scale(out, channel)
    t.say("real value / output scale", steps)
    return min(max(rounded(steps, t.params.rounding) + zero_point(out, channel), low), high)


def _channel(t: Twin, index: Index) -> int:
    q = t.call.output.quantization
    return index[q.axis] if q is not None and q.axis is not None else 0
