"""The generated documents are those of the files they are made from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qinterp
from qinterp.importers._shipped import samples

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
