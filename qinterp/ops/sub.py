"""Subtraction with broadcasting (clause O-sub).

Source: tflite/kernels/sub.cc; tflite/kernels/internal/reference/sub.h, reference_ops.h Sub16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ops._binary import Binary, floats, integers, real_sum, shapes
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Run
from qinterp.ops._rescaled import AboveOne, RescaledSum, rescaled_sum
from qinterp.ops._weighted_sum import WeightedSum, weighted_sum

SUB = Binary("sub", {"activation": "none", "power_of_two_int16": False})
SUB.infers(shapes)


@dataclass(frozen=True)
class RescaledDifference(RescaledSum):
    """As the sum; an output factor above one is taken, though the kernel cannot shift left."""

    above_one: AboveOne = "sign"


@SUB.reads_tflite("SUB", "SubOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a SUB."""
    return {
        "activation": options.enum("fused_activation_function"),
        "power_of_two_int16": bool(options.pot_scale_int16),
    }


@SUB.recipe("rescaled_difference", RescaledDifference, family="tflite")
def rescaled(call: Call) -> Run:
    """Both inputs on a common scale, subtracted, rescaled to the output."""
    return rescaled_sum(call, -1)


@SUB.recipe("weighted_sum", WeightedSum)
def weighted(call: Call) -> Run:
    """Both inputs times integer weights, subtracted, one rounding."""
    return weighted_sum(call, -1)


@SUB.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real difference, rounded once."""
    return real_sum(call, -1)


@SUB.recipe("integers")
def plain(call: Call) -> Run:
    """The difference modulo the width of the type."""
    return integers(call, np.subtract, "int32", "int64")


@SUB.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 subtraction, then the activation."""
    return floats(call, np.subtract)
