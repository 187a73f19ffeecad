"""Twin of fully_connected."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from qinterp.twin._accumulate import accumulate, bias_of, finish, weight_zero_point
from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Twin, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("fully_connected", "accumulate")
def fully_connected(t: Twin, output: int, index: Index) -> int:
    """One output: a row of the input times a row of the weights."""
    unit = index[-1]
    bias = bias_of(t, unit)
    acc = accumulate(
        t,
        list(_pairs(t, index)),
        zero_point(t.call["input"]),
        weight_zero_point(t, "weights", unit),
        bias,
    )
    return finish(t, acc, t.call["input"], t.call["weights"], unit, index)


@twin("fully_connected", "float32")
def fully_connected_float(t: Twin, output: int, index: Index) -> float:
    """One output, every operation rounded to float32."""
    total = Fraction(0)
    for x, w in _pairs(t, index):
        total = float_of(total + float_of(Fraction(x) * Fraction(w), 32), 32)
    if t.call.get("bias"):
        total = float_of(total + Fraction(t.at("bias", (index[-1],))), 32)
    return clamp_float(t, total)


def _pairs(t: Twin, index: Index) -> list[tuple[Any, Any]]:
    length = t.call["weights"].shape[1]
    row = 0
    for i, size in zip(index[:-1], t.call.output.shape[:-1], strict=True):
        row = row * size + i
    flat = t.shared("input", lambda: t.values[0].reshape(-1).tolist())  # type: ignore[union-attr]
    return [(flat[row * length + k], t.at("weights", (index[-1], k))) for k in range(length)]
