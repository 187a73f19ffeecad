"""What the rectifiers with fixed bounds share (clause O-relu).

Source: tflite/kernels/activations.cc ReluPrepare, QuantizedReluX; tflite/kernels/internal/
reference/reference_ops.h ReluX, Relu1, Relu0To1, Relu6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.scales import ACTIVATIONS
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import INTEGERS
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run
from qinterp.ops._unary import by_policy, pointwise, requantizer, unary


def rectifier(kind: str, builtin: str) -> Operator:
    """Declare the rectifier whose bounds are those of the fused activation called ``kind``."""
    operator = unary(kind, builtin, attributes={"activation": kind})
    operator.recipe("requantize_and_clamp", family=ANY_FAMILY)(_requantize_and_clamp)
    operator.recipe("float32", floats=True)(_float32)
    return operator


def _requantize_and_clamp(call: Call) -> Run:
    """``out = clamp(zo + r(x - zi))`` by the policy's requantization and bounds."""
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    zero_point = call.per_tensor(call["input"])[1]

    def make(stages: tuple[Stage, ...]) -> Run:
        to_code = requantizer(call, stages)
        return pointwise(call, lambda code: apply_stages(to_code, code - zero_point))

    return by_policy(call, make)


def _float32(call: Call) -> Run:
    """The nearer bound outside of the bounds; a NaN stays."""
    call.types(input=("float32",), output=("float32",))
    low, high = ACTIVATIONS[call.attributes["activation"]]
    bottom = np.float32(-np.inf if low is None else low)
    top = np.float32(np.inf if high is None else high)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        return [np.where(x > top, top, np.where(x < bottom, bottom, x))]

    return run
