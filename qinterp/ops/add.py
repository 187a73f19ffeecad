"""Addition with broadcasting (clause O-add).

Source: tflite/kernels/add.cc; tflite/kernels/internal/reference/add.h, integer_ops/add.h;
tensorflow/lite/micro/kernels/add.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp.ir import Call
from qinterp.ops._binary import Binary, floats, integers, real_sum, shapes
from qinterp.ops._elementwise import Real
from qinterp.ops._operator import Run
from qinterp.ops._rescaled import RescaledSum, rescaled_sum
from qinterp.ops._weighted_sum import WeightedSum, weighted_sum

ADD = Binary("add", {"activation": "none", "power_of_two_int16": False})
ADD.infers(shapes)


@ADD.reads_tflite("ADD", "AddOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of an ADD."""
    return {
        "activation": options.enum("fused_activation_function"),
        "power_of_two_int16": bool(options.pot_scale_int16),
    }


@ADD.recipe("rescaled_sum", RescaledSum, family="tflite")
def rescaled(call: Call) -> Run:
    """Both inputs on a common scale, added, rescaled to the output."""
    return rescaled_sum(call, 1)


@ADD.recipe("weighted_sum", WeightedSum)
def weighted(call: Call) -> Run:
    """Both inputs times integer weights, added, one rounding."""
    return weighted_sum(call, 1)


@ADD.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real sum, rounded once."""
    return real_sum(call, 1)


@dataclass(frozen=True)
class PlainSum:
    """Integers that stand for themselves.

    Attributes
    ----------
    activation : some kernels do not read it.
    """

    activation: Literal["used", "ignored"] = "used"


@ADD.recipe("integers", PlainSum)
def plain(call: Call) -> Run:
    """The sum modulo the width of the type."""
    activated = call.params.activation == "used"
    return integers(call, np.add, "int16", "int32", "int64", activated=activated)


@ADD.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 addition, then the activation."""
    return floats(call, np.add)
