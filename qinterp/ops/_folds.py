"""Sums and extrema over windows or axes, prepared once.

A sum is taken in any order where no order can overflow; else a kernel takes it in the policy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer
from qinterp.ops._accumulate import INTEGERS, accumulated
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._fused import fuse
from qinterp.ops._operator import KernelRun, Notes, Run

Arrange = Callable[[Array], Array]
Plain = Callable[[Array], tuple[Array, bool]]


class Fold:
    """A kernel over the windows of an image, and how a tensor is taken to be one.

    Parameters
    ----------
    image : (height, width, channels).
    rows, columns : (windows, 2), the first pixel of each and how many.
    arrange : from the tensor to (batch, *image).
    in_order : that moves no element.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        rows: Any,
        columns: Any,
        arrange: Arrange,
        *,
        in_order: bool = True,
    ) -> None:
        self._image, self._rows, self._columns = image, rows, columns
        self.arrange, self.in_order = arrange, in_order

    def task(self, call: Call, kernel: Any, requantizer: Any, dtype: Any) -> Any:
        """What ``kernel`` does as part of a chain, None where elements are moved before it."""
        size = math.prod(call["input"].shape)
        if not self.in_order or not size:
            return None
        return kernel.task(size // math.prod(self._image), requantizer, dtype)

    def kernel(self, folding: int, dtype: Any, **options: Any) -> Any:
        """The kernel, None where it takes no such windows."""
        try:
            return _kernels.Windows(
                folding, dtype, self._image, self._rows, self._columns, **options
            )
        except (ValueError, TypeError):
            return None

    @property
    def most(self) -> int:
        """Elements of the largest window."""
        return int(np.max(self._rows, axis=0)[1]) * int(np.max(self._columns, axis=0)[1])


def fold_axes(shape: Shape, axes: Sequence[int], gather: Arrange) -> Fold | None:
    """Over ``axes`` of a tensor; ``gather`` makes a row of the elements of every output."""
    if 0 in shape:
        return None
    count = math.prod(shape[axis] for axis in axes)
    outputs = math.prod(shape) // count
    reduced = [axis for axis in axes if shape[axis] > 1]
    first, last = (reduced[0], reduced[-1]) if reduced else (0, -1)
    inner = math.prod(shape[last + 1 :])
    if all(axis in axes or shape[axis] == 1 for axis in range(first, last + 1)) and inner > 1:
        image = (count, 1, inner)
        return Fold(image, [(0, count)], [(0, 1)], lambda x: x.reshape(-1, *image))
    rows = np.stack([np.arange(outputs), np.ones(outputs, np.int64)], axis=1)
    image = (outputs, count, 1)
    return Fold(image, rows, [(0, count)], lambda x: gather(x).reshape(1, *image), in_order=False)


class Sums:
    """Sums of codes less a zero point, in the policy's accumulator, in the output's shape.

    Parameters
    ----------
    plain : the sums, in the accumulator's order, and whether one overflowed.
    accumulator : of the kernels.
    dtype : as which the operand's codes are read.
    """

    def __init__(
        self,
        call: Call,
        fold: Fold | None,
        plain: Plain,
        zero_point: int,
        accumulator: Any,
        dtype: Any = None,
    ) -> None:
        self._call = call
        self._plain = plain
        self._fold = fold
        self._read = np.dtype(dtype or call["input"].numpy_dtype)
        self._shape = call.output.shape
        bits, group = accumulator[0], accumulator[6]
        self._sum_type = np.int32 if bits <= 32 else np.int64
        self._kernel: Any = None
        if fold is None or group or self._read.name not in INTEGERS:
            return
        if fold.most << 8 * self._read.itemsize + 1 < 1 << min(bits, 32) - 1:
            self._kernel = fold.kernel(_kernels.Folding.FOLD_SUM, self._read, zero_point=zero_point)

    def __call__(self, x: Array) -> tuple[Array, bool]:
        """The sums, and whether one overflowed."""
        if self._kernel is None or self._fold is None or not x.size:
            total, overflowed = self._plain(x)
            return total.reshape(self._shape), overflowed
        total = self._kernel.fold(self._fold.arrange(x))
        return total.reshape(self._shape).astype(self._sum_type, copy=False), False

    def finished(self, to_code: Requantizer) -> Run:
        """A run of the sums of the first operand, requantized.

        Codes of the output are written in the type in which the operand's are read.
        """
        call, shape, stored = self._call, self._shape, self._read
        kind = call.output.numpy_dtype

        def noted(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            acc = accumulated(call, self(values[0].view(stored)), notes)
            return [apply_stages(to_code, acc, stored).view(kind)]

        kernel, fold = self._kernel, self._fold
        if kernel is None or fold is None or 0 in shape:
            return noted
        fused = fuse(to_code, np.array([kernel.low]), np.array([kernel.high]), stored)
        if fused is None:
            return noted
        folded = (-1, *kernel.shape)

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            if notes.wanted:
                return noted(values, notes)
            out = np.empty(shape, stored)
            x = fold.arrange(values[0].view(stored))
            kernel.requantize_into(x, out.reshape(folded), fused)
            return [out.view(kind)]

        return KernelRun(run, fold.task(call, kernel, fused, stored))


class Extrema:
    """From codes of the operand to the extrema; ``task``: the same for a chain."""

    def __init__(self, call: Call, fold: Fold, kernel: Any) -> None:
        self._arrange, self._kernel, self._shape = fold.arrange, kernel, call.output.shape
        self.task = fold.task(call, kernel, None, call["input"].numpy_dtype)

    def __call__(self, x: Array) -> Array:
        """The extrema, in the output's shape."""
        result: Array = self._kernel.fold(self._arrange(x)).reshape(self._shape)
        return result


def extrema(
    call: Call, fold: Fold | None, greatest: bool, bounds: tuple[int, int]
) -> Extrema | None:
    """From codes of the operand to the extrema, clamped; None where no kernel does it."""
    tensor = call["input"]
    if fold is None or tensor.dtype not in INTEGERS or bounds[0] > bounds[1]:
        return None
    folding = _kernels.Folding.FOLD_MAX if greatest else _kernels.Folding.FOLD_MIN
    kernel = fold.kernel(folding, tensor.numpy_dtype, bounds=bounds)
    if kernel is None:
        return None
    return Extrema(call, fold, kernel)
