"""What ``qinterp verify`` does: schemes against the runtimes they claim to equal.

Every node is run from the runtime's own operands, so that one difference is counted once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.errors import QInterpError
from qinterp.interpreter import Interpreter
from qinterp.ir import Graph
from qinterp.ir.tensor import Array
from qinterp.report.inputs import ChosenInputs
from qinterp.report.tables import print_table, say
from qinterp.runtimes import RUNTIMES
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme, sound_scheme_names


@dataclass
class Tally:
    """Counts for one scheme and operator kind."""

    nodes: int = 0
    unseen: int = 0
    elements: int = 0
    differing: int = 0
    max_lsb: float = 0


class Verification:
    """A graph under every scheme that has a runtime here."""

    def __init__(self, graph: Graph, chosen: Sequence[ChosenInputs]) -> None:
        self.graph = graph
        self.chosen = chosen
        self.tallies: dict[str, dict[str, Tally]] = {}
        self.skipped: dict[str, str] = {}
        self.runtimes: dict[str, str] = {}
        for name in sound_scheme_names():
            scheme = load_scheme(name)
            runtime = scheme.evidence.get("runtime")
            if runtime is None:
                self.skipped[name] = "no runtime claims to compute so"
            elif runtime not in RUNTIMES:
                self.skipped[name] = f"runtime {runtime} is not known here"
            elif (reason := RUNTIMES[runtime].unavailable()) is not None:
                self.skipped[name] = reason
            else:
                self.runtimes[name] = f"{runtime} ({RUNTIMES[runtime].version()})"
                try:
                    self.tallies[name] = self._compare(scheme, runtime)
                except QInterpError as error:
                    self.skipped[name] = str(error)

    @property
    def differs(self) -> bool:
        """Whether any element of any scheme differs from its runtime."""
        return any(t.differing for kinds in self.tallies.values() for t in kinds.values())

    def _compare(self, scheme: Scheme, runtime: str) -> dict[str, Tally]:
        interpreter = Interpreter(self.graph, scheme)
        session = RUNTIMES[runtime].open(self.graph.source)
        tallies: dict[str, Tally] = defaultdict(Tally)
        for chosen in self.chosen:
            ours = interpreter.run(chosen.arrays, capture=True)
            codes = interpreter.input_codes(chosen.arrays)
            theirs = session.run(codes)
            for node in self.graph.nodes:
                tally = tallies[node.kind]
                tally.nodes += 1
                seen = [n for n in node.outputs if n in theirs]
                operands = interpreter.operands_of(node, chosen.arrays, ours)
                known = {**codes, **theirs}
                operands = [
                    known.get(n, v) if n else None
                    for n, v in zip(node.inputs, operands, strict=True)
                ]
                computed = [n for n in node.inputs if n and self.graph.producer(n)]
                if not seen or any(n not in theirs for n in computed):
                    tally.unseen += 1
                    continue
                outputs, _ = interpreter.run_node(node, operands)
                for name in seen:
                    _count(tally, outputs[name], theirs[name])
        return dict(tallies)

    def to_json(self) -> dict[str, Any]:
        """The table as data."""
        return {
            "schema": "qinterp.verify/1",
            "model": {"name": self.graph.name, "sha256": self.graph.sha256},
            "inputs": [c.origin for c in self.chosen],
            "schemes": {
                name: {
                    "runtime": self.runtimes[name],
                    "kinds": {kind: vars(tally) for kind, tally in kinds.items()},
                }
                for name, kinds in self.tallies.items()
            },
            "skipped": self.skipped,
        }

    def print(self) -> None:
        """The table, and what was left out."""
        say(f"model   {self.graph.name}")
        say(f"inputs  {len(self.chosen)}, the first: {self.chosen[0].origin}")
        for name, kinds in self.tallies.items():
            say("")
            say(f"{name} against {self.runtimes[name]}")
            print_table(
                ("kind", ">nodes", ">elements", ">differing", ">max LSB", "verdict"),
                [
                    (
                        kind,
                        tally.nodes,
                        f"{tally.elements:,}",
                        f"{tally.differing:,}",
                        f"{tally.max_lsb:g}" if tally.differing else "",
                        _verdict(tally),
                    )
                    for kind, tally in sorted(kinds.items())
                ],
            )
        if self.skipped:
            say("")
            say("not compared:")
            for name, reason in self.skipped.items():
                say(f"  {name}: {reason}")


def _count(tally: Tally, ours: Array, theirs: Array) -> None:
    tally.elements += ours.size
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        tally.differing += ours.size
        return
    both_nan = np.isnan(ours) & np.isnan(theirs) if ours.dtype.kind == "f" else False
    wrong = (ours != theirs) & ~np.asarray(both_nan)
    if wrong.any():
        gap = np.abs(ours[wrong].astype(np.float64) - theirs[wrong].astype(np.float64))
        tally.differing += int(wrong.sum())
        tally.max_lsb = max(tally.max_lsb, float(gap.max()))


def _verdict(tally: Tally) -> str:
    if tally.differing:
        return "DIFFERS"
    if not tally.elements:
        return "not captured by the runtime"
    return "exact" if not tally.unseen else f"exact where seen ({tally.unseen} nodes unseen)"
