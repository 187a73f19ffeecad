"""Twin of l2_normalization."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from qinterp.numerics import elementary
from qinterp.twin._arithmetic import Factor, bounds, fitted, float_of, quantized, run_stages
from qinterp.twin._fixed_point import inverse_root
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point

_DIGITS = 60


@twin("l2_normalization", "inverse_square_root")
def inverse_square_root(t: Twin, output: int, index: Index) -> int:
    """An element times the inverse root of its row's sum of squares."""
    tensor, out = t.call["input"], t.call.output
    total = fitted(_square(t, index), 32, "wrap")
    t.say("accumulator", total)
    multiplier, shift = t.shared(("root", total), lambda: inverse_root(total))
    t.say("inverse root", multiplier, text=f"shift {shift}")
    stages = t.params.stages if out.dtype == "int8" else t.params.uint8_stages
    by = Factor(Fraction(1), multiplier, shift + 7)
    element = t.at("input", index) - zero_point(tensor)
    return run_stages(t, stages, element, by, zero_point(out), bounds(t))


@twin("l2_normalization", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real quotient, rounded once."""
    tensor = t.call["input"]
    element = t.code("input", index)
    total = _square(t, index)
    t.say("sum of squares", total)
    if total * scale(tensor) ** 2 <= Fraction(1e-6) ** 2:
        return quantized(t, element * scale(tensor) / Fraction(1e-6))
    square = Fraction(element * element, total)
    size = elementary.sqrt(square, _DIGITS)
    # a value that is a tie to that many digits is one: the root is then a rational number
    near = size.limit_denominator(10**12)
    size = near if near * near == square else size
    return quantized(t, size if element > 0 else -size)


@twin("l2_normalization", "float32")
def l2_normalization_float(t: Twin, output: int, index: Index) -> float:
    """Float32 additions, a root and a division."""

    def norm() -> Fraction:
        total = Fraction(0)
        for value in _row(t, index):
            total = float_of(total + float_of(Fraction(value) ** 2, 32), 32)
        return max(float_of(elementary.sqrt(total, _DIGITS), 32), float_of(Fraction(1e-6), 32))

    divisor = t.shared(("norm", index[:-1]), norm)
    return float(float_of(Fraction(t.at("input", index)) / divisor, 32))


def _row(t: Twin, index: Index) -> list[Any]:
    return [t.at("input", (*index[:-1], i)) for i in range(t.call["input"].shape[-1])]


def _square(t: Twin, index: Index) -> int:
    zero = zero_point(t.call["input"])
    total: int = t.shared(
        ("square", index[:-1]), lambda: sum((int(x) - zero) ** 2 for x in _row(t, index))
    )
    return total
