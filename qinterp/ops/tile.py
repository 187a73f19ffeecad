"""A tensor repeated along its axes (clause O-tile).

Source: tflite/kernels/tile.cc MultiplyShapeDims, TileOneDimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import check_same_type, one_per_dimension
from qinterp.ops._operator import Move, Operator

TILE = Operator("tile", ("input", "multiples"))


@TILE.reads_tflite("TILE", "TileOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@TILE.infers
def shapes(call: Call) -> list[Shape]:
    """Every dimension times its multiple."""
    multiples = one_per_dimension(call, "multiples")
    call.check(min(multiples, default=0) >= 0, f"multiples {multiples} must not be negative")
    return [tuple(d * m for d, m in zip(call["input"].shape, multiples, strict=True))]


@TILE.moves
def move(call: Call) -> Move:
    """Copies side by side."""
    check_same_type(call, [call["input"], call.output])
    multiples = one_per_dimension(call, "multiples")
    return lambda values, fill: [np.tile(values[0], multiples)]
