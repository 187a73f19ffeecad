"""``x`` where it is positive, else ``alpha * x`` (clause O-leaky_relu).

Source: tflite/kernels/activations.cc LeakyReluPrepare; tflite/kernels/internal/reference/
leaky_relu.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import ANY_FAMILY, Notes, Run
from qinterp.ops._unary import by_policy, pointwise, requantizer, unary

_INT32 = (-(1 << 31), (1 << 31) - 1)


def _read(options: Any) -> Mapping[str, Any]:
    return {"alpha": float(options.alpha)}


LEAKY_RELU = unary("leaky_relu", "LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.0}, _read)


@dataclass(frozen=True)
class Slopes:
    """Each side by a factor of its own.

    Attributes
    ----------
    sign : a negative alpha is applied to the rounded magnitude, or is part of the factor.
    """

    sign: Literal["last", "in_factor"] = "last"


@LEAKY_RELU.recipe("rescaled", Slopes, family=ANY_FAMILY)
def rescaled(call: Call) -> Run:
    """Each side requantized by a factor of its own."""
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    zero_point = call.per_tensor(call["input"])[1]
    out_zero_point = call.per_tensor(call.output)[1]
    alpha = call.attributes["alpha"]
    params: Slopes = call.params
    mirrors = alpha < 0 and params.sign == "last"
    low, high = activation_bounds(call)

    def make(stages: tuple[Stage, ...]) -> Run:
        identity = requantizer(call, stages)
        slope = requantizer(call, stages, abs(alpha) if mirrors else alpha)
        mirrored = Requantizer(stages, slope.rescale, bounds=_INT32)

        def function(code: Array) -> Array:
            x = code - zero_point
            if not mirrors:
                below = apply_stages(slope, x)
            else:
                below = out_zero_point - apply_stages(mirrored, x)
                below = np.clip(_kernels.fit(below, 32, OVERFLOW_CODE["wrap"]), low, high)
            return np.where(x >= 0, apply_stages(identity, x), below)

        return pointwise(call, function)

    return by_policy(call, make)


@LEAKY_RELU.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 multiplication."""
    call.types(input=("float32",), output=("float32",))
    alpha = np.float32(call.attributes["alpha"])

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0]
        with np.errstate(all="ignore"):
            return [np.where(x > 0, x, x * alpha)]

    return run
