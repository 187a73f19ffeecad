"""Schemes equal the real code that the vectors come from, element for element."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from judging import against_twin, differences, run
from vector_files import FOLDER, VectorCase, read_cases

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
