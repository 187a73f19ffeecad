"""What a review found: fields that were ignored, and errors that were not QInterpErrors."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SEED
from judging import against_twin, run

import qinterp
from qinterp import InputError, Interpreter
from qinterp.cli import main
from qinterp.errors import QInterpError, SchemeError
from qinterp.explanation import explain, parse_element
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme
from qinterp.testing.random_models import random_model
from qinterp.testing.tflite_writer import ModelWriter

CLAMP = [{"stage": "clamp"}]


def scheme(**changes: Any) -> Scheme:
    """tflite-reference with fields of one operator kind changed: ``kind__field=value``."""
    return load_scheme("tflite-reference").with_(
        {path.replace("__", "."): value for path, value in changes.items()}
    )


def tail(along: str, block: int = 4) -> dict[str, Any]:
    """A tail whose codes are its clamped accumulators, so that it shows."""
    return {"block": block, "along": along, "requantize": CLAMP}


def product(kind: str, y_zero_point: int = 0) -> tuple[bytes, dict[str, Any]]:
    """A (2, 3, 4) by (5, 4) or (4, 5) product, and its input."""
    rng = np.random.default_rng(SEED)
    writer = ModelWriter()
    x = writer.input("x", (2, 3, 4), "int8", scale=0.5, zero_point=3)
    out = writer.tensor("out", (2, 3, 5), "int8", scale=64.0)
    shape = (5, 4) if kind == "FULLY_CONNECTED" else (4, 5)
    codes = rng.integers(-99, 99, shape, dtype=np.int8)
    y = writer.constant("y", codes, scale=0.25, zero_point=y_zero_point)
    options = {"keep_num_dims": True} if kind == "FULLY_CONNECTED" else {}
    writer.operator(kind, [x, y], [out], **options)
    return writer.finish([out]), {"x": rng.integers(-99, 99, (2, 3, 4), dtype=np.int8)}


def convolution() -> tuple[bytes, dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    writer = ModelWriter()
    x = writer.input("x", (1, 3, 3, 2), "int8", scale=0.5, zero_point=3)
    w = writer.constant("w", rng.integers(-99, 99, (5, 1, 1, 2), dtype=np.int8), scale=0.25)
    b = writer.constant("b", np.zeros(5, np.int32), scale=0.125)
    out = writer.tensor("out", (1, 3, 3, 5), "int8", scale=64.0)
    writer.operator("CONV_2D", [x, w, b], [out], padding="VALID", stride_h=1, stride_w=1)
    return writer.finish([out]), {"x": rng.integers(-99, 99, (1, 3, 3, 2), dtype=np.int8)}


def unary(kind: str, dtype: str = "int8", **options: Any) -> bytes:
    writer = ModelWriter()
    scales = ({"scale": 0.5}, {"scale": 1.0}) if dtype == "int8" else ({}, {})
    x = writer.input("x", (2, 3), dtype, **scales[0])
    out = writer.tensor("out", (2, 3), dtype, **scales[1])
    operands = [x]
    if kind == "PRELU":
        operands.append(writer.constant("alpha", np.full((1, 3), 2, np.int8), scale=1.0))
    writer.operator(kind, operands, [out], **options)
    return writer.finish([out])


# ---- scheme fields ------------------------------------------------------------------------------


def test_batch_matmul_ignores_the_weights_zero_point_where_the_scheme_does() -> None:
    ignoring = scheme(batch_matmul__accumulator__weight_zero_point="ignored")
    model, inputs = product("BATCH_MATMUL", y_zero_point=50)
    symmetric, _ = product("BATCH_MATMUL")
    wanted = run(symmetric, inputs)[1].outputs["out"]
    np.testing.assert_array_equal(run(model, inputs, ignoring)[1].outputs["out"], wanted)
    assert not np.array_equal(run(model, inputs)[1].outputs["out"], wanted)
    assert against_twin(model, inputs, ignoring) == []


def test_an_lstm_reports_an_overflow() -> None:
    case = random_model("UNIDIRECTIONAL_SEQUENCE_LSTM", "int8", np.random.default_rng([SEED, 1]))
    kind = "unidirectional_sequence_lstm__accumulator__"
    narrow = scheme(**{kind + "bits": 8, kind + "overflow": "saturate"})
    run(case.model, case.inputs, narrow)
    with pytest.raises(QInterpError, match=r"unidirectional_sequence_lstm.*more than 8 bits"):
        run(case.model, case.inputs, narrow.with_({"accumulator.overflow": "error"}))


def svdf() -> tuple[bytes, dict[str, Any]]:
    """Time products of 60000, 0, -60000 and 0."""
    writer = ModelWriter()
    x = writer.input("x", (1, 1), "int8", scale=1.0)
    features = writer.constant("features", np.ones((2, 1), np.int8), scale=1.0)
    times = writer.constant("times", np.array([[200, 0], [200, 0]], np.int16), scale=1.0)
    bias = writer.constant("bias", np.array([256], np.int32), scale=1.0)
    state = writer.variable("state", (1, 4), "int16", scale=1.0)
    out = writer.tensor("out", (1, 1), "int8", scale=256.0)
    writer.operator(
        "SVDF", [x, features, times, bias, state], [out],
        rank=2, fused_activation_function="RELU",
    )  # fmt: skip
    states = np.array([[0, 300, 0, -300]], np.int16)
    return writer.finish([out]), {"x": np.array([[1]], np.int8), "state": states}


@pytest.mark.parametrize(
    ("check", "bias", "wanted"),
    [("at_end", "last", 1), ("each_step", "last", -105), ("each_step", "first", -106)],
)
def test_the_time_sum_of_svdf_saturates_where_the_scheme_checks(
    check: str, bias: str, wanted: int
) -> None:
    model, inputs = svdf()
    saturating = scheme(
        svdf__accumulator__bits=16,
        svdf__accumulator__overflow="saturate",
        svdf__accumulator__check=check,
        svdf__accumulator__bias=bias,
    )
    # each step: 60000 becomes 32767, less 60000 is -27233, and the bias of 256 is one step
    assert run(model, inputs, saturating)[1].outputs["out"].item() == wanted
    assert against_twin(model, inputs, saturating) == []
    raising = saturating.with_({"svdf.accumulator.overflow": "error"})
    if check == "at_end":
        assert run(model, inputs, raising)[1].outputs["out"].item() == wanted
        return
    with pytest.raises(QInterpError, match=r"svdf.*more than 16 bits"):
        run(model, inputs, raising)


@pytest.mark.parametrize("kind", ["CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"])
def test_tails_of_accumulators_are_along_channels_or_flat(kind: str) -> None:
    model, inputs = convolution() if kind == "CONV_2D" else product(kind)
    name = kind.lower()
    plain = run(model, inputs)[1].outputs["out"]
    whole = run(model, inputs, scheme(**{f"{name}__requantize": CLAMP}))[1].outputs["out"]
    assert (plain != whole).any()
    for along, length in (("channel", 5), ("flat", plain.size)):
        tailed = scheme(**{f"{name}__tail": tail(along)})
        rest = np.arange(plain.size).reshape(plain.shape) % length >= length // 4 * 4
        got = run(model, inputs, tailed)[1].outputs["out"]
        np.testing.assert_array_equal(got, np.where(rest, whole, plain))
        assert against_twin(model, inputs, tailed) == []
    with pytest.raises(SchemeError, match=rf"node .*{name}.*tail\.along"):
        run(model, inputs, scheme(**{f"{name}__tail": tail("row")}))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("ABS", [10, 9, 8, 7, 12, 10]),
        ("RELU", [0, 9, 8, 0, 12, 0]),
        ("LEAKY_RELU", [-20, 9, 8, -14, 12, -10]),
        ("PRELU", [-20, 9, 8, -14, 12, -20]),
    ],
)
def test_unary_operators_have_tails(kind: str, wanted: list[int]) -> None:
    x = np.array([[-20, 18, 16], [-14, 12, -10]], np.int8)
    options = {"LEAKY_RELU": {"alpha": 2.0}}.get(kind, {})
    model = unary(kind, **options)
    tailed = scheme(**{f"{kind.lower()}__tail": tail("flat")})
    assert run(model, {"x": x}, tailed)[1].outputs["out"].ravel().tolist() == wanted
    assert against_twin(model, {"x": x}, tailed) == []


def test_svdf_has_no_tail() -> None:
    with pytest.raises(SchemeError, match=r"node .*svdf.*tail"):
        run(*svdf(), scheme(svdf__tail=tail("flat")))


RESCALED = {"stages": "shift_multiply_shift", "tolerance": 1e-6}
SHORT = {"form": "pre_post_shift", "bits": 8}


def test_svdf_has_no_bias_to_rescale() -> None:
    with pytest.raises(SchemeError, match=r"node .*svdf.*bias"):
        run(*svdf(), scheme(svdf__bias=RESCALED, svdf__multiplier=SHORT))


def test_the_bias_of_a_transposed_convolution_has_a_scale_of_its_own() -> None:
    """Its operands come in another order than a convolution's."""
    writer = ModelWriter()
    shape = writer.constant("shape", np.array([1, 2, 3, 4], np.int32))
    w = writer.constant(
        "w", np.arange(-12, 12, dtype=np.int8).reshape(4, 1, 2, 3), scale=[0.5, 0.25, 0.1, 0.3]
    )
    x = writer.input("x", (1, 2, 2, 3), "int8", scale=0.25, zero_point=3)
    b = writer.constant("b", np.array([30, -70, 11, 5], np.int32), scale=[0.01] * 4)
    y = writer.tensor("y", (1, 2, 3, 4), "int8", scale=0.2, zero_point=-5)
    options = {"padding": "VALID", "stride_h": 1, "stride_w": 1}
    writer.operator("TRANSPOSE_CONV", [shape, w, x, b], [y], **options)
    model, codes = writer.finish([y]), np.arange(12, dtype=np.int8).reshape(1, 2, 2, 3)
    changed = {"bias": RESCALED, "multiplier": SHORT, "requantize": "float32_ties_to_even"}
    own = scheme(**{f"transpose_conv__{key}": value for key, value in changed.items()})
    assert against_twin(model, {"x": codes}, own) == []
    plain = own.with_({"transpose_conv.bias": None})
    ours = [run(model, {"x": codes}, s)[1].outputs["y"] for s in (own, plain)]
    assert not np.array_equal(*ours)


# ---- errors -------------------------------------------------------------------------------------


def two_nodes() -> bytes:
    writer = ModelWriter()
    x = writer.input("x", (2,), "float32")
    z = writer.input("z", (2,), "float32")
    a = writer.tensor("a", (2,), "float32")
    b = writer.tensor("b", (2,), "float32")
    writer.operator("ADD", [x, x], [a])
    c = writer.tensor("c", (2,), "float32")
    writer.operator("ADD", [a, z], [b])
    writer.operator("ADD", [x, x], [c])
    return writer.finish([b, c])


def test_a_tensor_that_is_given_has_no_explanation() -> None:
    graph = qinterp.load(two_nodes())
    one = np.ones(2, np.float32)
    with pytest.raises(InputError, match=r"'a'.* is given"):
        explain(graph, {"a": one, "z": one}, "a", [0])
    with pytest.raises(InputError, match=r"cannot be reached.*'z' missing"):
        explain(graph, {"a": one, "x": one}, "b", [0])


def test_an_overflow_in_the_second_schemes_twin_names_the_node() -> None:
    model, inputs = product("FULLY_CONNECTED")
    raising = scheme(fully_connected__accumulator__bits=8).with_(
        {"fully_connected.accumulator.overflow": "error"}
    )
    with pytest.raises(QInterpError, match=r"node .*fully_connected.*more than 8 bits"):
        explain(qinterp.load(model), inputs, "out", [0, 0, 0], "tflite-reference", raising)


def test_explanations_do_not_follow_nan_and_infinity() -> None:
    for value in (np.nan, np.inf):
        x = np.full((2, 3), value, np.float32)
        with pytest.raises(InputError, match=r"node .*relu.*NaN or infinity"):
            explain(qinterp.load(unary("RELU", "float32")), {"x": x}, "out", [0, 0])


def test_a_moved_nan_is_the_same_nan() -> None:
    writer = ModelWriter()
    x = writer.input("x", (2, 3), "float32")
    shape = writer.constant("shape", np.array([3, 2], np.int32))
    out = writer.tensor("out", (3, 2), "float32")
    writer.operator("RESHAPE", [x, shape], [out])
    graph = qinterp.load(writer.finish([out]))
    nan = np.full((2, 3), np.nan, np.float32)
    found = explain(graph, {"x": nan}, "out", [0, 0], "tflite-reference", "exact")
    assert np.isnan(found.traces[0].value)
    assert found.agrees
    assert found.parted is None


def test_tensor_numbers_are_ascii() -> None:
    graph = qinterp.load(two_nodes())
    for address in ("#²", "#٣", "#" + "9" * 5000):
        with pytest.raises(InputError, match="no tensor"):
            graph.find_tensor(address)
    assert graph.find_tensor("#02").name == graph.find_tensor("#2").name == "a"


@pytest.mark.parametrize("depth", [100, 250, 480, 100_000])
def test_deep_nesting_is_a_scheme_error(tmp_path: Path, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    file = tmp_path / "deep.toml"
    file.write_text(f"name = {nested}")
    with pytest.raises(SchemeError, match=r"deep\.toml"):
        load_scheme(file)
    model = tmp_path / "model.tflite"
    model.write_bytes(two_nodes())
    arguments = ["run", str(model), "--set", f"accumulator.bits={nested}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)


def test_numbers_of_too_many_digits_are_a_scheme_error(tmp_path: Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text("name = " + "9" * 5000)
    with pytest.raises(SchemeError, match=r"long\.toml"):
        load_scheme(file)


def test_run_refuses_what_it_cannot_use() -> None:
    interpreter = Interpreter(qinterp.load(two_nodes()))
    one = np.ones(2, np.float32)
    inputs = {"x": one, "z": one}
    for answer in (3, [one], False):
        with pytest.raises(InputError, match=r"hook at node 'add_0'"):
            interpreter.run(inputs, hooks=[lambda event, answer=answer: answer])
    for workers in (0, -1):
        with pytest.raises(InputError, match="workers must be at least 1"):
            interpreter.run_many([inputs], workers=workers)
    with pytest.raises(InputError, match="'sum'; known: accumulator, multiplier, shift"):
        interpreter.run(inputs, notes=["accumulator", "sum"])
    for index in ([0.5], ["0"], [None], 3):
        with pytest.raises(InputError, match="must be integers"):
            explain(interpreter.graph, inputs, "a", index)  # type: ignore[arg-type]
    assert explain(interpreter.graph, inputs, "a", [np.int64(1)]).index == (1,)


@pytest.mark.parametrize("value", [1e300, np.inf])
def test_large_real_inputs_are_infinite_without_a_warning(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = np.full((2, 3), value)
        # a conversion of infinity to int32 gives the least one on x86
        for name, code in (("tflite-reference", -128), ("exact", 127)):
            given = Interpreter(qinterp.load(unary("RELU")), name).input_codes(x)
            assert given["x"].tolist() == [[code] * 3] * 2, name
        real = Interpreter(qinterp.load(unary("RELU", "float32"))).input_codes(x)
    assert np.isposinf(real["x"]).all()


def test_an_index_has_a_number_between_commas() -> None:
    assert parse_element("c[ 0, -3 ]") == ("c", (0, -3))
    assert parse_element("c[]") == parse_element("c[ ]") == ("c", ())
    for text in ("c[0,,3]", "c[0,3,]", "c[,]", "c[0 3]"):
        with pytest.raises(InputError, match="integers"):
            parse_element(text)


@pytest.mark.parametrize("option", ["-i", "--labels"])
def test_input_files_that_cannot_be_read(tmp_path: Path, option: str) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(unary("RELU"))
    text, archive = tmp_path / "text.npy", tmp_path / "archive.npy"
    text.write_text("hello")
    with archive.open("wb") as stream:
        np.savez(stream, a=np.ones(2))
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    wrong = [(f, "not an .npy") for f in (text, archive, pickled)]
    for file, message in [(tmp_path / "absent.npy", "no such file"), *wrong]:
        sides = ["-s", "exact", "-s", "exact"] if option == "--labels" else []
        command = "diff" if option == "--labels" else "run"
        result = CliRunner().invoke(main, [command, str(model), *sides, option, str(file)])
        assert result.exit_code == 2
        assert f"{file}: {message}" in result.output
        assert "pickle" not in result.output.replace(str(file), "")
    if option == "-i":
        result = CliRunner().invoke(main, ["run", str(model), "-i", str(tmp_path / "absent.npz")])
        assert "no such file" in result.output
