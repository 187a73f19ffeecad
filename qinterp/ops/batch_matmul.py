"""Matrix products over batches that broadcast (clause O-batch_matmul).

Source: tflite/kernels/batch_matmul.cc; tflite/kernels/internal/reference/batch_matmul.h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._accumulate import INTEGERS, accumulated, requantizer, weight_zero_points
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run

BATCH_MATMUL = Operator("batch_matmul", ("x", "y"), {"adj_x": False, "adj_y": False})


@BATCH_MATMUL.reads_tflite("BATCH_MATMUL", "BatchMatMulOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a BATCH_MATMUL."""
    return {"adj_x": bool(options.adj_x), "adj_y": bool(options.adj_y)}


@BATCH_MATMUL.infers
def shapes(call: Call) -> list[Shape]:
    """Matrices in the last two dimensions, adjoined on demand; the others broadcast."""
    x, y = call["x"].shape, call["y"].shape
    call.check(
        len(x) >= 2 and len(y) >= 2,
        f"{call['x'].describe()} and {call['y'].describe()} must have rank 2 or more",
    )
    rows, depth = x[-2:][::-1] if call.attributes["adj_x"] else x[-2:]
    length, columns = y[-2:][::-1] if call.attributes["adj_y"] else y[-2:]
    call.check(depth == length, f"rows of {depth} elements meet columns of {length}")
    try:
        batches = np.broadcast_shapes(x[:-2], y[:-2])
    except ValueError:
        call.malformed(f"batches {list(x[:-2])} and {list(y[:-2])} do not broadcast")
    return [(*batches, rows, columns)]


@BATCH_MATMUL.recipe("accumulate", family=ANY_FAMILY)
def accumulate(call: Call) -> Run:
    """Sum of products in the policy's accumulator, then its requantization.

    An int32 output takes the accumulators of the raw codes as they are.
    """
    call.types(x=INTEGERS, y=INTEGERS, output=(*INTEGERS, "int32"))
    raw = call.output.dtype == "int32"
    columns = call.output.shape[-1]
    x_zero_point = 0 if raw else call.per_tensor(call["x"])[1]
    zero_points = np.zeros(columns, np.int64)
    if not raw:
        zero_points = weight_zero_points(call, call["y"], columns)
    accumulator = call.policy.accumulator.codes
    finish = None if raw else requantizer(call, call["x"], call["y"], 1)

    def multiply(a: Array, b: Array) -> tuple[Array, bool]:
        return _kernels.matmul(a, b, None, x_zero_point, zero_points, accumulator)

    product = _batches(call, multiply)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc = product(values[0], values[1])
        return [finish(acc, notes) if finish else accumulated(call, acc, notes)]

    return run


@BATCH_MATMUL.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Products added one after the other in float32."""
    call.types(x=("float32",), y=("float32",), output=("float32",))
    product = _batches(call, lambda a, b: (_kernels.matmul_float32(a, b, None), False))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [product(values[0], values[1])[0]]

    return run


Product = Callable[[Array, Array], tuple[Array, bool]]


def _batches(call: Call, multiply: Product) -> Product:
    """The products of all batches, from that of (M, K) and (N, K)."""
    *batches, m, n = call.output.shape
    k = call["x"].shape[-2 if call.attributes["adj_x"] else -1]
    count = math.prod(batches)
    adj_x, adj_y = call.attributes["adj_x"], call.attributes["adj_y"]
    one_y = math.prod(call["y"].shape[:-2]) == 1

    def product(x: Array, y: Array) -> tuple[Array, bool]:
        x = x.swapaxes(-1, -2) if adj_x else x
        y = y if adj_y else y.swapaxes(-1, -2)
        if one_y:  # then the rows of all batches are those of one matrix
            rows = np.broadcast_to(x, (*batches, m, k)).reshape(-1, k)
            acc, overflowed = multiply(rows, y.reshape(n, k))
            return acc.reshape(call.output.shape), overflowed
        xs = np.broadcast_to(x, (*batches, m, k)).reshape(count, m, k)
        ys = np.broadcast_to(y, (*batches, n, k)).reshape(count, n, k)
        parts = [multiply(a, b) for a, b in zip(xs, ys, strict=True)]
        if not parts:
            parts = [multiply(np.zeros((0, k), x.dtype), np.zeros((n, k), y.dtype))]
        acc = np.concatenate([part for part, _ in parts]).reshape(call.output.shape)
        return acc, any(overflowed for _, overflowed in parts)

    return product
