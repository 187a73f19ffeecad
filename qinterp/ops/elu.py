"""``x`` where it is positive, else ``exp(x) - 1`` (clause O-elu).

Source: tflite/kernels/activations.cc EluPrepare, EluEval; tflite/kernels/internal/reference/elu.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.numerics.libm import Function
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import FloatTable, Libm, float_table, functions
from qinterp.ops._unary import real_table, unary

ELU = unary("elu", "ELU")


@ELU.recipe("float_table", FloatTable, family="tflite")
def table(call: Call) -> Run:
    """A table of float32 values."""
    return float_table(call, _elu)


@ELU.recipe("exponential_less_one", FloatTable)
def exponential_less_one(call: Call) -> Run:
    """A table of float32 values whose ``exp(x) - 1`` is two operations.

    Source: tensorflow/lite/micro/kernels/elu.cc CalculateOpData.
    """

    def function(x: Array, library: Mapping[str, Function]) -> Array:
        return np.where(x < 0, library["exp"](np.minimum(x, np.float32(0))) - np.float32(1), x)

    return float_table(call, function)


@ELU.recipe("float32", Libm, floats=True)
def float32(call: Call) -> Run:
    """The C library's ``expm1f`` below 0."""
    call.types(input=("float32",), output=("float32",))
    library = functions(call.params)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [_elu(values[0], library)]

    return run


@ELU.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once."""

    def exact(x: Fraction, digits: int) -> Fraction:
        return x if x >= 0 else elementary.expm1(x, digits)

    return real_table(call, lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0.0))), exact)


def _elu(x: Array, library: Mapping[str, Function]) -> Array:
    return np.where(x < 0, library["expm1"](np.minimum(x, np.float32(0))), x)
