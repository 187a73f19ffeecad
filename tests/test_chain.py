"""A chain gives what its nodes give one by one, and nothing in its memory is overwritten (10 s)."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from hypothesis import given, settings
from hypothesis import strategies as st

import qinterp
from qinterp import _kernels as kernels
from qinterp.capture import Capture
from qinterp.errors import QInterpError
from qinterp.importers._shipped import samples, shipped_models
from qinterp.interpreter import Interpreter
from qinterp.ops._chain import Chain, _link_of, _offsets
from qinterp.testing.random_models import KINDS, random_model
from qinterp.testing.tflite_writer import ModelWriter

SCHEMES = ("tflite-reference", "xnnpack", "glow-cpu", "cmsis-nn", "exact")
NET = "digits_resnet.tflite"
ACTIVATED = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "FULLY_CONNECTED",
)  # fmt: skip
OTHERS = ("LOGISTIC", "RESHAPE", "PAD", "CONCATENATION", "SOFTMAX", "MEAN")


def network(seed: int) -> tuple[bytes, dict[str, Any]]:
    """A net of some twenty nodes: any earlier tensor is read again, several are outputs."""
    rng = np.random.default_rng(seed)
    writer, shape = ModelWriter(), (1, 6, 6, int(rng.choice([3, 8, 20])))
    codes = {"x": rng.integers(-128, 128, shape).astype(np.int8)}
    tensors = {"x": (writer.input("x", shape, "int8", scale=0.05, zero_point=3), shape)}
    for i in range(20):
        name, image = f"t{i}", shape
        kind = str(rng.choice([*ACTIVATED, *OTHERS]))
        sources = [t for t in tensors.values() if t[1] == shape]
        picked = [sources[int(k)][0] for k in rng.integers(0, len(sources), 2)]
        scale, zero_point, options = 0.05, 3, {}
        operands = picked[:1]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            deep = kind == "CONV_2D"
            w_shape = (shape[3], 3, 3, shape[3]) if deep else (1, 3, 3, shape[3])
            weights = rng.integers(-127, 128, w_shape).astype(np.int8)
            bias = rng.integers(-900, 900, shape[3]).astype(np.int32)
            operands += [
                writer.constant(f"w{i}", weights, scale=0.01 / (shape[3] if deep else 1)),
                writer.constant(f"b{i}", bias, scale=0.0005 / (shape[3] if deep else 1)),
            ]
            options = {"padding": "SAME", "stride_h": 1, "stride_w": 1}
            options |= {"dilation_h_factor": 1, "dilation_w_factor": 1}
            options |= {} if deep else {"depth_multiplier": 1}
        elif kind == "ADD":
            operands = picked
        elif kind.endswith("POOL_2D"):
            sizes = ("stride_h", "stride_w", "filter_height", "filter_width")
            options = {"padding": "SAME", **dict(zip(sizes, (1, 1, 3, 3), strict=True))}
        elif kind == "LOGISTIC":
            scale, zero_point = 1 / 256, -128
        elif kind == "RESHAPE":
            image = (1, 36, shape[3])
            operands.append(writer.constant(f"s{i}", np.array(image, np.int32)))
        elif kind == "PAD":
            image = (1, 7, 6, shape[3])
            around = np.array([[0, 0], [0, 1], [0, 0], [0, 0]], np.int32)
            operands.append(writer.constant(f"p{i}", around))
        elif kind == "CONCATENATION":
            image, operands, options = (1, 6, 12, shape[3]), picked, {"axis": 2}
        elif kind == "MEAN":
            image = (1, shape[3])
            operands.append(writer.constant(f"a{i}", np.array([1, 2], np.int32)))
            options = {"keep_dims": False}
        elif kind == "SOFTMAX":
            scale, zero_point, options = 1 / 256, -128, {"beta": 1.0}
        elif kind == "FULLY_CONNECTED":
            image = (1, 5)
            weights = rng.integers(-127, 128, (5, 36 * shape[3])).astype(np.int8)
            operands.append(writer.constant(f"w{i}", weights, scale=0.001))
        if kind in ACTIVATED:
            options["fused_activation_function"] = str(rng.choice(["NONE", "RELU"]))
        out = writer.tensor(name, image, "int8", scale=scale, zero_point=zero_point)
        writer.operator(kind, operands, [out], **options)
        same_grid = (scale, zero_point) == (0.05, 3)
        if image == shape and same_grid:
            tensors[name] = out, image
        codes[name] = out
    last = [codes[f"t{i}"] for i in range(20)]
    chosen = [last[int(k)] for k in sorted({19, *rng.integers(0, 20, 2).tolist()})]
    return writer.finish(chosen), {"x": codes["x"]}


def one_by_one(interpreter: Interpreter, inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs and all tensors of a run whose every node is told to a hook, so without chains."""
    seen: dict[str, Any] = {}
    result = interpreter.run(inputs, hooks=[lambda event: seen.update(event.outputs)])
    return result.outputs, seen


def images(name: str, count: int) -> list[dict[str, Any]]:
    own = samples(name)
    assert own is not None, name
    return [{own.input_name: own.inputs[i : i + 1]} for i in range(count)]


def same(a: Any, b: Any) -> bool:
    return list(a) == list(b) and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and np.array_equal(a[n], b[n])
        for n in a
    )


def chains(interpreter: Interpreter, *, keep_all: bool = False) -> list[Chain]:
    pieces = interpreter._steps.pieces(interpreter.graph.outputs, keep_all=keep_all)
    return [piece for piece in pieces if isinstance(piece, Chain)]


def check(interpreter: Interpreter, inputs: Any) -> None:
    outputs, tensors = one_by_one(interpreter, inputs)
    assert same(interpreter.run(inputs).outputs, outputs)
    captured = interpreter.run(inputs, capture=True)
    assert same(captured.outputs, outputs)
    assert same(captured.tensors, tensors)
    assert same(next(interpreter.run_many([inputs])).outputs, outputs)
    for result in interpreter.run_many([inputs] * 40, workers=2):
        assert same(result.outputs, outputs)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(8))
def test_a_random_net(scheme: str, seed: int) -> None:
    model, inputs = network(seed)
    interpreter = Interpreter(qinterp.load(model), scheme)
    check(interpreter, inputs)
    if scheme == "tflite-reference":
        assert sum(len(chain.links) for chain in chains(interpreter)) >= 5


def test_every_task_gives_what_its_node_does() -> None:
    """Chains of one node, of random models of every operator and type."""
    seen, tasks = set(), 0
    for kind, dtypes in KINDS.items():
        for i, dtype in enumerate(dtypes):
            for trial, scheme in enumerate([*SCHEMES[:1] * 3, *SCHEMES[1:]]):
                case = random_model(kind, dtype, np.random.default_rng([SEED, i, trial]))
                try:
                    interpreter = Interpreter(qinterp.load(case.model), scheme)
                    result = interpreter.run(case.inputs, hooks=[lambda event: None], capture=True)
                except QInterpError:
                    continue
                values = interpreter._check_inputs(case.inputs)
                interpreter._supply_constants(values)
                values.update(result.tensors)
                for link in filter(None, map(_link_of, interpreter._steps)):
                    if link.task is None:
                        continue
                    (name,) = link.node.outputs
                    made, views = Chain([link], {name})(values)
                    assert same(made, {name: result.tensors[name]}), (kind, dtype, scheme)
                    made, views = Chain([link], {name}, keep_all=True)(values)
                    assert same(made, {name: result.tensors[name]})
                    assert same(views(), made)
                    seen.add(link.node.kind)
                    tasks += 1
    assert tasks > 150
    assert seen >= {
        "add", "average_pool_2d", "batch_to_space_nd", "concatenation", "conv_2d", "depth_to_space",
        "depthwise_conv_2d", "fully_connected", "logistic", "max_pool_2d", "mean", "mirror_pad",
        "mul", "pack", "pad", "slice", "softmax", "split", "strided_slice", "sub", "tanh", "tile",
        "transpose",
    }  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shipped_models(scheme: str) -> None:
    seen = 0
    for name in shipped_models():
        try:
            interpreter = Interpreter(qinterp.load(name), scheme)
        except QInterpError:
            continue
        check(interpreter, images(name, 1)[0])
        seen = max(seen, *(len(chain.links) for chain in chains(interpreter)), 0)
    assert seen >= 5 or scheme in ("glow-cpu", "exact")


def test_a_whole_net_is_one_chain() -> None:
    interpreter = Interpreter(qinterp.load(NET))
    (chain,) = chains(interpreter)
    assert len(chain.links) == len(interpreter.graph.nodes)
    (kept,) = chains(interpreter, keep_all=True)
    assert len(kept.links) == len(interpreter.graph.nodes)


def test_outputs_that_no_chain_makes() -> None:
    """An input and a constant that are also outputs, one by one and many together."""
    writer, shape = ModelWriter(), (1, 4, 4, 8)
    x = writer.input("x", shape, "int8", scale=0.05)
    c = writer.constant("c", np.arange(4, dtype=np.int8), scale=0.5)
    a = writer.tensor("a", shape, "int8", scale=1 / 256, zero_point=-128)
    b = writer.tensor("b", shape, "int8", scale=1 / 256, zero_point=-128)
    writer.operator("LOGISTIC", [x], [a])
    writer.operator("LOGISTIC", [a], [b])
    interpreter = Interpreter(qinterp.load(writer.finish([x, c, b])))
    rng = np.random.default_rng(1)
    inputs = [{"x": rng.integers(-128, 128, shape).astype(np.int8)} for _ in range(60)]
    assert len(chains(interpreter)) == 1
    for given_, result in zip(inputs, interpreter.run_many(inputs, workers=2), strict=True):
        assert same(result.outputs, one_by_one(interpreter, given_)[0])
        assert same(interpreter.run(given_, capture=True).outputs, result.outputs)


def test_another_batch_than_the_files() -> None:
    interpreter = Interpreter(qinterp.load(NET))
    inputs = images(NET, 3)
    single = [interpreter.run(x).outputs for x in inputs]
    (name,) = interpreter.graph.inputs
    batch = np.concatenate([x[name] for x in inputs])
    for _ in range(2):
        for output, value in interpreter.run(batch).outputs.items():
            assert np.array_equal(value, np.concatenate([s[output] for s in single]))


# ---- memory ---------------------------------------------------------------------------------


@st.composite
def spans(draw: Any) -> list[list[int]]:
    ends = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted)
    return [[draw(st.integers(1, 300)), *draw(ends)] for _ in range(draw(st.integers(0, 12)))]


@given(spans())
@settings(max_examples=300, deadline=None)
def test_parts_in_use_at_the_same_time_do_not_overlap(parts: list[list[int]]) -> None:
    offsets = _offsets(parts)
    assert [size for _, size in offsets] == [size for size, _, _ in parts]
    assert all(start % 64 == 0 for start, _ in offsets)
    for i, (a, a_size) in enumerate(offsets):
        for k, (b, b_size) in enumerate(offsets[:i]):
            apart = parts[i][1] > parts[k][2] or parts[k][1] > parts[i][2]
            assert apart or a + a_size <= b or b + b_size <= a
    at_once = max(sum(-(-s // 64) * 64 for s, f, e in parts if f <= t <= e) for t in range(10))
    assert max((start + size for start, size in offsets), default=0) <= 2 * at_once


@pytest.fixture
def interpreter() -> Interpreter:
    return Interpreter(qinterp.load(NET))


def test_what_was_captured_stays_while_anybody_holds_it(interpreter: Interpreter) -> None:
    """The memory of a capture serves another run only when nothing of it is in use any more."""
    inputs = images(NET, 12)
    wants = [one_by_one(interpreter, x)[1] for x in inputs]
    later = [interpreter.run(x, capture=True) for x in inputs[:3]]  # not looked at yet
    looked_at = [dict(interpreter.run(x, capture=True).tensors) for x in inputs[3:6]]
    parts, whole = [], []
    for i, x in enumerate(inputs[6:9]):  # only a view of one tensor, or of an output, is held
        result = interpreter.run(x, capture=True)
        name = list(result.tensors)[i]
        parts.append((wants[6 + i][name].reshape(-1)[1:], result.tensors[name].reshape(-1)[1:]))
        whole.append((one_by_one(interpreter, x)[0], result.outputs))
        del result
    for x in inputs * 2:
        interpreter.run(x, capture=True)
    assert all(same(r.tensors, want) for r, want in zip(later, wants, strict=False))
    assert all(same(got, want) for got, want in zip(looked_at, wants[3:], strict=False))
    assert all(np.array_equal(a, b) for a, b in parts)
    assert all(same(a, b) for a, b in whole)


def test_a_capture_that_is_dropped_leaves_its_memory_to_the_next(interpreter: Interpreter) -> None:
    (x,) = images(NET, 1)
    addresses = set()
    for _ in range(10):
        result = interpreter.run(x, capture=True)
        addresses.add(next(iter(result.tensors.values())).ctypes.data)
    assert len(addresses) == 2  # one is held while the next run is made
    held = [interpreter.run(x, capture=True) for _ in range(9)]
    assert len({next(iter(r.tensors.values())).ctypes.data for r in held}) == 9


def test_captured_arrays_are_read_only_and_pickled_whole(interpreter: Interpreter) -> None:
    (x,) = images(NET, 1)
    result = interpreter.run(x, capture=True)
    again = pickle.loads(pickle.dumps(result.tensors))
    assert same(again, result.tensors)
    for value in (*result.tensors.values(), *result.outputs.values()):
        assert not value.flags.writeable
    assert not next(iter(interpreter.run(x).outputs.values())).flags.writeable


def test_one_capture_read_in_many_threads(interpreter: Interpreter) -> None:
    (x,) = images(NET, 1)
    names = set(one_by_one(interpreter, x)[1])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(200):
                tensors = interpreter.run(x, capture=True).tensors
                assert all(seen == names for seen in pool.map(set, [tensors] * 4))
    finally:
        sys.setswitchinterval(interval)


def test_outputs_do_not_hold_what_was_captured(interpreter: Interpreter) -> None:
    (x,) = images(NET, 1)
    result = interpreter.run(x, capture=True)
    assert all(value.base is None for value in result.outputs.values())


def test_many_threads_and_captures(interpreter: Interpreter) -> None:
    inputs = images(NET, 16)
    wants = [one_by_one(interpreter, x)[1] for x in inputs]

    def one(i: int) -> bool:
        result = interpreter.run(inputs[i % 16], capture=i % 3 > 0)
        want = wants[i % 16]
        return all(np.array_equal(v, want[n]) for n, v in result.outputs.items()) and (
            i % 3 == 0 or same(result.tensors, want)
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(one, range(300)))


# ---- what is not chained --------------------------------------------------------------------


def test_a_capture_of_ones_own_is_asked_about_every_node(interpreter: Interpreter) -> None:
    asked = []

    class Own(Capture):
        def keep(self, node: Any, outputs: Any, notes: Any) -> None:
            asked.append(node.name)
            super().keep(node, outputs, notes)

    (x,) = images(NET, 1)
    result = interpreter.run(x, capture=Own())
    assert asked == [node.name for node in interpreter.graph.nodes]
    assert same(result.tensors, one_by_one(interpreter, x)[1])


def test_an_overflow_that_is_an_error_is_told_with_its_node() -> None:
    scheme = qinterp.load_scheme("tflite-reference").with_(
        {"conv_2d.accumulator.bits": 12, "conv_2d.accumulator.overflow": "error"}
    )
    interpreter = Interpreter(qinterp.load(NET), scheme)
    with pytest.raises(QInterpError, match=r"conv_2d_0.*accumulator needs more than 12 bits"):
        interpreter.run(images(NET, 1)[0])


@pytest.mark.parametrize(
    ("error", "node"),
    [(MemoryError(2), "conv_2d_2"), (MemoryError(), "conv_2d_0"), (MemoryError((1,)), "conv_2d_0")],
)
def test_a_lack_of_memory_is_told_with_its_node(
    interpreter: Interpreter, error: MemoryError, node: str
) -> None:
    """What the kernels raise stands in for a lack of memory, which cannot be had reliably."""

    class NoMemory:
        def run(self, *arguments: Any) -> None:
            raise error

    (chain,) = chains(interpreter)
    chain._chain = NoMemory()  # type: ignore[assignment]
    for run in (interpreter.run, lambda x: list(interpreter.run_many([x] * 20))):
        with pytest.raises(QInterpError, match=f"node '{node}'"):
            run(images(NET, 1)[0])


def test_chains_refuse() -> None:
    table = np.arange(256, dtype=np.uint8)
    task = kernels.look_up_task(table, 1, 10)
    assert task.sizes == (10, 10)
    x, y = np.arange(10, dtype=np.uint8), np.zeros(10, np.uint8)
    chain = kernels.Chain([task, task], [(0, 2), (2, 1)], [10, 10], [(0, 10)])
    chain.run([(x, y)], 1)
    assert (x == y).all()
    with pytest.raises(ValueError, match="task 0 is of"):
        kernels.Chain([task], [(0, 1)], [10, 9], [])
    with pytest.raises(ValueError, match="negative"):
        kernels.Chain([task], [(0, 1)], [10], [(-64, 10)])
    with pytest.raises(ValueError, match="1 arrays for 2 places"):
        chain.run([(x,)], 1)
    with pytest.raises(ValueError, match="array 1 has 9 bytes"):
        chain.run([(x, y[:9])], 1)
    with pytest.raises(ValueError, match="a memory of 9 bytes"):
        chain.run([(x, y)], 1, np.zeros(9, np.uint8))
    with pytest.raises((ValueError, BufferError)):
        chain.run([(x, np.zeros(20, np.uint8)[::2])], 1)
    y.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        chain.run([(x, y)], 1)
    with pytest.raises(ValueError, match="no look-up"):
        kernels.look_up_task(table, 2, 10)
    pieces = np.array([[0, 0, 2, 6], [6, -1, 0, 4]])
    move = kernels.move_task(pieces, np.array([1, 2]), [8, 10])
    out = np.zeros(10, np.uint8)
    kernels.Chain([move], [(0, 1)], [8, 10], []).run([(x[:8], out)], 1)
    assert out.tolist() == [2, 3, 4, 5, 6, 7, 1, 2, 1, 2]
    for wrong in ([5, 0, 2, 6], [0, 0, 3, 6], [0, 1, 2, 6], [0, -2, 0, 6], [0, 0, -1, 6]):
        with pytest.raises(ValueError, match="not inside"):
            kernels.move_task(np.array([wrong]), np.array([1, 2]), [8, 10])
    with pytest.raises(ValueError, match="9 operands"):
        kernels.move_task(pieces, np.array([1, 2]), [8] * 9 + [10])
    add = kernels.Pairs(kernels.Combination.COMBINE_ADD, (np.int8, 0), (np.int8, 0))
    one = kernels.Requantizer(0, 1, [1 << 30], [-3], None, 0, -128, 127)
    with pytest.raises(ValueError, match="7 results of 2 and 7"):
        add.task((2, 7, 7), one, np.int8)
    zero = np.zeros(4, np.int64)
    packed = kernels.PackedMatmul(np.int8, np.ones((4, 3), np.int8), None, 0, zero)
    with pytest.raises(ValueError, match="other channels"):
        packed.task(2, one, np.int8)
    whole = np.array([[0, 2]])
    windows = kernels.Windows(kernels.Folding.FOLD_SUM, np.int8, (2, 2, 1), whole, whole)
    with pytest.raises(ValueError, match="sums are requantized"):
        windows.task(1, None, np.int8)
