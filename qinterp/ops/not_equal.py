"""Whether elements differ, with broadcasting (clause O-not_equal).

Source: tflite/kernels/comparisons.cc NotEqualEval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ops._binary import Binary, shapes
from qinterp.ops._comparison import (
    RescaledComparison,
    real_comparison,
    rescaled_comparison,
    stored_comparison,
)
from qinterp.ops._operator import Run

NOT_EQUAL = Binary("not_equal")
NOT_EQUAL.infers(shapes)


@NOT_EQUAL.reads_tflite("NOT_EQUAL", "NotEqualOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """It has no attributes."""
    return {}


@NOT_EQUAL.recipe("rescaled", RescaledComparison, family="tflite")
def rescaled(call: Call) -> Run:
    """Both inputs multiplied by their scales in fixed point."""
    return rescaled_comparison(call, np.not_equal)


@NOT_EQUAL.recipe("real", family="real")
def real(call: Call) -> Run:
    """The real values."""
    return real_comparison(call, np.not_equal)


@NOT_EQUAL.recipe("integers")
def plain(call: Call) -> Run:
    """Integers or truth values as they are."""
    return stored_comparison(call, np.not_equal, "int32", "int64", "bool")


@NOT_EQUAL.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Real numbers as they are."""
    return stored_comparison(call, np.not_equal, "float32")
