"""Softmax over the last axis (clause O-softmax).

Source: tflite/kernels/activations.cc SoftmaxPrepare, SoftmaxEval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._operator import Operator

SOFTMAX = Operator("softmax", ("input",), {"beta": 1.0})


@SOFTMAX.reads_tflite("SOFTMAX", "SoftmaxOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a SOFTMAX."""
    return {"beta": float(options.beta)}


@SOFTMAX.infers
def shapes(call: Call) -> list[Shape]:
    """The input's."""
    shape = call["input"].shape
    call.check(len(shape) >= 1, f"input {call['input'].describe()} has no last axis")
    return [shape]


def task_of(kernel: _kernels.Softmax, shape: Shape) -> _kernels.Task | None:
    """The rows of a tensor as part of a chain, None where a stage may report an overflow."""
    try:
        return kernel.task(math.prod(shape[:-1]), shape[-1])
    except ValueError:
        return None


from qinterp.ops.softmax import (  # noqa: E402, F401
    exponential_table,
    float32,
    float_table,
    gemmlowp,
    interpolated_tables,
    real,
)
