"""What arg_max and arg_min share.

Source: tflite/kernels/arg_min_max.cc ResizeOutput;
tflite/kernels/internal/reference/arg_min_max.h ArgMinMax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import axis_of, one_integer
from qinterp.ops._operator import Notes, Run


def shapes(call: Call) -> list[Shape]:
    """The input's shape without the axis, along which there is an element."""
    shape = call["input"].shape
    axis = axis_of(call, one_integer(call, "axis"), len(shape))
    call.check(shape[axis] > 0, f"axis {axis} of {call['input'].describe()} is empty")
    return [(*shape[:axis], *shape[axis + 1 :])]


def first_index(call: Call, best: np.ufunc) -> Run:
    """The first index of the ``best`` element along the axis, 0 where all are NaN.

    Parameters
    ----------
    best : ``np.fmax`` or ``np.fmin``, which leave NaN aside; codes order as reals do.
    """
    call.types(output=("int32", "int64"))
    axis = one_integer(call, "axis")
    dtype = call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        found = x == best.reduce(x, axis, keepdims=True)
        return [np.asarray(found.argmax(axis), dtype)]

    return run
