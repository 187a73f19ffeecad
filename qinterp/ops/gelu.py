"""The Gaussian error linear unit, exact or by tanh (clause O-gelu).

Source: tflite/kernels/activations.cc GeluPrepare, GeluEval; tflite/kernels/internal/reference/
gelu.h GeluTransform, GeluTransformApproximate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics import elementary
from qinterp.numerics.libm import EIGEN_PACKET, Function, Library
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import (
    FloatFunction,
    FloatTable,
    Libm,
    float_table,
    functions,
    interpolated,
)
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


@dataclass(frozen=True)
class EigenMath(Libm):
    """Float arithmetic with Eigen's functions of arrays."""

    library: Library = "eigen"


@GELU.recipe("float32", EigenMath, floats=True)
def float32(call: Call) -> Run:
    """As the tables, but for the order in which the cube is multiplied."""
    call.types(input=("float32",), output=("float32",))
    library = functions(call.params or EigenMath())
    approximate = call.attributes["approximate"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        with np.errstate(all="ignore"):
            if approximate:
                return [np.asarray(_by_tanh(x, np.float32(CUBIC) * (x * x * x), library))]
            argument = x * np.float32(-math.sqrt(0.5))
            return [np.asarray(_HALF * x * _erfc_of_array(argument, library))]

    return run


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


def _erfc_of_array(x: Array, library: Mapping[str, Function]) -> Array:
    if "erfc_scalar" not in library:
        return library["erfc"](x)
    flat = x.reshape(-1)
    full = flat.size // EIGEN_PACKET * EIGEN_PACKET
    parts = [library["erfc"](flat[:full]), library["erfc_scalar"](flat[full:])]
    return np.concatenate(parts).reshape(x.shape)


def _tanh_float32(x: Array, library: Mapping[str, Function]) -> Array:
    return _by_tanh(x, np.float32(CUBIC) * x * x * x, library)


def _by_tanh(x: Array, cubic: Array, library: Mapping[str, Function]) -> Array:
    argument = np.float32(math.sqrt(2.0 / math.pi)) * (x + cubic)
    result: Array = _HALF * x * (np.float32(1) + library["tanh"](argument))
    return result
