"""The smaller of two elements, with broadcasting (clause O-minimum).

Source: tflite/kernels/maximum_minimum.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._binary import Binary, shapes
from qinterp.ops._elementwise import Real
from qinterp.ops._extremum import of_codes, of_reals
from qinterp.ops._operator import Run

MINIMUM = Binary("minimum")
MINIMUM.infers(shapes)


@MINIMUM.reads_tflite("MINIMUM", "MaximumMinimumOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """It has no attributes."""
    return {}


@MINIMUM.recipe("float32", floats=True)
@MINIMUM.recipe("integers")
@MINIMUM.recipe("codes", family="tflite")
def codes(call: Call) -> Run:
    """Elements compared as they are stored."""
    return of_codes(call, _smaller)


@MINIMUM.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The smaller real value, rounded once."""
    return of_reals(call, _smaller)


def _smaller(a: Array, b: Array) -> Array:
    # not np.minimum: the second element where one of them is NaN
    return np.where(a < b, a, b)
