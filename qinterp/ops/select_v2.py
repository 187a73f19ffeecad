"""Elements of one tensor or another by a condition, all broadcast (clause O-select_v2).

Source: tflite/kernels/select.cc SelectPrepare (version two);
tflite/kernels/internal/reference/select.h BroadcastSelect5DSlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._elementwise import broadcast_shape
from qinterp.ops._operator import ANY_FAMILY, Operator, Run
from qinterp.ops._selection import choose, one_element_shape

SELECT_V2 = Operator("select_v2", ("condition", "x", "y"))


@SELECT_V2.reads_tflite("SELECT_V2", "SelectV2Options")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@SELECT_V2.infers
def shapes(call: Call) -> list[Shape]:
    """All three broadcast to each other."""
    alone = one_element_shape(call)
    return [broadcast_shape(call, "condition", "x", "y") if alone is None else alone]


@SELECT_V2.recipe("choose", family=ANY_FAMILY)
def select(call: Call) -> Run:
    """One choice an element."""
    return choose(call, call["condition"].shape)
