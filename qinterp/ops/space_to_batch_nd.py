"""Pixels of every phase of a block in a batch of their own (clause O-space_to_batch_nd).

Source: tflite/kernels/space_to_batch_nd.cc ResizeOutputTensor;
tflite/kernels/internal/reference/space_to_batch_nd.h SpaceToBatchND.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import block_shape, check_same_parameters, pairs
from qinterp.ops._operator import Move, Operator

SPACE_TO_BATCH_ND = Operator("space_to_batch_nd", ("input", "block_shape", "paddings"))


@SPACE_TO_BATCH_ND.reads_tflite("SPACE_TO_BATCH_ND", "SpaceToBatchNDOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@SPACE_TO_BATCH_ND.infers
def shapes(call: Call) -> list[Shape]:
    """Batch, as many padded spatial dimensions as there are blocks, anything."""
    blocks = block_shape(call)
    padded = _padded(call, blocks)
    for size, block in zip(padded, blocks, strict=True):
        call.check(size % block == 0, f"a padded dimension of {size} is no multiple of {block}")
    shape = call["input"].shape
    inner = (size // block for size, block in zip(padded, blocks, strict=True))
    return [(shape[0] * math.prod(blocks), *inner, *shape[1 + len(blocks) :])]


@SPACE_TO_BATCH_ND.moves
def move(call: Call) -> Move:
    """The phase in the block is the slow part of the new batch, the old batch the fast one."""
    check_same_parameters(call, [call["input"], call.output])
    blocks = block_shape(call)
    count = len(blocks)
    batch, *rest = call["input"].shape
    padded = _padded(call, blocks)
    borders = pairs(call, "paddings", count)
    inside = (
        slice(None),
        *(slice(b, b + size) for size, (b, _) in zip(rest, borders, strict=False)),
    )
    tail = rest[count:]
    apart = [batch]
    for size, block in zip(padded, blocks, strict=True):
        apart += [size // block, block]
    order = [
        *range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2),
        *range(2 * count + 1, 2 * count + 1 + len(tail)),
    ]  # fmt: skip
    shape = call.output.shape

    def gather(values: Sequence[Any], fill: Any) -> list[Array]:
        x = values[0]
        whole = np.full((batch, *padded, *tail), fill, x.dtype)
        whole[inside] = x
        return [whole.reshape([*apart, *tail]).transpose(order).reshape(shape)]

    return gather


def _padded(call: Call, blocks: Sequence[int]) -> list[int]:
    borders = pairs(call, "paddings", len(blocks))
    shape = call["input"].shape[1 : 1 + len(blocks)]
    return [before + size + after for size, (before, after) in zip(shape, borders, strict=True)]
