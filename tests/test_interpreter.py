"""Runs: inputs of every form, partial inputs, hooks, batches, many inputs, threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import SEED

import qinterp
from qinterp import Capture, Event, Graph, InputError, Interpreter
from qinterp.errors import ModelFormatError, QInterpError, UnsupportedOperatorError
from qinterp.scheme import RECIPES
from qinterp.schemes_io import from_table
from qinterp.testing.tflite_writer import ModelWriter

SHAPE = (1, 4, 4, 2)


def network(signature: tuple[int, ...] | None = None) -> bytes:
    """One input through conv_2d_0, then conv_2d_1 and conv_2d_2, add_3, fully_connected_4."""
    rng = np.random.default_rng(SEED)
    writer = ModelWriter()
    x = writer.input("x", SHAPE, "int8", scale=0.5, zero_point=-3, signature=signature)

    def convolution(source: str, name: str) -> str:
        w = writer.constant(
            f"{name}/w", rng.integers(-99, 99, (2, 3, 3, 2), dtype=np.int8), scale=[0.02, 0.01]
        )
        b = writer.constant(
            f"{name}/b", rng.integers(-99, 99, 2, dtype=np.int32), scale=[0.01, 0.005]
        )
        y = writer.tensor(name, SHAPE, "int8", scale=0.5, zero_point=4)
        writer.operator("CONV_2D", [source, w, b], [y], padding="SAME", stride_h=1, stride_w=1)
        return y

    stem = convolution(x, "stem")
    left, right = convolution(stem, "left"), convolution(stem, "right")
    total = writer.tensor("sum", SHAPE, "int8", scale=0.75)
    writer.operator("ADD", [left, right], [total])
    w = writer.constant("w", rng.integers(-99, 99, (3, 32), dtype=np.int8), scale=0.02)
    y = writer.tensor("y", (1, 3), "int8", scale=4.0)
    writer.operator("FULLY_CONNECTED", [total, w], [y])
    return writer.finish([y])


@pytest.fixture(scope="module")
def graph() -> Graph:
    return qinterp.load(network())


@pytest.fixture(scope="module")
def interpreter(graph: Graph) -> Interpreter:
    return Interpreter(graph)


def codes(seed: int = 0, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(SEED + seed).integers(-128, 128, (batch, *SHAPE[1:]), np.int8)


@pytest.fixture(scope="module")
def whole(interpreter: Interpreter) -> qinterp.Result:
    return interpreter.run(codes(), capture=True)


def same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a
    )


def test_the_network_of_these_tests_is_not_vacuous(whole: qinterp.Result) -> None:
    assert list(whole.tensors) == ["stem", "left", "right", "sum", "y"]
    for name, value in whole.tensors.items():
        assert len(np.unique(value)) >= min(10, value.size), name
    assert (np.abs(whole.tensors["stem"]) < 127).any()


# ---- inputs ---------------------------------------------------------------------------------


def test_one_array_a_name_a_number_and_a_part_are_the_same(interpreter: Interpreter) -> None:
    x = codes()
    wanted = interpreter.run(x).outputs
    for inputs in ({"x": x}, {"#0": x}, x.copy(order="F"), np.repeat(x, 2, 3)[..., ::2]):
        assert same(interpreter.run(inputs).outputs, wanted)
    assert same(qinterp.run(interpreter.graph, x).outputs, wanted)
    assert list(wanted) == ["y"]
    assert len({tuple(interpreter.run(codes(i)).outputs["y"].ravel()) for i in range(5)}) == 5


def test_the_callers_array_is_neither_changed_nor_frozen(interpreter: Interpreter) -> None:
    x = codes()
    before = x.copy()
    result = interpreter.run(x, capture=True)
    assert np.array_equal(x, before)
    assert x.flags.writeable
    assert not any(value.flags.writeable for value in result.tensors.values())


def test_float_inputs_are_quantized_by_the_scheme(interpreter: Interpreter) -> None:
    # scale 0.5, zero point -3: ties at odd multiples of 0.25; reference/quantize.h rounds them away
    real = np.zeros(SHAPE)
    real.flat[:8] = [0.25, -0.25, 0.75, -0.75, 0.24, 1.0, 99.0, -99.0]
    given = interpreter.input_codes(real)["x"]
    assert given.ravel()[:8].tolist() == [-2, -4, -1, -5, -3, -1, 127, -128]
    assert given.dtype == np.int8
    for kind in (np.float16, np.float32, np.float64, ">f4"):
        assert same(interpreter.run(real.astype(kind)).outputs, interpreter.run(given).outputs)
    exact = Interpreter(interpreter.graph, "exact").input_codes(real)["x"]  # ties to even
    assert exact.ravel()[:6].tolist() == [-3, -3, -1, -5, -3, -1]
    assert interpreter.input_codes({"x": given})["x"].tolist() == given.tolist()


WRONG_INPUTS: dict[str, tuple[Any, str]] = {
    "unknown": ({"z": codes()}, "no tensor 'z'"),
    "near": ({"stme": codes()}, "no tensor 'stme'; near: 'stem'"),
    "ambiguous": (
        {"t": codes()},
        "'t' is part of 9 tensor names: 'stem', 'left', 'right'",
    ),
    "not a name": ({0: codes()}, "inputs go by tensor name, got 0"),
    "twice": ({"x": codes(), "#0": codes()}, "tensor 'x' is given twice"),
    "nothing": ({}, "missing input 'x' int8[1, 4, 4, 2]"),
    "rank": (codes()[0], "input 'x' int8[1, 4, 4, 2]: got an array of shape [4, 4, 2]"),
    "shape": (
        codes()[:, :3],
        "input 'x' int8[1, 4, 4, 2]: got an array of shape [1, 3, 4, 2]",
    ),
    "dtype": (codes().astype(np.int16), "input 'x' int8[1, 4, 4, 2]: got an array of int16"),
    "unsigned": (codes().view(np.uint8), "input 'x' int8[1, 4, 4, 2]: got an array of uint8"),
    "bool": (codes() > 0, "input 'x' int8[1, 4, 4, 2]: got an array of bool"),
    "list": (codes().tolist(), "input 'x' int8[1, 4, 4, 2]: got an array of int64"),
    "complex": (codes() + 0j, "input 'x' int8[1, 4, 4, 2]: got an array of complex128"),
    "None": (None, "input 'x' int8[1, 4, 4, 2]: got an array of shape []"),
    "ragged": ([[1], [1, 2]], "input 'x' int8[1, 4, 4, 2]: setting an array element with a"),
    "NaN": (codes() * np.nan, "input 'x' int8[1, 4, 4, 2]: has NaN, which no code stands for"),
    "middle": (
        {"sum": codes().astype(np.int32)},
        "input 'sum' int8[1, 4, 4, 2]: got an array of i",
    ),
    "all": (
        {"y": np.zeros((1, 3), np.int8)},
        "no node can run from the tensors given: 'y'",
    ),
    "half": ({"left": codes()}, "no node can run from the tensors given: 'left'"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs(interpreter: Interpreter, case: str) -> None:
    inputs, complaint = WRONG_INPUTS[case]
    with pytest.raises(InputError) as error:
        interpreter.run(inputs)
    assert str(error.value).startswith(complaint)


def two_inputs() -> Graph:
    writer = ModelWriter()
    a = writer.input("a", (2,), "int8", scale=0.5)
    b = writer.input("b", (2,), "int8", scale=0.5)
    y = writer.tensor("y", (2,), "int8", scale=0.5)
    writer.operator("ADD", [a, b], [y])
    return qinterp.load(writer.finish([y]))


def test_several_inputs() -> None:
    one = np.ones(2, np.int8)
    run = Interpreter(two_inputs()).run
    assert run({"a": one, "b": one + one}).outputs["y"].tolist() == [3, 3]
    for inputs, complaint in (
        (one, r"the graph has 2 inputs \(a, b\): give a dict"),
        ({"b": one}, r"missing input 'a' int8\[2\]; given: 'b'"),
        ({}, r"missing input 'a' int8\[2\], 'b' int8\[2\]"),
    ):
        with pytest.raises(InputError, match=complaint):
            run(inputs)


def test_scalars_int4_and_floats() -> None:
    writer = ModelWriter()
    a = writer.input("a", (), "int8", scale=0.5)
    f = writer.input("f", (2,), "float32")
    y = writer.tensor("y", (), "int8", scale=0.5)
    g = writer.tensor("g", (2,), "float32")
    writer.operator("ADD", [a, a], [y])
    writer.operator("ADD", [f, f], [g])
    run = Interpreter(qinterp.load(writer.finish([y, g]))).run
    result = run({"a": np.int8(3), "f": np.array([0.1, 2.0])})
    assert result.outputs["y"].shape == ()
    assert result.outputs["y"] == 6
    assert result.outputs["g"].dtype == np.float32
    assert result.outputs["g"].tolist() == [np.float32(0.1) * 2, 4.0]
    with pytest.raises(InputError, match=r"'f' float32\[2\]: got an array of int8"):
        run({"a": np.int8(3), "f": np.zeros(2, np.int8)})
    writer = ModelWriter()
    x = writer.input("x", (2,), "int4", scale=0.5)
    y = writer.tensor("y", (1, 2), "int4", scale=0.5)
    writer.operator("RESHAPE", [x, writer.constant("s", np.int32([1, 2]))], [y])
    run = Interpreter(qinterp.load(writer.finish([y]))).run
    assert run(np.int8([-8, 7])).outputs["y"].tolist() == [[-8, 7]]
    with pytest.raises(InputError, match=r"'x' int4\[2\]: codes must be in -8\.\.7"):
        run(np.int8([-8, 8]))


# ---- partial inputs -------------------------------------------------------------------------


def test_any_tensor_may_be_given(interpreter: Interpreter, whole: qinterp.Result) -> None:
    tensors = whole.tensors
    for given, ran in (
        (["x", "stem"], ["left", "right", "sum", "y"]),
        (["stem"], ["left", "right", "sum", "y"]),
        (["left", "right"], ["sum", "y"]),
        (["stem", "right"], ["left", "sum", "y"]),
        (["sum"], ["y"]),
        (["x", "sum"], ["stem", "left", "right", "y"]),
    ):
        inputs = {n: codes() if n == "x" else tensors[n] for n in given}
        result = interpreter.run(inputs, capture=True)
        assert list(result.tensors) == ran
        assert same(dict(result.tensors), {n: tensors[n] for n in ran})
        assert list(interpreter.run(inputs).outputs) == ["y"]


def test_what_cannot_run_is_left_out(interpreter: Interpreter, whole: qinterp.Result) -> None:
    result = interpreter.run(
        {"left": whole.tensors["left"], "sum": whole.tensors["sum"]}, capture=True
    )
    assert list(result.tensors) == ["y"]
    result = interpreter.run(
        {"stem": whole.tensors["stem"], "y": np.zeros((1, 3), np.int8)}, capture=True
    )
    assert list(result.tensors) == ["left", "right", "sum"]
    assert result.outputs["y"].tolist() == [[0, 0, 0]]


def test_a_given_tensor_goes_before_the_computed_one(interpreter: Interpreter) -> None:
    other = np.zeros(SHAPE, np.int8)
    result = interpreter.run({"x": codes(), "left": other}, capture=True)
    again = interpreter.run({"left": other, "right": result.tensors["right"]}, capture=True)
    assert "left" not in result.tensors
    assert np.array_equal(result.tensors["y"], again.tensors["y"])
    assert not np.array_equal(result.tensors["y"], interpreter.run(codes()).outputs["y"])


def test_a_constant_may_be_given_too(interpreter: Interpreter, whole: qinterp.Result) -> None:
    w = np.array(interpreter.graph.tensors["left/w"].data)
    result = interpreter.run({"x": codes(), "left/w": w}, capture=True)
    assert same(dict(result.tensors), dict(whole.tensors))
    result = interpreter.run(
        {"x": codes(), "left/w": np.zeros_like(w), "left/b": np.int32([8, 8])}, capture=True
    )
    wanted = np.rint(8 * np.array([0.02, 0.01]) * 0.5 / 0.5) + 4
    assert (result.tensors["left"] == wanted).all()
    assert np.array_equal(result.tensors["right"], whole.tensors["right"])
    with pytest.raises(InputError, match=r"'left/w' int8\[2, 3, 3, 2\]: got an array of shape"):
        interpreter.run({"x": codes(), "left/w": w[:1]})


def test_one_node_alone(interpreter: Interpreter, whole: qinterp.Result) -> None:
    node = interpreter.graph.node("add_3")
    operands = interpreter.operands_of(node, codes(), whole)
    assert np.array_equal(operands[0], whole.tensors["left"])
    outputs, notes = interpreter.run_node(node, operands, ["accumulator"])
    assert same(outputs, {"sum": whole.tensors["sum"]})
    assert notes["accumulator"].shape == SHAPE
    first = interpreter.graph.node("conv_2d_0")
    outputs, notes = interpreter.run_node(first, interpreter.operands_of(first, codes(), whole))
    assert same(outputs, {"stem": whole.tensors["stem"]})
    assert notes == {}


# ---- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [0, 1, 2, 7])
def test_another_batch(interpreter: Interpreter, batch: int) -> None:
    x = codes(1, batch)
    result = interpreter.run(x, capture=True)
    assert result.outputs["y"].shape == (batch, 3)
    singles = [interpreter.run(x[i : i + 1], capture=True).tensors for i in range(batch)]
    for name, value in result.tensors.items():
        assert value.shape[0] == batch
        assert batch == 0 or np.array_equal(value, np.concatenate([s[name] for s in singles]))


def test_another_batch_of_a_tensor_in_the_middle(interpreter: Interpreter) -> None:
    whole = interpreter.run(codes(2, 3), capture=True).tensors
    for given in (["sum"], ["left", "right"], ["stem"]):
        result = interpreter.run({n: whole[n] for n in given}, capture=True)
        assert all(np.array_equal(result.tensors[n], whole[n]) for n in result.tensors)
        assert "y" in result.tensors
    with pytest.raises(InputError, match="the inputs' shapes do not fit the model: node 'add_3'"):
        interpreter.run({"left": whole["left"][:2], "right": whole["right"]})


def test_open_dimensions_of_the_file() -> None:
    graph = qinterp.load(network(signature=(-1, 4, 4, 2)))
    assert graph.tensors["x"].dynamic == (0,)
    assert Interpreter(graph).run(codes(1, 5)).outputs["y"].shape == (5, 3)
    with pytest.raises(InputError, match="got an array of shape"):
        Interpreter(graph).run(codes()[:, :3])


def test_a_batch_that_a_reshape_does_not_take() -> None:
    writer = ModelWriter()
    x = writer.input("x", (1, 4), "int8", scale=0.5)
    y = writer.tensor("y", (2, 2), "int8", scale=0.5)
    writer.operator("RESHAPE", [x, writer.constant("s", np.int32([2, 2]))], [y])
    interpreter = Interpreter(qinterp.load(writer.finish([y])))
    with pytest.raises(InputError, match="shapes do not fit the model: node 'reshape_0'"):
        interpreter.run(np.zeros((3, 4), np.int8))


# ---- hooks and notes ------------------------------------------------------------------------


def test_kernels_take_what_a_movement_gives() -> None:
    """Some movements give a view whose rows do not lie one after the other."""
    writer = ModelWriter()
    x = writer.input("x", (1, 6, 5, 8), "int8", scale=0.5)
    turned = writer.tensor("turned", (1, 5, 6, 8), "int8", scale=0.5)
    order = writer.constant("order", np.int32([0, 2, 1, 3]))
    writer.operator("TRANSPOSE", [x, order], [turned])
    axis = writer.constant("axis", np.array(3, np.int32))
    halves = [writer.tensor(name, (1, 5, 6, 4), "int8", scale=0.5) for name in ("left", "right")]
    writer.operator("SPLIT", [axis, turned], halves, num_splits=2)
    rng = np.random.default_rng(0)
    weights = writer.constant("w", rng.integers(-9, 9, (4, 3, 3, 4), np.int8), scale=[0.1] * 4)
    outputs = []
    for half in halves:
        outputs.append(writer.tensor(f"{half}_out", (1, 5, 6, 4), "int8", scale=2.0))
        writer.operator("CONV_2D", [half, weights, None], outputs[-1:], stride_w=1, stride_h=1,
                        dilation_w_factor=1, dilation_h_factor=1, padding="SAME")  # fmt: skip
    graph = qinterp.load(writer.finish(outputs=outputs))
    interpreter = Interpreter(graph)
    image = rng.integers(-128, 128, (1, 6, 5, 8), np.int8)
    result = interpreter.run(image, capture=True)
    across = image.transpose(0, 2, 1, 3)
    for half, part, output in zip(halves, (across[..., :4], across[..., 4:]), outputs, strict=True):
        assert np.array_equal(result.tensors[half], part)
        assert not part.flags.c_contiguous
        node = graph.producer(output)
        operands = [part, graph.tensors[weights].data, None][: len(node.inputs)]
        alone, _ = interpreter.run_node(node, operands)
        assert np.array_equal(alone[output], result.tensors[output])
        again = interpreter.run({half: part}, capture=True)
        assert np.array_equal(again.tensors[output], result.tensors[output])
    replaced = interpreter.run(image, hooks=[lambda event: {
        name: np.asfortranarray(value) for name, value in event.outputs.items()
    }])  # fmt: skip
    for output in outputs:
        assert np.array_equal(replaced.outputs[output], result.tensors[output])
    assert np.unique(result.tensors[outputs[0]]).size > 10


def test_hooks_hear_every_node_in_order(interpreter: Interpreter, whole: qinterp.Result) -> None:
    heard: list[tuple[int, Event]] = []
    interpreter.run(codes(), hooks=[lambda e: heard.append((1, e)), lambda e: heard.append((2, e))])
    assert [who for who, _ in heard] == [1, 2] * 5
    events = [event for who, event in heard if who == 1]
    assert [e.index for e in events] == list(range(5))
    assert [e.node for e in events] == list(interpreter.graph.nodes)
    for event in events:
        assert same(dict(event.outputs), {n: whole.tensors[n] for n in event.node.outputs})
        assert event.notes == {}


def test_what_a_hook_is_shown_is_read_only(interpreter: Interpreter) -> None:
    def meddle(event: Event) -> None:
        (name,) = event.node.outputs
        with pytest.raises(ValueError, match="read-only"):
            event.outputs[name][:] = 0
        with pytest.raises(TypeError):
            event.outputs[name] = None  # type: ignore[index]
        with pytest.raises(TypeError):
            event.notes["accumulator"] = None  # type: ignore[index]

    interpreter.run(codes(), hooks=[meddle], notes=["accumulator"])


def test_a_replacement_is_what_later_hooks_and_nodes_see(interpreter: Interpreter) -> None:
    zeros = np.zeros(SHAPE, np.int8)
    seen = []

    def replace(event: Event) -> dict[str, Any] | None:
        return {"left": zeros} if event.node.name == "conv_2d_1" else None

    def look(event: Event) -> None:
        if "left" in event.outputs:
            seen.append(event.outputs["left"])

    result = interpreter.run(codes(), hooks=[replace, look], capture=True)
    assert result.replaced == ["left"]
    assert result.tensors.record["replaced"] == ["left"]
    assert not seen[0].any()
    assert not result.tensors["left"].any()
    assert zeros.flags.writeable
    wanted = interpreter.run({"x": codes(), "left": zeros})
    assert same(result.outputs, wanted.outputs)
    assert not same(result.outputs, interpreter.run(codes()).outputs)
    assert interpreter.run(codes()).replaced == []


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"x": codes()}, "a hook replaced 'x' at node 'conv_2d_0', whose outputs are 'stem'"),
        (
            {"stem": codes()[:, :2]},
            "a hook replaced 'stem' by int8[1, 2, 4, 2], wanted int8[1, 4, 4, 2]",
        ),
        (
            {"stem": codes() * 1.0},
            "a hook replaced 'stem' by float64[1, 4, 4, 2], wanted int8[1, 4, 4, 2]",
        ),
    ],
)
def test_wrong_replacements(interpreter: Interpreter, value: Any, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        interpreter.run(codes(), hooks=[lambda event: value])
    assert str(error.value) == complaint


def test_a_hooks_own_error_comes_through(interpreter: Interpreter) -> None:
    def fail(event: Event) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        interpreter.run(codes(), hooks=[fail])


def test_notes_only_when_they_are_asked_for(
    interpreter: Interpreter, whole: qinterp.Result
) -> None:
    assert whole.notes == {}
    assert whole.tensors.notes == {}
    heard: list[Event] = []
    result = interpreter.run(
        codes(), hooks=[heard.append], notes=("accumulator", "shift"), capture="sum"
    )
    assert {name: set(notes) for name, notes in result.notes.items()} == {
        **{f"conv_2d_{i}": {"accumulator", "shift"} for i in range(3)},
        "add_3": {"accumulator"},
        "fully_connected_4": {"accumulator", "shift"},
    }
    assert set(result.tensors.notes) == {"add_3"}
    assert heard[0].notes.keys() == {"accumulator", "shift"}
    acc = result.notes["conv_2d_0"]["accumulator"]
    assert acc.shape == SHAPE
    assert acc.dtype == np.int32
    x = codes().astype(int) + 3
    w = interpreter.graph.tensors["stem/w"].data.astype(int)  # type: ignore[union-attr]
    bias = interpreter.graph.tensors["stem/b"].data
    assert acc[0, 1, 2].tolist() == [(x[0, 0:3, 1:4] * w[c]).sum() + bias[c] for c in (0, 1)]  # type: ignore[index]
    assert same(interpreter.run(codes(), notes="accumulator").outputs, whole.outputs)


# ---- many inputs, many threads --------------------------------------------------------------


def test_run_many_is_in_order_and_the_same_as_run(interpreter: Interpreter) -> None:
    inputs = [codes(i) for i in range(40)]
    singles = [interpreter.run(x, capture=True).tensors for x in inputs]
    assert len({s["y"].tobytes() for s in singles}) == 40
    for workers in (1, 3, None):
        results = list(interpreter.run_many(iter(inputs), workers=workers, capture=True))
        assert len(results) == 40
        assert all(same(dict(r.tensors), dict(s)) for r, s in zip(results, singles, strict=True))


def test_run_many_takes_its_inputs_as_it_goes(interpreter: Interpreter) -> None:
    taken: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(1)
            yield codes(len(taken))

    results = interpreter.run_many(endless(), workers=2)
    for _ in range(10):
        next(results)
    assert 10 <= len(taken) <= 10 + 16 * 4  # sixteen together for each of two, and two waiting
    results.close()


def test_run_many_gives_every_result_a_capture_of_its_own(interpreter: Interpreter) -> None:
    inputs = [codes(i) for i in range(8)]
    given = Capture(only="sum")
    results = list(interpreter.run_many(inputs, capture=given))
    assert not given
    assert all(list(r.tensors) == ["sum"] for r in results)
    assert len({r.tensors["sum"].tobytes() for r in results}) == 8
    assert len({r.tensors.record["inputs"]["sha256"] for r in results}) == 8


def test_run_many_raises_where_the_bad_input_is(interpreter: Interpreter) -> None:
    inputs: list[Any] = [codes(i) for i in range(6)]
    inputs[3] = codes().astype(np.int32)
    results = interpreter.run_many(inputs, workers=2)
    for x in inputs[:3]:
        assert same(next(results).outputs, interpreter.run(x).outputs)
    with pytest.raises(InputError, match="got an array of int32"):
        next(results)


def test_one_interpreter_runs_in_many_threads(graph: Graph) -> None:
    """Every thread with batches of its own, more of them than plans are kept."""
    shared = Interpreter(graph)
    inputs = {(t, i): codes(100 * t + i, 1 + (5 * t + i) % 13) for t in range(4) for i in range(25)}
    wanted = {key: Interpreter(graph).run(x).outputs["y"] for key, x in list(inputs.items())[::10]}
    found: dict[Any, np.ndarray] = {}
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work(thread: int) -> None:
        try:
            barrier.wait()
            for (t, i), x in inputs.items():
                if t == thread:
                    found[t, i] = shared.run(x, notes=["accumulator"]).outputs["y"]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(found) == 100
    assert all(np.array_equal(found[key], value) for key, value in wanted.items())


# ---- refusals -------------------------------------------------------------------------------


def test_operators_that_the_scheme_has_no_rule_for_are_all_listed(
    graph: Graph, monkeypatch: Any
) -> None:
    monkeypatch.setitem(RECIPES._family, ("conv_2d", "narrow"), "accumulate")
    table = {"name": "mine", "source": "here", "evidence": {"level": "source"}}
    scheme = from_table(
        {
            **table,
            "default": {"recipes": "narrow"},
            "rule": [{"when": {"op": "fully_connected"}, "recipes": "tflite"}],
        }
    )
    with pytest.raises(UnsupportedOperatorError) as error:
        Interpreter(two_inputs(), scheme)
    assert str(error.value) == "node 'add_0' (add): scheme 'mine' has no rule for add"


def test_all_missing_rules_at_once(monkeypatch: Any) -> None:
    writer = ModelWriter()
    x = writer.input("x", (1, 2), "int8", scale=0.5)
    for i, kind in enumerate(("ADD", "SUB", "ADD")):
        y = writer.tensor(f"y{i}", (1, 2), "int8", scale=0.5)
        writer.operator(kind, [x, x], [y])
        x = y
    monkeypatch.setitem(RECIPES._family, ("conv_2d", "narrow"), "accumulate")
    table = {"name": "mine", "source": "here", "evidence": {"level": "source"}}
    with pytest.raises(UnsupportedOperatorError) as error:
        Interpreter(
            qinterp.load(writer.finish([x])),
            from_table({**table, "default": {"recipes": "narrow"}}),
        )
    assert str(error.value).split("; ") == [
        f"node '{kind}_{i}' ({kind}): scheme 'mine' has no rule for {kind}"
        for i, kind in enumerate(("add", "sub", "add"))
    ]


def test_an_accumulator_that_must_not_overflow_names_the_node(graph: Graph) -> None:
    scheme = qinterp.load_scheme("tflite-reference").with_(
        {"conv_2d.accumulator.bits": 12, "conv_2d.accumulator.overflow": "error"}
    )
    with pytest.raises(QInterpError) as error:
        qinterp.run(graph, codes(), scheme)
    assert str(error.value) == "node 'conv_2d_0' (conv_2d): the accumulator needs more than 12 bits"


def test_shapes_that_the_operator_does_not_give_are_refused() -> None:
    writer = ModelWriter()
    x = writer.input("x", (1, 2), "int8", scale=0.5)
    y = writer.tensor("y", (1, 3), "int8", scale=0.5)
    writer.operator("ADD", [x, x], [y])
    with pytest.raises(ModelFormatError) as error:
        Interpreter(qinterp.load(writer.finish([y])))
    assert str(error.value) == (
        "node 'add_0' (add): the file says 'y' int8[1, 3], the operator gives [1, 2]"
    )


def test_the_plan_says_how_every_node_is_computed(interpreter: Interpreter) -> None:
    plan = interpreter.plan
    assert [entry.node for entry in plan] == [n.name for n in interpreter.graph.nodes]
    assert {entry.scheme for entry in plan} == {"tflite-reference"}
    assert [entry.recipe for entry in plan][2:4] == ["accumulate", "rescaled_sum"]
    assert all(entry.path and entry.reason for entry in plan)


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "TRANSPOSE", "BROADCAST_TO", "REVERSE_V2"])
def test_a_convolution_takes_what_any_operator_gives(kind: str) -> None:
    """However the array before it lies in memory."""
    writer = ModelWriter()
    shape = (1, 1, 1, 2) if kind == "BROADCAST_TO" else SHAPE
    writer.input("x", shape, "int8", scale=0.5, zero_point=-3)
    writer.tensor("before", SHAPE, "int8", scale=0.5, zero_point=-3)
    if kind == "AVERAGE_POOL_2D":
        options = {"padding": "SAME", "stride_h": 1, "stride_w": 1}
        options |= {"filter_height": 3, "filter_width": 3}
        writer.operator(kind, ["x"], ["before"], **options)
    else:
        how = {"TRANSPOSE": [0, 2, 1, 3], "BROADCAST_TO": SHAPE, "REVERSE_V2": [1, 2]}[kind]
        writer.operator(kind, ["x", writer.constant("how", np.array(how, np.int32))], ["before"])
    rng = np.random.default_rng(SEED)
    w = rng.integers(-99, 99, (2, 3, 3, 2)).astype(np.int8)
    writer.constant("w", w, scale=[0.02, 0.01])
    writer.tensor("y", SHAPE, "int8", scale=1.5)
    writer.operator("CONV_2D", ["before", "w"], ["y"], padding="SAME", stride_h=1, stride_w=1)
    model = qinterp.load(writer.finish(["y"]))
    x = {"x": rng.integers(-128, 128, shape).astype(np.int8)}
    whole = qinterp.run(model, x, capture=True)
    alone = qinterp.run(model, {"before": np.array(whole.tensors["before"], order="C")})
    np.testing.assert_array_equal(whole.outputs["y"], alone.outputs["y"])
