"""A sum of products in the policy's accumulator, and its requantization (clauses A1 to A6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

from qinterp.ir import Tensor
from qinterp.twin._arithmetic import bounds, effective, factor, fitted, float_of, run_stages
from qinterp.twin._tails import in_tail
from qinterp.twin._twin import Index, Twin, scale, zero_point

Tap = tuple[int, int] | None
"""Raw codes of input and weight; None for a padding tap."""


def accumulate(
    t: Twin, taps: Sequence[tuple[Any, int]], x_zero: int, w_zero: int, bias: int | None
) -> int:
    """The accumulator of one output.

    Parameters
    ----------
    taps : (input code, weight code) in accumulation order; an input of None is a padding tap.
    """
    acc = t.policy.accumulator
    raw = acc.operands == "raw"
    each = acc.check == "each_step"
    overflowed: list[int] = []

    def fit(value: int, bits: int, rule: str) -> int:
        result = fitted(value, bits, rule)
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            overflowed.append(value)
        return result

    def step(value: int) -> int:
        return fit(value, acc.bits, acc.overflow) if each else value

    products: list[int | None] = []
    xs = ws = count = 0
    for x, w in taps:
        if x is None and acc.padding == "skip":
            products.append(None)
            continue
        code = (x_zero if acc.padding == "zero_point" else 0) if x is None else x
        products.append(code * w if raw else (code - x_zero) * (w - w_zero))
        xs, ws, count = xs + code, ws + w, count + 1
    total = 0
    if bias is not None and acc.bias == "first":
        total = step(bias)
    size = acc.group.size if acc.group else 1
    for start in range(0, len(products), size):
        terms = [p for p in products[start : start + size] if p is not None]
        if acc.group:
            within = 0
            for term in terms:
                within += term
                if each and size > 2:
                    within = fit(within, acc.group.bits, acc.group.overflow)
            total = step(total + fit(within, acc.group.bits, acc.group.overflow))
        elif terms:
            total = step(total + terms[0])
    t.say("sum of products", sum(p for p in products if p is not None), text=f"{count} products")
    if raw:
        correction = -x_zero * ws - w_zero * xs + count * x_zero * w_zero
        total = step(total + correction)
        t.say("zero-point correction", correction)
    if bias is not None:
        t.say("bias", bias)
        if acc.bias == "last":
            total = step(total + bias)
    total = fit(total, acc.bits, acc.overflow)
    if overflowed and acc.overflow == "error":
        raise OverflowError(f"the accumulator needs more than {acc.bits} bits")
    said = f"0x{total % 2**acc.bits:0{-(-acc.bits // 4)}x}, {acc.bits} bits"
    if overflowed:
        said += f", overflowed {len(overflowed)} times, first at {overflowed[0]}"
    t.say("accumulator", total, text=said)
    return total


def weight_zero_point(t: Twin, operand: str, channel: int) -> int:
    """The zero point of a channel of the weights, if the accumulator has any use for it."""
    if t.policy.accumulator.weight_zero_point == "ignored":
        return 0
    return zero_point(t.call[operand], channel)


def bias_of(t: Twin, channel: int) -> int | None:
    """The bias of a channel in steps of the accumulator, None if none is added there."""
    spec = t.policy.bias
    if t.call.get("bias") is None or (spec is not None and spec.sum == "float32"):
        return None
    return _bias_steps(t, channel)


def _bias_steps(t: Twin, channel: int) -> int:
    spec, tensor = t.policy.bias, t.call["bias"]
    code = int(t.at("bias", (channel,)))
    if spec is None or tensor.quantization is None:
        return code
    weights = t.call["filter" if t.call.has("filter") else "weights"]
    step = float_of(scale(t.call["input"]) * scale(weights, channel), 32)
    own = scale(tensor, channel)
    apart = float_of(float_of(abs(step - own), 32) / step, 32)
    ratio = Fraction(1) if apart < float_of(Fraction(spec.tolerance), 32) else own / step
    by = factor(float_of(ratio, 32), t.policy.multiplier)
    return run_stages(t, spec.stages, code, by)


def finish(t: Twin, acc: int, first: Tensor, second: Tensor, channel: int, index: Index) -> int:
    """The code of an accumulator of ``first * second``."""
    out = t.call.output
    by = t.shared(
        ("factor", channel),
        lambda: effective(t, scale(first), scale(second, channel), scale(out)),
    )
    t.say(
        "effective scale",
        by.exact,
        text=f"multiplier {by.mantissa} shift {by.shift}" if by.mantissa else "",
        prepared=True,
    )
    spec = t.policy.bias
    if spec is not None and spec.sum == "float32" and t.call.has("bias"):
        bias = float_of(Fraction(_bias_steps(t, channel)), 32)
        acc = int(float_of(float_of(Fraction(acc), 32) + bias, 32))
        least = -(1 << (31 if t.policy.accumulator.bits <= 32 else 63))
        acc = acc if least <= acc < -least else least
        t.say("sum with the bias in float32", acc)
    tail = t.policy.tail
    stages = t.policy.requantize
    if tail is not None and in_tail(t, tail, index):
        stages = tail.requantize
    return run_stages(t, stages, acc, by, zero_point(out), bounds(t))


def window_taps(t: Twin, kernel: tuple[int, int], depth: int) -> Iterator[tuple[int, int, int]]:
    """(kh, kw, ic) in the accumulator's order."""
    sizes = {"kh": kernel[0], "kw": kernel[1], "ic": depth}
    order = t.policy.accumulator.order
    for combination in product(*(range(sizes[name]) for name in order)):
        by_name = dict(zip(order, combination, strict=True))
        yield by_name["kh"], by_name["kw"], by_name["ic"]


def window_start(t: Twin, kernel: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of padding before the image."""
    attributes = t.call.attributes
    padding = attributes["padding"]
    if padding == "valid":
        return 0, 0
    if padding != "same":
        return padding[0], padding[2]
    dilations = attributes.get("dilations", (1, 1))
    starts = []
    for axis in (0, 1):
        stride = attributes["strides"][axis]
        outputs = (image[axis] + stride - 1) // stride
        covered = (outputs - 1) * stride + dilations[axis] * (kernel[axis] - 1) + 1
        starts.append(max(0, covered - image[axis]) // 2)
    return starts[0], starts[1]
