"""Twins of the tables whose arguments are summed up, and of what reads floats."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from qinterp.twin._arithmetic import Factor, factor, run_stages, storage
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin._unary import call_library
from qinterp.twin.common_grid import f32

Grid = tuple[Fraction, int]


def _entry(t: Twin, code: int, source: Grid, target: Grid, function: Any) -> int:
    """The table's code for a code of the source."""
    low, high = storage(t.call.output)
    arguments: list[Fraction] = t.shared("arguments", list)
    while len(arguments) <= code - low:
        if arguments:
            arguments.append(f32(arguments[-1] + source[0]))
        else:
            arguments.append(f32((low - source[1]) * source[0]))
    x = arguments[code - low]
    t.say("argument, summed up", x)
    value = function(t, x)
    t.say("function", float(value))
    return run_stages(t, t.params.quantize, value, Factor(target[0]), target[1], (low, high))


def _rescaled(t: Twin, code: int, source: Grid, target: Grid) -> int:
    multiplier = t.policy.multiplier
    x: Any = code - source[1]
    ratio = f32(source[0] / target[0])
    if t.params.to_real:
        x, ratio = run_stages(t, t.params.to_real, x, factor(source[0], multiplier)), target[0]
    by = factor(ratio, multiplier)
    return run_stages(t, t.params.from_real, x, by, target[1], storage(t.call.output))


def _range(t: Twin, ends: tuple[float, float]) -> Grid:
    """Glow's asymmetric parameters for a range that holds zero."""
    low, high = storage(t.call.output)
    least, most = (Fraction(end) for end in ends)
    step = (most - least) / (high - low)
    zero = 0 if least == -most else low - round(least / step)
    return f32(step), zero


def _between(t: Twin, index: Index, function: Any) -> int:
    tensor, out = t.call["input"], t.call.output
    ends: Grid = (scale(tensor), zero_point(tensor))
    arguments, values = _range(t, t.params.arguments), _range(t, t.params.values)
    code = _rescaled(t, int(t.at("input", index)), ends, arguments)
    code = _entry(t, code, arguments, values, function)
    return _rescaled(t, code, values, (scale(out), zero_point(out)))


def _logistic(t: Twin, x: Fraction) -> Fraction:
    e = call_library(t, "exp", -x)
    return f32(1 / f32(1 + Fraction(e))) if math.isfinite(e) else Fraction(0)


def _hard_swish(t: Twin, x: Fraction) -> Fraction:
    gate = min(max(math.trunc(f32(x + 3)), 0), 6)
    return f32(f32(x * gate) / 6)


@twin("logistic", "rescaled_table")
def logistic(t: Twin, output: int, index: Index) -> int:
    """One code."""
    return _between(t, index, _logistic)


@twin("tanh", "rescaled_table")
def tanh(t: Twin, output: int, index: Index) -> int:
    """One code."""
    return _between(t, index, lambda t, x: Fraction(call_library(t, "tanh", x)))


@twin("hard_swish", "running_sum_table")
def hard_swish(t: Twin, output: int, index: Index) -> int:
    """One code."""
    tensor, out = t.call["input"], t.call.output
    grids = (scale(tensor), zero_point(tensor)), (scale(out), zero_point(out))
    return _entry(t, int(t.at("input", index)), *grids, _hard_swish)


@twin("quantize", "fused_from_float")
def fused_from_float(t: Twin, output: int, index: Index) -> int:
    """One multiplication and addition, rounded once."""
    out = t.call.output
    x = t.at("input", index)
    if not math.isfinite(x):
        return storage(out)[0]
    steps = f32(Fraction(x) * f32(1 / scale(out)) + zero_point(out))
    return run_stages(t, t.params.stages, steps, Factor(Fraction(1)), 0, storage(out))


@twin("resize_bilinear", "stretched")
def bilinear(t: Twin, output: int, index: Index) -> int:
    """Between four pixels."""
    n, y, x, c = index
    _, h, w, _ = t.call["input"].shape
    _, oh, ow, _ = t.call.output.shape
    (top, bottom, down), (left, right, across) = _place(t, y, h, oh), _place(t, x, w, ow)

    def pixel(row: int, column: int) -> Fraction:
        return Fraction(int(t.at("input", (n, row, column, c))))

    def between(a: Fraction, b: Fraction, part: Fraction) -> Fraction:
        if t.params.fused:
            return f32(f32(b - a) * part + a)
        return f32(a + f32(f32(b - a) * part))

    ends = [between(pixel(top, column), pixel(bottom, column), down) for column in (left, right)]
    value = between(ends[0], ends[1], across)
    t.say("interpolated", value)
    low, high = storage(t.call.output)
    return min(max(math.trunc(value), low), high)


@twin("resize_nearest_neighbor", "stretched")
def nearest(t: Twin, output: int, index: Index) -> int:
    """The pixel before the position."""
    n, y, x, c = index
    _, h, w, _ = t.call["input"].shape
    _, oh, ow, _ = t.call.output.shape
    return int(t.at("input", (n, _place(t, y, h, oh)[0], _place(t, x, w, ow)[0], c)))


def _place(t: Twin, i: int, size: int, out: int) -> tuple[int, int, Fraction]:
    stretch = f32(Fraction(out, size))
    position = f32(i * f32(1 / stretch)) if t.params.fused else f32(i / stretch)
    first = math.floor(position)
    return min(first, size - 1), min(first + 1, size - 1), f32(position - first)
