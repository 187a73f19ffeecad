"""Twins of hard_swish."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from qinterp.twin._arithmetic import factor, fitted, rounded, storage
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin._unary import f32, float32, real


@twin("hard_swish", "fixed_point")
def fixed_point(t: Twin, output: int, index: Index) -> int:
    """One code."""
    out = t.call.output
    params = t.params
    fine = f32(scale(t.call["input"]) / 128)
    by_output, right = _short(t, f32(fine / scale(out)))
    by_gate, left = _short(t, f32(fine / Fraction(3, 32768)))
    x = t.code("input", index) * 128
    preshift = _product(x, by_output, params.rescale)
    t.say("output before its shift", preshift)
    gate = x
    if left > 0:
        gate = fitted(gate * 2 ** (left - 1), 16, "saturate")
    gate = _product(gate, by_gate, params.rescale)
    if left > 0:
        gate = fitted(gate * 2, 16, "saturate")
    gate = _divided(gate, -left, params.shift)
    gate = (gate + 32768) // 2
    t.say("gate", gate, text="0 .. 1 in Q0.15")
    both = _product(gate, preshift, params.product)
    t.say("product", both)
    code = _divided(both, -right, params.output_shift) + zero_point(out)
    low, high = storage(out)
    return min(max(fitted(code, 16, "wrap"), low), high)


def _short(t: Twin, value: Fraction) -> tuple[int, int]:
    by: Any = factor(value, t.policy.multiplier)
    return min(rounded(Fraction(by.mantissa, 65536), "ties_toward_positive"), 32767), by.shift


def _product(a: int, b: int, rule: str) -> int:
    return fitted(rounded(Fraction(a * b, 32768), rule), 16, "saturate")


def _divided(a: int, bits: int, rule: str) -> int:
    if bits <= 0:
        return a
    if bits >= 16:  # the kernel's mask has 16 bits, and is negative by then
        return 1 if a >= 0 else -1
    return rounded(Fraction(a, 2**bits), rule)


def _float(t: Twin, x: Fraction) -> Fraction:
    gate = min(max(f32(x + 3), Fraction(0)), Fraction(6))
    return f32(f32(x * gate) / 6)


float32("hard_swish", _float)
real("hard_swish", lambda t, x: x * min(max(x + 3, Fraction(0)), Fraction(6)) / 6)
