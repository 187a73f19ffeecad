"""The hyperbolic tangent (clause O-tanh).

Source: tflite/kernels/activations.cc TanhPrepare, TanhEval; tflite/kernels/internal/reference/
tanh.h, integer_ops/tanh.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.ops._elementwise import Real
from qinterp.ops._fixed_point_16 import tanh_table
from qinterp.ops._operator import Notes, Run
from qinterp.ops._sigmoid import argument, check_grids, power_of_two, tanh_of
from qinterp.ops._tables import FloatTable, Libm, codes_of, float_table, functions, lookup
from qinterp.ops._unary import pointwise, real_table, unary

TANH = unary("tanh", "TANH")


@TANH.recipe("float_table", FloatTable, family="tflite")
def table(call: Call) -> Run:
    """A table of float32 values."""
    return float_table(call, lambda x, library: library["tanh"](x))


@TANH.recipe("sigmoid_table")
def sigmoid_table(call: Call) -> Run:
    """``2 * sigmoid(2 x) - 1`` of 16-bit codes, from the table of the sigmoid."""
    call.types(input=("int16",), output=("int16",))
    check_grids(call)
    scale = call.per_tensor(call["input"])[0]
    return pointwise(call, lambda code: tanh_of(argument(code, scale, (0, 1))))


@TANH.recipe("gemmlowp")
def gemmlowp(call: Call) -> Run:
    """Fixed point as in gemmlowp for a scale of 2**-12 or 2**-11, the table for any other."""
    exponent = power_of_two(call.per_tensor(call["input"])[0])
    if exponent is None or exponent + 12 not in (0, 1):
        return sigmoid_table(call)
    call.types(input=("int16",), output=("int16",))
    check_grids(call)
    code = np.clip(codes_of("int16") << (exponent + 12), -32768, 32767)
    return lookup(call, tanh_table(3)[code + 32768])


@TANH.recipe("float32", Libm, floats=True)
def float32(call: Call) -> Run:
    """The C library's ``tanhf``."""
    call.types(input=("float32",), output=("float32",))
    tanh = functions(call.params)["tanh"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [tanh(values[0])]

    return run


@TANH.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once."""
    return real_table(call, np.tanh, elementary.tanh)
