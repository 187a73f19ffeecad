"""``x`` where it is not negative, else ``alpha * x`` with alpha a tensor (clause O-prelu).

Source: tflite/kernels/activations.cc PreluPrepare, PreluEval; tflite/kernels/internal/reference/
prelu.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import INTEGERS
from qinterp.ops._elementwise import apply_stages, broadcast_shape
from qinterp.ops._operator import ANY_FAMILY, NO_NOTES, Notes, Operator, Run
from qinterp.ops._unary import by_policy, pointwise, requantizer

PRELU = Operator("prelu", ("input", "alpha"))


@PRELU.reads_tflite("PRELU")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """PRELU has no attributes."""
    return {}


@PRELU.infers
def shapes(call: Call) -> list[Shape]:
    """The input's; alpha broadcasts to it."""
    shape = call["input"].shape
    call.check(
        broadcast_shape(call, "input", "alpha") == shape,
        f"{call['alpha'].describe()} does not broadcast to {call['input'].describe()}",
    )
    return [shape]


@PRELU.recipe("rescaled", family=ANY_FAMILY)
def rescaled(call: Call) -> Run:
    """Each side requantized by a factor of its own."""
    kind = call["input"].dtype
    call.types(
        input=INTEGERS, alpha=("int8", "int16") if kind == "int16" else (kind,), output=(kind,)
    )
    zero_point = call.per_tensor(call["input"])[1]
    alpha_scale, alpha_zero_point = call.per_tensor(call["alpha"])
    dtype = call.output.numpy_dtype

    def make(stages: tuple[Stage, ...]) -> Run:
        identity, slope = requantizer(call, stages), requantizer(call, stages, alpha_scale)
        rescale = pointwise(call, lambda code: apply_stages(identity, code - zero_point))

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            x = values[0].astype(np.int32) - zero_point
            below = x * (values[1].astype(np.int32) - alpha_zero_point)
            if "accumulator" in notes.wanted:
                notes.add("accumulator", np.where(x >= 0, x, below))
            above = rescale(values, NO_NOTES)[0]
            return [np.where(x >= 0, above, apply_stages(slope, below, dtype))]

        return run

    return by_policy(call, make)


@PRELU.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 multiplication."""
    call.types(input=("float32",), alpha=("float32",), output=("float32",))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x, alpha = values
        with np.errstate(all="ignore"):
            return [np.where(x >= 0, x, x * alpha)]

    return run
