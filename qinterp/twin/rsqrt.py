"""Twins of rsqrt."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.numerics.elementary import rsqrt, sqrt
from qinterp.twin._arithmetic import (
    Factor,
    bits_of,
    factor,
    float_of,
    quantized,
    run_stages,
    storage,
)
from qinterp.twin._dequantized import dequantized
from qinterp.twin._fixed_point import inverse_root
from qinterp.twin._tables import interpolated_code
from qinterp.twin._twin import Index, Number, Twin, scale, twin, zero_point
from qinterp.twin._unary import f32, float32


@twin("rsqrt", "fixed_point")
def fixed_point(t: Twin, output: int, index: Index) -> int:
    """One code."""
    out = t.call.output
    low, high = storage(out)
    x = t.code("input", index)
    if x == 0:
        return high
    params = t.params
    multiplier, shift = inverse_root(x)
    root = run_stages(
        t, params.root, 1, Factor(Fraction(1), multiplier, shift + params.fraction_bits)
    )
    t.say("inverse root", root, text=f"{params.fraction_bits} fraction bits")
    bits = bits_of(params.product)
    divisor = float_of(_root(scale(t.call["input"]), bits) * scale(out), bits)
    by = factor(float_of(1 / divisor, 64), t.policy.multiplier)
    by = Factor(by.exact, by.mantissa, by.shift - params.fraction_bits)
    return run_stages(t, params.rescale, root, by, zero_point(out), (low, high))


@twin("rsqrt", "interpolated_table")
def interpolated_table(t: Twin, output: int, index: Index) -> int:
    """One code between two entries."""
    return interpolated_code(t, index, _entry)


def _entry(t: Twin, x: Fraction) -> float:
    if x <= 0:
        return float(f32(32767 * scale(t.call.output)))
    return float(f32(1 / _root(x)))


def _root(x: Fraction, bits: int = 32) -> Fraction:
    """The square root of a float32, rounded to a float of so many bits."""
    numerator, denominator = math.isqrt(x.numerator), math.isqrt(x.denominator)
    if numerator**2 == x.numerator and denominator**2 == x.denominator:
        return f32(Fraction(numerator, denominator))
    return float_of(sqrt(x, 40), bits)  # irrational, so that its digits decide


float32("rsqrt", lambda t, x: f32(1 / _root(x)))


@twin("rsqrt", "dequantized")
def by_float(t: Twin, output: int, index: Index) -> Number:
    """One code, by way of float32; infinity becomes the greatest."""
    if t.code("input", index) == 0:
        return storage(t.call.output)[1]
    return dequantized(t, output, index)


@twin("rsqrt", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """One code; of 0 it is the greatest."""
    x = t.code("input", index)
    if x == 0:
        return storage(t.call.output)[1]
    return quantized(t, _exact(x * scale(t.call["input"])))


def _exact(x: Fraction) -> Fraction:
    numerator, denominator = math.isqrt(x.numerator), math.isqrt(x.denominator)
    if numerator**2 == x.numerator and denominator**2 == x.denominator:
        return Fraction(denominator, numerator)
    return rsqrt(x, 60)
