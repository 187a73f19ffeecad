"""Rows of a table, picked by index, dequantized where the output is real (O-embedding_lookup).

Source: tflite/kernels/embedding_lookup.cc EvalSimple, EvalHybrid; tensorflow/lite/micro/kernels/
embedding_lookup.cc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True)
class Lookup:
    """How a table on several scales is dequantized.

    Attributes
    ----------
    scales : each row by its own, or all by that of the first row.
    """

    scales: Literal["own", "first"] = "own"


@EMBEDDING_LOOKUP.recipe("lookup", Lookup, family=ANY_FAMILY)
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

    call.types(table=("int8", "uint8", "int4"))
    scales = row_scales(call)
    where = flat_places(call)

    def dequantize(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        indices, codes = values
        check(indices)
        # the kernel reads the bytes of uint8 codes as int8
        rows = codes.view(np.int8).reshape(-1)[where[indices]]
        return [rows.astype(np.float32) * scales[indices]]

    return dequantize


def flat_places(call: Call) -> Array:
    """Where the elements of each row stand in the table, as the kernel finds them.

    A row of int4 codes is read from the byte in which it starts: where an odd number of codes
    makes it start with the high nibble, the kernel takes the low one too.
    """
    table = call["table"]
    rows = table.shape[0]
    columns = math.prod(table.shape[1:])
    starts = np.arange(rows) * columns
    if table.dtype == "int4":
        starts = starts // 2 * 2
    places: Array = (starts[:, None] + np.arange(columns)).reshape(table.shape)
    return places


def row_scales(call: Call) -> Array:
    """The scale of every row, in a shape that broadcasts to the table."""
    table = call["table"]
    q = call.quantization(table)
    if q.zero_point.any():
        call.unsupported(f"table {table.describe()} must have zero points of 0")
    if q.scale.size > 1 and (q.axis != 0 or q.scale.size != table.shape[0]):
        call.unsupported(f"table {table.describe()} must have one scale, or one a row")
    scale = q.scale[:1] if call.params.scales == "first" else q.scale
    scales: Array = np.broadcast_to(scale, table.shape[:1])
    return scales.reshape(-1, *(1 for _ in table.shape[1:]))
