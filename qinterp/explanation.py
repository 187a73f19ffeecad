"""One element of one tensor, step by step, under one scheme or two."""

from __future__ import annotations

import itertools
import operator
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.errors import InputError, QInterpError, UnsupportedOperatorError
from qinterp.interpreter import Inputs, Interpreter
from qinterp.ir import Graph, Node
from qinterp.ir.tensor import Array
from qinterp.ops import OPERATORS
from qinterp.scheme import Scheme
from qinterp.text import WIDTH, folded
from qinterp.twin import Line, Twin, judge_of

Number = int | float | bool
_HALF = Fraction(1, 2)
_NOT_FOLLOWED = "an operand has NaN or infinity, which the twin does not follow"


@dataclass(frozen=True)
class Trace:
    """How one scheme arrives at the element.

    Attributes
    ----------
    scheme, recipe : their names.
    lines : the steps in order.
    value : the element, from the twin; the interpreter's is the same or ``explain`` raises.
    """

    scheme: str
    recipe: str
    lines: tuple[Line, ...]
    value: Number


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found; ``str()`` of it is the text to read.

    Attributes
    ----------
    node : the operator that computes the tensor.
    tensor, index : the element; ``real`` is what its code stands for, under the first scheme.
    traces : one a scheme, on the same operands: those that the first scheme computed.
    parted : number of the first line in which two traces differ, None if none does.
    """

    node: Node
    tensor: str
    index: tuple[int, ...]
    traces: tuple[Trace, ...]
    real: float | None
    parted: int | None

    @property
    def agrees(self) -> bool:
        """Whether all traces come to the same value."""
        return _same(self.traces[0].value, self.traces[-1].value)

    def __str__(self) -> str:
        first = self.traces[0]
        at = ",".join(map(str, self.index))
        real = "" if self.real is None else f", that is {self.real:.6g}"
        first_output = self.tensor == self.node.outputs[0]
        name = self.node.name if first_output else self.tensor
        of = self.node.kind if first_output else f"an output of {self.node.name}, {self.node.kind}"
        head = folded(f"{name}[{at}] ({of}) = {first.value}{real}", rest="  ")
        if first_output:  # its own name may be hundreds of characters long
            head += folded(f"tensor {self.tensor}", "  ", "    ")
        if len(self.traces) == 1:
            body = [_row(line) for line in first.lines]
            return "\n".join([*head, f"  {first.scheme}, recipe {first.recipe}", *_align(body)])
        return "\n".join([*head, *self._side_by_side()])

    def _side_by_side(self) -> list[str]:
        rows: list[tuple[str, str, str]] = []
        pairs = itertools.zip_longest(*(trace.lines for trace in self.traces))
        for number, (left, right) in enumerate(pairs):
            names = list(dict.fromkeys(line.what for line in (left, right) if line))
            mark = "> " if number == self.parted else "  "
            rows.append((mark + " | ".join(names), _cell(left), _cell(right)))
            if number == self.parted and len(names) == 1:
                break
        head = ["  on the same operands, the first scheme's"]
        if self.parted is not None:
            head.append("  > marks where they part")
        values = [str(trace.value) for trace in self.traces]
        titles = [f"{trace.scheme}, recipe {trace.recipe}" for trace in self.traces]
        table = [("  ", *titles), *rows, ("  result", *values)]
        return head + _columns(table)

    def to_json(self) -> dict[str, Any]:
        """The same as data; rationals are strings."""
        return {
            "schema": "qinterp.explain/1",
            "node": self.node.name,
            "kind": self.node.kind,
            "tensor": self.tensor,
            "index": list(self.index),
            "real": self.real,
            "parted": self.parted,
            "traces": [
                {
                    "scheme": trace.scheme,
                    "recipe": trace.recipe,
                    "value": trace.value,
                    "lines": [
                        {
                            "what": line.what,
                            "value": _plain(line.value),
                            "exact": None if line.exact is None else str(line.exact),
                            "text": line.text,
                        }
                        for line in trace.lines
                    ],
                }
                for trace in self.traces
            ],
        }


def explain(
    graph: Graph,
    inputs: Inputs,
    tensor: str,
    index: Sequence[int],
    scheme: str | Scheme = "tflite-reference",
    other: str | Scheme | None = None,
) -> Explanation:
    """How an element came about.

    Parameters
    ----------
    inputs : as for :meth:`Interpreter.run`.
    tensor : its name, a unique part of it, ``#index``, or its node's name.
    index : one integer a dimension.
    scheme, other : one scheme, or two to be set side by side on the first one's operands.

    Raises
    ------
    InputError : no such tensor or element, or one that no node computes.
    QInterpError : twin and interpreter disagree, which is a bug of qinterp.
    """
    found = graph.find_tensor(tensor)
    node = graph.producer(found.name)
    if node is None:
        raise InputError(f"tensor {found.describe()} is not computed: there is nothing to explain")
    interpreter = Interpreter(graph, scheme)
    if found.name in interpreter.input_codes(inputs):
        raise InputError(f"tensor {found.describe()} is given: there is nothing to explain")
    result = interpreter.run(inputs, capture=True)
    values = interpreter.operands_of(node, inputs, result)
    value = result.tensors[found.name]
    where = _check_index(value, index, found.describe())
    traces = [_trace(interpreter, node, values, found.name, where)]
    if not _same(value[where].item(), traces[0].value):
        if not _finite([*values, value[where]]):
            raise InputError(f"node {node.name!r} ({node.kind}): {_NOT_FOLLOWED}")
        raise QInterpError(
            f"the twin gives {traces[0].value} for {found.name!r}{list(where)}, the interpreter "
            f"{value[where].item()}: please report this"
        )
    if other is not None:
        traces.append(_trace(Interpreter(graph, other), node, values, found.name, where))
    real = None
    if found.quantization is not None and not found.quantization.per_channel:
        real = found.scale * (int(value[where]) - found.zero_point)
    return Explanation(node, found.name, where, tuple(traces), real, _parted(traces))


def parse_element(text: str) -> tuple[str, tuple[int, ...]]:
    """``"conv_2d_3[0,4,5,7]"`` as a tensor and an index.

    Raises
    ------
    InputError : not of that form.
    """
    match = re.fullmatch(r"(.+)\[([-\d\s,]*)\]", text, re.DOTALL)
    if not match:
        raise InputError(f"{text!r} is not of the form TENSOR[i,j,...]")
    parts = match[2].split(",") if match[2].strip() else []
    try:
        return match[1], tuple(int(part) for part in parts)
    except ValueError:
        raise InputError(f"{text!r}: the index must be integers") from None


def _trace(
    interpreter: Interpreter,
    node: Node,
    values: Sequence[Array | None],
    tensor: str,
    index: tuple[int, ...],
) -> Trace:
    step = interpreter.step_for(node, values)
    assert step.call is not None
    judge = judge_of(node.kind, step.recipe)
    if judge is None:
        raise UnsupportedOperatorError(
            step.call.where(f"recipe {step.recipe!r} has no twin to explain it")
        )
    cache: Mapping[Any, Any] = {"movement": OPERATORS[node.kind].movement}
    twin = Twin(step.call, values, dict(cache), [])
    try:
        value = judge(twin, node.outputs.index(tensor), index)
    except (ArithmeticError, ValueError) as error:
        if not _finite(values):
            raise InputError(step.call.where(_NOT_FOLLOWED)) from None
        raise step.call.failed(error) from error
    return Trace(step.scheme, step.recipe, tuple(twin.lines or ()), value)


def _finite(values: Sequence[Array | None]) -> bool:
    """Whether no float among the values is NaN or infinity."""
    floats = [v for v in values if v is not None and v.dtype.kind == "f"]
    return all(bool(np.isfinite(v).all()) for v in floats)


def _same(left: Any, right: Any) -> bool:
    """Whether two numbers are the same; NaN is the same as NaN."""
    return bool(left == right or (left != left and right != right))


def _check_index(value: Array, given: Sequence[int], what: str) -> tuple[int, ...]:
    try:
        index = [operator.index(i) for i in given]
    except TypeError:
        raise InputError(f"tensor {what}: the index must be integers, got {given!r}") from None
    if len(index) != value.ndim:
        raise InputError(f"tensor {what} needs {value.ndim} indices, got {index}")
    where = []
    for i, n in zip(index, value.shape, strict=True):
        if not -n <= i < n:
            raise InputError(f"tensor {what}: index {index} is out of range")
        where.append(i % n)
    return tuple(where)


def _parted(traces: Sequence[Trace]) -> int | None:
    """The first line that differs: in value, or in kind where the results differ too."""
    same_result = _same(traces[0].value, traces[-1].value)
    for number, pair in enumerate(itertools.zip_longest(*(t.lines for t in traces))):
        if len(pair) < 2:
            return None
        left, right = pair
        if left is None or right is None or left.what != right.what:
            return None if same_result else number
        if not _same(left.value, right.value) and not left.prepared:
            return number
    return None


def _row(line: Line) -> tuple[str, str, str]:
    return line.what, _number(line.value), _remark(line)


def _cell(line: Line | None) -> str:
    if line is None:
        return "-"
    remark = _remark(line)
    return f"{_number(line.value)}  {remark}" if remark else _number(line.value)


def _remark(line: Line) -> str:
    parts = [line.text] if line.text else []
    if line.exact is not None:
        parts.append(f"from {_number(line.exact)}{_remainder(line.exact)}")
    return ", ".join(parts)


def _remainder(exact: Fraction) -> str:
    rest = exact - exact.numerator // exact.denominator
    if rest == _HALF:
        return " (a tie)"
    if rest == 0:
        return ""
    return f" (remainder {float(rest):.6g})"


def _number(value: Any) -> str:
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return str(value.numerator)
        return f"{float(value):.12g}"
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    return str(value)


def _align(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    if not rows:
        return []
    left = max(len(row[0]) for row in rows)
    middle = max(len(row[1]) for row in rows)
    lines = []
    for what, value, remark in rows:
        start = f"    {what:<{left}}  {value:>{middle}}"
        lines += folded(remark, f"{start}  ", " " * (len(start) + 2)) or [start]
    return lines


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Three columns within 100 characters; the two right ones are folded."""
    left = max(len(row[0]) for row in rows)
    width = (WIDTH - left - 4) // 2
    lines = []
    for what, *cells in rows:
        parts = [textwrap.wrap(cell, width) or [""] for cell in cells]
        for number, (a, b) in enumerate(itertools.zip_longest(*parts, fillvalue="")):
            lines.append(f"{what if number == 0 else '':<{left}}  {a:<{width}}  {b}".rstrip())
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value
