"""The scheme tflite-micro equals TensorFlow Lite Micro's wheel, in every tensor."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from judging import (
    LARGEST,
    against_runtime,
    against_twin,
    differences,
    run,
    session,
    twin_judges,
)

import qinterp
from qinterp.errors import InputError, UnsupportedOperatorError
from qinterp.importers._shipped import samples, shipped_models
from qinterp.runtimes import RUNTIMES
from qinterp.runtimes.tflite_micro import TFLiteMicroError
from qinterp.testing.random_models import (
    BEYOND_REFERENCE,
    KINDS,
    Case,
    random_model,
    small_chain,
)
from qinterp.testing.random_models.draw import FAMILIES, Draw
from qinterp.testing.tflite_writer import ModelWriter

SCHEME = RUNTIME = "tflite-micro"
CASES = int(os.environ.get("QINTERP_CASES", "5"))
SAMPLES = min(5 * CASES, 100)

# Kinds of which the scheme refuses what the runtime computes of something that was never set, or
# that it reads beside the mark. Not run there: some end the process.
UNSET = {
    "GREATER", "PAD", "PADV2", "SPACE_TO_BATCH_ND", "STRIDED_SLICE", "SVDF", "TRANSPOSE_CONV",
}  # fmt: skip

# What the scheme computes though the runtime refuses it: an LSTM of 20 operands, not 24.
LENIENT = {"UNIDIRECTIONAL_SEQUENCE_LSTM"}

PAIRS = [
    (kind, dtype)
    for kind in dict.fromkeys((*KINDS, *BEYOND_REFERENCE))
    for dtype in (*KINDS.get(kind, ()), *BEYOND_REFERENCE.get(kind, ()))
]
IDS = ["-".join(pair) for pair in PAIRS]

# (kind, type) of which every case is refused by both.
_LACKING = {
    "int8": "EXP GELU NEG RELU_0_TO_1 RELU_N1_TO_1 SELECT TILE",
    "int16": "BATCH_TO_SPACE_ND DIV EMBEDDING_LOOKUP EQUAL EXP GATHER GELU GREATER GREATER_EQUAL "
    "LESS LESS_EQUAL MIRROR_PAD NEG NOT_EQUAL REDUCE_MAX REDUCE_MIN RESIZE_BILINEAR SELECT "
    "SPACE_TO_BATCH_ND TILE",
    "int32": "BATCH_TO_SPACE_ND DEPTH_TO_SPACE EXPAND_DIMS GATHER MIRROR_PAD SELECT SELECT_V2 "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH TILE TRANSPOSE",
    "int4": "EMBEDDING_LOOKUP",
    "float32": "GELU RELU_0_TO_1 RELU_N1_TO_1 SELECT TILE",
}
UINT8 = "BROADCAST_TO DEQUANTIZE QUANTIZE RESHAPE REVERSE_V2 SHAPE SQUEEZE"
LACKING = {
    *((kind, dtype) for dtype, kinds in _LACKING.items() for kind in kinds.split()),
    *((kind, dtype) for kind, dtype in PAIRS if dtype == "uint8" and kind not in UINT8.split()),
}
# Those whose recipes are those of tflite-reference, which tests/test_twin.py judges.
SHARED = {pair for pair in PAIRS if pair[1] not in ("int8", "int16")} - {
    ("SVDF", "float32"), ("UNIDIRECTIONAL_SEQUENCE_LSTM", "float32")
}  # fmt: skip

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
@pytest.mark.parametrize("name", sorted(shipped_models()))
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
    judged = 0
    for seed in range(max(CASES, 40)):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        judged += judge(case, f"seed {seed}: {case.description}")
        if judged == CASES or (judged == 0 and seed >= 2 * CASES and (kind, dtype) in LACKING):
            break
    assert (judged == 0) == ((kind, dtype) in LACKING)


def judge(case: Case, about: str) -> bool:
    """Whether both sides computed it, in which case they agree."""
    try:
        run(case.model, case.inputs, SCHEME)
    except UnsupportedOperatorError:
        if case.kind not in UNSET:
            with pytest.raises(TFLiteMicroError):
                session(RUNTIME).run(case.model, case.inputs)
        return False
    try:
        found = against_runtime(case.model, case.inputs, SCHEME, RUNTIME)
    except TFLiteMicroError:
        assert case.kind in LENIENT, about
        return False
    assert found == [], about
    return True


@needs_runtime
@pytest.mark.parametrize("seed", range(4 * CASES))
def test_random_chain_equals_the_runtime(seed: int) -> None:
    case = small_chain(np.random.default_rng([SEED, seed]))
    assert against_runtime(case.model, case.inputs, SCHEME, RUNTIME) == [], case.description


@needs_runtime
@pytest.mark.parametrize("kind", [kind for kind, dtypes in KINDS.items() if "int32" in dtypes])
def test_plain_numbers_equal_the_runtime_or_are_refused(kind: str) -> None:
    for dtype in ("int64", "bool"):
        for seed in range(2):
            judge(drawn(kind, dtype, seed), f"{dtype}, seed {seed}")


@needs_runtime
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE"])
def test_plain_arithmetic_equals_the_runtime(kind: str) -> None:
    for seed in range(2 * CASES):
        case = drawn(kind, "int32", seed)
        assert judge(case, case.description)
        assert against_twin(case.model, case.inputs, SCHEME) == [], case.description
        assert not judge(drawn(kind, "int64", seed), "int64")


class OddWriter(ModelWriter):
    """Weights with zero points, gates that saturate, a cell's scale that is no power of two."""

    def constant(self, name: str, array: Any, **more: Any) -> str:
        if name.startswith(("input_to", "recurrent_to")) and more:
            more["zero_point"] = len(name) % 7 - 3
            more["scale"] *= 8
        return super().constant(name, array, **more)

    def variable(self, name: str, shape: Any, dtype: str, **more: Any) -> str:
        if name == "cell_state" and more:
            more["scale"] *= 1.3 / 64
        return super().variable(name, shape, dtype, **more)


class OddDraw(Draw):
    """Activations that the LSTM does not have, and narrow bounds of its cell."""

    def operator(self, *operands: Any, **options: Any) -> None:
        options["fused_activation_function"] = self.pick(["NONE", "RELU", "TANH"])
        options["cell_clip"] = self.pick([0.0, 1e-4, 1e-2, 0.5, 1e6])
        super().operator(*operands, **options)


@needs_runtime
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_odd_lstm_equals_the_runtime(dtype: str) -> None:
    kind, judged = "UNIDIRECTIONAL_SEQUENCE_LSTM", 0
    for seed in range(8 * CASES):
        draw = OddDraw(kind, dtype, np.random.default_rng([SEED, seed]), writer=OddWriter())
        case = FAMILIES[kind].generator(draw)
        if judge(case, f"seed {seed}: {case.description}"):
            judged += 1
            small = judged <= 2 and sum(v.size for v in case.inputs.values()) < LARGEST
            assert not small or against_twin(case.model, case.inputs, SCHEME) == []
    assert judged > CASES


@needs_runtime
def test_rows_of_a_table_have_the_first_scale_as_in_the_runtime() -> None:
    rng = np.random.default_rng(SEED)
    writer = ModelWriter()
    writer.input("rows", [3], "int32")
    table = rng.integers(-128, 128, (4, 5)).astype(np.int8)
    writer.constant("table", table, scale=[0.5, 0.25, 0.125, 2.0])
    writer.tensor("y", [3, 5], "float32")
    writer.operator("EMBEDDING_LOOKUP", ["rows", "table"], ["y"])
    model, rows = writer.finish(["y"]), {"rows": np.array([3, 0, 1], np.int32)}
    assert against_runtime(model, rows, SCHEME, RUNTIME) == []
    assert against_twin(model, rows, SCHEME) == []


@needs_runtime
def test_long_float_sums_of_svdf_equal_the_runtime() -> None:
    rng = np.random.default_rng(SEED)
    batch, size, units, rank, memory = 2, 33, 7, 2, 11

    def real(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    writer = ModelWriter()
    writer.input("x", [batch, size], "float32")
    writer.constant("feature", real(units * rank, size))
    writer.constant("time", real(units * rank, memory))
    writer.constant("bias", real(units))
    writer.variable("state", (batch, memory * units * rank), "float32")
    writer.tensor("y", [batch, units], "float32")
    operands = ["x", "feature", "time", "bias", "state"]
    writer.operator("SVDF", operands, ["y"], rank=rank, fused_activation_function="NONE")
    model, x = writer.finish(["y"]), {"x": real(batch, size)}
    assert against_runtime(model, x, SCHEME, RUNTIME) == []
    assert against_twin(model, x, SCHEME) == []


@needs_runtime
@pytest.mark.parametrize("rank", [5, 6, 7])
@pytest.mark.parametrize("kind", ["ABS", "BROADCAST_TO", "L2_NORMALIZATION", "MUL", "TRANSPOSE"])
def test_ranks_equal_the_runtime_or_are_refused(kind: str, rank: int) -> None:
    rng = np.random.default_rng([SEED, rank])
    shape = tuple(rng.integers(1, 4, rank).tolist())
    writer = ModelWriter()
    writer.input("x", shape, "int8", scale=0.1, zero_point=-3)
    operands = ["x"]
    if kind == "MUL":
        operands.append(writer.constant("z", rng.integers(-9, 9, shape).astype(np.int8), scale=1.0))
    elif kind in ("BROADCAST_TO", "TRANSPOSE"):
        how = shape if kind == "BROADCAST_TO" else range(rank)
        operands.append(writer.constant("how", np.array(how, np.int32)))
    unit = 1 / 128 if kind == "L2_NORMALIZATION" else 0.1
    zero_point = 0 if kind == "L2_NORMALIZATION" else -3
    writer.tensor("y", shape, "int8", scale=unit, zero_point=zero_point)
    writer.operator(kind, operands, ["y"])
    model = writer.finish(["y"])
    x = {"x": rng.integers(-128, 128, shape).astype(np.int8)}
    if rank < {"BROADCAST_TO": 6, "L2_NORMALIZATION": 5, "TRANSPOSE": 6}.get(kind, 7):
        assert against_runtime(model, x, SCHEME, RUNTIME) == []
    else:
        with pytest.raises(UnsupportedOperatorError, match="axes"):
            run(model, x, SCHEME)


SHAPES = {
    "BATCH_MATMUL": ((1, 4, 4, 4), (1, 4, 4, 4)),
    "CONV_2D": ((1, 4, 4, 4), (4, 3, 3, 4)),
    "DEPTHWISE_CONV_2D": ((1, 4, 4, 4), (1, 3, 3, 4)),
    "FULLY_CONNECTED": ((2, 4), (4, 4)),
    "TRANSPOSE_CONV": ((1, 4, 4, 4), (4, 3, 3, 4)),
}


def product(kind: str, activation: str, weight: str, bias: str | None, output: str) -> bytes:
    """A product of operands of these types, which need not go together."""
    rng = np.random.default_rng(SEED)
    shape, weights = SHAPES[kind]
    writer = ModelWriter()
    scale = {"int8": 0.03, "int16": 1e-4}
    writer.input("x", shape, activation, scale=scale[activation])
    codes = rng.integers(0, 8, weights).astype("int8" if weight == "int4" else weight)
    writer.constant("w", codes, dtype=weight, scale=0.01)
    operands: list[str | None] = ["x", "w"]
    if bias is not None:
        operands.append("b")
        writer.constant("b", np.array([-99, 5, 0, 70]).astype(bias), scale=scale[activation] * 0.01)
    if kind == "TRANSPOSE_CONV":
        size = writer.constant("size", np.array(shape, np.int32))
        operands = [size, "w", "x", *operands[2:]]
    writer.tensor("y", shape, output, scale=scale[output])
    window = {} if len(shape) == 2 else {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    if kind == "BATCH_MATMUL":
        window = {}
    elif kind == "DEPTHWISE_CONV_2D":
        window["depth_multiplier"] = 1
    writer.operator(kind, operands, ["y"], **window)
    return writer.finish(["y"])


@needs_runtime
@pytest.mark.parametrize("kind", SHAPES)
def test_types_that_go_together_are_those_of_the_runtime(kind: str) -> None:
    computed = 0
    for activation, weight, bias, output in itertools.product(
        ("int8", "int16"),
        ("int8", "uint8", "int16", "int4"),
        (None,) if kind == "BATCH_MATMUL" else (None, "int32", "int64"),
        ("int8", "int16"),
    ):
        model = product(kind, activation, weight, bias, output)
        shape = SHAPES[kind][0]
        x = np.random.default_rng(SEED).integers(-128, 128, shape).astype(activation)
        try:
            run(model, {"x": x}, SCHEME)
        except UnsupportedOperatorError:
            continue  # what it refuses there may be read beside the mark
        found = against_runtime(model, {"x": x}, SCHEME, RUNTIME)
        assert found == [], (activation, weight, bias, output)
        computed += 1
    assert computed >= 2


@needs_runtime
@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
def test_svdf_with_a_state_of_8_bits_equals_the_runtime(activation: str) -> None:
    batch, size, units, rank, memory = 2, 9, 5, 2, 4
    filters = units * rank
    for seed in range(CASES):
        rng = np.random.default_rng([SEED, seed])

        def codes(*shape: int, rng: np.random.Generator = rng) -> np.ndarray:
            return rng.integers(-128, 128, shape).astype(np.int8)

        writer = ModelWriter()
        writer.input("x", [batch, size], "int8", scale=0.0317, zero_point=int(codes(1)[0]))
        writer.constant("feature", codes(filters, size), scale=0.0123)
        writer.constant("time", codes(filters, memory), scale=0.0071)
        bias = rng.normal(0, 5e3, units).astype(np.int32)
        writer.constant("bias", bias, scale=0.4 * 0.0071)
        writer.variable("state", (batch, memory * filters), "int8", scale=0.4, zero_point=0)
        writer.tensor("y", [batch, units], "int8", scale=0.29, zero_point=3)
        operands = ["x", "feature", "time", "bias", "state"]
        writer.operator("SVDF", operands, ["y"], rank=rank, fused_activation_function=activation)
        model, inputs = writer.finish(["y"]), {"x": codes(batch, size)}
        assert against_runtime(model, inputs, SCHEME, RUNTIME) == []
        assert against_twin(model, inputs, SCHEME) == []


def drawn(kind: str, dtype: str, seed: int) -> Case:
    """A case of a type that LiteRT's reference kernels do not have, or not fully."""
    return FAMILIES[kind].generator(Draw(kind, dtype, np.random.default_rng([SEED, seed])))


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


@pytest.mark.parametrize(("kind", "dtype"), [p for p in PAIRS if p not in LACKING | SHARED])
def test_fast_equals_twin(kind: str, dtype: str) -> None:
    twin_judges(kind, dtype, SCHEME)
