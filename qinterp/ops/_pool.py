"""What pools share: attributes, shapes, and the taps of a window that lie in the image.

Source: tflite/kernels/pooling.cc GenericPrepare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._accumulate import check_activation
from qinterp.ops._folds import Fold, Sums
from qinterp.ops._operator import Operator
from qinterp.ops._windows import Pair, window


def pool(kind: str, builtin: str) -> Operator:
    """Declare a pool over windows of an NHWC image, with its TFLite form."""
    operator = Operator(
        kind,
        ("input",),
        {"filter": (1, 1), "strides": (1, 1), "padding": "valid", "activation": "none"},
    )

    @operator.reads_tflite(builtin, "Pool2DOptions")
    def from_tflite(options: Any) -> Mapping[str, Any]:
        return {
            "filter": (options.filter_height, options.filter_width),
            "strides": (options.stride_h, options.stride_w),
            "padding": options.enum("padding"),
            "activation": options.enum("fused_activation_function"),
        }

    @operator.infers
    def shapes(call: Call) -> list[Shape]:
        n, _, _, c = call.rank("input", 4)
        check_activation(call)
        windows = Windows.of(call)
        for axis in (windows.height, windows.width):
            call.check(
                bool((axis.counts > 0).all()),
                f"a window of {call.attributes['filter']} lies wholly in the padding",
            )
        return [(n, *windows.size, c)]

    return operator


@dataclass(frozen=True)
class Axis:
    """Windows along one axis: output ``o`` covers ``o * stride - before`` and on, ``taps`` long.

    Taps that no window has in the image are left out, however long the window is.
    """

    image: int
    size: int
    stride: int
    before: int
    taps: int

    @classmethod
    def of(cls, image: int, size: int, stride: int, before: int, length: int) -> Axis:
        """The axis with useless taps trimmed at both ends of the window."""
        first = max(0, before - (size - 1) * stride)
        last = min(length, image + before)
        return cls(image, size, stride, before - first, max(last - first, 0))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many taps each output has in the image."""
        start = np.arange(self.size, dtype=np.int64) * self.stride - self.before
        inside = np.minimum(start + self.taps, self.image) - np.maximum(start, 0)
        counts: npt.NDArray[np.int64] = np.maximum(inside, 0)
        return counts

    @property
    def pairs(self) -> npt.NDArray[np.int64]:
        """(size, 2): the first tap of each output in the image, and how many there are."""
        start = np.arange(self.size, dtype=np.int64) * self.stride - self.before
        return np.stack([np.maximum(start, 0), self.counts], axis=1)

    def fold(self, combine: Callable[[Array, Array], Array], x: Array, out: Array) -> None:
        """``out[o] = combine(out[o], x[tap])`` over the taps in order, along the first axis."""
        for tap in range(self.taps):
            low = max(0, -(-(self.before - tap) // self.stride))
            high = min(self.size, (self.image - 1 + self.before - tap) // self.stride + 1)
            if low < high:
                at = low * self.stride - self.before + tap
                source = x[at : at + (high - low - 1) * self.stride + 1 : self.stride]
                out[low:high] = combine(out[low:high], source)


@dataclass(frozen=True)
class Windows:
    """The windows of a pool."""

    height: Axis
    width: Axis

    @classmethod
    def of(cls, call: Call) -> Windows:
        """The windows of a call."""
        _, h, w, _ = call["input"].shape
        kernel, strides = call.attributes["filter"], call.attributes["strides"]
        size, before = window(call, (h, w), kernel, strides)
        return cls(
            Axis.of(h, size[0], strides[0], before[0], kernel[0]),
            Axis.of(w, size[1], strides[1], before[1], kernel[1]),
        )

    @property
    def strides(self) -> Pair:
        """Of height and width."""
        return self.height.stride, self.width.stride

    @property
    def padding(self) -> Pair:
        """Padding at the top and the left of the trimmed window."""
        return self.height.before, self.width.before

    @property
    def size(self) -> Pair:
        """Output height and width."""
        return self.height.size, self.width.size

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Taps in the image, (output height, output width)."""
        return np.multiply.outer(self.height.counts, self.width.counts)

    def fold(self, combine: Callable[[Array, Array], Array], x: Array, start: Any) -> Array:
        """``combine`` over the elements of each window, from ``start``: rows, then columns."""
        n, h, _, c = x.shape
        rows = np.full((self.width.size, n, h, c), start)
        self.width.fold(combine, x.transpose(2, 0, 1, 3), rows)
        out = np.full((self.height.size, n, self.width.size, c), start)
        self.height.fold(combine, rows.transpose(2, 1, 0, 3), out)
        return np.ascontiguousarray(out.transpose(1, 0, 2, 3))

    def as_fold(self, call: Call) -> Fold | None:
        """The windows as a fold of a kernel."""
        _, h, w, c = call["input"].shape
        if 0 in call["input"].shape or 0 in self.size:
            return None
        return Fold((h, w, c), self.height.pairs, self.width.pairs, lambda x: x)

    def sums(self, call: Call, zero_point: int, accumulator: Any) -> Sums:
        """Sums of the codes less the zero point."""

        def plain(x: Array) -> tuple[Array, bool]:
            n, _, _, c = x.shape
            if x.size == 0:
                return np.zeros((n, *self.size, c), np.int32), False
            ones = np.ones((self.height.taps, self.width.taps, c), np.int8)
            return _kernels.depthwise_conv_2d(
                x, ones, None, zero_point, np.zeros(c, np.int64), self.strides, (1, 1),
                self.padding, self.size, accumulator,
            )  # fmt: skip

        return Sums(call, self.as_fold(call), plain, zero_point, accumulator)

    def float_sums(self, x: Array) -> Array:
        """Sums in float32, row by row."""
        n, _, _, c = x.shape
        if x.size == 0:
            return np.zeros((n, *self.size, c), np.float32)
        ones = np.ones((self.height.taps, self.width.taps, c), np.float32)
        return _kernels.depthwise_conv_2d_float32(
            x, ones, None, self.strides, (1, 1), self.padding, self.size
        )
