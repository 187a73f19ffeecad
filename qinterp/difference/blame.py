"""Why a node creates differences: which part of the arithmetic, and who is right how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from qinterp.difference.causes import Causes, Judge
from qinterp.difference.nodes import NodeRunner, Prepared
from qinterp.difference.segments import Evidence, Segment
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
from qinterp.numerics.records import to_table
from qinterp.schemes_io import sound_scheme_names

_PLAUSIBLE = ("verified", "source", "literature", "definition")  # levels of evidence, best first
_MOST_TRIES = 100  # sets of groups, in segments of several kinds of operators
_LARGEST_ROUNDING = 1  # LSB that two roundings of the same sum can differ by


Atom = tuple[str, str]
"""A kind of operator, and a group of the fields of a scheme that apply to it."""


@dataclass(frozen=True)
class Blame:
    """Why a node creates differences; ``str()`` of it is the sentence.

    Attributes
    ----------
    where : the node, or the first and last of several.
    reason : why, in words.
    counts : how many elements differ, and what they are.
    groups : the smallest sets of groups of scheme fields that, given B's values, turn A's output
        into B's; each explains it alone.
    changes : for each of these sets, what to give to ``Scheme.with_`` of A.
    schemes : known schemes that give exactly B's output; looked for where B is not a scheme.
    suspect : the mistake of data (weights, zero points) that gives exactly B's output.
    causes : what the differing elements are.
    """

    where: str
    reason: str
    counts: str
    groups: tuple[tuple[str, ...], ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    schemes: tuple[str, ...] = ()
    suspect: str | None = None
    causes: Causes = field(default_factory=Causes)

    def __str__(self) -> str:
        return self.sentence(self.schemes)

    def sentence(self, schemes: Sequence[str]) -> str:
        """Node, reason and counts, with some of ``schemes``."""
        as_in = f", as in {listed(schemes)}" if schemes and self.groups else ""
        return f"{self.where}: {self.reason}{as_in}: {self.counts}"


@dataclass
class _Case:
    """What is known of a segment before it is put into words.

    Attributes
    ----------
    own, other : how each side computes its nodes, by name.
    found : the smallest sets of atoms that explain it.
    where : the one node of the segment that they are of, if it is not all of a kind.
    """

    node: Node
    unit: tuple[str, ...]
    evidence: Sequence[Evidence]
    own: Mapping[str, Prepared] = field(default_factory=dict)
    other: Mapping[str, Prepared] = field(default_factory=dict)
    found: tuple[tuple[Atom, ...], ...] = ()
    where: str | None = None
    schemes: tuple[str, ...] = ()
    suspect: str | None = None
    causes: Causes = field(default_factory=Causes)

    def of_kind(self, kind: str, groups: Sequence[str]) -> tuple[Prepared, Prepared]:
        """The first node of a kind, on either side, that differs in these groups."""
        names = [n for n in self.other if self.other[n].node.kind == kind]
        differing = (
            n for n in names if set(groups) & set(differing_groups(self.own[n], self.other[n]))
        )
        name = next(differing, names[0])
        return self.own[name], self.other[name]


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
    def _truth(self) -> NodeRunner:
        return NodeRunner(self._graph, "exact")

    def blame(
        self,
        node: Node,
        unit: tuple[str, ...],
        created: Differences,
        evidence: Sequence[Evidence],
    ) -> Blame:
        """The blame for what ``node`` creates, from some samples in which it does."""
        first = evidence[0]  # nodes are prepared for shapes: samples of another batch are left out
        case = _Case(node, unit, [e for e in evidence if e.shapes == first.shapes])
        runner = self._other
        if runner is None:
            case.schemes = tuple(self._schemes(case))
            runner = self._scheme(case.schemes[0]) if case.schemes else None
        self._search(case, runner)
        if len(unit) == 1:
            self._classify(case, runner)
        reason = self._explanation(case, created)
        return Blame(
            _where(case),
            reason,
            _counts(case, created),
            tuple(_groups(atoms) for atoms in case.found),
            tuple(_changes(case, atoms) for atoms in case.found),
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
            for name, value in evidence.theirs.items():
                if name not in values or not np.array_equal(values[name], value):
                    return False
        return True

    def _search(self, case: _Case, other: NodeRunner | None) -> None:
        """What explains the segment: parts of the other side's scheme, or a usual mistake."""
        try:
            segment = Segment(self._runner, case.unit, case.evidence)
        except QInterpError:
            return
        case.own = segment.own
        if other is not None:
            try:
                case.other = segment.prepared(other)
            except QInterpError:
                return
            case.found = tuple(_smallest(segment, case))
            return
        found = find_suspect(segment)
        if found is None:
            return
        case.where = found.where
        case.suspect = found.text or None
        if found.changed:
            case.other = found.changed
            (kind,) = {prepared.node.kind for prepared in found.changed.values()}
            case.found = (tuple((kind, group) for group in found.groups),)

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
        judge = Judge(self._truth, case.node, case.evidence[0].operands, runners)
        for evidence in case.evidence:
            if name not in evidence.theirs:
                continue
            codes = dict(zip(letters, (evidence.ours[name], evidence.theirs[name]), strict=True))
            judge.count(evidence.operands, codes, case.causes)

    # ---- saying it ------------------------------------------------------------------------

    def _explanation(self, case: _Case, created: Differences) -> str:
        at = f" in {case.where}" if case.where else ""
        if case.suspect is not None:
            return (case.suspect if self._executed == "a" else _exchange(case.suspect)) + at
        if case.found:
            said = [self._phrase(case, atoms) for atoms in case.found]
            text = said[0] if len(said) == 1 else f"either {' or '.join(said)}, each alone"
            return text + at
        if case.schemes:
            return f"exactly what {listed(case.schemes)} gives"
        if self._other is not None:
            return "no part of the two schemes alone explains it"
        return self._unexplained(case, created)

    def _phrase(self, case: _Case, atoms: Sequence[Atom]) -> str:
        """How the sides differ in these atoms, kind by kind where the segment has several."""
        kinds = {self._graph.node(name).kind for name in case.unit}
        said = []
        for kind in dict.fromkeys(kind for kind, _ in atoms):
            groups = [group for k, group in atoms if k == kind]
            a, b = case.of_kind(kind, groups)
            if self._executed == "b":
                a, b = b, a
            in_kind = f"in {kind} " if len(kinds) > 1 and not case.where else ""
            said.append(in_kind + _headline(groups, a, b, case.causes))
        return "; ".join(said)

    def _unexplained(self, case: _Case, created: Differences) -> str:
        if created.unit == "ULP":
            return "no known scheme gives these floats: another order, or another math library"
        if created.max_lsb <= _LARGEST_ROUNDING and len(case.unit) == 1:
            return "no known scheme gives this rounding"
        if len(case.unit) > 1:
            return (
                "no known scheme or usual mistake gives this; tensors from in between would tell "
                "which of these nodes it is"
            )
        tensors = [self._graph.tensors[name] for name in case.node.inputs if name]
        weighted = any(tensor.is_constant and tensor.quantization for tensor in tensors)
        suspicious = "weights, scales, zero points" if weighted else "tables, scales, zero points"
        return (
            "no known scheme or usual mistake gives this, and it is too much for a rounding: look "
            f"at this node's {suspicious} and layout"
        )


def hybrid(own: Prepared, other: Prepared, groups: Sequence[str]) -> Prepared:
    """``own`` with the other's values in these groups; they need not go together."""
    fields = {name: getattr(other.policy, name) for group in groups for name in GROUPS[group]}
    chosen = other if "recipe" in groups else own
    return own.altered(replace(own.policy, **fields), chosen.recipe, chosen.params)


def _smallest(segment: Segment, case: _Case) -> list[tuple[Atom, ...]]:
    """The smallest sets of atoms that explain every sample; where there are many, a small one."""
    pairs = [(case.own[name], case.other[name]) for name in case.own]
    atoms = list(dict.fromkeys((a.node.kind, g) for a, b in pairs for g in differing_groups(a, b)))

    def explains(chosen: Sequence[Atom]) -> bool:
        mixed = {}
        for a, b in pairs:
            groups = [group for kind, group in chosen if kind == a.node.kind]
            if set(groups) & set(differing_groups(a, b)):
                mixed[a.node.name] = hybrid(a, b, groups)
        return bool(mixed) and segment.explained(mixed)

    tries = 0
    for size in range(1, len(atoms) + 1):
        tries += comb(len(atoms), size)
        if tries > _MOST_TRIES:
            break
        found = [chosen for chosen in combinations(atoms, size) if explains(chosen)]
        if found:
            return found
    if tries <= _MOST_TRIES or not explains(atoms):
        return []
    needed = list(atoms)
    for atom in atoms:
        fewer = [other for other in needed if other != atom]
        if explains(fewer):
            needed = fewer
    return [tuple(needed)]


def _groups(atoms: Sequence[Atom]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group for _, group in atoms))


def _changes(case: _Case, atoms: Sequence[Atom]) -> dict[str, Any]:
    """Key paths and values that give a scheme the other's groups at these kinds of operator."""
    changes = {}
    for kind in dict.fromkeys(kind for kind, _ in atoms):
        groups = [group for k, group in atoms if k == kind]
        _, other = case.of_kind(kind, groups)
        for name in (name for group in groups for name in GROUPS[group]):
            changes[f"{kind}.{name}"] = to_table(getattr(other.policy, name))
        if "recipe" in groups:
            params = to_table(other.params) if other.params is not None else {}
            changes[f"{kind}.recipe"] = {"name": other.recipe, **params}
    return changes


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


def _exchange(text: str) -> str:
    """The same with A and B changing places."""
    return text.replace("(A)", "(*)").replace("(B)", "(A)").replace("(*)", "(B)")
