"""Elements of one tensor or another by a condition of low rank (clause O-select).

Source: tflite/kernels/select.cc SelectPrepare (version one);
tflite/kernels/internal/reference/select.h Select, RankOneSelect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._operator import ANY_FAMILY, Operator, Run
from qinterp.ops._selection import choose, one_element_shape

SELECT = Operator("select", ("condition", "x", "y"))


@SELECT.reads_tflite("SELECT", "SelectOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Everything is an operand."""
    return {}


@SELECT.infers
def shapes(call: Call) -> list[Shape]:
    """The condition has the shape of x and y, or their first dimension, or is a scalar."""
    alone = one_element_shape(call)
    if alone is not None:
        return [alone]
    condition, x, y = (call[name].shape for name in ("condition", "x", "y"))
    call.check(x == y, f"{call['x'].describe()} and {call['y'].describe()} must have one shape")
    call.check(
        condition in (x, x[:1], ()),
        f"condition {call['condition'].describe()} does not fit {call['x'].describe()}",
    )
    return [x]


@SELECT.recipe("choose", family=ANY_FAMILY)
def select(call: Call) -> Run:
    """One choice an element, or one for all that share the first index."""
    condition, rank = call["condition"].shape, len(call.output.shape)
    if len(condition) == 1 < rank:
        condition = (*condition, *(1 for _ in range(rank - 1)))
    return choose(call, condition)
