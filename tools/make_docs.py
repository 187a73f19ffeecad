"""Write docs/schemes.md from the scheme files: one table by axis, a section for each scheme.

Usage::

    python tools/make_docs.py            # writes docs/schemes.md
    python tools/make_docs.py --check    # exit status 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qinterp.numerics.records import to_table
from qinterp.numerics.stages import NAMED_STAGES, Stage
from qinterp.scheme import RECIPES, Policy, Scheme
from qinterp.schemes_io import load_scheme, scheme_names

TARGET = Path(__file__).resolve().parents[1] / "docs" / "schemes.md"
HEAD = """# Schemes

This file is made from `schemes/*.toml` by `tools/make_docs.py`. The clauses that it quotes stand in
[numerics.md](numerics.md); `qinterp schemes NAME` prints a scheme with everything resolved.
"""
EXAMPLES = (
    ("conv_2d", "conv_2d, int8", {"activation": "int8", "weight": "int8", "bias": "int32"}),
    ("fully_connected", "fully_connected, int8", {"activation": "int8", "weight": "int8"}),
    ("conv_2d", "conv_2d, int16", {"activation": "int16", "weight": "int8", "bias": "int64"}),
)


def main() -> int:
    """Write the file, or compare it with what it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = document()
    if arguments.check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


def document() -> str:
    """The whole file."""
    schemes = [load_scheme(name) for name in scheme_names()]
    parts = [HEAD, *_axes(schemes), *(_section(scheme) for scheme in schemes)]
    return "\n".join(parts)


def _axes(schemes: Sequence[Scheme]) -> Iterable[str]:
    yield "## By axis\n"
    for kind, title, facts in EXAMPLES:
        yield f"### {title}\n"
        yield "| scheme | effective scale (S1) | accumulator (A) | stages (R) | bounds (B1) |"
        yield "|---|---|---|---|---|"
        for scheme in schemes:
            policy = scheme.policy({"op": kind, **facts})
            yield f"| {scheme.name} | " + " | ".join(_cells(policy, kind)) + " |"
        yield ""


def _cells(policy: Policy, kind: str) -> list[str]:
    choice = policy.recipe or RECIPES.standard(kind, policy.recipes)
    if choice is None:
        return ["lacks the operator", "", "", ""]
    if choice.name != "accumulate":
        return [f"recipe `{choice.name}`", "", "", ""]
    acc = policy.accumulator
    bounds = policy.activation_bounds
    scale = policy.effective_scale
    precision: str = scale.precision
    if scale.product_precision:
        precision += f", product {scale.product_precision}"
    return [
        precision,
        f"{acc.bits} bits, {acc.overflow}",
        _stages(policy.requantize),
        f"{bounds.precision}, {bounds.rounding}, zero point {bounds.zero_point.replace('_', ' ')}",
    ]


def _stages(stages: Sequence[Stage]) -> str:
    for name, named in NAMED_STAGES.items():
        if named == tuple(stages):
            return f"`{name}`"
    return ", ".join(_stage(stage) for stage in stages)


def _stage(stage: Stage) -> str:
    table = stage.to_table()
    what = [str(table.get(key)) for key in ("bits", "precision", "rounding") if key in table]
    return f"{table['stage']}({', '.join(what)})" if what else str(table["stage"])


def _section(scheme: Scheme) -> str:
    evidence = scheme.evidence
    lines = [f"## {scheme.name}\n", f"*Source.* {' '.join(scheme.source.split())}\n"]
    known = [f"level {evidence['level']}"]
    known += [f"{k} {evidence[k]}" for k in ("runtime", "version", "test") if k in evidence]
    lines.append(f"*Evidence.* {', '.join(known)}.\n")
    notes = evidence.get("notes", [])
    listed = [notes] if isinstance(notes, str) else notes
    lines += [f"- {' '.join(note.split())}" for note in listed]
    if notes:
        lines.append("")
    lines += ["| where | what |", "|---|---|"]
    table = scheme.to_table()
    lines += _rows("everything", table.get("default", {}))
    for rule in table.get("rule", []):
        when = ", ".join(f"{k} = {_value(v)}" for k, v in rule.get("when", {}).items())
        rest = {k: v for k, v in rule.items() if k != "when"}
        lines += _rows(when or "everything", rest)
    if scheme.fallback is not None:
        lines.append(f"| operators it lacks | as {scheme.fallback.name} |")
    return "\n".join([*lines, ""])


def _rows(where: str, fields: dict[str, Any]) -> list[str]:
    return [f"| {where} | {key} = {_value(value)} |" for key, value in fields.items()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        if "stage" in value:
            rest = ", ".join(str(v) for k, v in value.items() if k != "stage")
            return f"{value['stage']}({rest})" if rest else str(value["stage"])
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(to_table(value))


if __name__ == "__main__":
    sys.exit(main())
