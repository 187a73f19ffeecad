"""Twin of mul."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._accumulate import finish
from qinterp.twin._arithmetic import Factor, bounds, fitted, float_of, run_stages
from qinterp.twin._binary import codes, integer, operands
from qinterp.twin._twin import Index, Twin, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("mul", "accumulate")
def accumulate(t: Twin, output: int, index: Index) -> int:
    """One product in the accumulator, requantized."""
    a, b = codes(t, index)
    acc = t.policy.accumulator
    total = fitted(a * b, acc.bits, acc.overflow)
    if total != a * b and acc.overflow == "error":
        raise OverflowError(f"the accumulator needs more than {acc.bits} bits")
    t.say("accumulator", total)
    return finish(t, total, t.call["input1"], t.call["input2"], 0, index)


@twin("mul", "fraction_product")
def fraction_product(t: Twin, output: int, index: Index) -> int:
    """One product of fractions of one."""
    a, b = operands(t, index)
    t.say("accumulator", a * b)
    by = Factor(Fraction(1))
    return run_stages(t, t.params.stages, a * b, by, zero_point(t.call.output), bounds(t))


@twin("mul", "integers")
def plain(t: Twin, output: int, index: Index) -> int:
    """One product in the width of the type."""
    a, b = operands(t, index)
    return integer(t, a * b)


@twin("mul", "float32")
def mul_float(t: Twin, output: int, index: Index) -> float:
    """One float32 multiplication."""
    a, b = operands(t, index)
    return clamp_float(t, float_of(Fraction(a) * Fraction(b), 32))
