"""Greatest element of every window (clause O-max_pool_2d).

Source: tflite/kernels/internal/reference/integer_ops/pooling.h, pooling.h MaxPool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._accumulate import INTEGERS, activation_bounds, float_clamp
from qinterp.ops._elementwise import Real, real_rescale
from qinterp.ops._folds import extrema
from qinterp.ops._operator import ANY_FAMILY, KernelRun, Notes, Run
from qinterp.ops._pool import Windows, pool

MAX_POOL_2D = pool("max_pool_2d", "MAX_POOL_2D")


@MAX_POOL_2D.recipe("greatest_code", family=ANY_FAMILY)
def greatest_code(call: Call) -> Run:
    """The greatest code, clamped; scales and zero points play no part."""
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    low, high = activation_bounds(call)
    fast = extrema(call, Windows.of(call).as_fold(call), True, (low, high))
    if fast is not None:
        return KernelRun(lambda values, notes: [fast(values[0])], fast.task)
    greatest = _greatest(call, np.maximum, call["input"].int_type.min)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.clip(greatest(values[0]), low, high)]

    return run


@MAX_POOL_2D.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real maximum, rounded once to the output's grid."""
    call.types(input=INTEGERS, output=INTEGERS)
    greatest = _greatest(call, np.maximum, call["input"].int_type.min)
    rescale = real_rescale(call, call["input"])
    return lambda values, notes: [rescale(greatest(values[0]))]


@MAX_POOL_2D.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """The first greatest element; NaN is never greater, and infinity below is not counted."""
    call.types(input=("float32",), output=("float32",))

    def greater(a: Array, b: Array) -> Array:
        return np.where(a < b, b, a)

    greatest = _greatest(call, greater, np.finfo(np.float32).min)
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [clamp(greatest(values[0]))]

    return run


def _greatest(
    call: Call, combine: Callable[[Array, Array], Array], least: Any
) -> Callable[[Array], Array]:
    """Maxima of the windows."""
    windows = Windows.of(call)
    start = call["input"].numpy_dtype.type(least)
    return lambda x: windows.fold(combine, x, start)
