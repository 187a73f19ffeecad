"""Batches spread over the phases of a block of pixels (clause O-batch_to_space_nd).

Source: tflite/kernels/batch_to_space_nd.cc ResizeOutputTensor;
tflite/kernels/internal/reference/batch_to_space_nd.h BatchToSpaceND.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import block_shape, check_same_parameters, pairs
from qinterp.ops._operator import Move, Operator

BATCH_TO_SPACE_ND = Operator("batch_to_space_nd", ("input", "block_shape", "crops"))


@BATCH_TO_SPACE_ND.reads_tflite("BATCH_TO_SPACE_ND", "BatchToSpaceNDOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@BATCH_TO_SPACE_ND.infers
def shapes(call: Call) -> list[Shape]:
    """Batch, as many spatial dimensions as there are blocks, cropped; anything."""
    blocks = block_shape(call)
    shape = call["input"].shape
    phases = math.prod(blocks)
    call.check(shape[0] % phases == 0, f"a batch of {shape[0]} is no multiple of {phases}")
    sizes = [size * block for size, block in zip(shape[1:], blocks, strict=False)]
    crops = pairs(call, "crops", len(blocks))
    for size, crop in zip(sizes, crops, strict=True):
        call.check(sum(crop) <= size, f"crops {crop} exceed a dimension of {size}")
    inner = (size - sum(crop) for size, crop in zip(sizes, crops, strict=True))
    return [(shape[0] // phases, *inner, *shape[1 + len(blocks) :])]


@BATCH_TO_SPACE_ND.moves
def move(call: Call) -> Move:
    """The slow part of the batch is the phase in the block, the fast one the new batch."""
    check_same_parameters(call, [call["input"], call.output])
    blocks = block_shape(call)
    count = len(blocks)
    batch = call.output.shape[0]
    _, *rest = call["input"].shape
    tail = rest[count:]
    order = [count]
    for axis in range(count):
        order += [count + 1 + axis, axis]
    order += range(2 * count + 1, 2 * count + 1 + len(tail))
    sizes = [size * block for size, block in zip(rest, blocks, strict=False)]
    crops = pairs(call, "crops", count)
    kept = (
        slice(None),
        *(slice(before, size - after) for size, (before, after) in zip(sizes, crops, strict=True)),
    )

    def spread(values: Sequence[Any], fill: Any) -> list[Array]:
        apart = values[0].reshape([*blocks, batch, *rest])
        return [apart.transpose(order).reshape([batch, *sizes, *tail])[kept]]

    return spread
