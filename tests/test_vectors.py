"""Schemes equal the real code that the vectors come from, element for element."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from judging import against_twin, differences, run
from vector_files import FOLDER, VectorCase, read_cases

import qinterp
from qinterp.ops import OPERATORS

FILES = sorted(path for path in FOLDER.glob("*/*.npz") if path.stem != "parameters")
SCHEMES = {
    "cmsis_nn": ("cmsis-nn", "cmsis-nn-single-rounding"),
    "gemmlowp": ("gemmlowp",),
    "glow": ("glow-interpreter", "glow-cpu"),
}
PAIRS = [(path, scheme) for path in FILES for scheme in SCHEMES[path.parent.name]]
_LARGEST = 300  # elements that the twin goes through, which is slow by intent


@cache
def cases(path: Path) -> list[VectorCase]:
    return list(read_cases(path))


def names(pair: tuple[Path, str]) -> str:
    return f"{pair[0].stem}-{pair[1]}"


@pytest.mark.parametrize("pair", PAIRS, ids=names)
def test_equal(pair: tuple[Path, str]) -> None:
    path, scheme = pair
    found = []
    for case in cases(path):
        if scheme in case.results:
            _, result = run(case.model, case.inputs, scheme)
            wrong = differences(case.results[scheme], result.outputs)
            found += [f"{case.about}: {text}" for text in wrong]
    assert found == []


@pytest.mark.parametrize("pair", PAIRS, ids=names)
def test_twin_agrees(pair: tuple[Path, str]) -> None:
    path, scheme = pair
    small = [
        case
        for case in cases(path)
        if scheme in case.results and sum(v.size for v in case.results[scheme].values()) <= _LARGEST
    ]
    for case in small[:6]:
        assert against_twin(case.model, case.inputs, scheme) == [], case.about


@pytest.mark.parametrize("folder", SCHEMES)
def test_not_vacuous(folder: str) -> None:
    """Each scheme is judged, results vary and saturate, and the schemes of a folder part."""
    schemes = SCHEMES[folder]
    results = [case.results for path in FILES if path.parent.name == folder for case in cases(path)]
    assert len(results) > 40
    parted = saturated = 0
    for result in results:
        arrays = [a for outputs in result.values() for a in outputs.values()]
        limits = [np.iinfo(a.dtype) for a in arrays if a.dtype.kind in "iu"]
        saturated += any(
            (a == end).any()
            for a, info in zip(arrays, limits, strict=False)
            for end in (info.min, info.max)
        )
        if len(result) == 2:
            first, second = (result[s] for s in schemes)
            parted += any(not np.array_equal(first[n], second[n]) for n in first)
    assert len(schemes) == 1 or parted > len(results) // 10
    assert saturated > len(results) // 10
    for scheme in schemes:
        assert sum(scheme in result for result in results) > len(results) // 2


def test_the_table_of_what_is_covered_names_files_that_hold_it() -> None:
    """Every row of vectors/README.md: some case of each operator named is in one of the files."""
    text = (FOLDER / "README.md").read_text()
    tables = dict(
        zip(
            ("cmsis_nn", "glow"), text.split("## What is covered")[1].split("\nGlow, "), strict=True
        )
    )
    checked = 0
    for folder, table in tables.items():
        for row in re.findall(r"^\| (.*) \|$", table, re.M)[2:]:
            cells = row.split(" | ")
            files = [f"{name}.npz" for name in re.findall(r"\w+", cells[-1])]
            if not files or cells[-1].startswith("none") or cells[1].startswith("none"):
                continue
            have = {
                node.kind
                for file in files
                for case in cases(FOLDER / folder / file)
                for node in qinterp.load(case.model).nodes
            }
            named = cells[0] if folder == "glow" else cells[1]
            named = re.sub(r"\(.*?\)|with int4 weights|int4 weights", "", named)
            kinds = {name.lower() for name in re.findall(r"\b[A-Za-z]+[A-Z_a-z0-9]+\b", named)}
            kinds &= set(OPERATORS)
            assert kinds, row
            assert kinds <= have, (row, kinds - have)
            checked += len(kinds)
    assert checked > 70
