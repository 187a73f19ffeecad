"""The exponential (clause O-exp).

Source: tflite/kernels/exp.cc; tflite/kernels/internal/reference/exp.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import FloatTable, Libm, float_table, functions, interpolated
from qinterp.ops._unary import real_table, unary

EXP = unary("exp", "EXP", "ExpOptions")


@EXP.recipe("float_table", FloatTable, family="tflite")
def table(call: Call) -> Run:
    """A table of float32 values; what int32 does not hold becomes the least code."""
    return float_table(call, lambda x, library: library["exp"](x))


@EXP.recipe("interpolated_table", Libm)
def interpolated_table(call: Call) -> Run:
    """513 entries with linear interpolation, for 16-bit codes."""
    zero_points = (call.per_tensor(t)[1] for t in (call["input"], call.output))
    call.check(not any(zero_points), "the zero points of int16 must be 0")
    return interpolated(call, lambda x, library: library["exp"](x))


@EXP.recipe("float32", Libm, floats=True)
def float32(call: Call) -> Run:
    """The C library's ``expf``."""
    call.types(input=("float32",), output=("float32",))
    exp = functions(call.params)["exp"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [exp(values[0])]

    return run


@EXP.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once."""
    return real_table(call, np.exp, elementary.exp)
