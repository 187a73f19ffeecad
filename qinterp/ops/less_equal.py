"""Whether elements do not exceed others, with broadcasting (clause O-less_equal).

Source: tflite/kernels/comparisons.cc LessEqualEval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ops._binary import Binary, shapes
from qinterp.ops._comparison import (
    RescaledOrder,
    real_comparison,
    rescaled_comparison,
    stored_comparison,
)
from qinterp.ops._operator import Run

LESS_EQUAL = Binary("less_equal")
LESS_EQUAL.infers(shapes)


@LESS_EQUAL.reads_tflite("LESS_EQUAL", "LessEqualOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """It has no attributes."""
    return {}


@LESS_EQUAL.recipe("rescaled", RescaledOrder, family="tflite")
def rescaled(call: Call) -> Run:
    """Both inputs multiplied by their scales in fixed point; 16-bit codes as they are."""
    return rescaled_comparison(call, np.less_equal)


@LESS_EQUAL.recipe("real", family="real")
def real(call: Call) -> Run:
    """The real values."""
    return real_comparison(call, np.less_equal)


@LESS_EQUAL.recipe("integers")
def plain(call: Call) -> Run:
    """Integers as they are."""
    return stored_comparison(call, np.less_equal, "int16", "int32", "int64")


@LESS_EQUAL.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Real numbers as they are."""
    return stored_comparison(call, np.less_equal, "float32")
