"""Why a node creates differences: which part of the arithmetic, and who is right how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from qinterp.difference.causes import Causes, Truth, classify
from qinterp.difference.nodes import NodeRunner, Prepared, operand_values, try_run
from qinterp.difference.sides import RUNTIME, Side
from qinterp.difference.statistics import Differences
from qinterp.difference.suspects import find_suspect
from qinterp.difference.wording import (
    GROUPS,
    differing_groups,
    listed,
    phrase,
    preparation_phrase,
    tie_phrase,
)
from qinterp.errors import QInterpError
from qinterp.ir import Graph, Node
from qinterp.ir.tensor import Array
from qinterp.numerics.records import to_table
from qinterp.schemes_io import sound_scheme_names

_PLAUSIBLE = ("verified", "source", "literature", "definition")  # levels of evidence, best first
_LARGEST_ROUNDING = 1  # LSB that two roundings of the same sum can differ by


@dataclass(frozen=True)
class Evidence:
    """One sample of a node that creates differences.

    Attributes
    ----------
    operands : captured tensors that the node, or the segment up to it, starts from.
    ours : what the executed side makes of them, by tensor name.
    theirs : what the other side has.
    """

    operands: Mapping[str, Array]
    ours: Mapping[str, Array]
    theirs: Mapping[str, Array]

    @property
    def nbytes(self) -> int:
        """Memory that it holds on to."""
        held = (*self.operands.values(), *self.ours.values(), *self.theirs.values())
        return sum(value.nbytes for value in held)


@dataclass(frozen=True)
class Blame:
    """Why a node creates differences; ``str()`` of it is the sentence.

    Attributes
    ----------
    sentence : for people: node, reason and counts.
    reason : the sentence without the node and the counts.
    groups : the smallest sets of groups of scheme fields that, given B's values, turn A's output
        into B's; each explains it alone.
    changes : for each of these sets, what to give to ``Scheme.with_`` of A.
    schemes : known schemes that give exactly B's output; looked for where B is not a scheme.
    suspect : the mistake of data (weights, zero points) that gives exactly B's output.
    causes : what the differing elements are.
    """

    sentence: str
    reason: str
    groups: tuple[tuple[str, ...], ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    schemes: tuple[str, ...] = ()
    suspect: str | None = None
    causes: Causes = field(default_factory=Causes)

    def __str__(self) -> str:
        return self.sentence


@dataclass
class _Case:
    """What is known of one node before it is put into words."""

    node: Node
    unit: tuple[str, ...]
    evidence: Sequence[Evidence]
    own: Prepared | None = None
    other: Prepared | None = None
    groups: tuple[tuple[str, ...], ...] = ()
    schemes: tuple[str, ...] = ()
    suspect: str | None = None
    causes: Causes = field(default_factory=Causes)


class Blamer:
    """Blames the nodes of one comparison.

    Parameters
    ----------
    runner : of the side that was executed from the other's tensors.
    other : the other side; if it is not a scheme, known schemes are tried.
    executed : "a" or "b".
    """

    def __init__(self, graph: Graph, runner: NodeRunner, other: Side, executed: str) -> None:
        self._graph = graph
        self._runner = runner
        self._other = other.runner
        self._label = other.label
        self._executed = executed
        self._known: dict[str, NodeRunner] = {}

    @cached_property
    def _truth(self) -> Truth:
        return Truth(self._graph)

    def blame(
        self,
        node: Node,
        unit: tuple[str, ...],
        created: Differences,
        evidence: Sequence[Evidence],
    ) -> Blame:
        """The blame for what ``node`` creates, from some samples in which it does."""
        case = _Case(node, unit, evidence)
        runner = self._other
        if runner is None:
            case.schemes = tuple(self._schemes(case))
            runner = self._scheme(case.schemes[0]) if case.schemes else None
        if len(unit) == 1:
            case.own = self._prepared(self._runner, case)
            case.other = self._prepared(runner, case) if runner is not None else None
            if case.own is not None and case.other is not None:
                case.groups = tuple(self._smallest(case, case.own, case.other))
            elif runner is None:
                self._suspect(case)
            self._classify(case, runner)
        changes = tuple(_changes(case.other, groups) for groups in case.groups if case.other)
        reason = self._explanation(case, created)
        return Blame(
            f"{_where(case)}: {reason}: {_counts(case, created)}",
            reason,
            case.groups,
            changes,
            case.schemes,
            case.suspect,
            case.causes,
        )

    # ---- finding out ----------------------------------------------------------------------

    def _schemes(self, case: _Case) -> list[str]:
        """Known schemes that make of the operands exactly what the other side has."""
        names = sorted(sound_scheme_names(), key=self._plausibility)
        return [name for name in names if self._reproduces(self._scheme(name), case)]

    def _plausibility(self, name: str) -> tuple[bool, int]:
        """A sort key: the scheme of this very runtime first, then real backends."""
        evidence = self._scheme(name).scheme.evidence
        another = f"{RUNTIME}{evidence.get('runtime')}" != self._label
        return another, _PLAUSIBLE.index(evidence["level"])

    def _scheme(self, name: str) -> NodeRunner:
        if name not in self._known:
            self._known[name] = NodeRunner(self._graph, name)
        return self._known[name]

    def _reproduces(self, runner: NodeRunner, case: _Case) -> bool:
        nodes = [self._graph.node(name) for name in case.unit]
        for evidence in case.evidence:
            values, _ = runner.run_nodes(nodes, evidence.operands)
            if not _equal(evidence.theirs, values.get):
                return False
        return True

    @staticmethod
    def _prepared(runner: NodeRunner, case: _Case) -> Prepared | None:
        try:
            return runner.prepared(case.node, case.evidence[0].operands)
        except QInterpError:
            return None

    def _smallest(self, case: _Case, own: Prepared, other: Prepared) -> list[tuple[str, ...]]:
        """The smallest sets of groups that explain every sample."""
        differing = differing_groups(own, other)
        for size in range(1, len(differing) + 1):
            found = [
                groups
                for groups in combinations(differing, size)
                if self._explains(case, own, other, groups)
            ]
            if found:
                return found
        return []

    def _explains(
        self, case: _Case, own: Prepared, other: Prepared, groups: tuple[str, ...]
    ) -> bool:
        mixed = hybrid(own, other, groups)
        for evidence in case.evidence:
            operands = operand_values(self._graph, case.node, evidence.operands)
            outputs = try_run(mixed, operands)
            if outputs is None:
                return False
            made = dict(zip(case.node.outputs, outputs, strict=False))
            if not _equal(evidence.theirs, made.get):
                return False
        return True

    def _suspect(self, case: _Case) -> None:
        """Look for a usual mistake; the first sample is enough to tell one from another."""
        first = case.evidence[0]
        found = find_suspect(self._runner, case.node, first.operands, first.theirs)
        if found is None:
            return
        case.suspect = found.text or None
        if found.prepared is not None:
            case.other, case.groups = found.prepared, (found.groups,)

    def _classify(self, case: _Case, other: NodeRunner | None) -> None:
        """Place the differing elements of the first output against the exact result."""
        name = case.node.outputs[0]
        tensor = self._graph.tensors[name]
        if tensor.quantization is None or tensor.quantization.per_channel:
            return
        letters = (self._executed, "b" if self._executed == "a" else "a")
        runners = {
            letter: runner
            for letter, runner in zip(letters, (self._runner, other), strict=True)
            if runner is not None
        }
        for evidence in case.evidence:
            if name not in evidence.theirs:
                continue
            codes = dict(zip(letters, (evidence.ours[name], evidence.theirs[name]), strict=True))
            classify(self._truth, case.node, evidence.operands, codes, runners, case.causes)

    # ---- saying it ------------------------------------------------------------------------

    def _explanation(self, case: _Case, created: Differences) -> str:
        if case.suspect is not None:
            return case.suspect if self._executed == "a" else _exchange(case.suspect)
        if case.groups and case.own is not None and case.other is not None:
            a, b = case.own, case.other
            if self._executed == "b":
                a, b = b, a
            said = [_headline(groups, a, b, case.causes) for groups in case.groups]
            text = said[0] if len(said) == 1 else f"either {' or '.join(said)}, each alone"
            return text + _as_in(case.schemes)
        if case.schemes:
            return f"exactly what {listed(case.schemes)} gives"
        if self._other is not None:
            return "no part of the two schemes alone explains it"
        return self._unexplained(case.node, created)

    def _unexplained(self, node: Node, created: Differences) -> str:
        if created.unit == "ULP":
            return "no known scheme gives these floats: another order, or another math library"
        if created.max_lsb <= _LARGEST_ROUNDING:
            return "no known scheme gives this rounding"
        constant = any(self._graph.tensors[name].is_constant for name in node.inputs if name)
        suspicious = "weights, zero points" if constant else "tables, zero points"
        return (
            "no known scheme or usual mistake gives this, and it is too much for a rounding: look "
            f"at this node's {suspicious} and layout"
        )


def hybrid(own: Prepared, other: Prepared, groups: Sequence[str]) -> Prepared:
    """``own`` with the other's values in these groups; they need not go together."""
    fields = {name: getattr(other.policy, name) for group in groups for name in GROUPS[group]}
    chosen = other if "recipe" in groups else own
    return own.altered(replace(own.policy, **fields), chosen.recipe, chosen.params)


def _changes(other: Prepared, groups: Sequence[str]) -> dict[str, Any]:
    """Key paths and values that give a scheme the other's groups at this kind of operator."""
    kind = other.node.kind
    changes = {
        f"{kind}.{name}": to_table(getattr(other.policy, name))
        for group in groups
        for name in GROUPS[group]
    }
    if "recipe" in groups:
        params = to_table(other.params) if other.params is not None else {}
        changes[f"{kind}.recipe"] = {"name": other.recipe, **params}
    return changes


def _equal(wanted: Mapping[str, Array], have: Callable[[str], Array | None]) -> bool:
    return all(
        (made := have(name)) is not None and np.array_equal(made, value)
        for name, value in wanted.items()
    )


# ---- sentences --------------------------------------------------------------------------------


def _headline(groups: Sequence[str], a: Prepared, b: Prepared, causes: Causes) -> str:
    """The difference in the groups that weighs most in the elements."""
    first, second = a.policy, b.policy
    if "stages" in groups and "preparation" in groups:
        ties, multiplier = causes.count("tie"), causes.count("multiplier")
        rule = tie_phrase(first.requantize, second.requantize)
        if multiplier > max(ties, causes.count("rounding")):
            return preparation_phrase(first, second)
        if rule and ties > causes.looked_at // 2:
            return rule
    return phrase(groups, a, b)


def _where(case: _Case) -> str:
    if len(case.unit) == 1:
        return case.node.name
    return f"{case.unit[0]} to {case.node.name} ({len(case.unit)} nodes, nothing captured between)"


def _counts(case: _Case, created: Differences) -> str:
    by = f"{created.max_lsb} {created.unit}"
    if created.max_lsb > 1:
        by = f"up to {by}"
    said = f"{created.count} of {created.size} differ by {by}"
    causes = case.causes
    judged = causes.looked_at - causes.count("unknown")
    if not causes.looked_at or not (judged or causes.ties or causes.nearer):
        return said
    if causes.looked_at < created.count:
        said += f" ({causes.looked_at} of them looked at)"
    overflows = causes.count("overflow")
    if overflows:
        side = "A" if causes.kinds["overflow in A"] > causes.kinds["overflow in B"] else "B"
        return f"{said}; the accumulator overflows at {overflows} in {side}"
    if causes.ties:
        said += f", {causes.ties} exact tie{'' if causes.ties == 1 else 's'}"
    others = sum(causes.nearer.values())
    if others:
        side = max("ab", key=lambda s: causes.nearer[s])
        share = causes.nearer[side] / others
        of = " of the others" if causes.ties else ""
        said += f"; {side.upper()} is the nearer on {100 * share:.0f} %{of}"
    return said


def _as_in(schemes: Sequence[str]) -> str:
    return f", as in {listed(schemes)}" if schemes else ""


def _exchange(text: str) -> str:
    """The same with A and B changing places."""
    return text.replace("(A)", "(*)").replace("(B)", "(A)").replace("(*)", "(B)")
