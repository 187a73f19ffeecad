"""The number with the other sign (clause O-neg).

Source: tflite/kernels/neg.cc; tflite/kernels/internal/reference/neg.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Notes, Run
from qinterp.ops._unary import real_table, unary

NEG = unary("neg", "NEG", "NegOptions")


@NEG.recipe("codes", family="tflite")
def codes(call: Call) -> Run:
    """Integers as they are stored, whatever their scales and zero points; the least one wraps."""
    types = ("int8", "int16", "int32", "int64")
    call.types(input=types, output=(call["input"].dtype,))
    return _negative


@NEG.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """The sign flipped."""
    call.types(input=("float32",), output=("float32",))
    return _negative


@NEG.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The negative real value, rounded once; integers without a scale wrap."""
    if call["input"].quantization is None:
        return codes(call)
    return real_table(call, lambda x: -x, lambda x, digits: -x)


def _negative(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
    return [np.asarray(np.negative(values[0]))]
