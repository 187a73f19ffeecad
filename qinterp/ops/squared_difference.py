"""The square of a difference, with broadcasting (clause O-squared_difference).

Source: tflite/kernels/squared_difference.cc Prepare, SquaredDifference; tensorflow/lite/micro/
kernels/squared_difference.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import AddZeroPoint, Clamp, Stage
from qinterp.ops._accumulate import activation_bounds
from qinterp.ops._binary import (
    Binary,
    common_unit,
    integers,
    one_type,
    pairwise,
    real_types,
    shapes,
    subtract_zero_points,
)
from qinterp.ops._elementwise import Real, quantize_real
from qinterp.ops._operator import Notes, Run
from qinterp.ops._rescaled import BELOW_ONE, Rescaling, on_common_scale

SQUARED_DIFFERENCE = Binary("squared_difference")
SQUARED_DIFFERENCE.infers(shapes)

_WRAP = OVERFLOW_CODE["wrap"]


@dataclass(frozen=True)
class RescaledSquare:
    """Both inputs shifted left and put on twice the larger scale; the difference squared, rescaled.

    Attributes
    ----------
    left_shift : fraction bits of the common scale.
    precision : of the two quotients of input scales.
    input_stages, output_stages : the three rescalings.
    """

    left_shift: int = 7
    precision: Literal["float32", "float64"] = "float64"
    input_stages: tuple[Stage, ...] = BELOW_ONE
    output_stages: tuple[Stage, ...] = (*BELOW_ONE, AddZeroPoint(), Clamp())


@SQUARED_DIFFERENCE.reads_tflite("SQUARED_DIFFERENCE", "SquaredDifferenceOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """It has no attributes."""
    return {}


@SQUARED_DIFFERENCE.recipe("rescaled_square", RescaledSquare, family="tflite")
def rescaled(call: Call) -> Run:
    """``out = zo + r((r1((x1 - z1) << n) - r2((x2 - z2) << n)) ** 2)``."""
    one_type(call, "int8", "int16")
    params: RescaledSquare = call.params
    first, second, twice = on_common_scale(call, params.left_shift)
    scale_out, zero_point = call.per_tensor(call.output)
    last = Rescaling(
        call,
        params.output_stages,
        twice * twice / (4.0**params.left_shift * scale_out),
        32,
        zero_point=zero_point,
        bounds=activation_bounds(call),
    )
    dtype = call.output.numpy_dtype

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        difference = first(x1) - second(x2)
        square = _kernels.fit(difference * difference, 32, _WRAP)
        notes.add("accumulator", square)
        return last(square, dtype)

    return pairwise(call, evaluate)


@SQUARED_DIFFERENCE.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The square of the real difference, rounded once."""
    real_types(call)
    subtract = subtract_zero_points(call)
    m1, m2, unit, fits = common_unit(call)
    ratio = unit * unit / Fraction(call.per_tensor(call.output)[0])
    bounds = activation_bounds(call)
    exact_type: Any = np.int64 if fits else object

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        difference = np.asarray(a.astype(exact_type) * m1 - b.astype(exact_type) * m2)

        def exact(i: int, digits: int) -> Fraction:
            return int(difference.flat[i]) ** 2 * ratio

        return quantize_real(call, difference.astype(np.float64) ** 2 * float(ratio), exact, bounds)

    return pairwise(call, evaluate)


@SQUARED_DIFFERENCE.recipe("integers")
def plain(call: Call) -> Run:
    """The square modulo the width of the type."""
    return integers(call, _square_of_difference, "int32")


@SQUARED_DIFFERENCE.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 subtraction and one multiplication."""
    one_type(call, "float32")

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            return [np.asarray(_square_of_difference(values[0], values[1]))]

    return run


def _square_of_difference(a: Array, b: Array) -> Array:
    difference: Array = a - b
    return difference * difference
