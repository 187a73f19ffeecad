"""Usual mistakes, tried one by one on nodes whose other side nobody can execute.

Mistakes of arithmetic are variants of A's policy; mistakes of data are variants of the node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from qinterp.difference.nodes import NodeRunner, Prepared, Values, alone
from qinterp.difference.segments import Compute, Segment
from qinterp.difference.wording import GROUPS
from qinterp.ir import Graph, Node, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.accumulators import Group
from qinterp.numerics.rounding import Rounding
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import (
    NAMED_STAGES,
    AddZeroPoint,
    Clamp,
    Multiply,
    ShiftRight,
    Stage,
)
from qinterp.scheme import Policy, Scheme

_FEW = 8  # nodes of a segment that are searched one by one
_MOST = 5_000_000  # elements that a longer segment computes; more would take minutes


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A mistake that gives exactly what the other side has.

    Attributes
    ----------
    where : the one node that has it, of a segment of several; None if all of a kind do.
    text : a mistake of data, in words.
    groups, changed : a mistake of arithmetic: groups of a scheme's fields, and the nodes with
        them, by name.
    """

    where: str | None = None
    text: str = ""
    groups: tuple[str, ...] = ()
    changed: Mapping[str, Prepared] = dataclasses.field(default_factory=dict)


def find_suspect(segment: Segment) -> Suspect | None:
    """The first mistake that turns the segment's output into the other side's; None if none does.

    In a longer segment only mistakes that all nodes of a kind with weights have are looked for.
    """
    few = len(segment.nodes) <= _FEW
    if not few and segment.size > _MOST:
        return None
    for groups, changed in _of_a_kind(segment, weighted=not few):
        if segment.explained(changed):
            return Suspect(groups=groups, changed=changed)
    if not few:
        return None
    several = len(segment.nodes) > 1
    for node in segment.nodes:
        where = node.name if several else None
        alike = [n for n in segment.nodes if n.kind == node.kind]
        for groups, other in _variants(segment.own[node.name]) if len(alike) > 1 else ():
            if segment.explained({node.name: other}):
                return Suspect(where, groups=groups, changed={node.name: other})
        for text, node_graph in _data(segment.graph, node, segment.values_before(node)):
            if segment.explained_by({node.name: _running(node_graph, segment.runner.scheme)}):
                return Suspect(where, text)
    return None


def _running(node_graph: Graph, scheme: Scheme) -> Compute:
    """The one node of a graph, with the constants of that graph."""
    runner, (node,) = NodeRunner(node_graph, scheme), node_graph.nodes

    def compute(values: Values) -> list[Array]:
        outputs = runner.run(node, values).outputs
        return [outputs[name] for name in node.outputs]

    return compute


def _of_a_kind(
    segment: Segment, *, weighted: bool
) -> Iterator[tuple[tuple[str, ...], dict[str, Prepared]]]:
    """The same mistake in all nodes of a kind that the scheme computes in the same way."""
    by_kind: dict[str, list[Prepared]] = {}
    for prepared in segment.own.values():
        by_kind.setdefault(prepared.node.kind, []).append(prepared)
    # sums of products have the most to do wrong
    for first, *others in sorted(by_kind.values(), key=lambda all_: not _has_weights(all_[0])):
        if weighted and not _has_weights(first):
            return
        alike = [p for p in others if p.policy == first.policy and p.recipe == first.recipe]
        for groups, other in _variants(first):
            changed = {first.node.name: other}
            for prepared in alike:
                params = other.params if "recipe" in groups else prepared.params
                policy = {n: getattr(other.policy, n) for g in groups for n in GROUPS[g]}
                changed[prepared.node.name] = prepared.altered(
                    replace(prepared.policy, **policy), prepared.recipe, params
                )
            yield groups, changed


def _has_weights(prepared: Prepared) -> bool:
    return any(tensor is not None and tensor.is_constant for tensor in prepared.call.inputs)


# ---- arithmetic -------------------------------------------------------------------------------


def _variants(prepared: Prepared) -> Iterator[tuple[tuple[str, ...], Prepared]]:
    """Groups and node of every mistake of arithmetic; the likely ones first."""
    own, params = prepared.policy, prepared.params
    for groups, fields in _policies(own):
        yield groups, prepared.altered(replace(own, **fields), prepared.recipe, params)
    for name, value in _stage_lists(params):
        for stages in _other_roundings(value):
            changed = replace(params, **{name: stages})
            yield ("recipe",), prepared.altered(own, prepared.recipe, changed)


def _policies(own: Policy) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for stages in _other_roundings(own.requantize):
        yield ("stages",), {"requantize": stages}
    exact = replace(own.effective_scale, precision="exact", product_precision=None)
    for stages in NAMED_STAGES.values():
        yield ("stages",), {"requantize": stages}
        yield ("stages", "preparation"), {"requantize": stages, "effective_scale": exact}
    for changes in _ACCUMULATORS:
        yield ("accumulator",), {"accumulator": replace(own.accumulator, **changes)}
    for bits in (7, 8, 15, 16):
        short = Multiplier(bits=bits)
        for rule in get_args(Rounding):
            stages = (Multiply(), ShiftRight(rule, "total", bits), AddZeroPoint(), Clamp())
            yield ("stages", "preparation"), {"requantize": stages, "multiplier": short}
    float32 = replace(own.effective_scale, precision="float32", product_precision=None)
    yield ("preparation",), {"effective_scale": float32}


def _stage_lists(params: Any) -> Iterator[tuple[str, tuple[Stage, ...]]]:
    """Parameters of a recipe that are lists of stages, by name."""
    if not dataclasses.is_dataclass(params):
        return
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        if isinstance(value, tuple) and value and isinstance(value[0], Stage):
            yield field.name, value


_ACCUMULATORS: tuple[dict[str, Any], ...] = (
    *(
        {"bits": bits, "overflow": overflow, "check": check}
        for bits in (16, 20, 24, 18, 12, 32)
        for overflow in ("saturate", "wrap")
        for check in (("each_step", "at_end") if overflow == "saturate" else ("at_end",))
    ),
    {"group": Group(2, 16, "saturate"), "operands": "raw"},
    {"group": Group(2, 16, "saturate")},
    {"padding": "zero"},
)


def _other_roundings(stages: tuple[Stage, ...]) -> Iterator[tuple[Stage, ...]]:
    """The list with another rounding in one of its stages, the last one first."""
    for i in reversed(range(len(stages))):
        if not hasattr(stages[i], "rounding"):
            continue
        for rule in get_args(Rounding):
            if rule != stages[i].rounding:  # type: ignore[attr-defined]
                changed = replace(stages[i], rounding=rule)  # type: ignore[call-arg]
                yield (*stages[:i], changed, *stages[i + 1 :])


_LAYOUTS = {2: "OI", 4: "OHWI"}
"""Letters for the dimensions of a constant by its rank."""


# ---- data -------------------------------------------------------------------------------------


def _data(graph: Graph, node: Node, values: Values) -> Iterator[tuple[str, Graph]]:
    """The node with one of its tensors wrong."""
    tensors = [graph.tensors[name] for name in (*node.inputs, *node.outputs) if name]
    for changed, text in _wrong_tensors(node, tensors):
        yield text, alone(graph, node, values, changed)
    for name, value in (("activation", "none"), ("activation", "relu")):
        if node.attributes.get(name, value) != value:
            other = replace(node, attributes={**node.attributes, name: value})
            lone = alone(graph, other, values)
            yield f"{name} {value} (B) against {node.attributes[name]} (A)", lone


def _wrong_tensors(node: Node, tensors: list[Tensor]) -> Iterator[tuple[dict[str, Tensor], str]]:
    for tensor in tensors:
        if tensor.data is not None:
            for axes in _swaps(tensor.shape):
                data = np.ascontiguousarray(np.transpose(tensor.data, axes))
                moved = data.reshape(tensor.shape)
                layout = _LAYOUTS[len(axes)]
                stored = "".join(layout[axis] for axis in axes)
                yield (
                    {tensor.name: replace(tensor, data=moved)},
                    f"{tensor.name!r} stored as {stored} (B) against {layout} (A)",
                )
            if tensor.name in node.inputs[2:3]:
                zero = replace(tensor, data=np.zeros_like(tensor.data))
                yield {tensor.name: zero}, f"{tensor.name!r} left out (B)"
    quantized = [(t, t.quantization) for t in tensors if t.quantization is not None]
    for tensor, q in quantized:
        if q.per_channel and (q.scale != q.scale[0]).any():
            one = replace(q, scale=np.full_like(q.scale, q.scale[0]))
            yield (
                {tensor.name: replace(tensor, quantization=one)},
                f"the first channel's scale (B) against one a channel (A) of {tensor.name!r}",
            )
    points = sorted({int(z) for _, q in quantized for z in q.zero_point} | {0})
    for tensor, q in quantized:
        own = int(q.zero_point[0])
        for point in dict.fromkeys((*points, -own)):
            if (q.zero_point == point).all():
                continue
            shifted = replace(q, zero_point=np.full_like(q.zero_point, point))
            yield (
                {tensor.name: replace(tensor, quantization=shifted)},
                f"zero point {point} (B) against {own} (A) of {tensor.name!r}",
            )
    if len(quantized) >= 2:
        (a, qa), (b, qb) = quantized[0], quantized[-1]
        if not (qa.per_channel or qb.per_channel or a.name == b.name):
            yield (
                {
                    a.name: replace(a, quantization=replace(qa, zero_point=qb.zero_point)),
                    b.name: replace(b, quantization=replace(qb, zero_point=qa.zero_point)),
                },
                f"the zero points of {a.name!r} and {b.name!r} swapped (B)",
            )


def _swaps(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the dimensions that a transposed constant may be stored in."""
    if len(shape) == 2:
        yield (1, 0)
    elif len(shape) == 4:
        yield from ((0, 2, 1, 3), (0, 3, 1, 2), (1, 2, 3, 0), (0, 2, 3, 1), (3, 0, 1, 2))
