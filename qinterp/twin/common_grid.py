"""Twins of the recipes ``common_grid`` and of those that build on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from qinterp.ir import Tensor
from qinterp.twin._arithmetic import (
    Factor,
    bounds,
    factor,
    fitted,
    float_of,
    rounded,
    run_stages,
    storage,
)
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point

BEYOND = Fraction(2) ** 400
"""Stands for an infinity, which every rounding to an integer takes to be out of range."""


def f32(value: Fraction) -> Fraction:
    """Rounded to float32."""
    return float_of(value, 32)


def prepared(t: Twin, numerator: Fraction, denominator: Fraction, stages: Sequence[Any]) -> Factor:
    """A quotient in float32 as the stages want it."""
    if any(stage.stage == "divide_scale" for stage in stages):
        numerator, denominator = denominator, numerator
    return factor(f32(numerator / denominator), t.policy.multiplier)


def grid(t: Twin) -> Fraction:
    """The scale of the common grid."""
    named = t.params.grid
    if not isinstance(named, str):
        return f32(Fraction(named))
    tensor = t.call.output if named == "output" else t.call.inputs[named == "second"]
    assert tensor is not None
    return scale(tensor)


def to_grid(t: Twin, tensor: Tensor, code: int) -> Any:
    """A code, an integer or a Fraction on the grid."""
    stages = t.params.input_stages
    by = prepared(t, scale(tensor), grid(t), stages)
    return run_stages(t, stages, code - zero_point(tensor), by)


def from_grid(t: Twin, x: Any, limits: tuple[int, int]) -> int:
    """A code of the output."""
    stages, out = t.params.output_stages, t.call.output
    by = prepared(t, grid(t), scale(out), stages)
    if isinstance(x, int):
        x = fitted(x, 32, "wrap")
    t.say("on the common grid", x)
    return run_stages(t, stages, x, by, zero_point(out), limits)


def _operands(t: Twin, index: Index) -> list[Any]:
    names = ("input1", "input2") if len(t.call.inputs) == 2 else ("input",)
    return [to_grid(t, t.call[n], int(t.at(n, t.broadcast(n, index)))) for n in names]


def _combining(kind: str, combine: Callable[..., Any]) -> None:
    @twin(kind, "common_grid")
    def judge(t: Twin, output: int, index: Index) -> int:
        return from_grid(t, combine(*_operands(t, index)), bounds(t))

    del judge


def _comparing(kind: str, compare: Callable[[Any, Any], bool]) -> None:
    @twin(kind, "common_grid")
    def judge(t: Twin, output: int, index: Index) -> bool:
        return compare(*_operands(t, index))

    del judge


def _rounded(combine: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def combined(a: Any, b: Any) -> Any:
        value = combine(a, b)
        return value if isinstance(value, int) else f32(value)

    return combined


def _inverse_root(x: Fraction) -> Fraction:
    if x <= 0:
        return BEYOND
    # the root of 24 digits is rounded once though it is taken in 53
    return f32(1 / f32(Fraction(math.sqrt(float(x)))))


_combining("add", _rounded(lambda a, b: a + b))
_combining("sub", _rounded(lambda a, b: a - b))
_combining("maximum", max)
_combining("minimum", min)
_combining("quantize", lambda x: x)
_combining("relu", lambda x: x)
_combining("abs", abs)
_combining("neg", lambda x: -x)
_combining("rsqrt", _inverse_root)
_comparing("equal", lambda a, b: bool(a == b))
_comparing("not_equal", lambda a, b: bool(a != b))
_comparing("less", lambda a, b: bool(a < b))
_comparing("less_equal", lambda a, b: bool(a <= b))
_comparing("greater", lambda a, b: bool(a > b))
_comparing("greater_equal", lambda a, b: bool(a >= b))


@twin("concatenation", "common_grid")
def joined(t: Twin, output: int, index: Index) -> int:
    """An element of whichever operand covers the index."""
    tensors = [tensor for tensor in t.call.inputs if tensor]
    axis = t.call.attributes["axis"] % max(len(tensors[0].shape), 1)
    offset = index[axis]
    for number, tensor in enumerate(tensors):  # noqa: B007  # used after the loop
        length = tensor.shape[axis] if tensor.shape else 1
        if offset < length:
            break
        offset -= length
    value = t.values[number]
    assert value is not None
    at = (*index[:axis], offset, *index[axis + 1 :]) if tensor.shape else ()
    return from_grid(t, to_grid(t, tensor, int(value[at])), bounds(t))


@twin("select", "common_grid")
def selected(t: Twin, output: int, index: Index) -> int:
    """The operand that the condition chooses."""
    rank = len(t.call["condition"].shape)
    name = "x" if t.at("condition", index[:rank]) else "y"
    return from_grid(t, to_grid(t, t.call[name], int(t.at(name, index))), bounds(t))


def _clamped(kind: str, least: int, most: int) -> None:
    @twin(kind, "clamped_grid")
    def judge(t: Twin, output: int, index: Index) -> int:
        ends = {"low": _end(t, least, t.params.low), "high": _end(t, most, t.params.high)}
        t.say("bounds", ends["low"][1], text=f"{ends['low'][0]}; {ends['high']}")

        def clamp(x: int, where: str) -> int:
            x = max(x, ends["low"][1]) if ends["low"][0] == where else x
            return min(x, ends["high"][1]) if ends["high"][0] == where else x

        x = clamp(int(t.at("input", index)), "input")
        code = from_grid(t, to_grid(t, t.call["input"], x), storage(t.call.output))
        return clamp(code, "output")

    del judge


def _end(t: Twin, bound: int, grids: Sequence[str]) -> tuple[str, int]:
    real = Fraction(bound)
    for name in grids:
        tensor = t.call["input"] if name == "input" else t.call.output
        code = nearest_code(t, real, tensor)
        real = f32(scale(tensor) * (code - zero_point(tensor)))
    return name, code


def nearest_code(t: Twin, real: Fraction, tensor: Tensor) -> int:
    """The code of a tensor for a real number, by the rule for the bounds of activations."""
    rule = t.policy.activation_bounds
    low, high = storage(tensor)
    steps = _round(rule, f32(real / scale(tensor)), zero_point(tensor))
    return min(max(steps, low), high)


def _round(rule: Any, steps: Fraction, zero: int) -> int:
    if rule.zero_point == "before_rounding":
        return rounded(f32(steps + zero), rule.rounding)
    return rounded(steps, rule.rounding) + zero


_clamped("relu6", 0, 6)
_clamped("relu_n1_to_1", -1, 1)


def _gated(t: Twin, index: Index, slope: Tensor, slope_code: int) -> int:
    tensor = t.call["input"]
    code = int(t.at("input", index))
    x = code - zero_point(tensor)
    multiplier = t.policy.multiplier
    gate = run_stages(t, t.params.gate, x, factor(scale(tensor), multiplier))
    if gate >= 0:
        return from_grid(t, to_grid(t, tensor, code), bounds(t))
    by = factor(f32(f32(scale(slope) * scale(tensor)) / scale(slope)), multiplier)
    product = x * (slope_code - zero_point(slope))
    t.say("product", product)
    scaled = run_stages(t, t.params.product, product, by, zero_point(slope), storage(slope))
    return from_grid(t, to_grid(t, slope, scaled), bounds(t))


@twin("leaky_relu", "gated_product")
def leaky_relu(t: Twin, output: int, index: Index) -> int:
    """The slope is a code of the input's grid."""
    tensor = t.call["input"]
    slope = nearest_code(t, Fraction(t.call.attributes["alpha"]), tensor)
    return _gated(t, index, tensor, slope)


@twin("prelu", "gated_product")
def prelu(t: Twin, output: int, index: Index) -> int:
    """The slope is an operand."""
    return _gated(t, index, t.call["alpha"], int(t.at("alpha", t.broadcast("alpha", index))))
