"""What is kept of the differences between two tensors, however many samples there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.ir import Quantization, Tensor
from qinterp.ir.tensor import Array

Index = tuple[int, ...]
Signed = npt.NDArray[np.signedinteger[Any]]

EXACT_BINS = 1024
"""Differences up to here have a histogram bin each; larger ones share one a power of two."""


def signed_difference(b: Array, a: Array) -> Signed:
    """``b - a`` in signed steps: LSBs of codes, ULPs of floats; int64, int16 for 8-bit codes.

    Steps of floats are counted along the ordered bit patterns, so that differences add up; every
    NaN is one step beyond infinity. The difference of two 64-bit values is modulo ``2**64``.
    """
    if a.dtype.kind == "f":
        result: Signed = _ordered(b) - _ordered(a)
        return result
    wide = np.int16 if a.dtype.itemsize == 1 else np.int64
    return np.subtract(b, a, dtype=wide, casting="unsafe")


def _ordered(x: Array) -> Signed:
    """Floats as integers in the same order, neighbours one apart, both zeros 0."""
    width = x.dtype.itemsize
    bits = np.ascontiguousarray(x).view(f"i{width}").astype(np.int64)
    magnitude = bits & ((1 << (8 * width - 1)) - 1)
    infinity = int(np.array(np.inf, x.dtype).view(f"i{width}"))
    order = np.where(bits < 0, -magnitude, magnitude)
    result: Signed = np.where(magnitude > infinity, infinity + 1, order)
    return result


@dataclass
class Differences:
    """Differences of one node's outputs, over all samples.

    Attributes
    ----------
    unit : "LSB", or "ULP" for float tensors.
    count, size : elements that differ, elements compared.
    max_lsb : the largest difference in magnitude, in ``unit``.
    max_error : the largest difference in magnitude as a real number.
    tensor, sample, where : of the first element that has the largest difference.
    first_tensor, first_sample, first : of the first element that differs.
    histogram : signed difference to number of elements; beyond ``EXACT_BINS`` the key is the
        power of two at or below the magnitude, with its sign.
    elements : tensor name to its signed differences, an array a sample; only if asked for.
    """

    unit: str = "LSB"
    count: int = 0
    size: int = 0
    max_lsb: int = 0
    max_error: float = 0.0
    tensor: str | None = None
    sample: int | None = None
    where: Index | None = None
    first_tensor: str | None = None
    first_sample: int | None = None
    first: Index | None = None
    histogram: Counter[int] = field(default_factory=Counter)
    elements: dict[str, list[Signed]] = field(default_factory=dict, repr=False)

    @property
    def share(self) -> float:
        """The part of the elements that differ, 0 to 1."""
        return self.count / self.size if self.size else 0.0

    @classmethod
    def of(
        cls, delta: Signed, tensor: Tensor, sample: int, real: Array | None = None
    ) -> Differences:
        """What to keep of the differences of one tensor in one sample.

        Parameters
        ----------
        delta : signed steps, any shape.
        tensor : what it is a difference of.
        real : the same difference in real numbers, for float tensors.
        """
        found = cls(unit="ULP" if tensor.is_float else "LSB", size=delta.size)
        flat = delta.reshape(-1)
        differing = np.flatnonzero(flat)
        if not differing.size:
            return found
        values = flat[differing].astype(np.int64)
        magnitude = np.abs(values).astype(np.uint64)  # of which -2**63 has one, too
        worst = int(differing[np.argmax(magnitude)])
        found.count = differing.size
        found.max_lsb = int(magnitude.max())
        found.tensor = found.first_tensor = tensor.name
        found.sample = found.first_sample = sample
        found.where = _index(worst, delta.shape)
        found.first = _index(int(differing[0]), delta.shape)
        found.histogram = _bins(values)
        if real is not None:
            finite = np.abs(real[np.isfinite(real)])
            found.max_error = float(finite.max(initial=0.0))
        elif tensor.quantization is not None:
            found.max_error = _largest_step(magnitude, differing, delta.shape, tensor)
        else:
            found.max_error = float(found.max_lsb)
        return found

    def add(self, other: Differences) -> None:
        """Take in the differences of another tensor or a later sample."""
        if other.count and not self.count:
            self.unit = other.unit
            self.first_tensor, self.first = other.first_tensor, other.first
            self.first_sample = other.first_sample
        if other.max_lsb > self.max_lsb:
            self.max_lsb = other.max_lsb
            self.tensor, self.sample, self.where = other.tensor, other.sample, other.where
        self.max_error = max(self.max_error, other.max_error)
        self.count += other.count
        self.size += other.size
        self.histogram.update(other.histogram)
        for name, arrays in other.elements.items():
            self.elements.setdefault(name, []).extend(arrays)


def _index(flat: int, shape: Sequence[int]) -> Index:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _bins(values: Signed) -> Counter[int]:
    near = (values >= -EXACT_BINS) & (values <= EXACT_BINS)
    small = values[near]
    counts = np.bincount(small + EXACT_BINS, minlength=2 * EXACT_BINS + 1)
    bins = Counter({int(i) - EXACT_BINS: int(counts[i]) for i in np.flatnonzero(counts)})
    for value in values[~near].tolist():
        bins[int(math.copysign(1, value)) << (abs(value).bit_length() - 1)] += 1
    return bins


def _largest_step(magnitude: Array, flat: Any, shape: Sequence[int], tensor: Tensor) -> float:
    """The largest of the differences times their scales."""
    q = tensor.quantization
    assert q is not None
    if not q.per_channel:
        return float(magnitude.max()) * float(q.scale[0])
    channel = np.unravel_index(flat, shape)[q.axis or 0]
    return float((magnitude * q.scale[channel].astype(np.float64)).max())


def along_axes(q: Quantization, rank: int) -> tuple[Array, Array]:
    """Scales (float64) and zero points, shaped to broadcast to codes of this rank."""
    shape = [1] * rank
    if q.per_channel and q.axis is not None:
        shape[q.axis] = -1
    return q.scale.astype(np.float64).reshape(shape), q.zero_point.reshape(shape)


def real_values(value: Array, tensor: Tensor) -> npt.NDArray[np.float64]:
    """What the codes of ``tensor`` stand for, float64; other values as they are."""
    q = tensor.quantization
    if q is None or value.dtype.kind == "f":
        return value.astype(np.float64)
    scale, zero_point = along_axes(q, value.ndim)
    result: npt.NDArray[np.float64] = (value.astype(np.float64) - zero_point) * scale
    return result


# ---- the effect on an output ----------------------------------------------------------------


@dataclass
class Accuracy:
    """How often a side names the right class.

    Attributes
    ----------
    rows : predictions counted.
    top1, top5 : how many had the label first, and among the first five.
    """

    rows: int = 0
    top1: int = 0
    top5: int = 0

    def count(self, order: Array, labels: Array) -> None:
        """Take in predictions: classes best first, (rows, 5), and what is right, (rows,)."""
        hits = order == labels[:, None]
        self.rows += len(labels)
        self.top1 += int(hits[:, 0].sum())
        self.top5 += int(hits.any(axis=1).sum())


def best_classes(scores: Array) -> Array:
    """The five best classes of each row, best first, (rows, at most 5); of equals the first."""
    rows = scores.reshape(-1, scores.shape[-1]).astype(np.float64)  # codes have no -(-128)
    return np.argsort(-rows, axis=1, kind="stable")[:, :5]


@dataclass
class OutputEffect:
    """What the differences do to one output of the graph, in real numbers; A is the reference.

    Attributes
    ----------
    tensor : its name.
    max_error, mean_error : absolute.
    max_relative_error : of the elements that are not zero in A.
    rows, flips : rows of scores over the last dimension, and those whose largest moved.
    top5_agreement : rows in which A's best class is among B's best five.
    accuracy : by side ("a", "b", and "original", the float model), where labels are known.
    original_agreement : by side, rows with the float original's best class.
    """

    tensor: str
    elements: int = 0
    max_error: float = 0.0
    max_relative_error: float = 0.0
    rows: int = 0
    flips: int = 0
    in_top5: int = 0
    accuracy: dict[str, Accuracy] = field(default_factory=dict)
    original_rows: int = 0
    original_agreement: dict[str, int] = field(default_factory=dict)
    _error: float = 0.0
    _error_squared: float = 0.0
    _reference_squared: float = 0.0

    @property
    def mean_error(self) -> float:
        """Mean absolute error."""
        return self._error / self.elements if self.elements else 0.0

    @property
    def relative_error(self) -> float:
        """Euclidean norm of the error over that of A's output."""
        if not self._error_squared:
            return 0.0
        if not self._reference_squared:
            return math.inf
        return math.sqrt(self._error_squared / self._reference_squared)

    @property
    def sqnr(self) -> float:
        """Signal to quantization-noise ratio in dB; infinite where nothing differs."""
        relative = self.relative_error
        if relative == 0:
            return math.inf
        return -20 * math.log10(relative) if relative < math.inf else -math.inf

    @property
    def top1_agreement(self) -> float | None:
        """The part of the rows with the same best class; None where there are no classes."""
        return 1 - self.flips / self.rows if self.rows else None

    @property
    def top5_agreement(self) -> float | None:
        """The part of the rows in which A's best class is among B's best five."""
        return self.in_top5 / self.rows if self.rows else None

    def accuracy_drop(self, side: str) -> float | None:
        """How much top-1 accuracy ``side`` loses against the float original, 0 to 1."""
        mine, original = self.accuracy.get(side), self.accuracy.get("original")
        if mine is None or original is None or not mine.rows or not original.rows:
            return None
        return original.top1 / original.rows - mine.top1 / mine.rows

    def within_half_percent(self, side: str) -> bool | None:
        """Whether ``side`` loses less than 0.5 % against the float original (pytorch/glow #1837).

        Both in top-1 and in top-5; None without labels and original.
        """
        mine, original = self.accuracy.get(side), self.accuracy.get("original")
        if mine is None or original is None or not mine.rows or not original.rows:
            return None
        # in whole predictions: 0.5 % of a count has no rounding error
        lost = (original.top1 - mine.top1, original.top5 - mine.top5)
        return all(200 * n < original.rows for n in lost)

    @classmethod
    def of(
        cls,
        tensor: Tensor,
        a: Array,
        b: Array,
        labels: Array | None = None,
        original: Array | None = None,
    ) -> OutputEffect:
        """The effect in one sample.

        Parameters
        ----------
        a, b : the output on either side, as codes or floats.
        labels : int, one a row of scores.
        original : the float model's output, of the same shape.
        """
        found = cls(tensor.name)
        x, y = real_values(a, tensor), real_values(b, tensor)
        finite = np.isfinite(x) & np.isfinite(y)
        x_finite, error = x[finite], np.abs(y[finite] - x[finite])
        found.elements = a.size
        found.max_error = float(error.max(initial=0.0))
        found._error = float(error.sum())
        found._error_squared = float((error * error).sum())
        found._reference_squared = float((x_finite * x_finite).sum())
        nonzero = x_finite != 0
        found.max_relative_error = float(
            (error[nonzero] / np.abs(x_finite[nonzero])).max(initial=0.0)
        )
        if a.ndim >= 2 and a.shape[-1] >= 2 and a.size:
            found._count_classes(x, y, labels, original)
        return found

    def _count_classes(
        self, x: Array, y: Array, labels: Array | None, original: Array | None
    ) -> None:
        best = {"a": best_classes(x), "b": best_classes(y)}
        first = best["a"][:, :1]
        self.rows = len(first)
        self.flips = int((best["b"][:, :1] != first).sum())
        self.in_top5 = int((best["b"] == first).any(axis=1).sum())
        if original is not None and original.shape == x.shape:
            best["original"] = best_classes(original)
            self.original_rows = self.rows
            for side in "ab":
                same = best[side][:, 0] == best["original"][:, 0]
                self.original_agreement[side] = int(same.sum())
        if labels is not None and len(labels) == self.rows:
            for side, order in best.items():
                self.accuracy[side] = Accuracy()
                self.accuracy[side].count(order, labels)

    def add(self, other: OutputEffect) -> None:
        """Take in a later sample."""
        self.max_error = max(self.max_error, other.max_error)
        self.max_relative_error = max(self.max_relative_error, other.max_relative_error)
        for name in (
            "elements", "rows", "flips", "in_top5", "original_rows",
            "_error", "_error_squared", "_reference_squared",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for side, n in other.original_agreement.items():
            self.original_agreement[side] = self.original_agreement.get(side, 0) + n
        for side, accuracy in other.accuracy.items():
            mine = self.accuracy.setdefault(side, Accuracy())
            mine.rows += accuracy.rows
            mine.top1 += accuracy.top1
            mine.top5 += accuracy.top5
