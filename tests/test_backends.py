"""The schemes of LiteRT's optimized kernels and of XNNPACK equal their runtimes, every tensor."""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import SEED
from judging import against_runtime, against_twin, differences, session

import qinterp
from qinterp.errors import UnsupportedOperatorError
from qinterp.importers._shipped import samples, shipped_models
from qinterp.runtimes import RUNTIMES
from qinterp.testing.random_models import KINDS, random_model, small_chain

BACKENDS = {"tflite-optimized": "litert-optimized", "xnnpack": "litert-xnnpack"}
CASES = int(os.environ.get("QINTERP_CASES", "5"))
SAMPLES = 20
LARGEST = 2000  # elements: the twin is slow by intent

# (scheme, kind, type): why some elements differ, and the seed of a case in which they do. A pair
# that no longer differs there must leave the table.
UNMATCHED: dict[tuple[str, str, str], tuple[str, int]] = {}

PAIRS = [
    (scheme, kind, dtype)
    for scheme in BACKENDS
    for kind, dtypes in KINDS.items()
    for dtype in dtypes
    if dtype != "float32"
]
IDS = ["-".join(pair) for pair in PAIRS]


@pytest.mark.parametrize("scheme", BACKENDS)
def test_the_runtime_is_here(scheme: str) -> None:
    reason = RUNTIMES[BACKENDS[scheme]].unavailable()
    if reason and not os.environ.get("QINTERP_REQUIRE_RUNTIMES"):
        pytest.skip(reason)
    assert reason is None


@pytest.mark.parametrize("name", sorted(n for n in shipped_models() if "float" not in n))
@pytest.mark.parametrize("scheme", BACKENDS)
def test_shipped_model_equals_the_runtime(scheme: str, name: str) -> None:
    graph = qinterp.load(name)
    own = samples(name)
    assert own is not None
    interpreter = qinterp.Interpreter(graph, scheme)
    reference = qinterp.Interpreter(graph, "tflite-reference")
    runtime = session(BACKENDS[scheme]).open(graph.source)
    parted = False
    for row in own.inputs[:SAMPLES]:
        codes = interpreter.input_codes(row[None])
        ours = interpreter.run(codes, capture=True)
        theirs = runtime.run(codes)
        assert set(ours.tensors) <= set(theirs)
        assert differences(theirs, ours.tensors) == []
        parted |= bool(differences(theirs, reference.run(codes, capture=True).tensors))
    # the optimized kernels part at ties alone, which a model may not have in so few samples
    assert parted or scheme == "tflite-optimized", "the reference would have passed too"


@pytest.mark.parametrize(("scheme", "kind", "dtype"), PAIRS, ids=IDS)
def test_random_operator_equals_the_runtime(scheme: str, kind: str, dtype: str) -> None:
    known = UNMATCHED.get((scheme, kind, dtype))
    if known is not None:
        reason, seed = known
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        found = against_runtime(case.model, case.inputs, scheme, BACKENDS[scheme])
        assert found, f"matches by now, and must leave the table: {reason}"
        return
    for seed in range(CASES):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        found = against_runtime(case.model, case.inputs, scheme, BACKENDS[scheme])
        assert found == [], f"seed {seed}: {case.description}"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scheme", BACKENDS)
def test_random_chain_equals_the_runtime(scheme: str, seed: int) -> None:
    case = small_chain(np.random.default_rng([SEED, seed]))
    found = against_runtime(case.model, case.inputs, scheme, BACKENDS[scheme])
    assert found == [], case.description


@pytest.mark.parametrize(("scheme", "kind", "dtype"), PAIRS, ids=IDS)
def test_fast_equals_twin(scheme: str, kind: str, dtype: str) -> None:
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
