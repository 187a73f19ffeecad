"""Prepared nodes that follow each other, run as one call: no Python and no lock between them.

What lies between them is never seen, so that it shares one memory, planned in advance.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call, Node
from qinterp.ir.tensor import Array
from qinterp.ops._operator import OPERATORS

_LINE = 64  # bytes that a part of the memory starts at a multiple of
_HUGE = 1 << 21  # bytes of a huge page, which numpy asks the system for in arrays of several
_SPARE_BLOCKS = 2


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
    wanted : tensors to give back.
    outputs : those of them that are the graph's, which are given back in memory of their own.
    keep_all : all tensors can be looked at afterwards. They then have a block of memory for
        themselves, which serves another run once nobody holds any of them: fresh memory costs more
        than what is written to it. Else the others share what they can.

    Attributes
    ----------
    inputs : the tensors it reads.
    first_outputs : by the name of the node.
    last_uses : tensors that nothing after it reads.
    """

    def __init__(
        self,
        links: Sequence[Link],
        wanted: Collection[str],
        *,
        keep_all: bool = False,
        outputs: Collection[str] = (),
    ) -> None:
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
        made = {} if keep_all else {part[n]: t for n, t in tensors.items() if n in wanted}
        self._outputs = [(t.name, t.shape, t.numpy_dtype) for t in made.values()]
        inner = [name for name in spans if name not in made]
        if keep_all:  # at the same time
            for span in spans.values():
                span[1:] = 0, len(links)
        offsets = _offsets([spans[name] for name in inner])
        self._chain = _chain_of(
            links, part, {**given, **{n: spans[n][0] for n in made}}, inner, offsets
        )
        self._wanted, self._views, self._bytes = [], [], 0
        self._blocks: list[tuple[Array, weakref.ref[_Lease]]] = []
        if keep_all:
            self._bytes = max(offset + size for offset, size in offsets)
            self._alignment = _HUGE if self._bytes > 2 * _HUGE else _LINE
            places = dict(zip(inner, (offset for offset, _ in offsets), strict=True))
            self._views = [
                (name, t.shape, t.numpy_dtype, places[part[name]]) for name, t in tensors.items()
            ]
            self._wanted = [view for view in self._views if view[0] in wanted]
        self._copied = [view[0] for view in self._wanted if view[0] in outputs]

    def __call__(
        self, values: Mapping[str, Array]
    ) -> tuple[dict[str, Array], Callable[[], dict[str, Array]]]:
        """Run from the tensors that it reads.

        Returns
        -------
        The tensors that are wanted; and what makes arrays of all, of a chain that keeps all.
        """
        if not self._views:
            return self.many([values])[0], dict
        block = self._take_block()
        lease = _Lease(block, -block.ctypes.data % self._alignment, self._bytes)
        memory = np.asarray(lease)
        self._chain.run([self._read(values)], 0, memory)
        if len(self._blocks) < _SPARE_BLOCKS:
            self._blocks.append((block, weakref.ref(lease)))
        outputs = _views(memory, self._wanted)
        for name in self._copied:  # a result is not to hold what was captured
            outputs[name] = outputs[name].copy()
            outputs[name].setflags(write=False)
        return outputs, partial(_views, memory, self._views)

    def many(self, inputs: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """The tensors that are wanted, for each of several inputs; where nothing is kept."""
        results = [
            {name: np.empty(shape, dtype) for name, shape, dtype in self._outputs} for _ in inputs
        ]
        runs = [
            (*self._read(values), *outputs.values())
            for values, outputs in zip(inputs, results, strict=True)
        ]
        self._chain.run(runs, len(self._outputs))
        for outputs in results:
            for value in outputs.values():
                value.setflags(write=False)
        return results

    def at_fault(self, error: MemoryError) -> Call:
        """The node that had no memory, by what the kernels tell; the first if none had begun."""
        calls = [link.call for link in self.links if link.task is not None]
        which = error.args[0] if error.args else 0
        return calls[which if isinstance(which, int) else 0]  # numpy tells of an array instead

    def _read(self, values: Mapping[str, Array]) -> list[Array]:
        arrays = [values[name] for name in self.inputs]
        if not all(array.flags.c_contiguous for array in arrays):
            arrays = [np.ascontiguousarray(array) for array in arrays]
        return arrays

    def _take_block(self) -> Array:
        """A block that nothing is a part of any more, or a new one."""
        for _ in range(len(self._blocks)):
            try:
                block, lease = self._blocks.pop(0)  # from now on it is this thread's alone
            except IndexError:
                break
            if lease() is None:
                return block
            self._blocks.append((block, lease))
        return np.empty(self._bytes + self._alignment, np.uint8)


class _Lease:
    """A part of a block for one run, which lives as long as any array that is based on it."""

    def __init__(self, block: Array, start: int, size: int) -> None:
        self._block = block
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (block.ctypes.data + start, False),
        }


def _views(memory: Array, views: Sequence[tuple[Any, ...]]) -> dict[str, Array]:
    arrays = {
        name: np.ndarray(shape, dtype, memory, offset) for name, shape, dtype, offset in views
    }
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _chain_of(
    links: Sequence[Link],
    part: Mapping[str, str],
    given: Mapping[str, int],
    inner: Sequence[str],
    offsets: Sequence[tuple[int, int]],
) -> _kernels.Chain:
    """The tasks, by the places that they read and write: arrays given, parts of a memory."""
    places = {name: i for i, name in enumerate((*given, *inner))}
    tasks, of_tasks = [], []
    for link in links:
        if link.task is not None:
            names = (*link.node.inputs[: len(link.task.sizes) - 1], link.node.outputs[0])
            tasks.append(link.task)
            of_tasks.append(tuple(places[part.get(name, name)] for name in names))
    return _kernels.Chain(tasks, of_tasks, list(given.values()), offsets)


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
                if name in outputs or any(i >= end for i in uses.get(name, ()))
            }
            del result[-len(links) :]
            result.append(Chain(links, wanted, keep_all=keep_all, outputs=outputs))
        links.clear()

    for i, step in enumerate(steps):
        link = _link_of(step)
        if link is not None and link.task is None:
            source = step.node.inputs[0]
            inside = any(source in other.node.outputs for other in links)
            if not inside or (not keep_all and (source in outputs or len(uses[source]) > 1)):
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
