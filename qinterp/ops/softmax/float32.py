"""Softmax of float32 (clause O-softmax.3).

Source: tflite/kernels/internal/reference/softmax.h Softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import Libm, functions
from qinterp.ops.softmax import SOFTMAX


@SOFTMAX.recipe("float32", Libm, floats=True)
def float32(call: Call) -> Run:
    """``exp((x - max) * beta) / sum``; the terms are added one after the other."""
    call.types(input=("float32",), output=("float32",))
    shape = call["input"].shape
    beta = np.float32(call.attributes["beta"])
    exp = functions(call.params)["exp"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, np.float32)]
        rows = values[0]
        with np.errstate(all="ignore"):
            # NaN never is the maximum, and it is at least the least finite number
            most = np.fmax.reduce(rows, axis=-1, keepdims=True, initial=np.finfo(np.float32).min)
            terms = exp((rows - most) * beta)
            total = np.cumsum(terms, axis=-1, dtype=np.float32)[..., -1:]
            return [terms / total]

    return run
