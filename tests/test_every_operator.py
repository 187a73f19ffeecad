"""Every scheme over every operator: it runs, goes on under its fallback, or says what it lacks."""

from __future__ import annotations

import os
import re
from functools import cache

import numpy as np
import pytest
from conftest import SEED

import qinterp
from qinterp import load_scheme, scheme_names
from qinterp.errors import UnsupportedOperatorError
from qinterp.ops import OPERATORS
from qinterp.testing.random_models import random_model
from qinterp.testing.random_models.draw import FAMILIES, Case

# One type of each operator, all of them with QINTERP_FUZZ=1.
TYPES = {kind: family.dtypes + family.beyond_reference for kind, family in sorted(FAMILIES.items())}
if os.environ.get("QINTERP_FUZZ") != "1":
    TYPES = {kind: (("int8",) if "int8" in t else t[:1]) for kind, t in TYPES.items()}


@cache
def drawn(kind: str, dtype: str) -> tuple[qinterp.Graph, Case]:
    case = random_model(kind, dtype, np.random.default_rng(SEED))
    return qinterp.load(case.model), case


def test_every_operator_is_tried() -> None:
    names = {name for operator in OPERATORS.values() for name in operator.tflite}
    assert set(TYPES) <= names
    missing = [kind for kind, op in OPERATORS.items() if not set(TYPES) & set(op.tflite)]
    assert missing == []


def chain(name: str) -> list[str]:
    """A scheme and its fallbacks, in order."""
    scheme, found = load_scheme(name), []
    while scheme is not None:
        found.append(scheme.name)
        scheme = scheme.fallback  # type: ignore[assignment]
    return found


@pytest.mark.parametrize("scheme", scheme_names())
def test_it_runs_or_says_what_is_missing(scheme: str) -> None:
    known, wrong, ran = chain(scheme), [], set()
    for kind, dtypes in TYPES.items():
        for dtype in dtypes:
            graph, case = drawn(kind, dtype)
            node = graph.nodes[-1]
            try:
                interpreter = qinterp.Interpreter(graph, scheme)
            except UnsupportedOperatorError as error:
                # the node, and why neither the scheme nor any fallback of it computes it
                told = re.escape(
                    f"node {node.name!r} ({node.kind}): "
                ) + ", and its fallback: ".join(
                    f"scheme {re.escape(repr(name))}(: | has no )[^;]+" for name in known
                )
                if not re.fullmatch(told, str(error)):
                    wrong.append(f"{kind} {dtype}: {error}")
                continue
            outputs = interpreter.run(case.inputs).outputs
            used = interpreter.plan[-1].scheme
            ran.add(used)
            if used not in known or set(outputs) != set(graph.outputs):
                wrong.append(f"{kind} {dtype}: ran under {used!r}, gave {sorted(outputs)}")
    assert wrong == []
    assert ran == set(known)
