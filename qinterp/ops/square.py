"""``x * x`` (clause O-square).

Source: tflite/kernels/elementwise.cc SquareEval.
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

SQUARE = unary("square", "SQUARE", "SquareOptions")


@SQUARE.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 multiplication."""
    call.types(input=("float32",), output=("float32",))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            return [np.asarray(values[0] * values[0])]

    return run


@SQUARE.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real square, rounded once."""
    return real_table(call, lambda x: x * x, lambda x, digits: x * x)
