"""The larger or the smaller of two elements.

Source: tflite/kernels/maximum_minimum.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._accumulate import activation_bounds
from qinterp.ops._binary import (
    Function,
    common_unit,
    one_type,
    pairwise,
    real_types,
    subtract_zero_points,
)
from qinterp.ops._elementwise import quantize_real, real_finish
from qinterp.ops._operator import Notes, Run

TYPES = ("int8", "uint8", "int16", "int32", "int64", "float32")


def of_codes(call: Call, choose: Function) -> Run:
    """``choose`` of the elements as they are stored."""
    one_type(call, *TYPES)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [choose(values[0], values[1])]

    return run


def of_reals(call: Call, choose: Function) -> Run:
    """``choose`` of the real values, rounded once."""
    real_types(call)
    subtract = subtract_zero_points(call)
    m1, m2, unit, fits = common_unit(call)
    finish = real_finish(call, unit)
    ratio = unit / Fraction(call.per_tensor(call.output)[0])
    r1, r2 = float(m1 * ratio), float(m2 * ratio)
    bounds = activation_bounds(call)

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        if fits:
            return finish(choose(a * m1, b * m2))
        a, b = np.broadcast_arrays(a, b)

        def exact(i: int, digits: int) -> Fraction:
            both = int(a.flat[i]) * m1, int(b.flat[i]) * m2
            return int(choose(*both)) * ratio

        return quantize_real(call, choose(a * r1, b * r2), exact, bounds)

    return pairwise(call, evaluate)
