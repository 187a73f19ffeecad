"""The Gaussian error linear unit, exact or by tanh (clause O-gelu).

Source: tflite/kernels/activations.cc GeluPrepare, GeluEval; tflite/kernels/internal/reference/
gelu.h GeluTransform, GeluTransformApproximate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.numerics.libm import Function
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Run
from qinterp.ops._tables import FloatFunction, FloatTable, Libm, float_table, interpolated
from qinterp.ops._unary import real_table, unary

CUBIC = Fraction(44715, 1000000)
_HALF = np.float32(0.5)


def _read(options: Any) -> Mapping[str, Any]:
    return {"approximate": bool(options.approximate)}


GELU = unary("gelu", "GELU", "GeluOptions", {"approximate": False}, _read)


@GELU.recipe("float_table", FloatTable, family="tflite")
def table(call: Call) -> Run:
    """A table of float32 values."""
    return float_table(call, _function(call))


@GELU.recipe("interpolated_table", Libm)
def interpolated_table(call: Call) -> Run:
    """513 entries with linear interpolation, for 16-bit codes."""
    return interpolated(call, _function(call))


@GELU.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real function, rounded once."""
    if call.attributes["approximate"]:
        return real_table(call, _approximate_by_tanh, by_tanh)
    return real_table(
        call, lambda x: 0.5 * x * elementary.approximate_erfc(-x / math.sqrt(2.0)), by_erfc
    )


def by_erfc(x: Fraction, digits: int) -> Fraction:
    """``x * erfc(-x / sqrt(2)) / 2``, to a relative error below ``10**-digits``."""
    # erfc changes faster than its argument by at most twice the argument's square
    argument = -x * elementary.rsqrt(Fraction(2), digits + 12)
    return x / 2 * elementary.erfc(argument, digits + 1)


def by_tanh(x: Fraction, digits: int) -> Fraction:
    """``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2``, as accurate.

    ``(1 + tanh(v)) / 2`` is ``logistic(2 v)``, which keeps its digits where tanh is near -1.
    """
    factor = elementary.rsqrt(elementary.pi(digits + 12) / 2, digits + 12)
    return x * elementary.logistic(2 * factor * (x + CUBIC * x**3), digits + 1)


def _approximate_by_tanh(x: Array) -> Array:
    v = math.sqrt(2.0 / math.pi) * (x + float(CUBIC) * x**3)
    result: Array = x / (1.0 + np.exp(-2.0 * v))
    return result


def _function(call: Call) -> FloatFunction:
    return _tanh_float32 if call.attributes["approximate"] else _erfc_float32


def _erfc_float32(x: Array, library: Mapping[str, Function]) -> Array:
    result: Array = _HALF * x * library["erfc"](x * np.float32(-math.sqrt(0.5)))
    return result


def _tanh_float32(x: Array, library: Mapping[str, Function]) -> Array:
    argument = np.float32(math.sqrt(2.0 / math.pi)) * (x + np.float32(CUBIC) * x * x * x)
    result: Array = _HALF * x * (np.float32(1) + library["tanh"](argument))
    return result
