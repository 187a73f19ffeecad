"""Vectorized loops: full blocks by one arithmetic, the remainder by another.

Source: the loops ``for (; i <= size - block; i += block)`` of tflite/kernels/internal/optimized/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.call import Shape, broadcast_form
from qinterp.ir.tensor import Array
from qinterp.ops._operator import Notes, Run


class Remainder(Protocol):
    """A tail's block, and what it is the remainder of."""

    @property
    def block(self) -> int:
        """Elements of a vector block."""

    @property
    def along(self) -> str:
        """The channels, a row, or the flat tensor."""


def tail_mask(call: Call, tail: Remainder, shape: Shape) -> npt.NDArray[np.bool_] | None:
    """Which elements of the output are in the tail, None if there are none.

    A row is what one inner loop goes through: all elements where the operands have one shape, else
    those up to the point where one of them starts again.
    """
    size = int(np.prod(shape))
    run = size
    if tail.along == "channel":
        run = shape[-1]
    elif tail.along == "row" and len(call.inputs) > 1:
        first, second = call.inputs[:2]
        assert first is not None
        assert second is not None
        run = broadcast_form(first.shape, second.shape)[1]
    if size == 0 or run % tail.block == 0:
        return None
    mask = np.arange(size) % run >= run // tail.block * tail.block
    return mask.reshape(shape)


def with_tail(call: Call, body: Run, remainder: Run, tail: Remainder) -> Run:
    """A run of one output that takes the tail's elements from ``remainder``."""
    mask = tail_mask(call, tail, call.output.shape)
    if mask is None:
        return body
    if mask.all():
        return remainder

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        inner = Notes(notes.wanted), Notes(notes.wanted)
        (out,), (other,) = body(values, inner[0]), remainder(values, inner[1])
        for name, value in inner[0].items():
            notes.add(name, np.where(mask, inner[1][name], value))
        return [np.where(mask, other, out)]

    return run
