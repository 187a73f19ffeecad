"""The index of the smallest element along an axis, the first of equals (clause O-arg_min).

Source: tflite/kernels/arg_min_max.cc; tflite/kernels/internal/reference/arg_min_max.h ArgMinMax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ops._arg_extremum import first_index, shapes
from qinterp.ops._operator import ANY_FAMILY, Operator, Run

ARG_MIN = Operator("arg_min", ("input", "axis"))
ARG_MIN.infers(shapes)


@ARG_MIN.reads_tflite("ARG_MIN", "ArgMinOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """The output's type says it all."""
    return {}


@ARG_MIN.recipe("first_index", family=ANY_FAMILY)
def index(call: Call) -> Run:
    """The first index of the smallest element."""
    return first_index(call, np.fmin)
