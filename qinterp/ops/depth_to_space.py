"""Channels spread over blocks of pixels (clause O-depth_to_space).

Source: tflite/kernels/depth_to_space.cc Prepare;
tflite/kernels/internal/reference/depth_to_space.h DepthToSpace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import check_same_type
from qinterp.ops._operator import Move, Operator

DEPTH_TO_SPACE = Operator("depth_to_space", ("input",), {"block_size": 1})


@DEPTH_TO_SPACE.reads_tflite("DEPTH_TO_SPACE", "DepthToSpaceOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a DEPTH_TO_SPACE."""
    return {"block_size": options.block_size}


@DEPTH_TO_SPACE.infers
def shapes(call: Call) -> list[Shape]:
    """NHWC; the channels must divide into the block's pixels."""
    n, h, w, c = call.rank("input", 4)
    block = call.attributes["block_size"]
    call.check(
        block > 0 and c % (block * block) == 0,
        f"{c} channels do not divide into blocks of {block} by {block}",
    )
    return [(n, h * block, w * block, c // (block * block))]


@DEPTH_TO_SPACE.moves
def move(call: Call) -> Move:
    """The channels of a pixel are rows, columns and depth of a block."""
    check_same_type(call, [call["input"], call.output])
    n, h, w, _ = call["input"].shape
    block, depth = call.attributes["block_size"], call.output.shape[3]
    apart = (n, h, w, block, block, depth)
    shape = call.output.shape
    return lambda values, fill: [
        values[0].reshape(apart).transpose(0, 1, 3, 2, 4, 5).reshape(shape)
    ]
