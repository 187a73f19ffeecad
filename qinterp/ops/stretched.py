"""Images resized by a float32 factor an axis (clause O-stretched).

What the file says of corners and pixel centres does not matter.

Sources: glow lib/Backends/Interpreter/InterpreterNodes.cpp fwdResizeBilinearInstImpl,
fwdResizeNearestInstImpl; glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_resizebilinear_generic,
libjit_resizenearest_generic; glow lib/Graph/Graph.cpp createResizeBilinear; glow lib/Importer/
TFLiteModelLoader.cpp loadResizeBilinear (the options are ignored).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._operator import Notes, Run
from qinterp.ops._resize import image_sizes
from qinterp.ops.fused_quantize import multiply_add
from qinterp.ops.resize_bilinear import RESIZE_BILINEAR
from qinterp.ops.resize_nearest_neighbor import RESIZE_NEAREST_NEIGHBOR

CODES = ("int8", "uint8")


@dataclass(frozen=True)
class Stretched:
    """Codes interpolated in float32, the fraction cut off.

    Attributes
    ----------
    fused : each interpolation is one multiplication and addition, rounded once, and positions are
        products with the reciprocal of the factor.
    """

    fused: bool = False


def _positions(
    sizes: tuple[int, int], *, fused: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """First and second pixel, and how far each output is from the first."""
    size, out = sizes
    factor = np.float32(out) / np.float32(size)
    index = np.arange(out).astype(np.float32)
    position = index * (np.float32(1) / factor) if fused else index / factor
    first = position.astype(np.int64)
    last = size - 1
    fraction = position - first.astype(np.float32)
    return np.minimum(first, last), np.minimum(first + 1, last), fraction


@RESIZE_BILINEAR.recipe("stretched", Stretched)
def bilinear(call: Call) -> Run:
    """Between four pixels, first down and then across."""
    call.types(input=CODES, output=(call["input"].dtype,))
    params: Stretched = call.params
    (top, bottom, down), (left, right, across) = (
        _positions(sizes, fused=params.fused) for sizes in image_sizes(call)
    )
    down, across = down[:, None, None], across[None, :, None]
    kind = call.output.int_type
    dtype = call.output.numpy_dtype

    def between(a: Any, b: Any, fraction: Any) -> Any:
        if params.fused:
            return multiply_add(b - a, fraction, a)
        return a + (b - a) * fraction

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0].astype(np.float32)
        upper, lower = x[:, top], x[:, bottom]
        first = between(upper[:, :, left], lower[:, :, left], down)
        second = between(upper[:, :, right], lower[:, :, right], down)
        codes = np.trunc(between(first, second, across))
        return [np.clip(codes, kind.min, kind.max).astype(dtype)]

    return run


@RESIZE_NEAREST_NEIGHBOR.recipe("stretched", Stretched)
def nearest(call: Call) -> Run:
    """The pixel before the position."""
    params: Stretched = call.params
    rows, columns = (_positions(sizes, fused=params.fused)[0] for sizes in image_sizes(call))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.ascontiguousarray(values[0][:, rows][:, :, columns])]

    return run
