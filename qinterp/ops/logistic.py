"""The logistic function, ``1 / (1 + exp(-x))`` (clause O-logistic).

Source: tflite/kernels/activations.cc SigmoidPrepare, SigmoidEval; tflite/kernels/internal/
reference/logistic.h, integer_ops/logistic.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.numerics.libm import Function
from qinterp.ops._elementwise import Real
from qinterp.ops._fixed_point_16 import logistic_table
from qinterp.ops._operator import Notes, Run
from qinterp.ops._sigmoid import argument, check_grids, logistic_of, power_of_two
from qinterp.ops._tables import FloatTable, Libm, codes_of, float_table, functions, lookup
from qinterp.ops._unary import pointwise, real_table, unary

LOGISTIC = unary("logistic", "LOGISTIC")


@LOGISTIC.recipe("float_table", FloatTable, family="tflite")
def table(call: Call) -> Run:
    """A table of float32 values; the output's scale must be 1/256."""
    unit = call.per_tensor(call.output)[0]
    call.check(unit == 1 / 256, f"output {call.output.describe()} must have scale 1/256")
    return float_table(call, _plain)


@LOGISTIC.recipe("float64_table", FloatTable)
def float64_table(call: Call) -> Run:
    """A table in float32 whose function is worked out in float64.

    Source: XNNPACK src/reference/unary-elementwise.cc SigmoidOp.
    """

    def function(x: Array, library: Mapping[str, Function]) -> Array:
        e = elementary.exp64(np.clip(x, -100, 100).astype(np.float64))
        inside = (e / (1 + e)).astype(np.float32)
        return np.where(np.abs(x) > 100, (x > 0).astype(np.float32), inside)

    return float_table(call, function)


@LOGISTIC.recipe("sigmoid_table")
def sigmoid_table(call: Call) -> Run:
    """256 entries with linear interpolation, for 16-bit codes."""
    call.types(input=("int16",), output=("int16",))
    check_grids(call)
    unit = call.per_tensor(call.output)[0]
    call.check(unit == 1 / 32768, f"output {call.output.describe()} must have scale 1/32768")
    scale = call.per_tensor(call["input"])[0]
    return pointwise(call, lambda code: logistic_of(argument(code, scale, (0,))))


@LOGISTIC.recipe("gemmlowp")
def gemmlowp(call: Call) -> Run:
    """Fixed point as in gemmlowp for a scale of 2**-12, the table for any other."""
    exponent = power_of_two(call.per_tensor(call["input"])[0])
    if exponent is None or exponent + 12 not in (0,):
        return sigmoid_table(call)
    call.types(input=("int16",), output=("int16",))
    check_grids(call)
    code = np.clip(codes_of("int16") << (exponent + 12), -32768, 32767)
    return lookup(call, logistic_table(3)[code + 32768])


@LOGISTIC.recipe("float32", Libm, floats=True)
def float32(call: Call) -> Run:
    """See :func:`in_pieces`."""
    call.types(input=("float32",), output=("float32",))
    library = functions(call.params)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [in_pieces(values[0], library)]

    return run


def in_pieces(x: Array, library: Mapping[str, Function]) -> Array:
    """In float32, and in pieces: exp(x) below -9, 1 from where there are no more digits."""
    one = np.float32(1)
    upper, lower = np.float32(16.619047164916992188), np.float32(-9)
    with np.errstate(all="ignore"):
        below = x < lower
        e = library["exp"](np.where(below, x, -x))
        result: Array = np.where(x > upper, one, np.where(below, e, one / (one + e)))
    return result


@LOGISTIC.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once."""
    return real_table(call, lambda x: 1.0 / (1.0 + np.exp(-x)), elementary.logistic)


def _plain(x: Array, library: Mapping[str, Function]) -> Array:
    one = np.float32(1)
    result: Array = one / (one + library["exp"](-x))
    return result
