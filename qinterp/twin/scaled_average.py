"""Twins of the averages of codes on a grid, and of quotients of codes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.twin._accumulate import accumulate
from qinterp.twin._arithmetic import Factor, bounds, factor, rounded, run_stages, storage
from qinterp.twin._binary import codes
from qinterp.twin._pool import under_window
from qinterp.twin._reduce import reduced
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.common_grid import BEYOND, f32, nearest_code


@twin("average_pool_2d", "scaled_average")
def pooled(t: Twin, output: int, index: Index) -> int:
    """The average of the codes under a window."""
    return _average(t, under_window(t, index))


@twin("mean", "scaled_average")
def mean(t: Twin, output: int, index: Index) -> int:
    """The average of the codes that are reduced."""
    return _average(t, reduced(t, index))


def _average(t: Twin, values: list[Any]) -> int:
    tensor, out = t.call["input"], t.call.output
    x: Any = accumulate(t, [(code, 1) for code in values], zero_point(tensor), 0, None)
    multiplier = t.policy.multiplier
    ratio = f32(scale(tensor) / scale(out))
    if t.params.before:
        x = run_stages(t, t.params.before, x, factor(ratio, multiplier))
        by = Factor(Fraction(1, len(values)))
    else:
        by = factor(f32(ratio / len(values)), multiplier)
    return run_stages(t, t.params.stages, x, by, zero_point(out), bounds(t))


def _whole(a: int, b: int) -> int:
    return rounded(Fraction(a, b), "toward_zero")


def _real(a: int, b: int, steps: tuple[Fraction, Fraction]) -> Fraction:
    divisor = f32(steps[1] * b)
    return f32(f32(steps[0] * a) / divisor) if divisor else BEYOND


@twin("div", "whole_quotient")
def whole_quotient(t: Twin, output: int, index: Index) -> int:
    """The quotient of the codes, cut off, rescaled."""
    quotient = _whole(*codes(t, index))
    t.say("quotient of the codes", quotient)
    first, second = (scale(t.call[name]) for name in ("input1", "input2"))
    out = t.call.output
    by = factor(f32(first / f32(second * scale(out))), t.policy.multiplier)
    return run_stages(t, t.policy.requantize, quotient, by, zero_point(out), bounds(t))


@twin("div", "real_quotient")
def real_quotient(t: Twin, output: int, index: Index) -> int:
    """The quotient of float32 values."""
    first, second = (scale(t.call[name]) for name in ("input1", "input2"))
    out = t.call.output
    value = _real(*codes(t, index), (first, f32(second * scale(out))))
    by = factor(Fraction(1), t.policy.multiplier)
    return run_stages(t, t.params.stages, value, by, zero_point(out), bounds(t))


@twin("mean", "chained_means")
def chained_means(t: Twin, output: int, index: Index) -> int:
    """One axis after the other, worked out once for the whole tensor."""
    outputs: dict[Index, int] = t.shared("means", lambda: _chain(t))
    if not t.call.attributes["keep_dims"]:
        kept = iter(index)
        rank = len(t.call["input"].shape)
        axes = {int(a) % rank for a in t.values[1].reshape(-1)}  # type: ignore[union-attr]
        index = tuple(0 if axis in axes else next(kept) for axis in range(rank))
    return outputs[index]


def _chain(t: Twin) -> dict[Index, int]:
    value = t.values[0]
    assert value is not None
    assert t.values[1] is not None
    current = {index: int(code) for index, code in np.ndenumerate(value)}
    shape = list(value.shape)
    tensor: Any = t.call["input"]
    for axis in (int(a) % len(shape) for a in t.values[1].reshape(-1)):
        groups: dict[Index, list[int]] = {}
        for index, code in current.items():
            groups.setdefault((*index[:axis], 0, *index[axis + 1 :]), []).append(code)
        if shape[axis] > 1:
            current = {i: _mean(t, tensor, values) for i, values in groups.items()}
        shape[axis], tensor = 1, t.call.output
    return current


def _mean(t: Twin, tensor: Any, values: list[int]) -> int:
    zero, out = zero_point(tensor), t.call.output
    low, high = storage(tensor)
    total = min(max(sum(v - zero for v in values) + zero, low), high) - zero
    divisor = nearest_code(t, Fraction(len(values)), tensor) - zero
    divisor_step = f32(scale(tensor) * scale(out))
    multiplier = t.policy.multiplier
    if t.params.quotient == "whole":
        quotient: Any = _whole(total, divisor)
        by = factor(f32(scale(tensor) / divisor_step), multiplier)
    else:
        quotient = _real(total, divisor, (scale(tensor), divisor_step))
        by = factor(Fraction(1), multiplier)
    return run_stages(t, t.params.stages, quotient, by, zero_point(out), bounds(t))
