"""What reductions share: their axes, shapes, and the elements that go together.

Source: tflite/kernels/reduce.cc ResolveAxisForShape, GetOutputShape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._folds import Fold, Sums, fold_axes
from qinterp.ops._operator import Operator, Run

PLAIN_INTEGERS = ("int32", "int64")


def reduction(kind: str, builtin: str) -> Operator:
    """Declare a reduction over ``axes``, with its TFLite form."""
    operator = Operator(kind, ("input", "axes"), {"keep_dims": False})

    @operator.reads_tflite(builtin, "ReducerOptions")
    def from_tflite(options: Any) -> Mapping[str, Any]:
        return {"keep_dims": bool(options.keep_dims)}

    @operator.infers
    def shapes(call: Call) -> list[Shape]:
        axes = reduced_axes(call)
        keep = call.attributes["keep_dims"]
        shape = call["input"].shape
        return [tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)]

    return operator


def reduced_axes(call: Call) -> tuple[int, ...]:
    """The axes to reduce, ascending, each once; a scalar has none whatever the model says."""
    rank = len(call["input"].shape)
    call.rank("axes", 0, 1)
    axes = call.integers("axes")
    if rank == 0:
        return ()
    call.check(
        all(-rank <= axis < rank for axis in axes), f"axes {axes} for an input of rank {rank}"
    )
    return tuple(sorted({axis % rank for axis in axes}))


def reduced_count(call: Call) -> int:
    """How many elements go into one output."""
    return math.prod(call["input"].shape[axis] for axis in reduced_axes(call))


def gatherer(call: Call) -> Callable[[Array], Array]:
    """From the input to a matrix: a row of elements, in their order, for every output."""
    shape, axes = call["input"].shape, reduced_axes(call)
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    size = (math.prod(shape[axis] for axis in kept), reduced_count(call))
    return lambda x: np.ascontiguousarray(x.transpose(*kept, *axes)).reshape(size)


def reduced_fold(call: Call) -> Fold | None:
    """The reduction as a fold of a kernel."""
    return fold_axes(call["input"].shape, reduced_axes(call), gatherer(call))


def integer_sum(call: Call, zero_point: int, accumulator: Any, dtype: Any = None) -> Sums:
    """The sums of codes less the zero point, one an output; ``dtype`` is how codes are read."""
    rows = gatherer(call)
    ones = np.ones((1, reduced_count(call)), np.int8)
    no_zero_point = np.zeros(1, np.int64)

    def plain(x: Array) -> tuple[Array, bool]:
        return _kernels.matmul(rows(x), ones, None, zero_point, no_zero_point, accumulator)

    return Sums(call, reduced_fold(call), plain, zero_point, accumulator, dtype)


def float_sum(call: Call) -> Callable[[Array], Array]:
    """The sums in float32, elements added in their order."""
    rows = gatherer(call)
    ones = np.ones((1, reduced_count(call)), np.float32)
    shape = call.output.shape
    return lambda x: _kernels.matmul_float32(rows(x), ones, None).reshape(shape)


def constant(call: Call, value: int) -> Run:
    """What a reduction of nothing gives."""
    shape, dtype = call.output.shape, call.output.numpy_dtype
    return lambda values, notes: [np.full(shape, value, dtype)]
