"""Prepared nodes that follow each other, run as one call: no Python and no lock between them.

What lies between them is never seen, so that it shares one memory, planned in advance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call, Node
from qinterp.ir.tensor import Array
from qinterp.ops._operator import OPERATORS

_LINE = 64  # bytes that a part of the memory starts at a multiple of


class Prepared(Protocol):
    """A node as the interpreter prepares it; see ``qinterp.interpreter.Step``."""

    node: Node
    call: Call | None
    run: Any
    outputs: tuple[Array, ...] | None
    last_uses: tuple[str, ...]
    stateful: bool


@dataclass(frozen=True)
class Link:
    """A node of a chain; without a task its output is its operand, in another shape."""

    node: Node
    call: Call
    task: _kernels.Task | None
    last_uses: tuple[str, ...]


class Chain:
    """Nodes that follow each other; reentrant.

    Parameters
    ----------
    links : in order, at least one.
    wanted : tensors to give back; the others exist only while it runs.

    Attributes
    ----------
    inputs : the tensors it reads.
    first_outputs : by the name of the node.
    """

    def __init__(self, links: Sequence[Link], wanted: Collection[str]) -> None:
        self.links = tuple(links)
        self.last_uses = tuple(name for link in links for name in link.last_uses)
        self.first_outputs = {link.node.name: link.node.outputs[0] for link in links}
        part: dict[str, str] = {}  # of each tensor made here: whose memory it has
        spans: dict[str, list[int]] = {}  # of that memory: bytes, first and last use
        given: dict[str, int] = {}  # bytes
        for i, link in enumerate(links):
            (out,) = link.node.outputs
            if link.task is None:
                part[out] = part[link.node.inputs[0]]
                continue
            *reads, size = link.task.sizes
            for name, operand_size in zip(link.node.inputs, reads, strict=False):
                if name in part:
                    spans[part[name]][2] = i
                else:
                    given[name] = operand_size
            part[out], spans[out] = out, [size, i, i]
        self.inputs = tuple(given)
        tensors = {link.node.outputs[0]: link.call.output for link in links}
        made = {part[name]: tensors[name] for name in tensors if name in wanted}
        self._outputs = [(t.name, t.shape, t.numpy_dtype) for t in made.values()]
        inner = {name: span for name, span in spans.items() if name not in made}
        places = {name: i for i, name in enumerate((*given, *made, *inner))}
        self._chain = _kernels.Chain(
            [link.task for link in links if link.task is not None],
            [
                tuple(
                    places[part.get(name, name)]
                    for name in (
                        *link.node.inputs[: len(link.task.sizes) - 1],
                        link.node.outputs[0],
                    )
                )
                for link in links
                if link.task is not None
            ],
            [*given.values(), *(spans[name][0] for name in made)],
            _offsets(list(inner.values())),
        )

    def __call__(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The tensors that are wanted, from those that it reads."""
        outputs = {name: np.empty(shape, dtype) for name, shape, dtype in self._outputs}
        arrays = [values[name] for name in self.inputs]
        if not all(array.flags.c_contiguous for array in arrays):
            arrays = [np.ascontiguousarray(array) for array in arrays]
        self._chain.run((*arrays, *outputs.values()), len(outputs))
        return outputs


def _offsets(spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Where parts of so many bytes, used from one step to another, go, and their bytes.

    The largest first, each at the lowest place that no part used at the same time has: what
    TFLite's planner does too (tflite/simple_memory_arena.cc, largest tensors first).
    """
    placed: list[tuple[int, int, int]] = []  # start, end, index
    offsets = [(0, 0)] * len(spans)
    for i in sorted(range(len(spans)), key=lambda i: -spans[i][0]):
        size, first, last = spans[i]
        start = 0
        for low, high, other in sorted(placed):
            if spans[other][1] <= last and first <= spans[other][2]:
                if start + size <= low:
                    break
                start = max(start, high)
        placed.append((start, start + -(-size // _LINE) * _LINE, i))
        offsets[i] = start, size
    return offsets


def pieces(
    steps: Sequence[Prepared], outputs: Collection[str], *, keep_all: bool = False
) -> list[Any]:
    """``steps`` with chains in the place of those that can be run as one call.

    Parameters
    ----------
    outputs : tensors that are wanted at the end.
    keep_all : every tensor is.
    """
    uses: dict[str, list[int]] = {}
    for i, step in enumerate(steps):
        for name in step.node.inputs:
            uses.setdefault(name, []).append(i)
    result: list[Any] = []
    links: list[Link] = []

    def close(end: int) -> None:
        if len(links) > 1:
            wanted = {
                name
                for link in links
                for name in link.node.outputs
                if keep_all or name in outputs or any(i >= end for i in uses.get(name, ()))
            }
            del result[-len(links) :]
            result.append(Chain(links, wanted))
        links.clear()

    for i, step in enumerate(steps):
        link = _link_of(step)
        if link is not None and link.task is None:
            source = step.node.inputs[0]
            inside = any(source in other.node.outputs for other in links)
            if not inside or keep_all or source in outputs or len(uses[source]) > 1:
                link = None
        if link is None:
            close(i)
        else:
            links.append(link)
        result.append(step)
    close(len(steps))
    return result


def _link_of(step: Prepared) -> Link | None:
    if step.run is None or step.call is None or step.outputs is not None or step.stateful:
        return None
    if len(step.node.outputs) != 1:
        return None
    task = getattr(step.run, "task", None)
    if task is None and not OPERATORS[step.node.kind].keeps_order:
        return None
    if task is not None:
        tensors = (*step.call.inputs[: len(task.sizes) - 1], step.call.output)
        if task.sizes != tuple(t and t.numpy_dtype.itemsize * math.prod(t.shape) for t in tensors):
            return None
    return Link(step.node, step.call, task, step.last_uses)
