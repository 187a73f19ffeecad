"""Twin of add."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import float_of, quantized
from qinterp.twin._binary import integer, operands, reals, rescaled_sum, weighted_sum
from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin.conv_2d import clamp_float


@twin("add", "rescaled_sum")
def rescaled(t: Twin, output: int, index: Index) -> int:
    """One sum of two rescaled inputs."""
    return rescaled_sum(t, index, 1)


@twin("add", "weighted_sum")
def weighted(t: Twin, output: int, index: Index) -> int:
    """One weighted sum."""
    return weighted_sum(t, index, 1)


@twin("add", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real sum, rounded once."""
    a, b = reals(t, index)
    return quantized(t, a + b)


@twin("add", "integers")
def plain(t: Twin, output: int, index: Index) -> int:
    """One sum in the width of the type."""
    a, b = operands(t, index)
    return integer(t, a + b, activated=t.params.activation == "used")


@twin("add", "float32")
def add_float(t: Twin, output: int, index: Index) -> float:
    """One float32 addition."""
    a, b = operands(t, index)
    return clamp_float(t, float_of(Fraction(a) + Fraction(b), 32))
