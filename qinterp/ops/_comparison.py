"""What the six comparisons share (clause O-equal).

Source: tflite/kernels/comparisons.cc ComparisonQuantized, EqualEval, LessEval;
tflite/kernels/internal/reference/comparisons.h ComparisonWithScaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import INTEGERS
from qinterp.ops._binary import Function, common_unit, pairwise, subtract_zero_points
from qinterp.ops._operator import Notes, Run
from qinterp.ops._rescaled import BELOW_ONE, AboveOne, Rescaling, shifted


@dataclass(frozen=True)
class RescaledComparison:
    """Both inputs shifted left and multiplied by their own scales, then compared.

    Attributes
    ----------
    left_shift : fraction bits of the real values.
    stages : of the multiplication.
    above_one : what a scale above one gives; see :class:`~qinterp.ops._rescaled.RescaledSum`.
    as_stored : types whose codes are compared as they are, whatever the scales.
    """

    left_shift: int = 8
    stages: tuple[Stage, ...] = BELOW_ONE
    above_one: AboveOne = "sign"
    as_stored: tuple[str, ...] = ()


@dataclass(frozen=True)
class RescaledOrder(RescaledComparison):
    """As the others; LiteRT's comparisons of order do not scale 16-bit codes."""

    as_stored: tuple[str, ...] = ("int16",)


def rescaled_comparison(call: Call, function: Function) -> Run:
    """``function(r1((x1 - z1) << n), r2((x2 - z2) << n))``."""
    _types(call, *INTEGERS)
    params: RescaledComparison = call.params
    if call["input1"].dtype in params.as_stored:
        return stored_comparison(call, function, *params.as_stored)
    left = params.left_shift
    bits = left + call["input1"].int_type.bits

    def ready(operand: str) -> Any:
        scale, zero_point = call.per_tensor(call[operand])
        rescaling = Rescaling(call, params.stages, scale, bits, above_one=params.above_one)
        return shifted(rescaling, zero_point, left)

    first, second = ready("input1"), ready("input2")

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        result: Array = function(first(x1), second(x2))
        return result

    return pairwise(call, evaluate)


def real_comparison(call: Call, function: Function) -> Run:
    """The real values compared."""
    _types(call, *INTEGERS)
    subtract = subtract_zero_points(call)
    m1, m2, _, fits = common_unit(call)
    exact_type: Any = np.int64 if fits else object

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        return np.asarray(function(a.astype(exact_type) * m1, b.astype(exact_type) * m2), bool)

    return pairwise(call, evaluate)


def stored_comparison(call: Call, function: Function, *dtypes: str) -> Run:
    """Elements compared as they are stored."""
    _types(call, *dtypes)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.asarray(function(values[0], values[1]))]

    return run


def _types(call: Call, *dtypes: str) -> None:
    call.types(input1=dtypes, input2=(call["input1"].dtype,), output=("bool",))
