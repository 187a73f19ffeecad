"""The absolute value (clause O-abs).

Source: tflite/kernels/elementwise.cc AbsEval, AbsEvalQuantized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import INTEGERS
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import ANY_FAMILY, Notes, Run
from qinterp.ops._unary import by_policy, pointwise, requantizer, unary

ABS = unary("abs", "ABS", "AbsOptions")


@ABS.recipe("requantize", family=ANY_FAMILY)
def requantize(call: Call) -> Run:
    """``out = zo + r(abs(x - zi))`` by the policy; integers without a scale wrap."""
    if call["input"].quantization is None:
        call.types(input=("int16", "int32", "int64"), output=(call["input"].dtype,))
        return _absolute
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    zero_point = call.per_tensor(call["input"])[1]

    def make(stages: tuple[Stage, ...]) -> Run:
        to_code = requantizer(call, stages)
        return pointwise(call, lambda code: apply_stages(to_code, np.abs(code - zero_point)))

    return by_policy(call, make)


@ABS.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """The sign removed."""
    call.types(input=("float32",), output=("float32",))
    return _absolute


def _absolute(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
    return [np.asarray(np.abs(values[0]))]
