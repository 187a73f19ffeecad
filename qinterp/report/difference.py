"""What ``qinterp diff`` prints: a table that can be pasted into an issue, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qinterp import __version__
from qinterp.difference import (
    Diff,
    Differences,
    NodeDiff,
    OutputEffect,
    Tolerances,
    at_most,
    diff,
    load_tolerances,
)
from qinterp.difference.dumps import Match
from qinterp.difference.sides import Given
from qinterp.errors import InputError
from qinterp.interpreter import Inputs
from qinterp.ir import Graph
from qinterp.report.tables import paragraph, print_table, say
from qinterp.schemes_io import scheme_names

_REASONS = 6  # that the text has; JSON and CSV have all
_BINS = 8


def run_diff(
    graph: Graph,
    inputs: Inputs | Iterable[Inputs],
    a: Given,
    b: Given,
    *,
    origin: str = "",
    model: str = "",
    options: Callable[[int], str | None] = lambda sample: None,
    match: Match = "auto",
    labels: Sequence[int] | None = None,
    original: Graph | str | os.PathLike[str] | None = None,
    tolerance: str | os.PathLike[str] | None = None,
    fail_lsb: int | None = None,
    as_json: bool = False,
    csv_file: Path | None = None,
    workers: int | None = None,
) -> int:
    """Compare two sides and print what was found; see :func:`qinterp.difference.diff`.

    Parameters
    ----------
    origin : where the inputs come from, for the heading.
    model, options : what the user calls the model, and the options that give a sample by its
        number, for the hint at ``qinterp explain``; no hint without them.
    tolerance : name or file of tolerances. Without these, ``fail_lsb`` is the most that any node
        may create or differ by; without both, nothing may differ.
    as_json : print JSON and nothing else.
    csv_file : also write a row a node there.

    Returns
    -------
    Exit status: 0 the same or within tolerance, 1 a difference.

    Raises
    ------
    QInterpError : see ``diff``; also where no node could be compared, and an interrupted
        comparison without a difference so far.
    """
    allowed: Tolerances | None = None
    if tolerance is not None:
        allowed = load_tolerances(tolerance)
    elif fail_lsb is not None:
        allowed = at_most(fail_lsb)
    with _progress() as progress:
        found = diff(
            graph, inputs, a, b, match=match, labels=labels, original=original,
            progress=progress, workers=workers,
        )  # fmt: skip
    if csv_file is not None:
        try:
            csv_file.write_text(to_csv(found), encoding="utf-8", newline="")
        except OSError as error:
            raise InputError(f"{csv_file}: {error.strerror}") from None
    if as_json:
        print(json.dumps(to_json(found, allowed), indent=2, allow_nan=False))
    else:
        print_diff(found, allowed, origin, model, options)
    failed = bool(found.violations(allowed)) if allowed is not None else not found.same
    if found.samples and not found.compared and found.nodes:
        reason = next((n.reason for n in found.nodes if n.reason), "no node's output was captured")
        raise InputError(f"nothing could be compared: {reason}")
    if found.interrupted and not failed:
        raise InputError(f"interrupted after {found.samples} samples, without a difference so far")
    return int(failed)


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("comparing")
        yield lambda done, total: bar.update(task, completed=done, total=total)


# ---- text -------------------------------------------------------------------------------------


def print_diff(
    found: Diff,
    allowed: Tolerances | None = None,
    origin: str = "",
    model: str = "",
    options: Callable[[int], str | None] = lambda sample: None,
) -> None:
    """The table, the first divergence, why, and what it does to the outputs."""
    samples = f"{found.samples} sample{'' if found.samples == 1 else 's'}"
    say(f"model   {found.graph.name}  sha256 {found.graph.sha256[:16]}")
    paragraph("A", found.a)
    paragraph("B", found.b)
    say(f"inputs  {origin or samples}" + (f", {samples}" if origin else ""))
    if found.interrupted:
        say("        interrupted: this is what the samples before say")
    say("")
    print_table(
        (
            "~node", ">differ", ">share", ">max", ">created", ">max", ">passed on", ">max",
            ">amplified",
        ),
        [_row(entry) for entry in found.nodes],
    )  # fmt: skip
    say("")
    _print_first(found, model, options)
    for effect in found.outputs.values():
        _print_effect(effect)
    _print_inputs(found)
    _print_unknown(found)
    for remark in found.remarks:
        paragraph("note", remark)
    if allowed is not None:
        _print_verdict(found, allowed)


def _row(entry: NodeDiff) -> tuple[str, ...]:
    if entry.end_to_end is None and entry.created is None:
        return (entry.node.name, "-", *[""] * 7)
    end, created, passed = entry.end_to_end, entry.created, entry.propagated
    return (
        entry.node.name,
        _count(end),
        f"{100 * end.share:.2f} %" if end is not None and end.count else "",
        _most(end),
        _count(created),
        _most(created),
        _count(passed),
        _most(passed),
        f"{entry.amplification:.2g} x" if entry.amplification else "",
    )


def _count(found: Differences | None) -> str:
    return "?" if found is None else str(found.count)


def _most(found: Differences | None) -> str:
    return str(found.max_lsb) if found is not None and found.count else ""


def _print_first(found: Diff, model: str, options: Callable[[int], str | None]) -> None:
    first = found.first
    if first is None:
        seen, nodes = found.compared, len(found.nodes)
        say("first   no node differs" + (f" of the {seen} compared" if seen < nodes else ""))
        return
    here = first.created if first.created is not None and first.created.count else first.end_to_end
    assert here is not None
    place = first.element(here.first_tensor, here.first)
    text = f"{first.node.name} ({first.node.kind}), at {place} of sample {here.first_sample}"
    if len(first.unit) > 1:
        text += f", or before it: nothing was captured since {first.unit[0]}"
    paragraph("first", text)
    text = f"differences there: {_histogram(here)}"
    if here.max_lsb > 1:
        text += f"; the largest at {first.element(here.tensor, here.where)} of sample {here.sample}"
    paragraph("", text)
    option = options(here.first_sample or 0)
    if model and option is not None and {found.a, found.b} <= set(scheme_names()):
        element = f"{shlex.quote(model)} {shlex.quote(place)} {option}"
        paragraph("", f"see qinterp explain {element} -s {found.a} -s {found.b}")
    _print_reasons(found)


def _print_reasons(found: Diff) -> None:
    """The blame of every node that creates differences, each reason once."""
    by_reason: dict[str, list[NodeDiff]] = {}
    for entry in found.nodes:
        if entry.blame is not None:
            by_reason.setdefault(entry.blame.reason, []).append(entry)
    for entries in list(by_reason.values())[:_REASONS]:
        paragraph("why", _sentence(entries))
        if others := entries[1:]:
            more = sum(n.created.count for n in others if n.created is not None)
            names = ", ".join(n.node.name for n in others)
            paragraph("", f"the same in {names}: {more} elements")
    rest = [n.node.name for entries in list(by_reason.values())[_REASONS:] for n in entries]
    if rest:
        paragraph("", f"and for other reasons in {', '.join(rest)}")


def _sentence(entries: Sequence[NodeDiff]) -> str:
    """The blame of the first, with the schemes that give exactly what all of them have."""
    blames = [entry.blame for entry in entries if entry.blame is not None]
    common = [s for s in blames[0].schemes if all(s in blame.schemes for blame in blames)]
    return blames[0].sentence(common)


def _histogram(found: Differences) -> str:
    common = sorted(found.histogram.items(), key=lambda item: (-item[1], abs(item[0])))[:_BINS]
    said = ", ".join(f"{value:+d} {found.unit}: {count}" for value, count in sorted(common))
    rest = len(found.histogram) - len(common)
    return f"{said}, and {rest} larger or rarer" if rest else said


def _print_effect(effect: OutputEffect) -> None:
    paragraph(
        "output",
        f"{effect.tensor}: largest error {effect.max_error:.4g} (mean {effect.mean_error:.3g}), "
        + _relative(effect),
    )
    if not effect.rows:
        return
    same = effect.rows - effect.flips
    paragraph(
        "",
        f"best class the same in {same} of {effect.rows}, A's among B's best five in "
        f"{effect.in_top5}",
    )
    names = {"a": "A", "b": "B", "original": "float original"}
    if effect.accuracy:
        for what in ("top1", "top5"):
            rates = [
                f"{100 * getattr(accuracy, what) / accuracy.rows:.2f} % ({names[side]})"
                for side, accuracy in effect.accuracy.items()
                if accuracy.rows
            ]
            paragraph("", f"{what.replace('top', 'top-')} accuracy {', '.join(rates)}")
    for side in "ab":
        within, drop = effect.within_half_percent(side), effect.accuracy_drop(side)
        if within is not None and drop is not None:
            verdict = "within" if within else "NOT within"
            paragraph(
                "",
                f"{names[side]} is {verdict} 0.5 % of the float original "
                f"({0.0 - 100 * drop:+.2f} % top-1)",
            )


def _relative(effect: OutputEffect) -> str:
    if not math.isfinite(effect.relative_error):
        return "of an output that is all zero in A"
    sqnr = f"{effect.sqnr:.1f} dB" if math.isfinite(effect.sqnr) else "infinite"
    return f"relative {100 * effect.relative_error:.3g} %, SQNR {sqnr}"


def _print_inputs(found: Diff) -> None:
    for name, difference in found.inputs.items():
        if difference.count:
            paragraph(
                "note",
                f"the sides start from different inputs: {difference.count} of {difference.size} "
                f"elements of {name!r} differ by up to {difference.max_lsb} {difference.unit}",
            )


def _print_unknown(found: Diff) -> None:
    """Which nodes could not be compared."""
    unseen = [n.node.name for n in found.nodes if n.status == "not captured"]
    if unseen:
        names = f": {', '.join(unseen[:_BINS])}" + (" ..." if len(unseen) > _BINS else "")
        were = "node was" if len(unseen) == 1 else "nodes were"
        paragraph("note", f"{len(unseen)} {were} not captured{names}")
    for entry in found.nodes:
        if entry.reason:
            paragraph("note", f"{entry.node.name}: {entry.status}: {entry.reason}")


def _print_verdict(found: Diff, allowed: Tolerances) -> None:
    broken = found.violations(allowed)
    if not broken:
        paragraph("verdict", f"within tolerance ({allowed.name})")
    for violation in broken[:_BINS]:
        paragraph("verdict", f"beyond tolerance ({allowed.name}): {violation}")
    if len(broken) > _BINS:
        paragraph("", f"and {len(broken) - _BINS} more")


# ---- data -------------------------------------------------------------------------------------


def to_json(found: Diff, allowed: Tolerances | None = None) -> dict[str, Any]:
    """Everything that was found, in plain types; infinities are None."""
    table: dict[str, Any] = {
        "schema": "qinterp.diff/1",
        "qinterp": __version__,
        "model": {"name": found.graph.name, "sha256": found.graph.sha256},
        "a": found.a,
        "b": found.b,
        "executed": found.executed,
        "samples": found.samples,
        "interrupted": found.interrupted,
        "same": found.same,
        "first": found.first.node.name if found.first is not None else None,
        "inputs": {name: _differences(d) for name, d in found.inputs.items()},
        "nodes": [_node(entry) for entry in found.nodes],
        "outputs": [_effect(effect) for effect in found.outputs.values()],
        "remarks": found.remarks,
    }
    if allowed is not None:
        table["tolerances"] = allowed.name
        table["violations"] = [vars(v) for v in found.violations(allowed)]
    return table


def _node(entry: NodeDiff) -> dict[str, Any]:
    blame = entry.blame
    return {
        "node": entry.node.name,
        "kind": entry.node.kind,
        "outputs": list(entry.node.outputs),
        "status": entry.status,
        "reason": entry.reason,
        "unit": list(entry.unit),
        "created": _differences(entry.created),
        "propagated": _differences(entry.propagated),
        "end_to_end": _differences(entry.end_to_end),
        "amplification": entry.amplification,
        "blame": None
        if blame is None
        else {
            "sentence": str(blame),
            "where": blame.where,
            "reason": blame.reason,
            "counts": blame.counts,
            "groups": [list(groups) for groups in blame.groups],
            "changes": [dict(changes) for changes in blame.changes],
            "schemes": list(blame.schemes),
            "suspect": blame.suspect,
            "looked_at": blame.causes.looked_at,
            "ties": blame.causes.ties,
            "nearer": dict(blame.causes.nearer),
            "causes": dict(blame.causes.kinds),
        },
    }


def _differences(found: Differences | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "unit": found.unit,
        "count": found.count,
        "size": found.size,
        "share": found.share,
        "max_lsb": found.max_lsb,
        "max_error": found.max_error,
        "where": _place(found.tensor, found.sample, found.where),
        "first": _place(found.first_tensor, found.first_sample, found.first),
        "histogram": {str(value): count for value, count in sorted(found.histogram.items())},
    }


def _place(
    tensor: str | None, sample: int | None, index: Sequence[int] | None
) -> dict[str, Any] | None:
    if tensor is None:
        return None
    return {"tensor": tensor, "sample": sample, "index": list(index or ())}


def _effect(effect: OutputEffect) -> dict[str, Any]:
    return {
        "tensor": effect.tensor,
        "elements": effect.elements,
        "max_error": effect.max_error,
        "mean_error": effect.mean_error,
        "max_relative_error": effect.max_relative_error,
        "relative_error": _finite(effect.relative_error),
        "sqnr_db": _finite(effect.sqnr),
        "rows": effect.rows,
        "flips": effect.flips,
        "top1_agreement": effect.top1_agreement,
        "top5_agreement": effect.top5_agreement,
        "accuracy": {side: vars(accuracy) for side, accuracy in effect.accuracy.items()},
        "original_agreement": effect.original_agreement,
        "within_half_percent": {
            side: within
            for side in "ab"
            if (within := effect.within_half_percent(side)) is not None
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_csv(found: Diff) -> str:
    """A row a node, with a heading."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    kinds = ("end_to_end", "created", "propagated")
    fields = ("count", "share", "max_lsb", "tensor", "sample", "where")
    writer.writerow(
        ["node", "kind", "status", "elements", "unit"]
        + [f"{kind}_{name}" for kind in kinds for name in fields]
        + ["amplification", "why"]
    )
    for entry in found.nodes:
        known = entry.end_to_end or entry.created
        parts = [getattr(entry, kind) for kind in kinds]
        writer.writerow(
            [entry.node.name, entry.node.kind, entry.status]
            + ([known.size, known.unit] if known is not None else ["", ""])
            + [_cell(part, name) for part in parts for name in fields]
            + [entry.amplification, entry.blame or ""]
        )
    return stream.getvalue()


def _cell(found: Differences | None, name: str) -> Any:
    value = getattr(found, name, None)
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
