"""TFLite files: what is read, what is refused and in which words, and mutated real models.

Run as a script it is the worker of the mutation test, a process of its own with limits.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite
from conftest import SEED

import qinterp
from qinterp import ModelFormatError, UnsupportedOperatorError
from qinterp.errors import QInterpError
from qinterp.importers._shipped import shipped_models
from qinterp.testing import tflite_writer
from qinterp.testing.tflite_writer import ModelWriter

# ---- flatbuffers by hand --------------------------------------------------------------------


@contextmanager
def recorded() -> Iterator[dict[int, tuple[Any, bool]]]:
    """Every number that is read from a flatbuffer meanwhile: place to format, and if it is a value.

    What is no value is an offset or a length.
    """
    seen: dict[int, tuple[Any, bool]] = {}
    get, get_value = flatbuffers.encode.Get, flatbuffers.table.Table.Get
    types = flatbuffers.number_types
    offsets = (types.UOffsetTFlags, types.SOffsetTFlags, types.VOffsetTFlags)

    def record(packer: Any, buffer: Any, head: int) -> Any:
        seen.pop(head, None)
        seen[head] = packer, False
        return get(packer, buffer, head)

    def record_value(table: Any, flags: Any, head: int) -> Any:
        value = get_value(table, flags, head)
        seen[head] = flags.packer_type, flags not in offsets
        return value

    flatbuffers.encode.Get, flatbuffers.table.Table.Get = record, record_value
    try:
        yield seen
    finally:
        flatbuffers.encode.Get, flatbuffers.table.Table.Get = get, get_value


def changed(data: bytes, field: Callable[[Any], Any], value: float) -> bytes:
    """The file with another value in the field that ``field(main subgraph)`` reads last."""
    with recorded() as seen:
        field(tflite.Model.GetRootAs(data, 0).Subgraphs(0))
    head, (packer, _) = list(seen.items())[-1]
    out = bytearray(data)
    struct.pack_into(packer.format, out, head, value)
    assert bytes(out) != data
    return bytes(out)


def root(data: bytes, field: Callable[[Any], Any], value: int) -> bytes:
    """As ``changed``, from the model."""
    return changed(data, lambda graph: field(tflite.Model.GetRootAs(data, 0)), value)


def convolution(**options: Any) -> bytes:
    """One input, int8[1,3,3,2] -> CONV_2D -> y -> RESHAPE -> z."""
    writer = ModelWriter()
    x = writer.input("x", (1, 3, 3, 2), "int8", scale=0.5, zero_point=1)
    w = writer.constant("w", np.ones((2, 1, 1, 2), np.int8), scale=[0.25, 0.5])
    b = writer.constant("b", np.zeros(2, np.int32), scale=[0.125, 0.25])
    y = writer.tensor("y", (1, 3, 3, 2), "int8", scale=0.5, signature=(-1, 3, 3, 2))
    writer.operator("CONV_2D", [x, w, b], [y], **{"stride_h": 1, "stride_w": 1, **options})
    z = writer.tensor("z", (3, 6), "int8", scale=0.5)
    writer.operator("RESHAPE", [y, writer.constant("s", np.int32([3, 6]))], [z])
    return writer.finish([z])


def refused(data: bytes, kind: type[QInterpError] = ModelFormatError) -> str:
    with pytest.raises(kind) as error:
        qinterp.Interpreter(qinterp.load(data))
    return str(error.value)


# ---- what is read ---------------------------------------------------------------------------


def test_what_is_read() -> None:
    graph = qinterp.load(convolution(fused_activation_function="RELU6", padding="SAME"))
    assert (graph.format, graph.name, graph.inputs, graph.outputs) == (
        "tflite",
        "model",
        ("x",),
        ("z",),
    )
    assert graph.source == convolution(fused_activation_function="RELU6", padding="SAME")
    conv, reshape = graph.nodes
    assert (conv.name, conv.kind, conv.inputs, conv.outputs) == (
        "conv_2d_0",
        "conv_2d",
        ("x", "w", "b"),
        ("y",),
    )
    assert conv.attributes["activation"] == "relu6"
    assert conv.attributes["padding"] == "same"
    assert conv.attributes["strides"] == conv.attributes["dilations"] == (1, 1)
    assert reshape.name == "reshape_1"
    x, w, y = (graph.tensors[n] for n in "xwy")
    assert (x.shape, x.dtype, x.scale, x.zero_point, x.dynamic) == (
        (1, 3, 3, 2),
        "int8",
        0.5,
        1,
        (),
    )
    assert w.quantization is not None
    assert w.quantization.scale.tolist() == [0.25, 0.5]
    assert w.quantization.axis == 0
    assert w.data is not None
    assert w.data.tolist() == [[[[1, 1]]], [[[1, 1]]]]
    assert not w.data.flags.writeable
    assert y.dynamic == (0,)
    assert graph.tensors["s"].quantization is None


def test_options_default_to_those_of_the_schema() -> None:
    writer = ModelWriter()
    x = writer.input("x", (1, 2), "int8", scale=0.5)
    y = writer.tensor("y", (1, 2), "int8", scale=1 / 256, zero_point=-128)
    writer.operator("SOFTMAX", [x], [y])
    node = qinterp.load(writer.finish([y])).nodes[0]
    assert node.attributes["beta"] == 0.0


@pytest.mark.parametrize(
    ("dtype", "codes"),
    [("int4", 5), ("int4", 4), ("int8", 5), ("int64", 3), ("float32", 3), ("bool", 3)],
)
def test_constants_of_every_width(dtype: str, codes: int) -> None:
    values = (
        np.array([-8, 7, -1, 0, 5][:codes]) if dtype != "bool" else np.array([True, False, True])
    )
    writer = ModelWriter()
    x = writer.constant("x", values, dtype=dtype, scale=0.5 if dtype.startswith("int") else None)
    shape = writer.constant("s", np.int32([1, len(values)]))
    y = writer.tensor("y", (1, len(values)), dtype, scale=0.5 if dtype.startswith("int") else None)
    writer.operator("RESHAPE", [x, shape], [y])
    graph = qinterp.load(writer.finish([y]))
    assert graph.tensors["x"].data.tolist() == values.tolist()  # type: ignore[union-attr]
    assert graph.tensors["x"].dtype == dtype
    assert qinterp.run(graph, {}).outputs["y"].tolist() == [values.tolist()]


def test_paths_shipped_names_and_bytes(tmp_path: Path) -> None:
    name = "digits_cnn.tflite"
    graph = qinterp.load(name)
    path = tmp_path / "copy.tflite"
    path.write_bytes(graph.source)
    for source in (path, str(path), graph.source, bytearray(graph.source)):
        assert qinterp.load(source).sha256 == graph.sha256
    assert qinterp.load(path).name == "copy.tflite"
    for wrong, complaint in {
        str(tmp_path / "none.tflite"): "no such file; shipped models: digits_cnn.tflite, ",
        "none.tflite": "none.tflite: no such file; shipped models: digits_cnn.tflite, ",
        "model.h5": "model.h5: no importer reads '.h5'; known: ",
        "model": "model: no importer reads 'a file without suffix'; known: ",
    }.items():
        with pytest.raises(ModelFormatError) as error:
            qinterp.load(wrong)
        assert complaint in str(error.value)
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ModelFormatError, match=r"folder\.tflite: Is a directory"):
        qinterp.load(tmp_path / "folder.tflite")


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\x00" * 64, convolution()[:4] + b"TFL2" + convolution()[8:]]
)
def test_not_a_tflite_file(data: bytes) -> None:
    assert refused(data) == "model: not a TFLite file (no identifier TFL3)"


def test_every_truncation() -> None:
    data = convolution()
    for end in range(8, len(data), 4):
        text = refused(data[:end], QInterpError)
        assert text.startswith("model: ")


MALFORMED: dict[str, tuple[bytes, str]] = {
    "type": (
        changed(convolution(), lambda g: g.Tensors(0).Type(), 99),
        "model: tensor 'x': storage type 99 is not one of int8, uint8, ",
    ),
    "strings": (
        changed(convolution(), lambda g: g.Tensors(0).Type(), tflite.TensorType.STRING),
        "model: tensor 'x': storage type string is not one of int8, uint8, ",
    ),
    "negative shape": (
        changed(convolution(), lambda g: g.Tensors(0).Shape(1), -3),
        "model: tensor 'x': shape [1, -3, 3, 2] has a negative dimension (G2)",
    ),
    "huge shape": (
        changed(convolution(), lambda g: g.Tensors(0).Shape(1), 1 << 30),
        "model: tensor 'x': shape [1, 1073741824, 3, 2] has more than 2147483648 elements (G2)",
    ),
    "no buffer": (
        changed(convolution(), lambda g: g.Tensors(1).Buffer(), 77),
        "model: tensor 'w': no buffer 77",
    ),
    "buffer of another": (
        changed(convolution(), lambda g: g.Tensors(1).Buffer(), 2),
        "model: tensor 'w' int8[2, 1, 1, 2] needs 4 bytes, its buffer has 8",
    ),
    "scale": (
        changed(convolution(), lambda g: g.Tensors(0).Quantization().Scale(0), -1.0),
        "model: tensor 'x': scale -1.0 is not finite and positive (G4)",
    ),
    "scale not a number": (
        changed(convolution(), lambda g: g.Tensors(1).Quantization().Scale(1), float("nan")),
        "model: tensor 'w': scale nan is not finite and positive (G4)",
    ),
    "zero point": (
        changed(convolution(), lambda g: g.Tensors(0).Quantization().ZeroPoint(0), 128),
        "model: tensor 'x': zero point 128 does not fit int8 (G4)",
    ),
    "graph input": (
        changed(convolution(), lambda g: g.Inputs(0), 6),
        "model: the graph's inputs: no tensor 6, there are 6",
    ),
    "graph output": (
        changed(convolution(), lambda g: g.Outputs(0), -2),
        "model: the graph's outputs: no tensor -2, there are 6",
    ),
    "output that nobody computes": (
        changed(convolution(), lambda g: g.Inputs(0), 2),
        "model: graph input 'b' is also computed or constant (G8); node 'conv_2d_0': input 'x' is "
        "never computed (G8)",
    ),
    "operand": (
        changed(convolution(), lambda g: g.Operators(0).Inputs(1), 99),
        "model: operator 0 (CONV_2D): inputs: no tensor 99, there are 6",
    ),
    "absent operand": (
        changed(convolution(), lambda g: g.Operators(0).Inputs(1), -1),
        "node 'conv_2d_0' (conv_2d): operand 'filter' is missing",
    ),
    "output operand": (
        changed(convolution(), lambda g: g.Operators(1).Outputs(0), 3),
        "model: tensor 'y': written by 'conv_2d_0' and by 'reshape_1' (G7)",
    ),
    "operator code": (
        changed(convolution(), lambda g: g.Operators(1).OpcodeIndex(), 9),
        "model: operator 1: no operator code 9",
    ),
    "options of another operator": (
        changed(convolution(), lambda g: g.Operators(0).BuiltinOptionsType(), 2),
        "model: operator 0 (CONV_2D): has DepthwiseConv2DOptions, wanted Conv2DOptions",
    ),
    "stride": (
        convolution(stride_h=0),
        "node 'conv_2d_0' (conv_2d): strides (0, 1) and dilations (1, 1) must be at least 1",
    ),
    "dilation": (
        convolution(dilation_w_factor=-1),
        "node 'conv_2d_0' (conv_2d): strides (1, 1) and dilations (1, -1) must be at least 1",
    ),
    "padding": (
        convolution(padding=7),
        "model: operator 0 (CONV_2D): padding = 7, which the schema lacks",
    ),
    "another size": (
        changed(convolution(), lambda g: g.Tensors(4).Shape(0), 2),
        "node 'reshape_1' (reshape): ",
    ),
    "tensors without end": (
        changed(convolution(), lambda g: g.TensorsLength(), 1 << 30),
        "model: 1073741824 tensors in ",
    ),
    "operators without end": (
        changed(convolution(), lambda g: g.OperatorsLength(), 1 << 30),
        "model: 1073741824 operators in ",
    ),
    "no subgraph": (
        root(convolution(), lambda m: m.SubgraphsLength(), 0),
        "model: the file has no subgraph",
    ),
    "a name that is no text": (
        convolution().replace(b"\x01\x00\x00\x00w\x00", b"\x01\x00\x00\x00\xff\x00"),
        "model: malformed flatbuffer: 'utf-8' codec can't decode",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case: str) -> None:
    data, complaint = MALFORMED[case]
    assert refused(data).startswith(complaint)


def chain(*kinds: str, **options: Any) -> bytes:
    writer = ModelWriter()
    x = writer.input("x", (1, 2), "int8", scale=0.5)
    for number, kind in enumerate(kinds):
        y = writer.tensor(f"y{number}", (1, 2), "int8", scale=0.5)
        writer.operator(kind, [x], [y], **options)
        x = y
    return writer.finish([x])


def test_all_unsupported_operators_are_listed_at_once() -> None:
    kinds = ["SIN", "COS", "SIN", "IF", "WHILE", *["COS"] * 9]
    assert refused(chain(*kinds), UnsupportedOperatorError) == (
        "model: unsupported operators: COS (nodes 1, 5, 6, 7, 8, 9, 10, 11, ...); IF (node 3); "
        "SIN (nodes 0, 2); WHILE (node 4)"
    )


def test_an_operator_newer_than_the_schema() -> None:
    data = root(chain("SIGN"), lambda m: m.OperatorCodes(0).BuiltinCode(), 9999)
    assert refused(data, UnsupportedOperatorError) == (
        "model: unsupported operators: builtin 9999 (node 0)"
    )


def test_custom_operators(monkeypatch: Any) -> None:
    def write(builder: Any, kind: str, version: int) -> Any:
        code = builder.CreateString("Mine\u00e9")
        return tflite_writer._write_table(
            builder, "OperatorCode", DeprecatedBuiltinCode=32, BuiltinCode=32, CustomCode=code
        )

    assert refused(chain("CUSTOM", "SIN"), UnsupportedOperatorError) == (
        "model: unsupported operators: SIN (node 1); custom operator '?' (node 0)"
    )
    monkeypatch.setattr(tflite_writer, "_write_operator_code", write)
    assert refused(chain("CUSTOM"), UnsupportedOperatorError) == (
        "model: unsupported operators: custom operator 'Mine\u00e9' (node 0)"
    )


@pytest.mark.parametrize(
    "kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"]
)
def test_hybrid_operators_are_refused_in_so_many_words(kind: str) -> None:
    """Float activations, int8 weights: another arithmetic, quantized while it runs."""
    image = kind not in ("FULLY_CONNECTED", "BATCH_MATMUL")
    writer = ModelWriter()
    x = writer.input("x", (1, 2, 2, 2) if image else (2, 2), "float32")
    shape = {"DEPTHWISE_CONV_2D": (1, 1, 1, 2)}.get(kind, (2, 1, 1, 2)) if image else (2, 2)
    w = writer.constant("w", np.ones(shape, np.int8), scale=0.5)
    y = writer.tensor("y", (1, 2, 2, 2) if image else (2, 2), "float32")
    strides = {"stride_h": 1, "stride_w": 1} if image else {}
    if kind == "TRANSPOSE_CONV":
        operands = [writer.constant("s", np.int32([1, 2, 2, 2])), w, x]
    elif image:
        operands = [x, w, writer.constant("b", np.zeros(2, np.float32))]
    else:
        operands = [x, w]
    writer.operator(kind, operands, [y], **strides)
    text = refused(writer.finish([y]), UnsupportedOperatorError)
    assert text.startswith(f"node '{kind.lower()}_0' ({kind.lower()}): ")
    assert "must be float32, got 'w' int8" in text


def test_sparse_and_blockwise_tensors(monkeypatch: Any) -> None:
    original = tflite_writer._write_table

    def write(builder: Any, table: str, **fields: Any) -> Any:
        if table == spoiled == "Tensor":
            fields["Sparsity"] = sparsity[0]
        elif table == spoiled == "QuantizationParameters":
            fields |= {"DetailsType": 1, "Details": sparsity[0]}
        return original(builder, table, **fields)

    def tensor(builder: Any, one: Any, buffer: int) -> Any:
        sparsity[:] = [original(builder, "SparsityParameters")]
        return write_tensor(builder, one, buffer)

    sparsity: list[int] = []
    write_tensor = tflite_writer._write_tensor
    monkeypatch.setattr(tflite_writer, "_write_table", write)
    monkeypatch.setattr(tflite_writer, "_write_tensor", tensor)
    spoiled = "Tensor"
    assert refused(convolution(), UnsupportedOperatorError) == "model: tensor 'x' is sparse"
    spoiled = "QuantizationParameters"
    assert refused(convolution(), UnsupportedOperatorError) == (
        "model: tensor 'x' has custom or blockwise quantization"
    )


# ---- mutants of real models -----------------------------------------------------------------

CPU_SECONDS, WALL_SECONDS, MEGABYTES = 2.0, 20.0, 512
FUZZ = os.environ.get("QINTERP_FUZZ") == "1"
MUTANTS = 50_000 if FUZZ else 2000
KINDS = {
    "value": 0.5, "number": 0.15, "offset": 0.05, "bytes": 0.1, "cut": 0.04, "zeros": 0.08,
    "copy": 0.08,
}  # fmt: skip
VALUES = (
    0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 100, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536,
    1 << 20, 1 << 24, (1 << 30) - 1, 1 << 30, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1,
)  # fmt: skip


@functools.cache
def seeds() -> list[tuple[str, bytes, list[tuple[int, str, bool]]]]:
    """The shipped models, with the places of all numbers that are read from them."""
    found = []
    for name, file in sorted(shipped_models().items()):
        data = file.read_bytes()
        with recorded() as seen:
            qinterp.load(data)
            graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
            for i in range(graph.TensorsLength()):  # what is read as whole arrays
                tensor = graph.Tensors(i)
                [tensor.Shape(j) for j in range(tensor.ShapeLength())]
                [tensor.ShapeSignature(j) for j in range(tensor.ShapeSignatureLength())]
                q = tensor.Quantization()
                if q is not None:
                    [q.Scale(j) for j in range(min(q.ScaleLength(), 2))]
                    [q.ZeroPoint(j) for j in range(min(q.ZeroPointLength(), 2))]
            for i in range(graph.OperatorsLength()):
                operator = graph.Operators(i)
                [operator.Inputs(j) for j in range(operator.InputsLength())]
                [operator.Outputs(j) for j in range(operator.OutputsLength())]
        numbers = [(head, packer.format, value) for head, (packer, value) in sorted(seen.items())]
        found.append((name, data, numbers))
    return found


def mutant(number: int) -> tuple[str, bytes]:
    """How the mutant was made, and its bytes."""
    rng = np.random.default_rng([SEED, number])
    name, data, numbers = seeds()[rng.integers(len(seeds()))]
    out = bytearray(data)
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    start = int(rng.integers(len(data)))
    length = int(rng.choice([1, 4, 16, 64, 256, 4096]))
    if kind in ("value", "number", "offset"):
        places = [n for n in numbers if n[2]] if kind == "value" else numbers
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            head, form, _ = places[rng.integers(len(places))]
            size = struct.calcsize(form)
            new = int(rng.choice(VALUES))
            if kind == "offset" or rng.random() < 0.4:
                step = (
                    int(rng.integers(-64, 65)) * 4 if kind == "offset" else int(rng.integers(-3, 4))
                )
                new = step + int.from_bytes(data[head : head + size], "little")
            out[head : head + size] = (new % (1 << 8 * size)).to_bytes(size, "little")
    elif kind == "bytes":
        # most bytes are weights, which any value suits: half of the flips where tables are
        for _ in range(rng.integers(1, 9)):
            table = numbers[rng.integers(len(numbers))][0]
            place = table if rng.random() < 0.5 else rng.integers(len(data))
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del out[start:]
    elif kind == "zeros":
        out[start : start + length] = bytes(len(out[start : start + length]))
    else:
        other = int(rng.integers(len(data)))
        block = data[other : other + length]
        if rng.random() < 0.5:
            out[start : start + len(block)] = block
        else:
            out[start:start] = block
    return f"{name}, {kind}", bytes(out)


def attempt(number: int) -> dict[str, Any]:
    """What became of a mutant: "ran", or the name of what was raised; CPU seconds."""
    how, data = mutant(number)
    started = time.process_time()
    try:
        graph = qinterp.load(data)
        interpreter = qinterp.Interpreter(graph)
        rng = np.random.default_rng(number)
        inputs = {}
        for name in graph.inputs:
            tensor = graph.tensors[name]
            raw = rng.integers(0, 100, tensor.shape)
            inputs[name] = (raw % 2 if tensor.dtype == "int4" else raw).astype(tensor.numpy_dtype)
        interpreter.run(inputs)
        outcome, detail = "ran", ""
    except QInterpError as error:
        outcome = type(error).__name__
        detail = str(error) if isinstance(error.__cause__, (ArithmeticError, LookupError)) else ""
        if isinstance(error.__cause__, MemoryError):
            outcome, detail = "MemoryError", str(error)
    except BaseException as error:  # whatever it is, the parent is to hear of it
        outcome, detail = type(error).__name__, f"{error!r:.300}"
    seconds = time.process_time() - started
    return {"number": number, "how": how, "outcome": outcome, "detail": detail, "cpu": seconds}


def work(numbers: range) -> None:
    """One line of JSON before and after every mutant."""
    for _, data, _ in seeds():
        qinterp.Interpreter(qinterp.load(data))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in numbers:
        print(json.dumps({"number": number}), flush=True)
        found = attempt(number)
        found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(json.dumps(found), flush=True)


def results(numbers: range) -> list[dict[str, Any]]:
    """What became of the mutants, from worker processes: another one where one dies or hangs."""
    found: list[dict[str, Any]] = []
    while numbers:
        arguments = [
            sys.executable,
            __file__,
            *map(str, (numbers.start, numbers.stop, numbers.step)),
        ]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        limit = 30 + WALL_SECONDS + len(numbers) * CPU_SECONDS / 4
        with subprocess.Popen(
            arguments, stdout=subprocess.PIPE, text=True, env=environment
        ) as child:
            try:
                lines = child.communicate(timeout=limit)[0].splitlines()
            except subprocess.TimeoutExpired as error:
                child.kill()
                lines = (error.stdout or b"").decode().splitlines()
        told = [json.loads(line) for line in lines if line.endswith("}")]
        done = [one for one in told if "outcome" in one]
        found += done
        if len(done) == len(numbers):
            return found
        assert told, f"the worker did not start: {child.returncode}"
        last = told[-1]["number"]
        found.append({"number": last, "outcome": f"the process ended ({child.returncode})"})
        numbers = numbers[numbers.index(last) + 1 :]
    return found


@pytest.mark.fuzz
def test_mutants_of_real_models_run_or_are_refused() -> None:
    halves = [range(start, MUTANTS, 2) for start in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        found = [one for half in pool.map(results, halves) for one in half]
    assert len(found) == MUTANTS
    allowed = {"ran", "ModelFormatError", "UnsupportedOperatorError", "QInterpError", "InputError"}
    assert [one for one in found if one["outcome"] not in allowed] == []
    assert [one for one in found if one["cpu"] > CPU_SECONDS] == []
    assert max(one["megabytes"] for one in found) < MEGABYTES
    count = Counter(one["outcome"] for one in found)
    print(dict(count))
    assert all(
        count[kind] > MUTANTS / 50
        for kind in ("ran", "ModelFormatError", "UnsupportedOperatorError")
    )


if __name__ == "__main__":
    work(range(*map(int, sys.argv[1:])))
