"""Node by node, where two sides part: created, propagated and end-to-end differences."""

from __future__ import annotations

import operator
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.difference.blame import Blame, Blamer
from qinterp.difference.dumps import Match
from qinterp.difference.nodes import NodeRunner, operands
from qinterp.difference.segments import Evidence
from qinterp.difference.sides import Given, Side, open_side
from qinterp.difference.statistics import (
    Differences,
    OutputEffect,
    real_values,
    signed_difference,
)
from qinterp.difference.streaming import in_order
from qinterp.difference.tolerances import Tolerances, Violation
from qinterp.errors import InputError, QInterpError
from qinterp.interpreter import Inputs
from qinterp.ir import Graph, Node
from qinterp.ir.tensor import Array

Progress = Callable[[int, int | None], None]
"""Told after every sample how many are done, and how many there are if that is known."""

_EVIDENCE_BYTES = 64 << 20
_EVIDENCE_SAMPLES = 32
_READER = "tflite-reference"  # for real inputs where neither side is a scheme, and float models


@dataclass
class NodeDiff:
    """What the comparison found at one node, over all samples.

    Attributes
    ----------
    node : the graph's node.
    status : "same", "creates", "propagates", "differs" (nobody can say which of the two),
        "not captured", "not available".
    created, propagated, end_to_end : signed differences, B minus A; None where not known.
        Element by element the first two add up to the third.
    unit : names of the nodes that were run together, more than one where B's tensors in between
        were not captured.
    reason : why something is not known.
    amplification : largest end-to-end difference of the outputs over that of the inputs; None
        where the inputs are the same.
    """

    node: Node
    created: Differences | None = None
    propagated: Differences | None = None
    end_to_end: Differences | None = None
    unit: tuple[str, ...] = ()
    reason: str = ""
    amplification: float | None = None
    _evidence: list[Evidence] = field(default_factory=list, repr=False)
    _blamer: Blamer | None = field(default=None, repr=False)

    @property
    def status(self) -> str:
        """One or two words for what happens here."""
        known = self.end_to_end or self.created
        if known is None:
            return "not available" if self.reason else "not captured"
        if self.created is None:
            return "differs" if known.count else "same"
        if self.created.count:
            return "creates"
        return "propagates" if self.end_to_end is not None and self.end_to_end.count else "same"

    @property
    def diverges(self) -> bool:
        """Whether anything differs here."""
        return any(d is not None and d.count for d in (self.created, self.end_to_end))

    def element(self, tensor: str | None, index: Sequence[int] | None) -> str:
        """An element as ``qinterp explain`` takes it, by the node's name where that is enough."""
        name = self.node.name if tensor == self.node.outputs[0] else tensor
        return f"{name}[{','.join(map(str, index or ()))}]"

    @cached_property
    def blame(self) -> Blame | None:
        """Why the node creates differences; worked out when asked for, None if it does not."""
        if self._blamer is None or not self._evidence or self.created is None:
            return None
        return self._blamer.blame(self.node, self.unit, self.created, self._evidence)


@dataclass
class Diff:
    """Where two sides part.

    Attributes
    ----------
    graph : what was compared.
    a, b : what the sides are called; A is the baseline.
    nodes : one entry a node, in order of execution.
    inputs : differences of the graph's inputs between the sides, by tensor name.
    outputs : the effect on every output of the graph that both sides have.
    samples : how many were compared.
    executed : the side that was run node by node from the other's tensors: "a", or "b" if A
        cannot be executed, or None: then nobody knows what was created where.
    interrupted : the user stopped it; what is here is of the samples before.
    remarks : what was recognised, assumed or left out, in sentences.
    """

    graph: Graph
    a: str
    b: str
    nodes: list[NodeDiff]
    inputs: dict[str, Differences] = field(default_factory=dict)
    outputs: dict[str, OutputEffect] = field(default_factory=dict)
    samples: int = 0
    executed: str | None = "a"
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def first(self) -> NodeDiff | None:
        """The first node, in order of execution, that diverges in any sample."""
        return next((n for n in self.nodes if n.diverges), None)

    @property
    def compared(self) -> int:
        """How many nodes could be compared; where it is none, nothing is known."""
        known = (n.end_to_end or n.created for n in self.nodes)
        return sum(found is not None and found.size > 0 for found in known)

    @property
    def same(self) -> bool:
        """Whether nothing that could be compared differs."""
        return self.first is None and not any(d.count for d in self.inputs.values())

    def __getitem__(self, name: str) -> NodeDiff:
        """The entry of the node called ``name``; InputError if there is none."""
        node = self.graph.node(name)
        return next(n for n in self.nodes if n.node is node)

    def violations(self, tolerances: Tolerances) -> list[Violation]:
        """What goes beyond the tolerances."""
        found = [v for n in self.nodes for v in tolerances.of_node(n)]
        by_tensor = {t: n for n in self.nodes for t in n.node.outputs}
        for name in self.graph.outputs:
            if name in by_tensor:
                found += tolerances.of_output(name, by_tensor[name])
        return found

    def __str__(self) -> str:
        first = self.first
        head = f"{self.graph.name or 'graph'}, {self.a} (A) against {self.b} (B)"
        if first is None:
            seen = self.compared
            some = "" if seen == len(self.nodes) else f" at {seen} of {len(self.nodes)} nodes"
            return f"{head}: the same{some} in {_count(self.samples, 'sample')}"
        found = first.end_to_end or first.created
        assert found is not None
        return (
            f"{head}: first divergence at {first.node.name}, {found.count} of {found.size} "
            f"differ by up to {found.max_lsb} {found.unit}"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def diff(
    graph: Graph,
    inputs: Inputs | Iterable[Inputs],
    a: Given = "tflite-reference",
    b: Given = "exact",
    *,
    match: Match = "auto",
    labels: npt.ArrayLike | Iterable[int] | None = None,
    original: Graph | str | os.PathLike[str] | None = None,
    keep: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Diff:
    """Where two sides part, node by node, and which nodes create the difference.

    Parameters
    ----------
    graph : from :func:`qinterp.load`.
    inputs : as for :meth:`Interpreter.run`, or an iterable of such, which is streamed.
    a, b : a scheme (name, path, object, or a NodeRunner, which many comparisons can share), a
        Result, a Capture, a dict of tensors, the path of a dump, "runtime:NAME", or an iterable of
        dicts, one for each sample. A is the baseline.
    match : how the tensors of a dump are found in the graph.
    labels : the right classes, one for each row of scores, in order.
    original : the float model that this one was quantized from, to compare the outputs with.
    keep : keep the difference of every element of every sample (``Differences.elements``).
    progress : told after every sample.
    workers : threads; one for each core by default.

    Returns
    -------
    Diff, partial if the user interrupts it.

    Raises
    ------
    SchemeError, InputError, QInterpError : a side or an input that cannot be used. A node that
        a side lacks an operator for raises nothing: it is reported as not available.
    """
    sides = open_side(graph, a, "A", match), open_side(graph, b, "B", match)
    comparison = _Comparison(graph, *sides, original, keep=keep)
    samples = as_samples(inputs)
    total = len(samples) if isinstance(samples, Sequence) else None
    if workers is None and total is not None:
        workers = max(1, min(os.cpu_count() or 1, total))
    return comparison.run(samples, labels, workers, lambda n: progress and progress(n, total))


def as_samples(inputs: Inputs | Iterable[Inputs]) -> Iterable[Inputs]:
    """The samples of ``inputs``: one array or one dict is one sample, any other iterable many."""
    if isinstance(inputs, (Mapping, np.ndarray)) or not isinstance(inputs, Iterable):
        return [inputs]
    return inputs


# ---- all samples ------------------------------------------------------------------------------


class _Comparison:
    """Compares sample by sample and adds up."""

    def __init__(
        self,
        graph: Graph,
        a: Side,
        b: Side,
        original: Graph | str | os.PathLike[str] | None,
        *,
        keep: bool,
    ) -> None:
        self.graph = graph
        self.keep = keep
        self.sides = {"a": a, "b": b}
        self.executed = "a" if a.runner else "b" if b.runner else None
        self.reader = a.runner or b.runner or NodeRunner(graph, _READER)
        self.original = _open_original(original)
        self.total = Diff(
            graph, a.label, b.label, [NodeDiff(n) for n in graph.nodes], executed=self.executed
        )
        if self.executed is not None:
            other = b if self.executed == "a" else a
            blamer = Blamer(graph, self.reader, other, self.executed)
            for entry in self.total.nodes:
                entry._blamer = blamer
        self.stop = threading.Event()
        self._largest: Counter[str] = Counter()
        self._evidence_bytes = 0
        self._full: set[str] = set()
        self._said: set[str] = set()

    def run(
        self,
        samples: Iterable[Inputs],
        labels: npt.ArrayLike | Iterable[int] | None,
        workers: int | None,
        done: Callable[[int], Any],
    ) -> Diff:
        """Compare every sample, in order, with a bounded look-ahead."""
        total = self.total
        tasks = self._tasks(samples, labels)
        compared = in_order(tasks, lambda task: _Sample(self, *task), workers, self.stop)
        try:
            with closing(compared):
                for sample in compared:
                    self._add(sample)
                    done(total.samples)
        except KeyboardInterrupt:
            total.interrupted = True
        if not (total.samples or total.interrupted):
            raise InputError("no inputs were given: there is nothing to compare")
        self._finish()
        return total

    def _tasks(
        self, samples: Iterable[Inputs], labels: npt.ArrayLike | Iterable[int] | None
    ) -> Iterator[tuple[int, Inputs, dict[str, Any], Array | None]]:
        """What each sample consists of; drawn in order, since dumps and labels may be streams."""
        known = None if labels is None else iter(labels)  # type: ignore[arg-type]
        for number, inputs in enumerate(samples):
            drawn = {letter: side.draw() for letter, side in self.sides.items()}
            rows = None
            if known is not None:
                rows = _labels(known, _batch(self.graph, inputs), number)
            yield number, inputs, drawn, rows

    def wants_evidence(self, node: Node) -> bool:
        """Whether another differing sample of ``node`` would be kept."""
        return node.name not in self._full

    def _add(self, sample: _Sample) -> None:
        for entry in self.total.nodes:
            name = entry.node.name
            for what in ("created", "propagated", "end_to_end"):
                new, old = sample.differences(entry.node, what), getattr(entry, what)
                if old is None:
                    setattr(entry, what, new)
                elif new is not None:
                    old.add(new)
            entry.unit = max(entry.unit, sample.units.get(name, ()), key=len)
            entry.reason = entry.reason or sample.reasons.get(name, "")
            if name in sample.evidence:
                self._keep(entry, sample.evidence[name])
        for name in self.graph.inputs:
            if name in sample.end_to_end:
                found = self.total.inputs.setdefault(name, Differences())
                found.add(sample.end_to_end[name])
        for effect in sample.effects:
            self.total.outputs.setdefault(effect.tensor, OutputEffect(effect.tensor)).add(effect)
        for name, difference in sample.end_to_end.items():
            self._largest[name] = max(self._largest[name], difference.max_lsb)
        self._said.update(dict.fromkeys(sample.remarks))
        self.total.samples += 1

    def _keep(self, entry: NodeDiff, evidence: Evidence) -> None:
        """Keep the first sample that differs, and more of them within bounds."""
        if not entry._evidence or self._evidence_bytes <= _EVIDENCE_BYTES:
            entry._evidence.append(evidence)
            self._evidence_bytes += evidence.nbytes
        if len(entry._evidence) >= _EVIDENCE_SAMPLES or self._evidence_bytes > _EVIDENCE_BYTES:
            self._full.add(entry.node.name)

    def _finish(self) -> None:
        total = self.total
        for entry in total.nodes:
            if entry.end_to_end is None or entry.end_to_end.unit != "LSB":
                continue
            into = max((self._largest[n] for n in entry.node.inputs if n), default=0)
            if into:
                entry.amplification = entry.end_to_end.max_lsb / into
        total.remarks += [remark for side in self.sides.values() for remark in side.remarks]
        total.remarks += sorted(self._said)
        if self.executed == "b":
            total.remarks.append(
                f"A ({total.a}) cannot be executed: created is what B ({total.b}) makes of A's own "
                "tensors, less A's; propagated is the rest"
            )
        elif self.executed is None:
            total.remarks.append(
                "neither side can be executed node by node: what differs is known, not where it "
                "was created"
            )


def _open_original(given: Graph | str | os.PathLike[str] | None) -> NodeRunner | None:
    if given is None:
        return None
    if not isinstance(given, Graph):
        from qinterp.importers import load

        given = load(given)
    return NodeRunner(given, _READER)


def _named(graph: Graph, inputs: Inputs) -> dict[str, Array]:
    """The arrays of ``inputs`` by tensor name, as they were given."""
    if not isinstance(inputs, Mapping):
        inputs = {graph.inputs[0]: inputs}
    return {graph.find_tensor(name).name: np.asarray(value) for name, value in inputs.items()}


def _labels(known: Iterator[Any], wanted: int, number: int) -> Array:
    """The next ``wanted`` labels."""
    drawn = [label for _, label in zip(range(wanted), known, strict=False)]
    if len(drawn) != wanted:
        raise InputError(f"no labels are left for sample {number}")
    try:
        return np.array([operator.index(label) for label in drawn], np.int64)
    except (TypeError, OverflowError):
        raise InputError(f"sample {number}: labels are numbers of classes, got {drawn}") from None


def _batch(graph: Graph, inputs: Inputs) -> int:
    value = next(iter(_named(graph, inputs).values()))
    return len(value) if value.ndim else 1


# ---- one sample -------------------------------------------------------------------------------


class _Sample:
    """One sample, compared.

    Attributes
    ----------
    created, propagated, end_to_end : differences by tensor name.
    units, reasons, evidence : by node name.
    effects : on the outputs of the graph.
    """

    def __init__(
        self,
        comparison: _Comparison,
        number: int,
        inputs: Inputs,
        drawn: Mapping[str, Any],
        labels: Array | None,
    ) -> None:
        self._comparison = comparison
        self._graph = comparison.graph
        self._number = number
        self.created: dict[str, Differences] = {}
        self.propagated: dict[str, Differences] = {}
        self.end_to_end: dict[str, Differences] = {}
        self.units: dict[str, tuple[str, ...]] = {}
        self.reasons: dict[str, str] = {}
        self.evidence: dict[str, Evidence] = {}
        self.effects: list[OutputEffect] = []
        self.remarks: list[str] = []
        shared = comparison.reader.codes(inputs)
        self._values = {
            letter: side.tensors(
                side.runner.codes(inputs)
                if side.runner is not None and side.runner is not comparison.reader
                else shared,
                drawn[letter],
            )
            for letter, side in comparison.sides.items()
        }
        self._absent: set[str] = set()  # tensors that a side could not compute: the other stands in
        self._forced: dict[str, Array] = {}
        for name in self._graph.inputs:
            self._subtract(name)
        for node in self._graph.nodes:
            if comparison.stop.is_set():  # nobody wants this sample any more
                return
            self._run(node)
            self._force(node)
            for name in node.outputs:
                if name not in self._absent:
                    self._subtract(name)
            self._look(node)
        self._measure(inputs, shared, labels)

    def differences(self, node: Node, what: str) -> Differences | None:
        """Those of all outputs of a node; ``what``: "created", "propagated" or "end_to_end"."""
        of: dict[str, Differences] = getattr(self, what)
        found = [of[name] for name in node.outputs if name in of]
        if not found:
            return None
        whole = Differences(found[0].unit)
        for part in found:
            whole.add(part)
        return whole

    # ---- running --------------------------------------------------------------------------

    def _run(self, node: Node) -> None:
        """The node on either side; where one side cannot, the other's output stands in."""
        for letter, side in self._comparison.sides.items():
            values = self._values[letter]
            if side.runner is None or all(name in values for name in node.outputs):
                continue
            outputs = self._try(side.runner, node, values, side.label)
            if outputs is not None:
                values |= outputs
        for letter, other in ("ab", "ba"):
            side = self._comparison.sides[letter]
            missing = [n for n in node.outputs if n not in self._values[letter]]
            stand_ins = {n: self._values[other][n] for n in missing if n in self._values[other]}
            if side.runner is not None and stand_ins:
                self._values[letter] |= stand_ins
                self._absent |= stand_ins.keys()
                self.remarks.append(
                    f"{node.name}: not available in {letter.upper()}, the other side's output "
                    "stands in for it further down"
                )

    def _try(
        self, runner: NodeRunner, node: Node, values: Mapping[str, Array], label: str
    ) -> dict[str, Array] | None:
        lacking = [n for n in operands(self._graph, node) if n not in values]
        try:
            if not lacking:
                return runner.run(node, values).outputs
            reason = f"{label}: operand {lacking[0]!r} is not there"
        except QInterpError as error:
            reason = str(error)
        self.reasons.setdefault(node.name, reason)
        return None

    def _force(self, node: Node) -> None:
        """The node as the executed side computes it from the other side's tensors."""
        executed = self._comparison.executed
        if executed is None:
            return
        own, other = self._values[executed], self._values["b" if executed == "a" else "a"]
        values, unit = {}, {node.name}
        for name in operands(self._graph, node):
            producer = self._graph.producer(name)
            if name in other:
                values[name] = other[name]
            elif name in self._forced:
                values[name] = self._forced[name]
                if producer is not None:
                    unit.update(self.units[producer.name])
        order = [n.name for n in self._graph.nodes if n.name in unit] if len(unit) > 1 else unit
        self.units[node.name] = tuple(order)
        if self._absent.intersection(node.outputs):
            return
        same = all(n in own and _same(own[n], v) for n, v in values.items())
        outputs: dict[str, Array] | None
        if same and all(n in own for n in node.outputs):
            outputs = {n: own[n] for n in node.outputs}
        else:
            outputs = self._try(
                self._comparison.reader, node, values, self._comparison.sides[executed].label
            )
        self._forced |= outputs or {}

    # ---- comparing ------------------------------------------------------------------------

    def _subtract(self, name: str) -> None:
        """The differences of one tensor, as far as its values are known."""
        a, b, forced = self._values["a"].get(name), self._values["b"].get(name), None
        self._check_shapes(name, a, b)
        if self._graph.producer(name) is not None:
            forced = self._forced.get(name)
        first, second = (self.created, self.propagated)
        if self._comparison.executed == "b":
            first, second = second, first
        self._put(self.end_to_end, name, b, a)
        self._put(first, name, b, forced)
        self._put(second, name, forced, a)

    def _check_shapes(self, name: str, a: Array | None, b: Array | None) -> None:
        """Captured tensors of another batch are no difference but a mistake."""
        sides = self._comparison.sides
        if a is None or b is None or a.shape == b.shape:
            return
        if not (sides["a"].captured or sides["b"].captured):
            return
        producer = self._graph.producer(name)
        raise InputError(
            f"sample {self._number}: {producer.name if producer else name} is {list(a.shape)} in "
            f"A ({sides['a'].label}) and {list(b.shape)} in B ({sides['b'].label}): were the "
            "tensors captured from other inputs, or another batch?"
        )

    def _put(
        self, where: dict[str, Differences], name: str, b: Array | None, a: Array | None
    ) -> None:
        if a is None or b is None:
            return
        tensor = self._graph.tensors[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            producer = self._graph.producer(name)
            if producer is not None:
                self.reasons.setdefault(
                    producer.name,
                    f"{name!r} is {a.dtype}{list(a.shape)} on one side, "
                    f"{b.dtype}{list(b.shape)} on the other",
                )
            return
        keep = self._comparison.keep
        if _same(a, b) and not keep:
            where[name] = Differences("ULP" if tensor.is_float else "LSB", size=a.size)
            return
        real = None
        if a.dtype.kind == "f":
            with np.errstate(invalid="ignore", over="ignore"):
                real = b.astype(np.float64) - a.astype(np.float64)
        delta = signed_difference(b, a)
        where[name] = Differences.of(delta, tensor, self._number, real)
        if keep:
            where[name].elements[name] = [delta]

    def _look(self, node: Node) -> None:
        """Keep what blame needs of a node that creates differences."""
        created = self.differences(node, "created")
        if created is None or not created.count or not self._comparison.wants_evidence(node):
            return
        executed = self._comparison.executed
        other = self._values["b" if executed == "a" else "a"]
        unit = [self._graph.node(name) for name in self.units[node.name]]
        inside = {name for member in unit for name in member.outputs}
        self.evidence[node.name] = Evidence(
            operands={
                name: other[name]
                for member in unit
                for name in operands(self._graph, member)
                if name not in inside or name in other
            },
            ours={n: self._forced[n] for n in node.outputs if n in self._forced},
            theirs={n: other[n] for n in node.outputs if n in other},
        )

    def _measure(self, inputs: Inputs, codes: Mapping[str, Array], labels: Array | None) -> None:
        """The effect on the outputs of the graph."""
        original = self._run_original(inputs, codes)
        for position, name in enumerate(self._graph.outputs):
            if name not in self.end_to_end:
                continue
            a, b = self._values["a"][name], self._values["b"][name]
            float_output = original[position] if position < len(original) else None
            tensor = self._graph.tensors[name]
            self.effects.append(OutputEffect.of(tensor, a, b, labels, float_output))

    def _run_original(self, inputs: Inputs, codes: Mapping[str, Array]) -> list[Array]:
        """The outputs of the float model on the same real inputs; none if it cannot run."""
        runner, graph = self._comparison.original, self._graph
        if runner is None or not all(name in codes for name in graph.inputs):
            return []
        given = _named(graph, inputs)
        reals = [
            given[name]
            if name in given and given[name].dtype.kind == "f"
            else real_values(codes[name], graph.tensors[name])
            for name in graph.inputs
        ]
        if len(reals) != len(runner.graph.inputs):
            self.remarks.append("the float original has another number of inputs: left out")
            return []
        start = runner.codes(
            {n: v.astype(np.float32) for n, v in zip(runner.graph.inputs, reals, strict=True)}
        )
        values, reason = runner.run_nodes(runner.graph.nodes, start)
        if reason:
            self.remarks.append(f"the float original cannot run: {reason}")
        return [values[name] for name in runner.graph.outputs if name in values]


def _same(a: Array, b: Array) -> bool:
    return a is b or bool(np.array_equal(a, b))
