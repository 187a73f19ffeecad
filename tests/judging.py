"""Comparisons with the judges: a real runtime, and the twin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from conftest import SEED

import qinterp
from qinterp.errors import UnsupportedOperatorError
from qinterp.interpreter import Interpreter
from qinterp.ops import OPERATORS
from qinterp.testing.random_models import random_model
from qinterp.twin import compute, judge_of

LARGEST = 2000
"""Elements that the twin goes through, which is slow by intent."""


def run(model: bytes, inputs: Mapping[str, Any], scheme: Any = "tflite-reference") -> Any:
    """A captured run, and the interpreter that made it."""
    interpreter = Interpreter(qinterp.load(model), scheme)
    return interpreter, interpreter.run(inputs, capture=True)


@cache
def session(name: str) -> Any:
    """The runtime called ``name``."""
    from qinterp.runtimes import runtime

    return runtime(name)


def differences(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for every tensor of ``actual`` that is not element for element the expected."""
    found = []
    for name, ours in actual.items():
        if name not in expected:
            continue
        theirs = expected[name]
        if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
            found.append(f"{name}: {ours.dtype}{ours.shape}, wanted {theirs.dtype}{theirs.shape}")
        elif not np.array_equal(theirs, ours, equal_nan=ours.dtype.kind == "f"):
            where = np.argwhere(theirs != ours)
            at = tuple(int(i) for i in where[0])
            found.append(
                f"{name}: {len(where)} of {ours.size} differ, first at {at}: "
                f"{ours[at]}, wanted {theirs[at]}"
            )
    return found


def against_runtime(
    model: bytes, inputs: Mapping[str, Any], scheme: Any, runtime: str
) -> list[str]:
    """Differences of every tensor from a real runtime's; it must have computed some of them."""
    _, result = run(model, inputs, scheme)
    theirs = session(runtime).run(model, inputs)
    common = [name for name in result.tensors if name in theirs]
    if not common:
        return [f"nothing to compare: {sorted(theirs)} against {sorted(result.tensors)}"]
    missing = [n for n in result.outputs if n not in theirs]
    return differences(theirs, result.tensors) + [f"{n}: not in the runtime" for n in missing]


def against_twin(model: bytes, inputs: Mapping[str, Any], scheme: Any) -> list[str]:
    """Differences of every node from its twin on the same operands."""
    interpreter, result = run(model, inputs, scheme)
    graph = interpreter.graph
    values = {n: t.data for n, t in graph.tensors.items() if t.data is not None}
    values |= {n: t.initial() for n, t in graph.tensors.items() if t.variable}
    values |= interpreter._check_inputs(inputs)
    values |= dict(result.tensors)
    found = []
    for step in interpreter._steps:
        operator = OPERATORS[step.node.kind]
        operands = [values[n] if n else None for n in step.node.inputs]
        judge = judge_of(step.node.kind, step.recipe)
        assert judge is not None, (step.node.kind, step.recipe)
        outputs = compute(judge, step.call, operands, {"movement": operator.movement})
        expected = dict(zip(step.node.outputs, outputs, strict=True))
        actual = {n: result.tensors[n] for n in step.node.outputs}
        found += differences(expected, actual)
    return found


def twin_judges(kind: str, dtype: str, scheme: Any) -> None:
    """Fast equals twin on the first two random models of an operator that are small enough."""
    judged = 0
    for seed in range(40):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        if len(case.model) > 20_000 or sum(v.size for v in case.inputs.values()) > LARGEST:
            continue
        try:
            found = against_twin(case.model, case.inputs, scheme)
        except UnsupportedOperatorError:
            continue
        assert found == [], f"seed {seed}: {case.description}"
        judged += 1
        if judged == 2:
            return
    assert judged
