"""What maximum and minimum share.

Source: tflite/kernels/maximum_minimum.cc Prepare, MaximumOp, MinimumOp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._accumulate import INTEGERS
from qinterp.ops._binary import Function, one_type, real_types
from qinterp.ops._elementwise import real_rescale
from qinterp.ops._operator import Notes, Run


def of_codes(call: Call, choose: Function) -> Run:
    """``choose`` of the elements as they are stored, whatever their scales."""
    one_type(call, *INTEGERS, "int32", "int64", "float32")

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.asarray(choose(values[0], values[1]))]

    return run


def of_reals(call: Call, choose: Function) -> Run:
    """``choose`` of the real values; rounding each of them first comes to the same."""
    real_types(call)
    first, second = (real_rescale(call, call[name]) for name in ("input1", "input2"))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.asarray(choose(first(values[0]), second(values[1])))]

    return run
