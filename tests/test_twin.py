"""The fast code equals its twin, for every operator, recipe and type that LiteRT prepares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import SEED
from judging import against_twin
from test_litert import REFUSED

import qinterp
from qinterp.errors import UnsupportedOperatorError
from qinterp.ops import OPERATORS
from qinterp.report.inspect import multiply_adds
from qinterp.testing.random_models import KINDS, random_model
from qinterp.twin import TWINS, judge_of

PAIRS = [
    (kind, dtype)
    for kind, dtypes in KINDS.items()
    for dtype in dtypes
    if (kind, dtype) not in REFUSED
]
LARGEST = 8_000  # the twin is slow by intent


def work(model: bytes) -> int:
    """Products and elements of a model: what its twin goes through one by one."""
    graph = qinterp.load(model)
    elements = sum(math.prod(graph.tensors[n].shape) for n in (*graph.inputs, *graph.outputs))
    return elements + sum(multiply_adds(graph, node) for node in graph.nodes)


def test_every_recipe_has_a_twin_or_an_index_map() -> None:
    missing = [
        (kind, recipe)
        for kind, operator in OPERATORS.items()
        for recipe in operator.recipes
        if judge_of(kind, recipe) is None
    ]
    assert missing == []


def test_every_twin_judges_a_recipe() -> None:
    recipes = {(kind, r) for kind, operator in OPERATORS.items() for r in operator.recipes}
    assert set(TWINS) - recipes == set()


@pytest.mark.parametrize("scheme", ["tflite-reference", "exact", "float"])
@pytest.mark.parametrize(("kind", "dtype"), PAIRS, ids=[f"{k}-{d}" for k, d in PAIRS])
def test_fast_equals_twin(kind: str, dtype: str, scheme: str) -> None:
    judged = 0
    for seed in range(40):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        if work(case.model) > LARGEST:
            continue
        try:
            found = against_twin(case.model, case.inputs, scheme)
        except UnsupportedOperatorError:
            if scheme == "tflite-reference":
                raise
            continue
        assert found == [], f"seed {seed}: {case.description}"
        judged += 1
        if judged == 2:
            return
    assert judged or scheme != "tflite-reference"
