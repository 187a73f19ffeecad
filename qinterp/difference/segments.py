"""Nodes from captured tensors to captured tensors, with some of them computed otherwise.

Most often that is one node. Where a dump lacks the tensors in between it is several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qinterp.difference.nodes import NodeRunner, Prepared, Values, operand_values
from qinterp.errors import QInterpError
from qinterp.ir import Graph, Node
from qinterp.ir.tensor import Array
from qinterp.ops import NO_NOTES

Compute = Callable[[Values], Sequence[Array]]
"""A node's outputs from all tensors that are known before it."""

_FAILURES = (QInterpError, ValueError, ArithmeticError)


@dataclass(frozen=True)
class Evidence:
    """One sample of a segment that creates differences.

    Attributes
    ----------
    operands : captured tensors that the segment starts from.
    ours : what the executed side makes of them, by tensor name.
    theirs : what the other side has.
    """

    operands: Mapping[str, Array]
    ours: Mapping[str, Array]
    theirs: Mapping[str, Array]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Those of the operands; with another batch they are others."""
        return [value.shape for value in self.operands.values()]

    @property
    def nbytes(self) -> int:
        """Memory that it holds on to."""
        held = (*self.operands.values(), *self.ours.values(), *self.theirs.values())
        return sum(value.nbytes for value in held)


class Segment:
    """A segment under the executed side's scheme.

    Parameters
    ----------
    runner : of the executed side.
    names : of the nodes, in order.
    evidence : samples in which they differ, at least one, with operands of the same shapes.

    Attributes
    ----------
    own : how the scheme computes each node, by name.

    Raises
    ------
    QInterpError : the scheme cannot compute one of them.
    """

    def __init__(
        self, runner: NodeRunner, names: Sequence[str], evidence: Sequence[Evidence]
    ) -> None:
        self.graph: Graph = runner.graph
        self.runner = runner
        self.nodes: list[Node] = [self.graph.node(name) for name in names]
        self.evidence = evidence
        self.own = self.prepared(runner)
        self._computes: dict[str, Compute] = {}
        self._known: dict[int, list[dict[str, Array]]] = {}

    def prepared(self, runner: NodeRunner) -> dict[str, Prepared]:
        """How a scheme computes each node; QInterpError if it cannot."""
        values, _ = self.runner.run_nodes(self.nodes, self.evidence[0].operands)
        return {node.name: runner.prepared(node, values) for node in self.nodes}

    @property
    def size(self) -> int:
        """Elements that one run of it computes, about."""
        last = self._before(0)[-1]
        return sum(value.size for value in last.values())

    def values_before(self, node: Node) -> Values:
        """What is known in the first sample before ``node`` runs."""
        return self._before(0)[self.nodes.index(node)]

    def compute(self, prepared: Prepared) -> Compute | None:
        """A node as prepared; None if its policy makes no sense."""
        run, node = prepared.runnable(), prepared.node
        if run is None:
            return None
        return lambda values: run(operand_values(self.graph, node, values), NO_NOTES)

    def explained(self, changed: Mapping[str, Prepared]) -> bool:
        """Whether these nodes, computed so, give what the other side has in every sample."""
        computes = {}
        for name, prepared in changed.items():
            compute = self.compute(prepared)
            if compute is None:
                return False
            computes[name] = compute
        return self.explained_by(computes)

    def explained_by(self, changed: Mapping[str, Compute]) -> bool:
        """The same for nodes computed by other means."""
        return all(self._explained(number, changed) for number in range(len(self.evidence)))

    def _explained(self, number: int, changed: Mapping[str, Compute]) -> bool:
        first = next(i for i, node in enumerate(self.nodes) if node.name in changed)
        values = dict(self._before(number)[first])
        for node in self.nodes[first:]:
            if not self._step(node, values, changed.get(node.name)):
                return False
        theirs = self.evidence[number].theirs
        return all(
            name in values and np.array_equal(values[name], value) for name, value in theirs.items()
        )

    def _before(self, number: int) -> list[dict[str, Array]]:
        """What is known before each node of a sample, all of them computed as they should be."""
        if number not in self._known:
            values, before = dict(self.evidence[number].operands), []
            for node in self.nodes:
                before.append(dict(values))
                self._step(node, values)
            self._known[number] = before
        return self._known[number]

    def _step(self, node: Node, values: dict[str, Array], compute: Compute | None = None) -> bool:
        """Run a node into ``values``, which captured tensors are in already."""
        if compute is None:
            if node.name not in self._computes:
                own = self.compute(self.own[node.name])
                assert own is not None
                self._computes[node.name] = own
            compute = self._computes[node.name]
        try:
            outputs = compute(values)
        except _FAILURES:
            return False
        for name, value in zip(node.outputs, outputs, strict=False):
            values.setdefault(name, np.asarray(value, order="C"))
        return True
