"""The scheme tflite-micro equals TensorFlow Lite Micro's wheel, in every tensor."""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import SEED
from judging import against_runtime, against_twin, differences, run, session

import qinterp
from qinterp.errors import InputError, UnsupportedOperatorError
from qinterp.importers._shipped import samples, shipped_models
from qinterp.runtimes import RUNTIMES
from qinterp.runtimes.tflite_micro import TFLiteMicroError
from qinterp.testing.random_models import KINDS, random_model
from qinterp.testing.tflite_writer import ModelWriter

SCHEME = RUNTIME = "tflite-micro"
CASES = int(os.environ.get("QINTERP_CASES", "5"))
SAMPLES = 10
LARGEST = 2000  # elements: the twin is slow by intent

# (kind, type): of how many cases with the default seed some elements differ, in which, and why. A
# pair that no longer differs there must leave the table.
UNMATCHED: dict[tuple[str, str], tuple[int, int, str]] = {}

# (kind, type) of which every case is refused, by the scheme in the runtime's stead.
LACKING = {
    *((kind, dtype) for kind in ("GELU", "RELU_0_TO_1", "RELU_N1_TO_1", "SELECT", "TILE",
                                 "EXP", "NEG", "UNIDIRECTIONAL_SEQUENCE_LSTM")
      for dtype in ("int8", "int16")),
    ("SPACE_TO_BATCH_ND", "int8"),
    *((kind, "int16") for kind in (
        "BATCH_TO_SPACE_ND", "DIV", "EMBEDDING_LOOKUP", "EQUAL", "GATHER", "GREATER",
        "GREATER_EQUAL", "LESS", "LESS_EQUAL", "MIRROR_PAD", "NOT_EQUAL", "REDUCE_MAX",
        "REDUCE_MIN", "RESIZE_BILINEAR", "SPACE_TO_BATCH_ND",
    )),
}  # fmt: skip

PAIRS = [
    (kind, dtype) for kind, dtypes in KINDS.items() for dtype in dtypes
    if dtype in ("int8", "int16")
]  # fmt: skip
IDS = ["-".join(pair) for pair in PAIRS]

_missing = RUNTIMES[RUNTIME].unavailable()
needs_runtime = pytest.mark.skipif(
    _missing is not None and not os.environ.get("QINTERP_REQUIRE_RUNTIMES"), reason=str(_missing)
)


@needs_runtime
def test_the_runtime_is_here() -> None:
    assert RUNTIMES[RUNTIME].unavailable() is None
    assert RUNTIMES[RUNTIME].version().startswith("tflite-micro ")


@needs_runtime
def test_the_runtime_says_what_it_refuses() -> None:
    case = random_model("GELU", "int8", np.random.default_rng(SEED))
    with pytest.raises(TFLiteMicroError, match="GELU"):
        session(RUNTIME).run(case.model, case.inputs)
    case = random_model("ADD", "int8", np.random.default_rng(SEED))
    with pytest.raises(InputError, match="the model's inputs are"):
        session(RUNTIME).run(case.model, {})
    wrong = {name: array.astype(np.float32) for name, array in case.inputs.items()}
    with pytest.raises(InputError, match="float32"):
        session(RUNTIME).run(case.model, wrong)


@needs_runtime
@pytest.mark.parametrize("name", sorted(n for n in shipped_models() if "float" not in n))
def test_shipped_model_equals_the_runtime(name: str) -> None:
    graph = qinterp.load(name)
    own = samples(name)
    assert own is not None
    interpreter = qinterp.Interpreter(graph, SCHEME)
    runtime = session(RUNTIME).open(graph.source)
    for row in own.inputs[:SAMPLES]:
        codes = interpreter.input_codes(row[None])
        ours = interpreter.run(codes, capture=True)
        theirs = runtime.run(codes)
        assert set(ours.tensors) <= set(theirs)
        assert differences(theirs, ours.tensors) == []


@needs_runtime
@pytest.mark.parametrize(("kind", "dtype"), PAIRS, ids=IDS)
def test_random_operator_equals_the_runtime(kind: str, dtype: str) -> None:
    known = UNMATCHED.get((kind, dtype))
    if known is not None:
        _, seed, reason = known
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        found = against_runtime(case.model, case.inputs, SCHEME, RUNTIME)
        assert found, f"matches by now, and must leave the table: {reason}"
        return
    judged = 0
    for seed in range(max(CASES, 40)):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        try:
            # what the scheme refuses may end the process there
            run(case.model, case.inputs, SCHEME)
            found = against_runtime(case.model, case.inputs, SCHEME, RUNTIME)
        except (UnsupportedOperatorError, TFLiteMicroError):
            continue
        assert found == [], f"seed {seed}: {case.description}"
        judged += 1
        if judged == CASES:
            break
    assert (judged == 0) == ((kind, dtype) in LACKING)


@needs_runtime
@pytest.mark.parametrize(
    ("kind", "output"),
    [("ELU", None), ("RELU6", None), ("LOGISTIC", (1 / 256, -128)), ("TANH", (1 / 128, 0))],
)
def test_every_code_of_a_table_equals_the_runtime(
    kind: str, output: tuple[float, int] | None
) -> None:
    codes = np.arange(-128, 128).astype(np.int8)
    for seed in range(2 * CASES):
        rng = np.random.default_rng([SEED, seed])
        grids = [
            (float(np.float32(2.0 ** rng.uniform(-9, 0))), int(rng.integers(-128, 128)))
            for _ in range(2)
        ]
        writer = ModelWriter()
        writer.input("x", [256], "int8", scale=grids[0][0], zero_point=grids[0][1])
        scale, zero_point = output or grids[1]
        writer.tensor("y", [256], "int8", scale=scale, zero_point=zero_point)
        writer.operator(kind, ["x"], ["y"])
        model = writer.finish(["y"])
        try:
            found = against_runtime(model, {"x": codes}, SCHEME, RUNTIME)
        except TFLiteMicroError:
            continue
        assert found == [], seed
        if seed == 0:
            assert against_twin(model, {"x": codes}, SCHEME) == []


@pytest.mark.parametrize(("kind", "dtype"), [p for p in PAIRS if p not in LACKING])
def test_fast_equals_twin(kind: str, dtype: str) -> None:
    judged = 0
    for seed in range(40):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        if len(case.model) > 20_000 or sum(v.size for v in case.inputs.values()) > LARGEST:
            continue
        try:
            found = against_twin(case.model, case.inputs, SCHEME)
        except UnsupportedOperatorError:
            continue
        assert found == [], f"seed {seed}: {case.description}"
        judged += 1
        if judged == 2:
            return
    assert judged
