"""Twins that operators of one operand share."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.numerics.libm import LIBRARIES
from qinterp.twin._arithmetic import Factor, bounds, effective, float_of, quantized, run_stages
from qinterp.twin._tails import in_tail
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point

Real = Callable[[Twin, Fraction], Fraction]


def real(kind: str, function: Real) -> None:
    """Declare the twin of a ``real`` recipe: the function of the dequantized operand."""

    @twin(kind, "real")
    def judge(t: Twin, output: int, index: Index) -> int:
        x = t.code("input", index) * scale(t.call["input"])
        t.say("real argument", x)
        return quantized(t, function(t, x))

    del judge


def float32(kind: str, function: Real) -> None:
    """Declare the twin of a ``float32`` recipe."""

    @twin(kind, "float32")
    def judge(t: Twin, output: int, index: Index) -> float:
        return float(function(t, Fraction(t.at("input", index))))

    del judge


def f32(value: Fraction) -> Fraction:
    """Rounded to float32."""
    return float_of(value, 32)


def call_library(t: Twin, name: str, x: Fraction, default: str = "") -> float:
    """A function of the library that the recipe names, by default the one it usually has."""
    library = t.params.library if t.params else default or "glibc_2.28"
    with np.errstate(over="ignore"):
        argument = np.array([float(x)]).astype(np.float32)
    functions = LIBRARIES[library]
    return float(functions.get(name, functions[name.removesuffix("_scalar")])(argument)[0])


def factor_of(t: Twin, factor: Fraction = Fraction(1)) -> Factor:
    """The factor from steps of the input, times ``factor``, to steps of the output."""
    made: Factor = t.shared(
        ("factor", factor),
        lambda: effective(t, scale(t.call["input"]), factor, scale(t.call.output)),
    )
    return made


def stages_at(t: Twin, index: Index) -> Any:
    """The policy's stages for an element of the output: those of the tail within it."""
    tail = t.policy.tail
    return t.policy.requantize if tail is None or not in_tail(t, tail, index) else tail.requantize


def requantized(t: Twin, x: int, index: Index, factor: Fraction = Fraction(1)) -> int:
    """``x`` steps of the input, times ``factor``, as the output's code at ``index``."""
    by = factor_of(t, factor)
    t.say("accumulator", x)
    t.say("effective scale", by.exact, text=f"multiplier {by.mantissa} shift {by.shift}")
    return run_stages(t, stages_at(t, index), x, by, zero_point(t.call.output), bounds(t))


__all__ = ["call_library", "f32", "factor_of", "float32", "real", "requantized", "stages_at"]
