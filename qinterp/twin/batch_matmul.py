"""Twin of batch_matmul."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from qinterp.twin._accumulate import accumulate, finish, weight_zero_point
from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Twin, twin, zero_point


@twin("batch_matmul", "accumulate")
def batch_matmul(t: Twin, output: int, index: Index) -> int:
    """A row times a column."""
    raw = t.call.output.dtype == "int32"
    x_zero = 0 if raw else zero_point(t.call["x"])
    y_zero = 0 if raw else weight_zero_point(t, "y", 0)
    acc = accumulate(t, _pairs(t, index), x_zero, y_zero, None)
    return acc if raw else finish(t, acc, t.call["x"], t.call["y"], 0, index)


@twin("batch_matmul", "float32")
def batch_matmul_float(t: Twin, output: int, index: Index) -> float:
    """A row times a column, every operation rounded to float32."""
    total = Fraction(0)
    for x, y in _pairs(t, index):
        total = float_of(total + float_of(Fraction(x) * Fraction(y), 32), 32)
    return float(total)


def _pairs(t: Twin, index: Index) -> list[tuple[Any, Any]]:
    *batch, row, column = index
    adj_x, adj_y = t.call.attributes["adj_x"], t.call.attributes["adj_y"]
    first, second = (_batch(t, operand, batch) for operand in ("x", "y"))
    depth = t.call["x"].shape[-2 if adj_x else -1]
    return [
        (
            t.at("x", (*first, k, row) if adj_x else (*first, row, k)),
            t.at("y", (*second, column, k) if adj_y else (*second, k, column)),
        )
        for k in range(depth)
    ]


def _batch(t: Twin, operand: str, batch: list[int]) -> list[int]:
    sizes = t.call[operand].shape[:-2]
    own = batch[len(batch) - len(sizes) :]
    return [0 if size == 1 else i for i, size in zip(own, sizes, strict=True)]
