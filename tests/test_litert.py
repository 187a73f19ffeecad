"""Every tensor equals LiteRT's reference kernels: shipped models, random models of one operator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import SEED
from judging import against_runtime, against_twin, differences, session

import qinterp
from qinterp.errors import UnsupportedOperatorError
from qinterp.importers._shipped import provenance, samples, shipped_models
from qinterp.ops import OPERATORS
from qinterp.runtimes import RUNTIMES
from qinterp.testing.random_models import KINDS, random_model, small_chain
from qinterp.testing.tflite_writer import ModelWriter

# Its gates are Eigen's vectorized approximations of logistic and tanh.
REFUSED = {("UNIDIRECTIONAL_SEQUENCE_LSTM", "float32")}
PAIRS = [
    (kind, dtype)
    for kind, dtypes in KINDS.items()
    for dtype in dtypes
    if (kind, dtype) not in REFUSED
]
READABLE = {name for operator in OPERATORS.values() for name in operator.tflite}
CASES = int(os.environ.get("QINTERP_CASES", "5"))


def test_the_runtime_is_here() -> None:
    reason = RUNTIMES["litert-reference"].unavailable()
    if reason and not os.environ.get("QINTERP_REQUIRE_RUNTIMES"):
        pytest.skip(reason)
    assert reason is None


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_model_equals_litert_on_100_samples(name: str) -> None:
    graph = qinterp.load(name)
    own = samples(name)
    assert own is not None
    interpreter = qinterp.Interpreter(graph, "tflite-reference")
    runtime = session("litert-reference").open(graph.source)
    predictions = set()
    for row in own.inputs[:100]:
        codes = interpreter.input_codes(row[None])
        ours = interpreter.run(codes, capture=True)
        theirs = runtime.run(codes)
        assert set(ours.tensors) <= set(theirs)
        assert differences(theirs, ours.tensors) == []
        predictions.add(int(np.argmax(ours.outputs[graph.outputs[0]])))
    assert predictions == set(range(10))


@pytest.mark.parametrize("name", sorted(n for n in shipped_models() if "float" not in n))
def test_shipped_model_has_the_stated_accuracy(name: str) -> None:
    own, record = samples(name), provenance(name)
    assert own is not None
    assert record is not None
    stated = record["accuracy"]
    for file, accuracy in ((name, stated["int8"]), (_float_of(name), stated["float"])):
        interpreter = qinterp.Interpreter(qinterp.load(file))
        results = interpreter.run_many(row[None] for row in own.inputs)
        classes = [int(np.argmax(next(iter(r.outputs.values())))) for r in results]
        assert round(float(np.mean(np.array(classes) == own.labels)), 4) == accuracy


def _float_of(name: str) -> str:
    return name.replace(".tflite", "_float.tflite")


def test_further_models_where_they_are_given() -> None:
    """QINTERP_MODELS is a folder of .tflite files that are no part of the project."""
    for path in sorted(Path(os.environ.get("QINTERP_MODELS", "/nonexistent")).glob("*.tflite")):
        graph = qinterp.load(path)
        rng = np.random.default_rng(SEED)
        inputs = {
            n: rng.integers(-128, 128, graph.tensors[n].shape).astype(graph.tensors[n].numpy_dtype)
            for n in graph.inputs
        }
        assert against_runtime(graph.source, inputs, "tflite-reference", "litert-reference") == []


@pytest.mark.parametrize(("kind", "dtype"), PAIRS, ids=[f"{k}-{d}" for k, d in PAIRS])
def test_random_operator_equals_litert(kind: str, dtype: str) -> None:
    for seed in range(CASES):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        found = against_runtime(case.model, case.inputs, "tflite-reference", "litert-reference")
        assert found == [], f"seed {seed}: {case.description}"


@pytest.mark.parametrize("seed", range(12))
def test_random_chain_equals_litert(seed: int) -> None:
    case = small_chain(np.random.default_rng([SEED, seed]))
    assert against_runtime(case.model, case.inputs, "tflite-reference", "litert-reference") == [], (
        case.description
    )


@pytest.mark.parametrize(("kind", "dtype"), sorted(REFUSED))
def test_what_is_refused_says_so(kind: str, dtype: str) -> None:
    case = random_model(kind, dtype, np.random.default_rng(SEED))
    with pytest.raises(UnsupportedOperatorError, match="node 'unidirectional_sequence_lstm_0'"):
        qinterp.Interpreter(qinterp.load(case.model))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"])
def test_zero_points_of_int8_weights_are_read_or_ignored_as_the_kernel_does(
    kind: str, per_channel: bool
) -> None:
    rng = np.random.default_rng(SEED)
    writer = ModelWriter()
    dense = kind == "FULLY_CONNECTED"
    shape = (2, 8) if dense else (1, 5, 5, 4)
    x = writer.input("x", shape, "int8", scale=0.02, zero_point=3)
    sizes = {"DEPTHWISE_CONV_2D": (1, 3, 3, 4), "TRANSPOSE_CONV": (4, 3, 3, 4)}
    codes = rng.integers(-100, 100, sizes.get(kind, (4, 8))).astype(np.int8)
    scale, zero_point = ([0.01] * 4, [5] * 4) if per_channel else (0.01, 5)
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    w = writer.constant("w", codes, scale=scale, zero_point=zero_point, axis=axis)
    bias = writer.constant("b", rng.integers(-1000, 1000, 4).astype(np.int32), scale=0.0002)
    out = (2, 4) if dense else shape
    y = writer.tensor("y", out, "int8", scale=0.05)
    if kind == "TRANSPOSE_CONV":
        size = writer.constant("size", np.array(out, np.int32))
        operands, options = [size, w, x, bias], {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    else:
        operands, options = [x, w, bias], {}
        if not dense:
            options = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "depth_multiplier": 1}
    writer.operator(kind, operands, [y], **options)
    inputs = {"x": rng.integers(-128, 128, shape).astype(np.int8)}
    model = writer.finish([y])
    assert against_runtime(model, inputs, "tflite-reference", "litert-reference") == []
    assert against_twin(model, inputs, "tflite-reference") == []


def test_every_operator_has_random_cases() -> None:
    assert READABLE - set(KINDS) - {"ELU"} == set()  # ELU: not in LiteRT's reference resolver
