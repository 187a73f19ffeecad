"""How a backend adds products up: width, overflow, order, grouping (clauses A1 to A6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qinterp.numerics.rounding import OVERFLOW_CODE

AccumulatorOverflow = Literal["wrap", "saturate", "error"]
Tap = Literal["kh", "kw", "ic"]


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
    """

    bits: int = 32
    overflow: AccumulatorOverflow = "wrap"
    check: Literal["each_step", "at_end"] = "each_step"
    operands: Literal["zero_point_subtracted", "raw"] = "zero_point_subtracted"
    order: tuple[Tap, ...] = ("kh", "kw", "ic")
    padding: Literal["skip", "zero_point", "zero"] = "skip"
    bias: Literal["last", "first"] = "last"
    group: Group | None = None

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
