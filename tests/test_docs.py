"""The generated documents are those of the files they are made from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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
