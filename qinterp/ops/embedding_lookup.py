"""Rows of a table, picked by index, dequantized where the output is real (O-embedding_lookup).

Source: tflite/kernels/embedding_lookup.cc EvalSimple, EvalHybrid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import check_indices, check_same_parameters
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run

EMBEDDING_LOOKUP = Operator("embedding_lookup", ("indices", "table"))


@EMBEDDING_LOOKUP.reads_tflite("EMBEDDING_LOOKUP")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@EMBEDDING_LOOKUP.infers
def shapes(call: Call) -> list[Shape]:
    """A row for every index."""
    (count,) = call.rank("indices", 1)
    table = call["table"]
    call.check(len(table.shape) >= 2, f"{table.describe()} must have at least two dimensions")
    return [(count, *table.shape[1:])]


@EMBEDDING_LOOKUP.recipe("lookup", family=ANY_FAMILY)
def lookup(call: Call) -> Run:
    """Codes as they are, or ``code * scale`` in float32."""
    call.types(indices=("int32",))
    table = call["table"]
    check = check_indices(call, "indices", table.shape[0])
    if not (call.output.dtype == "float32" and table.dtype != "float32"):
        check_same_parameters(call, [table, call.output])

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            check(values[0])
            return [values[1][values[0]]]

        return run

    call.types(table=("int8", "int4"))
    if table.dtype == "int4" and math.prod(table.shape[1:]) % 2:
        call.unsupported(f"rows of {table.describe()} must fill whole bytes")
    scales = row_scales(call)

    def dequantize(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        indices, codes = values
        check(indices)
        return [codes[indices].astype(np.float32) * scales[indices]]

    return dequantize


def row_scales(call: Call) -> Array:
    """The scale of every row, in a shape that broadcasts to the table."""
    table = call["table"]
    q = call.quantization(table)
    if q.zero_point.any():
        call.unsupported(f"table {table.describe()} must have zero points of 0")
    if q.scale.size > 1 and (q.axis != 0 or q.scale.size != table.shape[0]):
        call.unsupported(f"table {table.describe()} must have one scale, or one a row")
    scales: Array = np.broadcast_to(q.scale, table.shape[:1])
    return scales.reshape(-1, *(1 for _ in table.shape[1:]))
