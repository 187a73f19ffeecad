"""An assertion for other projects' tests: a backend's tensors against a scheme."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy.typing as npt

from qinterp.difference import Diff, NodeDiff, Tolerances, at_most, diff, load_tolerances
from qinterp.difference.dumps import Match, fit_dump
from qinterp.difference.wording import listed
from qinterp.errors import InputError, QInterpError
from qinterp.explanation import explain
from qinterp.identification import identify, matching_schemes
from qinterp.interpreter import Inputs
from qinterp.ir import Graph
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme

_LISTED = 5


def assert_matches(
    actual: Mapping[str, npt.ArrayLike] | npt.ArrayLike,
    model: Graph | str | os.PathLike[str] | bytes,
    inputs: Inputs,
    scheme: str | Scheme = "tflite-reference",
    max_lsb: int = 0,
    *,
    tolerance: str | os.PathLike[str] | Tolerances | None = None,
    match: Match = "auto",
) -> None:
    """Raise an AssertionError unless a backend's tensors are what ``scheme`` gives.

    Parameters
    ----------
    actual : arrays by tensor name, any of the model's, or one array for a model with one output.
        More tensors make the message better.
    model : a path, the bytes of a file, or a Graph.
    inputs : what the backend was given: arrays by tensor name, or one array.
    scheme : a name, a path to a .toml, or a Scheme.
    max_lsb : the largest difference that is no failure, in steps of the output's scale.
    tolerance : instead of ``max_lsb``: a policy ("nnapi"), a file, or Tolerances.
    match : how names are matched, see :func:`qinterp.difference.read_dump`.

    Raises
    ------
    AssertionError : with the counts, the first diverging node, how its worst element comes about,
        and the known scheme that would match.
    QInterpError : the model, the inputs or the tensors cannot be used.
    """
    __tracebackhide__ = True
    graph = _graph(model)
    given = actual if isinstance(actual, Mapping) else {graph.outputs[0]: actual}
    tensors = fit_dump(given, graph, match).tensors
    wanted = load_scheme(scheme)
    allowed = at_most(max_lsb) if tolerance is None else load_tolerances(tolerance)
    found = diff(graph, inputs, wanted, tensors)
    _check_compared(found, tensors)
    if found.violations(allowed):
        raise AssertionError(_message(found, allowed, inputs, wanted, tensors))


def _graph(model: Graph | str | os.PathLike[str] | bytes) -> Graph:
    if isinstance(model, Graph):
        return model
    from qinterp.importers import load

    return load(model)


def _check_compared(found: Diff, tensors: Mapping[str, Any]) -> None:
    """What could not be compared must not pass for a match."""
    for entry in found.nodes:
        given = [name for name in entry.node.outputs if name in tensors]
        if given and entry.end_to_end is None:
            raise InputError(f"{entry.node.name} cannot be compared: {entry.reason}")
    if not found.compared:
        raise InputError("nothing to compare: the tensors given are inputs of the model, or empty")


def _message(
    found: Diff,
    allowed: Tolerances,
    inputs: Inputs,
    scheme: Scheme,
    tensors: Mapping[str, Any],
) -> str:
    first = found.first
    assert first is not None
    name = found.graph.name or "the model"
    lines = [
        "",
        f"{name}: the given tensors (B) are not what {scheme.name} (A) gives, "
        f"within {allowed.name}",
    ]
    if allowed != at_most(0):  # then the first that differs need not be one that matters
        lines += [f"  {violation}" for violation in found.violations(allowed)[:_LISTED]]
    lines += _counts(found, tensors)
    lines += ["", f"First diverging node: {first.node.name} ({first.node.kind})"]
    if len(first.unit) > 1:
        lines.append(
            f"  or one of the {len(first.unit) - 1} before it, from {first.unit[0]} on: give more "
            "tensors to tell"
        )
    if first.blame is not None:
        lines.append(f"  {first.blame}")
    lines += ["", *_other_schemes(found, inputs, tensors)]
    lines += _trace(found, first, inputs, scheme)
    lines += [f"note: {remark}" for remark in found.remarks]
    return "\n".join(lines)


def _counts(found: Diff, tensors: Mapping[str, Any]) -> list[str]:
    """In the words of numpy.testing: the first tensor that differs, and the model's outputs."""
    differing = [n for n in found.nodes if n.end_to_end is not None and n.end_to_end.count]
    shown = [n for n in differing if set(n.node.outputs) & set(found.graph.outputs)]
    shown = differing[:1] + [n for n in shown if n is not differing[0]]
    lines = []
    for entry in shown:
        end = entry.end_to_end
        assert end is not None
        assert end.tensor is not None
        lines += [
            "",
            f"{entry.node.name}: Mismatched elements: {end.count} / {end.size} "
            f"({100 * end.share:.3g}%)",
            f"Max absolute difference: {end.max_lsb} {end.unit} ({end.max_error:.6g}) at "
            f"{entry.element(end.tensor, end.where)}, which is {tensors[end.tensor][end.where]} "
            "in B",
        ]
    if len(differing) > len(shown):
        lines.append(f"{len(differing) - len(shown)} more of the given tensors differ")
    return lines


def _other_schemes(found: Diff, inputs: Inputs, tensors: Mapping[str, Any]) -> Iterable[str]:
    """Which known scheme would match: then it is rounding, and not the data."""
    graph = found.graph
    whole = matching_schemes(graph, inputs, tensors)
    if whole:
        yield f"equals {listed(whole)} exactly: your rounding, not your data"
        return
    nodes = identify(graph, inputs, tensors)
    if nodes.everywhere:
        yield (
            f"node by node it equals {listed(nodes.everywhere)} exactly: your rounding, not "
            "your data"
        )
        return
    known = {kind: names for kind, names in nodes.by_kind.items() if names}
    if known:
        yield "by kind of operator it equals: " + "; ".join(
            f"{kind}: {', '.join(names)}" for kind, names in known.items()
        )
    unknown = sorted(nodes.by_kind.keys() - known.keys())
    if unknown:
        yield f"no known scheme gives this in {', '.join(unknown)}"
    elif not known:
        yield "no known scheme gives this"


def _trace(found: Diff, first: NodeDiff, inputs: Inputs, scheme: Scheme) -> Iterable[str]:
    """How the worst element of the first diverging node comes about."""
    worst = first.end_to_end or first.created
    if worst is None or worst.tensor is None or worst.where is None:
        return
    yield ""
    try:
        yield str(explain(found.graph, inputs, worst.tensor, worst.where, scheme))
    except QInterpError as error:
        yield f"(no trace: {error})"


__all__ = ["assert_matches"]
