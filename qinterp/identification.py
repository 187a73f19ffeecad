"""Which known schemes compute what somebody captured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np

from qinterp.difference.comparison import as_samples
from qinterp.difference.dumps import Match
from qinterp.difference.nodes import NodeRunner, operands
from qinterp.difference.sides import Given, Side, open_side
from qinterp.difference.streaming import in_order
from qinterp.difference.wording import listed
from qinterp.errors import QInterpError
from qinterp.interpreter import Inputs
from qinterp.ir import Graph, Node
from qinterp.ir.tensor import Array
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme, sound_scheme_names


@dataclass
class Identification:
    """Schemes that reproduce captured tensors, each node run from the captured operands.

    Attributes
    ----------
    graph : whose tensors they are.
    schemes : names of the candidates.
    elements : node name to the number of elements compared.
    wrong : node name, then scheme name, to the number of elements that the scheme gives otherwise
        in the first sample that rules it out; a scheme that cannot run the node is left out there.
    samples : how many were compared.
    interrupted : the user stopped it; what is here is of the samples before.
    remarks : what was recognised or left out, in sentences.
    """

    graph: Graph
    schemes: tuple[str, ...]
    elements: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, Counter[str]] = field(default_factory=dict)
    samples: int = 0
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def by_node(self) -> dict[str, tuple[str, ...]]:
        """Node name to the schemes that give every element of it."""
        return {
            name: tuple(s for s in self.schemes if s in wrong and not wrong[s])
            for name, wrong in self.wrong.items()
        }

    @property
    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """Operator kind to the schemes that give every element of every such node."""
        found: dict[str, tuple[str, ...]] = {}
        for name, schemes in self.by_node.items():
            kind = self.graph.node(name).kind
            found[kind] = tuple(s for s in found.get(kind, self.schemes) if s in schemes)
        return found

    @property
    def everywhere(self) -> tuple[str, ...]:
        """The schemes that give every element of every node compared."""
        kinds = self.by_kind.values()
        return tuple(s for s in self.schemes if kinds and all(s in found for found in kinds))

    def __str__(self) -> str:
        if not self.wrong:
            return "nothing to identify: no node has both operands and outputs captured"
        if self.everywhere:
            nodes = f"{len(self.wrong)} node{'' if len(self.wrong) == 1 else 's'}"
            give = "gives" if len(self.everywhere) == 1 else "give"
            return f"{listed(self.everywhere)} {give} all {nodes} exactly"
        return "; ".join(
            f"{kind}: {', '.join(schemes) or 'no known scheme'}"
            for kind, schemes in self.by_kind.items()
        )


def identify(
    graph: Graph,
    inputs: Inputs | Iterable[Inputs],
    tensors: Given,
    *,
    schemes: Sequence[str | Scheme] | None = None,
    match: Match = "auto",
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> Identification:
    """Which schemes reproduce captured tensors exactly.

    Parameters
    ----------
    graph : from :func:`qinterp.load`.
    inputs : what the tensors were computed from: as for :meth:`Interpreter.run`, or an iterable of
        such, which is streamed.
    tensors : a dict of name to array, a Capture, a Result, the path of a dump, "runtime:NAME", or
        an iterable of dicts, one a sample. Not all tensors need be there.
    schemes : the candidates; by default all that have a name.
    match : how names are matched, see :func:`qinterp.difference.read_dump`.
    progress : told after every sample how many are done.
    workers : threads; one for each core by default.

    Returns
    -------
    Identification, partial if the user interrupts it.

    Raises
    ------
    InputError, SchemeError : tensors or candidates that cannot be used. A scheme that cannot run a
        node does not reproduce it, that is all.
    """
    side = open_side(graph, tensors, "B", match)
    known = [load_scheme(s) for s in (sound_scheme_names() if schemes is None else schemes)]
    runners = {scheme.name: NodeRunner(graph, scheme) for scheme in known}
    found = Identification(graph, tuple(runners))
    reader = side.runner or NodeRunner(graph, "tflite-reference")
    stop = Event()

    def tasks() -> Iterator[tuple[Node, dict[str, Array]] | None]:
        for sample in as_samples(inputs):
            values = _everything(side, reader, sample)
            yield from ((node, values) for node in graph.nodes if _seen(graph, node, values))
            yield None

    def work(task: tuple[Node, dict[str, Array]] | None) -> _Tried | None:
        return None if task is None else _try_node(found, *task, runners, stop)

    try:
        with closing(in_order(tasks(), work, workers, stop)) as results:
            for tried in results:
                if tried is not None:
                    _take_in(found, tried)
                    continue
                found.samples += 1
                if progress is not None:
                    progress(found.samples)
    except KeyboardInterrupt:
        found.interrupted = True
    found.remarks += side.remarks
    unseen = [n.name for n in graph.nodes if n.name not in found.wrong]
    if unseen:
        found.remarks.append(
            f"{len(unseen)} of {len(graph.nodes)} nodes lack captured operands or outputs"
        )
    return found


def _everything(side: Side, reader: NodeRunner, sample: Inputs) -> dict[str, Array]:
    values = side.tensors(reader.codes(sample), side.draw())
    if side.runner is not None:
        values, _ = side.runner.run_nodes(side.runner.graph.nodes, values)
    return values


@dataclass(frozen=True)
class _Tried:
    """One node of one sample: scheme name to the elements it gives otherwise, None if it cannot."""

    node: Node
    elements: int
    wrong: dict[str, int | None]


def _seen(graph: Graph, node: Node, values: Mapping[str, Array]) -> bool:
    """Whether a node's operands and some elements of its outputs were captured."""
    return any(name in values and values[name].size for name in node.outputs) and all(
        name in values for name in operands(graph, node)
    )


def _try_node(
    found: Identification,
    node: Node,
    values: Mapping[str, Array],
    runners: Mapping[str, NodeRunner],
    stop: Event,
) -> _Tried:
    """Run a node under every candidate that no earlier sample is known to rule out."""
    captured = [name for name in node.outputs if name in values]
    tried = _Tried(node, sum(values[name].size for name in captured), {})
    earlier = found.wrong.get(node.name)
    for scheme, runner in runners.items():
        if stop.is_set() or (earlier is not None and earlier.get(scheme, 1)):
            continue
        try:
            outputs = runner.run(node, values).outputs
        except QInterpError:
            tried.wrong[scheme] = None
        else:
            tried.wrong[scheme] = sum(_unequal(outputs[n], values[n]) for n in captured)
    return tried


def _take_in(found: Identification, tried: _Tried) -> None:
    """Add up, in the order of the samples: a candidate that is ruled out stays so."""
    name = tried.node.name
    wrong = found.wrong.setdefault(name, Counter(dict.fromkeys(found.schemes, 0)))
    found.elements[name] += tried.elements
    for scheme, count in tried.wrong.items():
        if wrong.get(scheme, 1):
            continue
        if count is None:
            del wrong[scheme]
        else:
            wrong[scheme] = count


def _unequal(a: Any, b: Any) -> int:
    if a.shape != b.shape or a.dtype != b.dtype:
        return int(b.size)
    if a.dtype.kind == "f":
        return int(((a != b) & ~(np.isnan(a) & np.isnan(b))).sum())
    return int((a != b).sum())


def matching_schemes(graph: Graph, inputs: Inputs, tensors: Mapping[str, Array]) -> list[str]:
    """Known schemes under which a whole run from ``inputs`` gives exactly ``tensors``."""

    def matches(name: str) -> bool:
        runner = NodeRunner(graph, name)
        try:
            values, _ = runner.run_nodes(graph.nodes, runner.codes(inputs))
        except QInterpError:
            return False
        return all(t in values and not _unequal(values[t], v) for t, v in tensors.items())

    names = sound_scheme_names()
    return [n for n, same in zip(names, in_order(names, matches), strict=True) if same]
