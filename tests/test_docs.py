"""The generated documents are those of the files they are made from."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from planting import PARTS, alone, fields_read

import qinterp
from qinterp import load_scheme
from qinterp.errors import QInterpError
from qinterp.importers._shipped import samples
from qinterp.ops import OPERATORS
from qinterp.testing.random_models import KINDS, random_model

ROOT = Path(__file__).resolve().parents[1]


def test_schemes_document_is_up_to_date() -> None:
    made = subprocess.run([sys.executable, ROOT / "tools" / "make_docs.py", "--check"], check=False)
    assert made.returncode == 0, "run python tools/make_docs.py"


def test_clauses_that_code_quotes_exist() -> None:
    clauses = set(re.findall(r"\*\*([A-Z]\d+)\*\*", (ROOT / "docs" / "numerics.md").read_text()))
    assert len(clauses) > 40
    quoted = set()
    for file in (ROOT / "qinterp").rglob("*.py"):
        for group in re.findall(r"[Cc]lauses? ((?:[A-Z]\d+(?:, | to | and )?)+)", file.read_text()):
            quoted.update(re.findall(r"[A-Z]\d+", group))
    assert quoted
    assert quoted - clauses == set()


def block(document: str, marker: str) -> str:
    """The fenced block after a marker."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"{document}: no block after {marker!r}"
    return found[1]


def test_the_device_walk_through_of_the_readme(tmp_path: Path) -> None:
    """A new user's way to the first wrong layer, to the letter."""
    commands = block("README.md", "device walk-through").splitlines()
    assert len(commands) == 3
    for command in commands:
        tool, *arguments = shlex.split(command)
        start = {".venv/bin/qinterp": ["-m", "qinterp"], ".venv/bin/python": []}[tool]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *start, *arguments], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
    assert done.returncode == 1
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- device walk-through -->")[2].split("```")[3].splitlines()
    lines = [line for line in shown if line not in ("", "...")]
    assert len(lines) > 6
    assert [line for line in lines if line not in done.stdout.splitlines()] == []


def keys(value: Any) -> Any:
    """The names in a nest of objects; lists by their first element, free names as they are."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    if isinstance(value, list) and value:
        return keys(value[0])
    return None


def test_the_json_of_a_diff_is_as_documented() -> None:
    import qinterp
    from qinterp.difference import at_most, diff
    from qinterp.importers._shipped import samples
    from qinterp.report.difference import to_json

    wanted = json.loads(block("docs/diff.md", "json schema"))
    graph, own = qinterp.load("digits_resnet.tflite"), samples("digits_resnet.tflite")
    assert own is not None
    found = diff(
        graph, own.inputs[:1], "tflite-reference", "exact", labels=own.labels[:1],
        original="digits_resnet_float.tflite",
    )  # fmt: skip
    made = to_json(found, at_most(0))
    assert made["schema"] == wanted["schema"]
    node = next(n for n in made["nodes"] if n["created"]["count"])
    made["nodes"] = [node]
    statuses = {status.strip() for status in wanted["nodes"][0]["status"].split(",")}
    assert {n.status for n in found.nodes} <= statuses
    differences = keys(node["created"])
    for name in ("propagated", "end_to_end"):
        wanted["nodes"][0][name] = wanted["nodes"][0]["created"]
        if not node[name]["count"]:
            node[name] = node["created"]
    assert {*differences} == {*keys(made["inputs"]["image"])}
    for table in (made, wanted):
        table["inputs"] = {}
        for entry in (table["nodes"][0]["created"], table["nodes"][0]["propagated"],
                      table["nodes"][0]["end_to_end"]):  # fmt: skip
            entry["histogram"] = {}
        blame = table["nodes"][0]["blame"]
        blame["nearer"], blame["causes"], blame["changes"] = {}, {}, []
        output = table["outputs"][0]
        output["accuracy"] = next(iter(output["accuracy"].values()))
        output["original_agreement"] = output["within_half_percent"] = {}
    assert keys(made) == keys(wanted)


def test_the_documented_tolerances_and_manifest_are_read(tmp_path: Path) -> None:
    from qinterp.difference import load_tolerances
    from qinterp.difference.dumps import is_dump

    manifest, tolerances = re.findall(
        r"```toml\n(.*?)```", (ROOT / "docs" / "diff.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "tolerances.toml").write_text(tolerances)
    assert load_tolerances(tmp_path / "tolerances.toml").exception[0].max_lsb == 2
    (tmp_path / "manifest.toml").write_text(manifest)
    assert is_dump(tmp_path / "manifest.toml")
    (tmp_path / "layer3_out.bin").write_bytes(bytes(2 * 16 * 8 * 8))
    import qinterp
    from qinterp.difference import read_dump

    with pytest.raises(qinterp.InputError, match=r"'layer3_out': has shape \[1, 16, 8, 8\]"):
        read_dump(tmp_path, qinterp.load("digits_resnet.tflite"))


def test_readme_names_every_command() -> None:
    from qinterp.cli import main

    readme = (ROOT / "README.md").read_text()
    assert {name for name in main.commands if f"qinterp {name}" not in readme} == set()


def test_readme_lists_every_scheme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [n for n in qinterp.scheme_names() if f"\n| `{n}` | " not in readme] == []


@pytest.mark.parametrize("net", ["glow_small", "glow_resnet"])
def test_readme_says_how_far_the_two_backends_of_glow_part(net: str) -> None:
    graph, own = qinterp.load(f"{net}.tflite"), samples(f"{net}.tflite")
    assert own is not None
    images = [row[None] for row in own.inputs[:50]]
    found = qinterp.diff(graph, images, "glow-interpreter", "glow-cpu")
    first = found.first
    assert first is not None
    there = first.end_to_end
    farthest = max(found.nodes, key=lambda n: n.end_to_end.max_lsb)  # the first of the farthest
    scores = found.nodes[-1].end_to_end
    (effect,) = found.outputs.values()
    row = (
        f"| `{net}` | `{first.node.name}` | {there.count} of {there.size}, by {there.max_lsb} | "
        f"{farthest.end_to_end.max_lsb} in `{farthest.node.name}` | "
        f"{scores.count} of {scores.size} | up to {effect.max_error:.4f} | "
        f"{effect.rows - effect.flips} of {effect.rows} |"
    )
    assert row in (ROOT / "README.md").read_text().splitlines(), row


def reads() -> dict[str, dict[tuple[str, ...], set[str]]]:
    """What the recipes of the shipped schemes read of their policy: recipe, fields, operators."""
    found: dict[tuple[str, str], set[str]] = {}
    tried = set()
    for kind, types in KINDS.items():
        for dtype, seed in (("int8", 0), ("int8", 1), ("int16", 0)):
            if dtype not in types:
                continue
            case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
            graph = qinterp.load(case.model)
            call = qinterp.Interpreter(graph)._steps[-1].call
            assert call is not None
            operator = OPERATORS[call.node.kind]
            for scheme in map(load_scheme, qinterp.scheme_names()):
                with contextlib.suppress(QInterpError):
                    recipe, choice, policy = operator.choose(call, scheme)
                    key = (operator.kind, recipe.name, dtype, seed)
                    if key in tried or operator.movement or recipe.name == "dequantized":
                        continue
                    own = alone(policy, operator.kind, recipe.name, choice.params)
                    seen = fields_read(own, graph, case.inputs, call.facts())
                    found.setdefault(key[1::-1], set()).update(seen - {"unsigned"})
                    tried.add(key)
    table: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for (recipe, kind), fields in found.items():
        ordered = tuple(part for part in PARTS if part in fields)
        if ordered:
            table.setdefault(recipe, {}).setdefault(ordered, set()).add(kind)
    return table


def test_the_clause_says_what_each_recipe_reads() -> None:
    wanted = [
        f"| `{recipe}` | {', '.join(sorted(kinds))} | {', '.join(fields)} |"
        for recipe, rows in sorted(reads().items())
        for fields, kinds in sorted(rows.items(), reverse=True)
    ]
    clauses = (ROOT / "docs" / "numerics.md").read_text()
    table = clauses[clauses.index("**C10**") : clauses.index("\n## W.")]
    assert re.findall(r"^\| `.*$", table, re.M) == wanted
