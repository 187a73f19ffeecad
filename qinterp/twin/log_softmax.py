"""Twins of log_softmax."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import exp, log
from qinterp.twin._arithmetic import (
    Factor,
    factor,
    fitted,
    float_of,
    quantized,
    run_stages,
    storage,
)
from qinterp.twin._fixed_point import exponential, logarithm, power
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin._unary import call_library, f32
from qinterp.twin.softmax.gemmlowp import row


@twin("log_softmax", "float_table")
def float_table(t: Twin, output: int, index: Index) -> int:
    """One code, by float32 operations on raw codes."""
    out = t.call.output
    step = scale(t.call["input"])

    def of_row() -> Fraction:
        codes = row(t, index)
        most, total = max(codes), Fraction(0)
        for code in codes:
            total = f32(total + Fraction(call_library(t, "exp", f32(step * (code - most)))))
        logarithm = Fraction(call_library(t, "log", total))
        return f32(f32(f32(step * most) + logarithm) / scale(out))

    moved = t.shared(("row", index[:-1]), of_row)
    t.say("(max * scale + log of the sum) / output scale", moved)
    value = f32(f32(f32(step / scale(out)) * int(t.at("input", index))) - moved)
    by = Factor(Fraction(1))
    return run_stages(t, t.params.stages, value, by, zero_point(out), storage(out))


@twin("log_softmax", "gemmlowp")
def gemmlowp(t: Twin, output: int, index: Index) -> int:
    """One code."""
    params = t.params
    low, high = storage(t.call.output)
    by, least = t.shared("factor", lambda: _factor(t))
    most, total, log_sum = t.shared(("row", index[:-1]), lambda: _row(t, index))
    t.say("largest code of the row", most)
    t.say("accumulator", total, text="the sum of exponentials")
    t.say("logarithm of the sum", log_sum, text=f"{params.input_bits} integer bits")
    back = factor(float_of(Fraction(2 ** (31 - by.shift), by.mantissa), 64), t.policy.multiplier)
    beyond = fitted(log_sum - 2**31, 32, "wrap")
    limit = max(least - 1, run_stages(_quiet(t), params.unscale, beyond, back))
    difference = int(t.at("input", index)) - most
    if difference <= limit:
        return low
    scaled = run_stages(t, params.rescale, difference, by)
    shift = Factor(Fraction(1), 0, -(31 - params.input_bits - params.output_bits))
    value = fitted(scaled - log_sum, 32, "wrap")
    return run_stages(t, params.finish, value, shift, high, (low, high))


def _row(t: Twin, index: Index) -> tuple[int, int, int]:
    params = t.params
    by, least = t.shared("factor", lambda: _factor(t))
    codes = row(t, index)
    most = max(codes)
    total = 0
    for code in codes:
        if code - most >= least:
            scaled = run_stages(_quiet(t), params.rescale, code - most, by)
            total += power(exponential(scaled, params.input_bits), -params.sum_bits)
    total = fitted(total, 32, "wrap")
    return most, total, logarithm(total, params.sum_bits, params.input_bits)


def _quiet(t: Twin) -> Twin:
    return Twin(t.call, t.values, t.cache)


def _factor(t: Twin) -> tuple[Factor, int]:
    bits = t.params.input_bits
    product = min(scale(t.call["input"]) * 2 ** (31 - bits), Fraction(2**31 - 1))
    by = factor(product, t.policy.multiplier)
    return by, -((2**bits - 1) * 2 ** (31 - bits) // 2**by.shift)


@twin("log_softmax", "float32")
def float32(t: Twin, output: int, index: Index) -> float:
    """One logarithm."""
    most, log_sum = t.shared(("row", index[:-1]), lambda: _float_row(t, index))
    below = f32(Fraction(t.at("input", index)) - most)
    t.say("logarithm of the sum", log_sum)
    return float(f32(below - log_sum))


def _float_row(t: Twin, index: Index) -> tuple[Fraction, Fraction]:
    depth = t.call["input"].shape[-1]
    x = [Fraction(t.at("input", (*index[:-1], i))) for i in range(depth)]
    total = Fraction(0)
    for value in x:
        total = f32(total + Fraction(call_library(t, "exp", f32(value - max(x)))))
    return max(x), Fraction(call_library(t, "log", total))


@twin("log_softmax", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """One logarithm."""
    step = scale(t.call["input"])

    def make() -> tuple[int, Fraction]:
        codes = row(t, index)
        terms = (exp(max((c - max(codes)) * step, Fraction(-1000)), 80) for c in codes)
        return max(codes), log(sum(terms, Fraction(0)), 60)

    most, log_sum = t.shared(("row", index[:-1]), make)
    return quantized(t, (int(t.at("input", index)) - most) * step - log_sum)
