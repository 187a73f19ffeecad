"""What ``qinterp run`` prints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qinterp import __version__
from qinterp.capture import Capture, Event
from qinterp.importers._shipped import provenance
from qinterp.interpreter import Interpreter
from qinterp.ir import Tensor
from qinterp.ir.tensor import Array
from qinterp.report.inputs import ChosenInputs
from qinterp.report.tables import paragraph, print_table, say


class RunReport:
    """One captured run with the time of every node."""

    def __init__(
        self, interpreter: Interpreter, chosen: ChosenInputs, notes: Sequence[str] = ()
    ) -> None:
        self.interpreter = interpreter
        self.chosen = chosen
        self._clock: list[float] = []

        def tick(event: Event) -> None:
            self._clock.append(time.perf_counter())

        codes = interpreter.input_codes(chosen.arrays)
        interpreter.scheme.sha256  # noqa: B018  # worked out once, and no part of the first node's time
        started = time.perf_counter()
        self.result = interpreter.run(codes, hooks=[tick], capture=Capture(), notes=tuple(notes))
        self.seconds = np.diff([started, *self._clock])

    @property
    def prediction(self) -> int | None:
        """The class of the first output, if it looks like one score a class."""
        value = next(iter(self.result.outputs.values()), None)
        if value is None or value.ndim != 2 or value.shape[0] != 1 or value.shape[1] < 2:
            return None
        return int(np.argmax(value))

    def rows(self) -> list[dict[str, Any]]:
        """One entry an output tensor that was computed."""
        graph = self.interpreter.graph
        ran = [n for n in graph.nodes if n.outputs[0] in self.result.tensors]
        rows = []
        for node, seconds in zip(ran, self.seconds, strict=False):
            for name in node.outputs:
                tensor, value = graph.tensors[name], self.result.tensors[name]
                rows.append(
                    {
                        "node": node.name,
                        "kind": node.kind,
                        "tensor": name,
                        "dtype": tensor.dtype,
                        "shape": list(value.shape),
                        "min": value.min().item() if value.size else None,
                        "max": value.max().item() if value.size else None,
                        "at_limits": _share_at_limits(tensor, value),
                        "milliseconds": round(1e3 * float(seconds), 3),
                    }
                )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Everything the table shows."""
        return {
            "schema": "qinterp.run/1",
            "qinterp": __version__,
            **{k: self.result.tensors.record[k] for k in ("model", "scheme", "inputs")},
            "input_origin": self.chosen.origin,
            "label": self.chosen.label,
            "prediction": self.prediction,
            "milliseconds": round(1e3 * self.result.seconds, 3),
            "nodes": self.rows(),
            "outputs": {name: v.tolist() for name, v in self.result.outputs.items()},
        }

    def print(self, captured: Path | None = None) -> None:
        """The table, the prediction and the time."""
        record = self.result.tensors.record
        say(f"model   {record['model']['name']}  sha256 {record['model']['sha256'][:16]}")
        say(f"scheme  {record['scheme']['name']}  sha256 {record['scheme']['sha256'][:16]}")
        say(f"input   {self.chosen.origin}")
        say("")
        print_table(
            ("~node", "kind", "shape", "dtype", ">min", ">max", ">at limits", ">ms"),
            [
                (
                    row["node"],
                    row["kind"],
                    "x".join(map(str, row["shape"])),
                    row["dtype"],
                    _short(row["min"]),
                    _short(row["max"]),
                    "" if row["at_limits"] is None else f"{row['at_limits']:.1%}",
                    f"{row['milliseconds']:.2f}",
                )
                for row in self.rows()
            ],
        )
        say("")
        self._print_prediction()
        say(f"time    {1e3 * self.result.seconds:.1f} ms, {len(self.seconds)} nodes")
        borrowed = _by_fallback(self.interpreter)
        if borrowed:
            named = [f"{node} ({scheme})" for node, scheme in borrowed.items()]
            more = f" and {len(named) - 2} more" if len(named) > 2 else ""
            paragraph("note", f"computed by a fallback: {', '.join(named[:2])}{more}")
        if captured is not None:
            count, noted = len(self.result.tensors), len(self.result.notes)
            with_notes = f", notes of {noted} nodes" if noted else ""
            say(f"capture {captured}: {count} tensors{with_notes}")

    def _print_prediction(self) -> None:
        if self.prediction is None:
            return
        name, value = next(iter(self.result.outputs.items()))
        tensor = self.interpreter.graph.tensors[name]
        score: float = value[0, self.prediction].item()
        if tensor.quantization is not None:
            score = tensor.scale * (score - tensor.zero_point)
        text = f"class {self.prediction} with {score:.4f}"
        if self.chosen.label is not None:
            right = self.prediction == self.chosen.label
            text += f", which is {'right' if right else f'wrong: it is {self.chosen.label}'}"
        say(f"output  {text}")
        known = provenance(self.interpreter.graph.name)
        if known is not None:
            accuracy = known["accuracy"]
            say(
                f"        held-out accuracy: int8 {accuracy['int8']:.4f}, "
                f"float {accuracy['float']:.4f} on {known['images']} images"
            )


def _share_at_limits(tensor: Tensor, value: Array) -> float | None:
    """The share of codes that are the least or greatest of their type."""
    if tensor.quantization is None or not value.size:
        return None
    kind = tensor.int_type
    return float(np.mean((value == kind.min) | (value == kind.max)))


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_plan(interpreter: Interpreter, *, as_json: bool = False) -> None:
    """How each node is computed, and why."""
    import json
    from dataclasses import asdict

    if as_json:
        plan = [asdict(entry) for entry in interpreter.plan]
        print(json.dumps({"schema": "qinterp.plan/1", "nodes": plan}, indent=2))
        return
    borrowed = _by_fallback(interpreter)
    rows = []
    for e in interpreter.plan:
        why = f"as {borrowed[e.node]}, a fallback: {e.reason}" if e.node in borrowed else e.reason
        rows.append((e.node, e.recipe, e.path, _bits(e.headroom), why))
    print_table(("node", "recipe", "path", ">headroom", "~why"), rows)


def _by_fallback(interpreter: Interpreter) -> dict[str, str]:
    """Nodes that their scheme has no rule for, and the scheme that computes them instead."""
    return {
        entry.node: entry.scheme
        for entry in interpreter.plan
        if entry.scheme not in ("", interpreter.scheme.for_node(entry.node).name)
    }


def _bits(headroom: int | None) -> str:
    return "" if headroom is None else f"{headroom} bits"
