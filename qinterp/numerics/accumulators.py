"""How a backend adds products up: width, overflow, order, grouping (clauses A1 to A6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import Stage

AccumulatorOverflow = Literal["wrap", "saturate", "error"]
Tap = Literal["kh", "kw", "ic"]
_BLOCK = 1 << 17
"""Weights looked at at a time, so that a proof needs little memory."""


@dataclass(frozen=True)
class Group:
    """Consecutive products summed in a register of their own before they are accumulated.

    ``size`` 2 with 16 saturating bits is x86 ``pmaddubsw``; 512 with 32 wrapping bits is
    CMSIS-NN's int16 convolution.
    """

    size: int
    bits: int
    overflow: AccumulatorOverflow = "saturate"

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"size must be at least 2, got {self.size}")
        if not 2 <= self.bits <= 64:
            raise ValueError(f"bits must be in 2..64, got {self.bits}")


@dataclass(frozen=True)
class BiasRescale:
    """A bias whose scale need not be ``input scale * weight scale``, and how it is added.

    Attributes
    ----------
    stages : from a code of the bias to steps of the accumulator; the factor is bias scale over
        that product, all in float32.
    tolerance : a bias scale that differs from the product by a smaller fraction is taken for it.
    sum : in the accumulator, or in float32 after the products are summed, the fraction cut off.
    """

    stages: tuple[Stage, ...]
    tolerance: float = 0.0
    sum: Literal["accumulator", "float32"] = "accumulator"


@dataclass(frozen=True)
class Accumulator:
    """The register that products are added into.

    Attributes
    ----------
    bits : two's-complement width, 2 to 64.
    overflow : what happens to a sum that does not fit.
    check : after every addition, or once on the exact sum.
    operands : products of codes minus their zero points, or of raw codes with the zero points
        corrected afterwards (in one addition).
    order : nesting of the taps, outermost first; it matters only where sums are fitted on the way.
    padding : a tap outside the image is skipped, or contributes its product with the zero point
        as code, or with code 0.
    bias : added last, or there from the start.
    group : products that are summed apart first.
    weight_zero_point : some kernels ignore it, whatever the model says.
    """

    bits: int = 32
    overflow: AccumulatorOverflow = "wrap"
    check: Literal["each_step", "at_end"] = "each_step"
    operands: Literal["zero_point_subtracted", "raw"] = "zero_point_subtracted"
    order: tuple[Tap, ...] = ("kh", "kw", "ic")
    padding: Literal["skip", "zero_point", "zero"] = "skip"
    bias: Literal["last", "first"] = "last"
    group: Group | None = None
    weight_zero_point: Literal["used", "ignored"] = "used"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 64:
            raise ValueError(f"bits must be in 2..64, got {self.bits}")
        if sorted(self.order) != ["ic", "kh", "kw"]:
            raise ValueError(f"order must name kh, kw and ic once each, got {list(self.order)}")
        if self.group and self.group.bits > 64:
            raise ValueError(f"group.bits must be at most 64, got {self.group.bits}")

    @property
    def codes(self) -> tuple[int, ...]:
        """The tuple that ``_kernels`` takes."""
        group = self.group
        return (
            self.bits,
            OVERFLOW_CODE[self.overflow],
            int(self.check == "each_step"),
            int(self.operands == "raw"),
            ("skip", "zero_point", "zero").index(self.padding),
            int(self.bias == "first"),
            group.size if group else 0,
            group.bits if group else 0,
            OVERFLOW_CODE[group.overflow] if group else 0,
        )


@dataclass(frozen=True)
class Proof:
    """What is known of an accumulator before it runs.

    Attributes
    ----------
    any_order : every order of accumulation gives the same bits.
    reason : why, or why not.
    headroom : bits that the bound leaves unused (negative: it does not fit), over all channels.
    """

    any_order: bool
    reason: str
    headroom: int

    @property
    def path(self) -> str:
        """``any order`` or ``in order``."""
        return "any order" if self.any_order else "in order"


def prove(
    accumulator: Accumulator,
    weights: npt.NDArray[Any],
    weight_zero_point: npt.NDArray[np.int64],
    input_range: tuple[int, int],
    input_zero_point: int,
    bias: npt.NDArray[np.int64] | None,
) -> Proof:
    """Whether ``sum(|w| * max|x|) + |bias|`` fits the accumulator in every output channel.

    Parameters
    ----------
    weights : codes, shape (channels, products of one output).
    weight_zero_point, bias : int64, one a channel.
    input_range : least and greatest code of the input.
    """
    raw = accumulator.operands == "raw"
    low, high = input_range
    if not raw:
        low, high = low - input_zero_point, high - input_zero_point
    largest = max(abs(low), abs(high))
    group = accumulator.group
    magnitudes = np.zeros(len(weights), np.int64)
    grouped = True
    rows = max(_BLOCK // max(weights.shape[1], 1), 1)
    for start in range(0, len(weights), rows):
        block = slice(start, start + rows)
        magnitude = np.abs(weights[block].astype(np.int64))
        if not raw and weight_zero_point[block].any():
            magnitude = np.abs(weights[block] - weight_zero_point[block, None])
        magnitudes[block] = magnitude.sum(1)
        grouped &= group is None or _group_fits(group, magnitude, largest)
    sums = magnitudes * largest
    if raw:
        zero = np.abs(weight_zero_point)
        count = weights.shape[1]
        sums += abs(input_zero_point) * magnitudes
        sums += count * largest * zero + count * abs(input_zero_point) * zero
    added = [0] * len(sums) if bias is None else bias.tolist()  # may need more than 64 bits
    bound = max((int(s) + abs(b) for s, b in zip(sums, added, strict=True)), default=0)
    headroom = accumulator.bits - 1 - bound.bit_length()
    if group is not None and not grouped:
        size, bits = group.size, group.bits
        return Proof(False, f"groups of {size} may leave {bits} bits", headroom)
    if headroom >= 0:
        return Proof(True, f"the bound {bound} fits {accumulator.bits} bits", headroom)
    if accumulator.overflow == "wrap":
        return Proof(True, f"arithmetic modulo 2**{accumulator.bits}", headroom)
    if accumulator.check == "at_end":
        fits = bound.bit_length() < 63
        return Proof(fits, "only the exact sum is checked", headroom)
    return Proof(
        False, f"the bound {bound} does not fit {accumulator.bits} bits, which "
        f"{'saturate' if accumulator.overflow == 'saturate' else 'must not overflow'}", headroom
    )  # fmt: skip


def _group_fits(group: Group, magnitude: npt.NDArray[np.int64], largest: int) -> bool:
    """Whether no sum of consecutive products can leave the group's register."""
    channels, count = magnitude.shape
    size = max(min(group.size, count), 1)
    padded = np.zeros((channels, -(-count // size) * size), np.int64)
    padded[:, :count] = magnitude
    sums = padded.reshape(channels, -1, size).sum(2) * largest
    return int(sums.max(initial=0)).bit_length() <= group.bits - 1
