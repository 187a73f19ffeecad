"""Twin of svdf."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from qinterp.ir import Tensor
from qinterp.twin._accumulate import accumulate as sum_products
from qinterp.twin._arithmetic import effective, float_of, run_stages, storage
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("svdf", "accumulate")
def svdf(t: Twin, output: int, index: Index) -> int:
    """One unit of the output: a window of states of its filters, the newest from this input."""
    batch, unit = index
    rank = t.call.attributes["rank"]
    _, memory = t.call["weights_time"].shape
    taps = []
    for f in range(unit * rank, unit * rank + rank):
        for m in range(memory):
            if m == memory - 1:
                state = t.shared(("state", batch, f), partial(_newest, t, batch, f))
            else:
                state = t.at("state", (batch, f * memory + m + 1))
            taps.append((state, t.at("weights_time", (f, m))))
    bias = t.at("bias", (unit,)) if t.call.get("bias") else None
    total = sum_products(t, taps, 0, 0, bias)
    return _finish(t, total, "state", "weights_time", t.call.output)


@twin("svdf", "float32")
def svdf_float(t: Twin, output: int, index: Index) -> float:
    """One unit of the output in float32."""
    batch, unit = index
    rank = t.call.attributes["rank"]
    _, memory = t.call["weights_time"].shape
    size = t.call["input"].shape[1]
    count = t.params.lanes if t.params else 4

    def by_filter(f: int) -> Fraction:
        newest = _in_lanes(
            [(t.at("input", (batch, c)), t.at("weights_feature", (f, c))) for c in range(size)],
            count,
        )
        states = [t.at("state", (batch, f * memory + m)) for m in range(1, memory)] + [newest]
        times = [t.at("weights_time", (f, m)) for m in range(memory)]
        return _in_lanes(list(zip(times, states, strict=True)), count)

    filters = [by_filter(f) for f in range(unit * rank, unit * rank + rank)]
    bias = Fraction(t.at("bias", (unit,))) if t.call.get("bias") else None
    if bias is not None and t.params and t.params.bias == "first":
        total = _add(filters, bias)
    else:
        total = _in_lanes([(f, 1) for f in filters], count)
        total = total if bias is None else float_of(total + bias, 32)
    return float(max(total, Fraction(0)) if t.call.attributes["activation"] == "relu" else total)


def _in_lanes(pairs: Sequence[tuple[Any, Any]], count: int) -> Fraction:
    """The sum of products, as lanes and a rest add it up in float32."""
    whole = len(pairs) // count * count
    products = [float_of(Fraction(a) * Fraction(b), 32) for a, b in pairs]
    lanes = [_add(products[lane:whole:count], Fraction(0)) for lane in range(count)]
    return _add(products[whole:], _add(lanes[1:], lanes[0]))


def _add(terms: Sequence[Fraction], start: Fraction) -> Fraction:
    for term in terms:
        start = float_of(start + term, 32)
    return start


def _newest(t: Twin, batch: int, f: int) -> int:
    size = t.call["input"].shape[1]
    taps = [(t.at("input", (batch, c)), t.at("weights_feature", (f, c))) for c in range(size)]
    dot = sum_products(t, taps, zero_point(t.call["input"]), 0, None)
    return _finish(t, dot, "input", "weights_feature", t.call["state"])


def _finish(t: Twin, acc: int, first: str, second: str, result: Tensor) -> int:
    by = effective(t, scale(t.call[first]), scale(t.call[second]), scale(result))
    return run_stages(t, t.policy.requantize, acc, by, zero_point(result), storage(result))
