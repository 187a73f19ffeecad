"""A border of mirrored elements (clause O-mirror_pad).

Source: tflite/kernels/mirror_pad.cc GetInputDimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import check_same_parameters, pairs
from qinterp.ops._operator import Move, Operator

MIRROR_PAD = Operator("mirror_pad", ("input", "paddings"), {"mode": "reflect"})


@MIRROR_PAD.reads_tflite("MIRROR_PAD", "MirrorPadOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """The mirror stands on the last element ("reflect") or behind it ("symmetric")."""
    return {"mode": options.enum("mode")}


@MIRROR_PAD.infers
def shapes(call: Call) -> list[Shape]:
    """Every dimension grows by its pair of paddings, at most by what there is to mirror."""
    mode = call.attributes["mode"]
    call.check(mode in ("reflect", "symmetric"), f"mode {mode!r} is not reflect or symmetric")
    shape = call["input"].shape
    borders = pairs(call, "paddings", len(shape))
    for size, pair in zip(shape, borders, strict=True):
        most = size - (mode == "reflect")
        call.check(max(pair) <= most, f"paddings {pair} exceed the {most} elements to mirror")
    return [tuple(before + d + after for d, (before, after) in zip(shape, borders, strict=True))]


@MIRROR_PAD.moves
def move(call: Call) -> Move:
    """Along every axis: the start reversed, the input, the end reversed."""
    check_same_parameters(call, [call["input"], call.output])
    shape = call["input"].shape
    borders = pairs(call, "paddings", len(shape))
    skip = int(call.attributes["mode"] == "reflect")
    sources = []
    for size, (before, after) in zip(shape, borders, strict=True):
        start = np.arange(before)[::-1] + skip
        end = size - 1 - skip - np.arange(after)
        sources.append(np.concatenate([start, np.arange(size), end]).astype(np.intp))
    grid = np.ix_(*sources)

    def mirror(values: Sequence[Any], fill: Any) -> list[Array]:
        return [values[0][*grid, ...]]

    return mirror
