"""Vectorized loops: full blocks by one arithmetic, the remainder by another.

Source: the loops ``for (; i <= size - block; i += block)`` of tflite/kernels/internal/optimized/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
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


class Elementwise:
    """A run of one output, whose elements are made of the operands' elements at the same place.

    Parameters
    ----------
    into : from operand arrays, none of which is broadcast, to an output of their shape: any part
        of the elements, in one dimension or more.
    noted : what runs where notes are wanted.
    """

    def __init__(
        self, call: Call, into: Callable[[Sequence[Any], Array], None], noted: Run | None = None
    ) -> None:
        self.into = into
        self.task: _kernels.Task | None = getattr(into, "task", None)
        self._noted = noted
        self._shape = call.output.shape
        self._dtype = call.output.numpy_dtype

    def __call__(self, values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        """See :data:`qinterp.ops._operator.Run`."""
        if notes.wanted and self._noted is not None:
            return self._noted(values, notes)
        out = np.empty(self._shape, self._dtype)
        self.into(values, out)
        return [out]


def with_tail(
    call: Call, body: Run, remainder: Run, tail: Remainder, noted: Run | None = None
) -> Run:
    """A run of one output that takes the tail's elements from ``remainder``.

    ``noted`` : where notes are wanted, if not the notes of both.
    """
    shape = call.output.shape
    mask = tail_mask(call, tail, shape)
    if mask is None:
        return body
    if mask.all():
        return remainder

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if notes.wanted and noted is not None:
            return noted(values, notes)
        inner = Notes(notes.wanted), Notes(notes.wanted)
        (out,), (other,) = body(values, inner[0]), remainder(values, inner[1])
        for name, value in inner[0].items():
            notes.add(name, np.where(mask, inner[1][name], value))
        return [np.where(mask, other, out)]

    start = int(mask.argmax())
    at_the_end = bool(mask.reshape(-1)[start:].all())
    broadcast = any(t is not None and t.shape != shape for t in call.inputs)
    if not (isinstance(body, Elementwise) and isinstance(remainder, Elementwise)):
        return run
    if broadcast or not at_the_end:
        return run
    first, last = body.into, remainder.into

    def into(values: Sequence[Any], out: Array) -> None:
        whole, flat = [v.reshape(-1) for v in values], out.reshape(-1)
        first([v[:start] for v in whole], flat[:start])
        last([v[start:] for v in whole], flat[start:])

    return Elementwise(call, into, noted or run)
