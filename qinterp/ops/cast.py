"""Stored numbers as another type, whatever their scales (clause O-cast).

Source: tflite/kernels/cast.cc copyCast, SaturatingCastFloatingToInteger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import NUMPY_TYPES, Array
from qinterp.ops._operator import ANY_FAMILY, Notes, Run
from qinterp.ops._unary import unary

CAST = unary("cast", "CAST", "CastOptions")

TYPES = tuple(NUMPY_TYPES)


@CAST.recipe("cast", family=ANY_FAMILY)
def cast(call: Call) -> Run:
    """Integers wrap; floats are truncated and saturate, NaN becoming the greatest integer."""
    call.types(input=TYPES, output=TYPES)
    source, target = call["input"], call.output
    to_integer = source.is_float and not target.is_float and target.dtype != "bool"

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        if to_integer:
            return [_to_integer(x, target.int_type.min, target.int_type.max, target.numpy_dtype)]
        if target.dtype == "float16":
            x = x.astype(np.float32)
        with np.errstate(all="ignore"):
            return [np.asarray(x.astype(target.numpy_dtype))]

    return run


def _to_integer(x: Array, low: int, high: int, dtype: Any) -> Array:
    whole = np.trunc(x.astype(np.float64))
    inside = (whole >= low) & (whole < high + 1.0)
    codes = np.where(inside, whole, 0.0).astype(dtype)
    return np.where(inside, codes, np.where(whole < low, low, high).astype(dtype))
