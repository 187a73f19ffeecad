"""Integer types as the hardware has them: a width, a sign, and an optional narrow range."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IntType:
    """A two's-complement (or unsigned) integer of ``bits`` bits.

    Attributes
    ----------
    bits : width, 1 to 64.
    signed : two's complement if true.
    narrow : leave out the most negative code of a signed type (-127..127 for 8 bits).
    """

    bits: int
    signed: bool = True
    narrow: bool = False

    @property
    def min(self) -> int:
        """Least value."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (1 if self.narrow else 0)

    @property
    def max(self) -> int:
        """Greatest value."""
        return (1 << (self.bits - (1 if self.signed else 0))) - 1

    def fits(self, value: int) -> bool:
        """Whether ``value`` is in the range."""
        return self.min <= value <= self.max

    def wrap(self, value: int) -> int:
        """``value`` modulo 2**bits, in the range of the type (a narrow range does not wrap)."""
        return (value - self._base) % (1 << self.bits) + self._base

    def saturate(self, value: int) -> int:
        """``value`` clamped to the range."""
        return min(max(value, self.min), self.max)

    @property
    def _base(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0


INT_TYPES = {
    "int4": IntType(4),
    "int8": IntType(8),
    "uint8": IntType(8, signed=False),
    "int16": IntType(16),
    "uint16": IntType(16, signed=False),
    "int32": IntType(32),
    "uint32": IntType(32, signed=False),
    "int64": IntType(64),
}
