"""Twins of the six comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qinterp.twin._binary import below_one, codes, operands, reals
from qinterp.twin._twin import Index, Twin, scale, twin

Relation = Callable[[Any, Any], bool]


def compares(kind: str, relation: Relation) -> None:
    """Declare the twin of a comparison."""

    def stored(t: Twin, output: int, index: Index) -> bool:
        """Elements as they are stored."""
        a, b = operands(t, index)
        return relation(a, b)

    def rescaled(t: Twin, output: int, index: Index) -> bool:
        """Elements times their scales, in fixed point."""
        if t.call["input1"].dtype in t.params.as_stored:
            return stored(t, output, index)
        scaled = []
        for name, code in zip(("input1", "input2"), codes(t, index), strict=True):
            shifted = code * 2**t.params.left_shift
            scaled.append(below_one(t, t.params.stages, shifted, scale(t.call[name])))
            t.say(f"{name} in fixed point", scaled[-1])
        return relation(*scaled)

    def real(t: Twin, output: int, index: Index) -> bool:
        """The real values."""
        a, b = reals(t, index)
        t.say("difference", a - b)
        return relation(a, b)

    twin(kind, "integers", "float32")(stored)
    twin(kind, "rescaled")(rescaled)
    twin(kind, "real")(real)
