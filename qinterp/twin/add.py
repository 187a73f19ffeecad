"""Twin of add."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import bounds, factor, fitted, float_of, quantized, run_stages
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("add", "rescaled_sum")
def rescaled_sum(t: Twin, output: int, index: Index) -> int:
    """One sum of two rescaled inputs."""
    out = t.call.output
    left = t.params.left_shift
    if left is None:
        left = 15 if out.dtype == "int16" else 20
    # the scales are float32, so these quotients are rounded once, to float64
    twice = 2 * max(scale(t.call["input1"]), scale(t.call["input2"]))
    total = 0
    for operand in ("input1", "input2"):
        by = factor(float_of(scale(t.call[operand]) / twice, 64), t.policy.multiplier)
        shifted = t.code(operand, t.broadcast(operand, index)) << left
        t.say(f"{operand} - zero point, shifted", shifted, text=f"left by {left}")
        total += run_stages(t, t.params.input_stages, shifted, by)
    total = fitted(total, 32, "wrap")
    t.say("accumulator", total)
    by = factor(float_of(twice / (scale(out) * 2**left), 64), t.policy.multiplier)
    return run_stages(t, t.params.output_stages, total, by, zero_point(out), bounds(t))


@twin("add", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real sum, rounded once."""
    operands = ("input1", "input2")
    return quantized(
        t,
        sum(t.code(n, t.broadcast(n, index)) * scale(t.call[n]) for n in operands) + Fraction(0),
    )


@twin("add", "float32")
def add_float(t: Twin, output: int, index: Index) -> float:
    """One float32 addition."""
    a, b = (Fraction(t.at(n, t.broadcast(n, index))) for n in ("input1", "input2"))
    return clamp_float(t, float_of(a + b, 32))
