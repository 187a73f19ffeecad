"""What the two selections share.

Source: tflite/kernels/select.cc SelectPrepare, SelectEval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._movement import check_same_type
from qinterp.ops._operator import Notes, Run


def one_element_shape(call: Call) -> Shape | None:
    """The file's own output shape where everything is one element, of whatever rank."""
    tensors = [*(call[name] for name in ("condition", "x", "y")), call.output]
    return call.output.shape if all(math.prod(t.shape) == 1 for t in tensors) else None


def choose(call: Call, condition: Shape) -> Run:
    """``x`` where the condition, read in a shape that broadcasts, holds, else ``y``."""
    call.types(condition=("bool",))
    check_same_type(call, [call["x"], call["y"], call.output])
    shape = call.output.shape
    if math.prod(shape) == 1:
        condition = shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        chosen, x, y = values
        return [np.where(chosen.reshape(condition), x, y).reshape(shape)]

    return run
