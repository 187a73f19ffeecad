"""Twin of svdf."""

from __future__ import annotations

from qinterp.ir import Tensor
from qinterp.twin._accumulate import accumulate as sum_products
from qinterp.twin._arithmetic import effective, fitted, run_stages, storage
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("svdf", "accumulate")
def svdf(t: Twin, output: int, index: Index) -> int:
    """One unit of the output: a window of states of its filters, the newest from this input."""
    batch, unit = index
    rank = t.call.attributes["rank"]
    filters, memory = t.call["weights_time"].shape
    total = 0
    for f in range(unit * rank, unit * rank + rank):
        for m in range(memory):
            if m == memory - 1:
                state = t.shared(("state", batch, f), lambda f=f: _newest(t, batch, f))
            else:
                state = t.at("state", (batch, f * memory + m + 1))
            total += state * t.at("weights_time", (f, m))
    t.say("sum of time products", total)
    if t.call.get("bias"):
        total += t.at("bias", (unit,))
    acc = t.policy.accumulator
    total = fitted(total, acc.bits, acc.overflow)
    t.say("accumulator", total)
    return _finish(t, total, "state", "weights_time", t.call.output)


def _newest(t: Twin, batch: int, f: int) -> int:
    size = t.call["input"].shape[1]
    taps = [(t.at("input", (batch, c)), t.at("weights_feature", (f, c))) for c in range(size)]
    dot = sum_products(t, taps, zero_point(t.call["input"]), 0, None)
    return _finish(t, dot, "input", "weights_feature", t.call["state"])


def _finish(t: Twin, acc: int, first: str, second: str, result: Tensor) -> int:
    by = effective(t, scale(t.call[first]), scale(t.call[second]), scale(result))
    return run_stages(t, t.policy.requantize, acc, by, zero_point(result), storage(result))
