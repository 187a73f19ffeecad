"""The slow judge: one element of one node at a time, in Python integers and fractions.

Nothing here is shared with the fast code but declarations (scheme records, index maps) and the
correctly rounded elementary functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array

Index = tuple[int, ...]
Number = int | float | bool
Judge = Callable[["Twin", int, Index], Number]
"""An element: of output number ``output`` at ``index``."""


@dataclass(frozen=True)
class Line:
    """One line of an explanation.

    Attributes
    ----------
    what : the stage or quantity ("multiply_high", "accumulator").
    value : what it came to.
    exact : the value before it was rounded, where it was.
    text : anything else to say of it.
    prepared : it does not depend on the inputs (a scale, a multiplier); two schemes part only
        where something else differs.
    """

    what: str
    value: int | float | Fraction
    exact: Fraction | None = None
    text: str = ""
    prepared: bool = False


@dataclass
class Twin:
    """One node with the values of its operands.

    Attributes
    ----------
    call : what the node was prepared from.
    values : an array per operand, None where absent.
    cache : for quantities that several elements share.
    lines : the explanation so far, None when nobody asked.
    """

    call: Call
    values: Sequence[Array | None]
    cache: dict[Any, Any] = field(default_factory=dict)
    lines: list[Line] | None = None

    @property
    def policy(self) -> Any:
        """The policy of the node."""
        return self.call.policy

    @property
    def params(self) -> Any:
        """The parameters of the recipe."""
        return self.call.params

    def at(self, operand: str, index: Index) -> Any:
        """One element of an operand as a Python number."""
        value = self.values[self.call.position(operand)]
        assert value is not None
        return value[index].item()

    def code(self, operand: str, index: Index) -> int:
        """One element of an operand less its zero point."""
        tensor = self.call[operand]
        return int(self.at(operand, index)) - zero_point(tensor)

    def broadcast(self, operand: str, index: Index) -> Index:
        """The index into an operand that broadcasts to the output."""
        shape = self.call[operand].shape
        tail = index[len(index) - len(shape) :]
        return tuple(0 if size == 1 else i for size, i in zip(shape, tail, strict=True))

    def shared(self, key: Any, make: Callable[[], Any]) -> Any:
        """``make()``, once a node and key."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def say(
        self,
        what: str,
        value: int | float | Fraction,
        exact: Fraction | None = None,
        text: str = "",
        *,
        prepared: bool = False,
    ) -> None:
        """Add a line to the explanation."""
        if self.lines is not None:
            self.lines.append(Line(what, value, exact, text, prepared))


def zero_point(tensor: Tensor, channel: int = 0) -> int:
    """The zero point of a channel, 0 for a tensor that has none."""
    if tensor.quantization is None:
        return 0
    values = tensor.quantization.zero_point
    return int(values[channel if values.size > 1 else 0])


def scale(tensor: Tensor, channel: int = 0) -> Fraction:
    """The scale of a channel, as the exact value of the float32."""
    assert tensor.quantization is not None
    values = tensor.quantization.scale
    return Fraction(float(values[channel if values.size > 1 else 0]))


TWINS: dict[tuple[str, str], Judge] = {}


def twin(kind: str, *recipes: str) -> Callable[[Judge], Judge]:
    """Declare the twin of an operator's recipes."""

    def declare(judge: Judge) -> Judge:
        for recipe in recipes:
            if (kind, recipe) in TWINS:
                raise ValueError(f"the twin of {kind} {recipe!r} is declared twice")
            TWINS[kind, recipe] = judge
        return judge

    return declare


def moved(t: Twin, output: int, index: Index) -> Number:
    """The twin of every data movement: its index map, applied to element numbers."""

    def numbers() -> tuple[list[Any], Sequence[Array]]:
        elements: list[Any] = []
        grids: list[Any] = []
        for tensor, value in zip(t.call.inputs, t.values, strict=False):
            if tensor is None or value is None:
                grids.append(None)
                continue
            start = len(elements)
            elements.extend(value.reshape(-1).tolist())
            grids.append(np.arange(start, len(elements)).reshape(value.shape))
        operator_move = t.cache["movement"](t.call)
        return elements, operator_move(grids, -1)

    elements, maps = t.shared("map", numbers)
    source = int(maps[output][index])
    fill = zero_point(t.call.output)
    return fill if source < 0 else elements[source]


def judge_of(kind: str, recipe: str) -> Judge | None:
    """The twin of a recipe; data movements and ``dequantized`` have one for all operators."""
    judge = TWINS.get((kind, recipe))
    if recipe == "move":
        judge = moved
    elif recipe == "dequantized" and judge is None:
        from qinterp.twin._dequantized import dequantized

        judge = dequantized
    return None if judge is None else _signed(judge)


def _signed(judge: Judge) -> Judge:
    """``judge`` on int8 codes in place of uint8 ones, where the policy wants them so."""

    def judged(t: Twin, output: int, index: Index) -> Number:
        if t.policy is None or t.policy.unsigned == "native" or not t.call.is_unsigned:
            return judge(t, output, index)

        def make() -> Twin:
            pairs = zip(t.call.inputs, t.values, strict=False)
            values = [
                v.astype(np.int16) - 128 if v is not None and x and _unsigned(x) else v
                for x, v in pairs
            ]
            return Twin(t.call.as_signed(), values, dict(t.cache), t.lines)

        code = judge(t.shared("signed", make), output, index)
        return code + 128 if _unsigned(t.call.outputs[output]) else code

    return judged


def _unsigned(tensor: Tensor) -> bool:
    return tensor.dtype == "uint8" and tensor.quantization is not None


def compute(
    judge: Judge, call: Call, values: Sequence[Array | None], cache: Mapping[str, Any] | None = None
) -> list[Array]:
    """Every output of a node, element by element."""
    t = Twin(call, values, dict(cache or {}))
    outputs = []
    for number, tensor in enumerate(call.outputs):
        out = np.empty(tensor.shape, tensor.numpy_dtype)
        for index in np.ndindex(*tensor.shape):
            out[index] = judge(t, number, index)
        outputs.append(out)
    return outputs
