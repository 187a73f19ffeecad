"""Slices of a tensor, picked by index (clause O-gather).

Source: tflite/kernels/gather.cc Prepare; tflite/kernels/internal/reference/gather.h Gather.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import axis_of, check_indices, check_same_type
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run

GATHER = Operator("gather", ("input", "indices"), {"axis": 0, "batch_dims": 0})


@GATHER.reads_tflite("GATHER", "GatherOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a GATHER."""
    return {"axis": options.axis, "batch_dims": options.batch_dims}


@GATHER.infers
def shapes(call: Call) -> list[Shape]:
    """The axis becomes the shape of the indices without their batch dimensions."""
    shape, indices = call["input"].shape, call["indices"].shape
    axis, batch_dims = _dimensions(call)
    call.check(
        0 <= batch_dims <= min(axis, len(indices)) and shape[:batch_dims] == indices[:batch_dims],
        f"{call['indices'].describe()} does not share {batch_dims} batch dimensions before axis "
        f"{axis} with {call['input'].describe()}",
    )
    return [(*shape[:axis], *indices[batch_dims:], *shape[axis + 1 :])]


@GATHER.recipe("gather", family=ANY_FAMILY)
def gather(call: Call) -> Run:
    """A copy of every slice that is named."""
    call.types(indices=("int16", "int32", "int64"))
    check_same_type(call, [call["input"], call.output])
    shape = call["input"].shape
    axis, batch_dims = _dimensions(call)
    check = check_indices(call, "indices", shape[axis])
    batch, outer = math.prod(shape[:batch_dims]), math.prod(shape[batch_dims:axis])
    inner = math.prod(shape[axis + 1 :])
    if call["input"].dtype == "int4" and inner % 2:
        call.unsupported(f"slices of {call['input'].describe()} must fill whole bytes")
    apart = (batch, outer, shape[axis], inner)
    count = math.prod(call["indices"].shape[batch_dims:])
    rows = np.arange(batch)[:, None]
    result = call.output.shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x, indices = values
        check(indices)
        picked = x.reshape(apart)[rows, :, indices.reshape(batch, count)]
        return [picked.transpose(0, 2, 1, 3).reshape(result)]

    return run


def _dimensions(call: Call) -> tuple[int, int]:
    """The axis and the number of batch dimensions, counted from the front."""
    axis = axis_of(call, call.attributes["axis"], len(call["input"].shape))
    batch_dims: int = call.attributes["batch_dims"]
    return axis, batch_dims + len(call["indices"].shape) if batch_dims < 0 else batch_dims
