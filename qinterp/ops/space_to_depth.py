"""Blocks of pixels gathered into channels (clause O-space_to_depth).

Source: tflite/kernels/space_to_depth.cc Prepare;
tflite/kernels/internal/reference/space_to_depth.h SpaceToDepth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import check_same_type
from qinterp.ops._operator import Move, Operator

SPACE_TO_DEPTH = Operator("space_to_depth", ("input",), {"block_size": 1})


@SPACE_TO_DEPTH.reads_tflite("SPACE_TO_DEPTH", "SpaceToDepthOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a SPACE_TO_DEPTH."""
    return {"block_size": options.block_size}


@SPACE_TO_DEPTH.infers
def shapes(call: Call) -> list[Shape]:
    """NHWC; height and width must divide into blocks."""
    n, h, w, c = call.rank("input", 4)
    block = call.attributes["block_size"]
    call.check(
        block > 0 and h % block == 0 and w % block == 0,
        f"{call['input'].describe()} does not divide into blocks of {block} by {block}",
    )
    return [(n, h // block, w // block, c * block * block)]


@SPACE_TO_DEPTH.moves
def move(call: Call) -> Move:
    """Rows, columns and depth of a block are the channels of a pixel."""
    check_same_type(call, [call["input"], call.output])
    n, h, w, _ = call.output.shape
    block, depth = call.attributes["block_size"], call["input"].shape[3]
    apart = (n, h, block, w, block, depth)
    shape = call.output.shape
    return lambda values, fill: [
        values[0].reshape(apart).transpose(0, 1, 3, 2, 4, 5).reshape(shape)
    ]
