"""A data movement as copies of runs of bytes, for a chain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array

_LARGEST = 1 << 21  # elements of a tensor whose map is worked out
_SHORTEST = 8  # bytes of a run on average: shorter ones cost more than they save


def copies(
    call: Call, move: Callable[[Sequence[Any], Any], Sequence[Array]]
) -> _kernels.Task | None:
    """What ``move`` does, read off what it does to the numbers of elements.

    Parameters
    ----------
    move : of arrays, one for each operand (None where absent), and the fill value.

    Returns
    -------
    None where it makes several tensors, or copies single elements more than runs of them.
    """
    if len(call.outputs) != 1:
        return None
    counts = [0 if t is None else math.prod(t.shape) for t in call.inputs]
    size, item = math.prod(call.output.shape), call.output.numpy_dtype.itemsize
    if not 0 < size <= _LARGEST or sum(counts) > _LARGEST:
        return None
    starts = np.cumsum([0, *counts])
    grids = [
        None if t is None else np.arange(start, start + count, dtype=np.int32).reshape(t.shape)
        for t, start, count in zip(call.inputs, starts, counts, strict=False)
    ]
    numbers = np.ascontiguousarray(move(grids, -1)[0]).reshape(-1)
    owners = np.searchsorted(starts, numbers, "right") - 1  # -1: the fill value
    follows = (np.diff(numbers) == np.where(owners[1:] < 0, 0, 1)) & (np.diff(owners) == 0)
    first = np.append(0, np.flatnonzero(~follows) + 1)
    if len(first) * _SHORTEST > size * item:
        return None
    lengths = np.diff(np.append(first, size))
    owner = owners[first]
    used = int(owner.max()) + 1
    operands = call.inputs[: max(used, 1)]
    if any(t is None or t.numpy_dtype.itemsize != item for t in operands):
        return None
    source = np.where(owner < 0, 0, numbers[first] - starts[owner])
    fill = call.output.zero_point if call.output.quantization else 0
    pattern = np.array([fill], call.output.numpy_dtype).view(np.uint8)
    pieces = np.stack([first * item, owner, source * item, lengths * item], axis=1)
    sizes = [*(count * item for count in counts[: len(operands)]), size * item]
    try:
        return _kernels.move_task(pieces, pattern, sizes)
    except ValueError:  # more operands than a task takes
        return None
