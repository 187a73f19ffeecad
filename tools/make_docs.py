"""Write docs/schemes.md from the scheme files: one table by axis, a section for each scheme.

Usage::

    python tools/make_docs.py            # writes docs/schemes.md
    python tools/make_docs.py --check    # exit status 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qinterp.numerics.records import to_table
from qinterp.numerics.requantize import needs_multiplier
from qinterp.numerics.stages import NAMED_STAGES, STAGES, Stage
from qinterp.scheme import RECIPES, Policy, Scheme
from qinterp.schemes_io import load_scheme, scheme_names

TARGET = Path(__file__).resolve().parents[1] / "docs" / "schemes.md"
HEAD = """# Schemes

This file is made from `schemes/*.toml` by `tools/make_docs.py`. The clauses that it quotes stand in
[numerics.md](numerics.md); `qinterp schemes NAME` prints a scheme with everything resolved.
"""
LAYER = {
    "weight": "int8", "constant_weights": True, "symmetric_weights": True, "whole_bytes": True,
    "weight_dimension": 0, "groups": 1, "batch": 1, "rank": 4,
}  # fmt: skip
EXAMPLES = (
    ("conv_2d", "int8", "int32", True),
    ("depthwise_conv_2d", "int8", "int32", True),
    ("fully_connected", "int8", "int32", False),
    ("conv_2d", "int16", "int64", True),
)
"""Layers of one operator, type and bias, with a scale a channel or not."""

RECIPE_OPERATORS = ("add", "mul", "mean", "average_pool_2d", "softmax", "logistic", "quantize")


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
    yield "A list of stages goes from left to right; each formula takes what the one before gave:\n"
    yield "| stage | formula |"
    yield "|---|---|"
    for name, stage in STAGES.items():
        fields = ", ".join(field.name for field in dataclasses.fields(stage))
        formula = (stage.__doc__ or "").splitlines()[0].replace("``", "`")
        yield f"| {name}({fields}) | {formula} |"
    yield ""
    yield "Lists that have names:\n"
    yield "| list | stages |"
    yield "|---|---|"
    for name, stages in NAMED_STAGES.items():
        yield f"| `{name}` | {_value(to_table(stages))} |"
    yield ""
    for kind, dtype, bias, per_channel in EXAMPLES:
        grain = "a scale a channel" if per_channel else "one scale"
        yield f"### {kind}, {dtype}, bias {bias}, {grain}\n"
        axes = "effective scale (S1) | multiplier (S2) | accumulator (A) | stages (R) | bounds (B1)"
        yield f"| scheme | {axes} |"
        yield "|---|---|---|---|---|---|"
        own = {"op": kind, "activation": dtype, "output": dtype, "bias": bias}
        for scheme in schemes:
            policy = scheme.policy({**LAYER, **own, "per_channel": per_channel})
            yield f"| {scheme.name} | " + " | ".join(_cells(policy, kind)) + " |"
        yield ""
    yield "### Recipes of int8 operators\n"
    yield f"| scheme | {' | '.join(RECIPE_OPERATORS)} |"
    yield "|---" * (len(RECIPE_OPERATORS) + 1) + "|"
    for scheme in schemes:
        cells = [_recipe(scheme, kind) for kind in RECIPE_OPERATORS]
        yield f"| {scheme.name} | {' | '.join(cells)} |"
    yield ""


def _recipe(scheme: Scheme, kind: str) -> str:
    """The recipe of an operator of int8 codes on like grids."""
    one = {"least": 1.0, "most": 1.0}
    facts = {
        "op": kind, "activation": "int8", "output": "int8", "rank": 4, "axes": [1, 2],
        "keep_dims": True, "batch": 1, "scale_ratio": one, "product_ratio": one,
    }  # fmt: skip
    if kind == "quantize":
        facts["activation"] = "float32"
    policy = scheme.policy(facts)
    if policy.lacks:
        return f"as {scheme.fallback.name}" if scheme.fallback else "lacks it"
    choice = policy.recipe or RECIPES.standard(kind, policy.recipes)
    return f"`{choice.name}`" if choice else "lacks it"


def _cells(policy: Policy, kind: str) -> list[str]:
    if policy.lacks:
        return [f"lacks it: {policy.lacks}", "", "", "", ""]
    choice = policy.recipe or RECIPES.standard(kind, policy.recipes)
    if choice is None:
        return ["lacks the operator", "", "", "", ""]
    if choice.name != "accumulate":
        return [f"recipe `{choice.name}`", "", "", "", ""]
    acc = policy.accumulator
    bounds = policy.activation_bounds
    scale = policy.effective_scale
    precision: str = scale.precision
    if scale.product_precision:
        precision += f", product {scale.product_precision}"
    multiplier = policy.multiplier
    mantissa = f"{multiplier.form}, {multiplier.bits} bits, {multiplier.rounding}"
    if multiplier.reduce_to:
        mantissa += f", reduced to {multiplier.reduce_to}"
    if not needs_multiplier(policy.requantize):
        mantissa = "none"
    return [
        precision,
        mantissa,
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
