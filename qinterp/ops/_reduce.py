"""What reductions share: their axes, shapes, and the elements that go together.

Source: tflite/kernels/reduce.cc ResolveAxisForShape, GetOutputShape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._operator import Operator


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
        return [
            tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
        ]

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
