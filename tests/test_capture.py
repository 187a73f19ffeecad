"""Captures: what they keep, files without pickle, and records by which a run can be replayed."""

from __future__ import annotations

import gc
import hashlib
import pickle
import weakref
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SEED

import qinterp
from qinterp import Capture, InputError
from qinterp.capture import hash_arrays
from qinterp.testing.tflite_writer import ModelWriter

ODD_NAMES = (
    "a", "a.npy", "a.npz", "a/b", "/a", "../a", "a/", " ", "file", "a\0b", "a\0c", "a\\b", "%41",
    "__qinterp__", "__note__/n/accumulator", "__name__/a", "conv;bias:0[1,2]\n\t", "é ü 漢",
    "x" * 258, "#3", "arr_0",
)  # fmt: skip


def model(odd: str = "odd/name;1") -> bytes:
    rng = np.random.default_rng(SEED)
    writer = ModelWriter()
    x = writer.input("x", (1, 6), "int8", scale=0.5)
    for i, name in enumerate(("first", "second", odd)):
        w = writer.constant(f"w{i}", rng.integers(-99, 99, (6, 6), dtype=np.int8), scale=0.02)
        y = writer.tensor(name, (1, 6), "int8", scale=0.75)
        writer.operator("FULLY_CONNECTED", [x, w], [y])
        x = y
    y = writer.tensor("y", (1, 6), "int8", scale=1.0)
    writer.operator("ADD", [x, x], [y])
    return writer.finish([y])


X = np.arange(-60, 60, 20, dtype=np.int8).reshape(1, 6)


@pytest.fixture(scope="module")
def interpreter() -> qinterp.Interpreter:
    return qinterp.Interpreter(qinterp.load(model()))


def equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(
        np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype and a[k].shape == b[k].shape
        for k in a
    )


# ---- what is kept ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capture", "kept"),
    [
        (True, ["first", "second", "odd/name;1", "y"]),
        (False, []),
        ("*", ["first", "second", "odd/name;1", "y"]),
        ("second", ["second"]),
        ("add_*", ["y"]),
        (("fully_connected_0", "y"), ["first", "y"]),
        (["*s*"], ["first", "second"]),
        (Capture(kinds="add"), ["y"]),
        (Capture(kinds=["add", "tanh"], only=["second", "*"]), ["y"]),
        (Capture(only=["FIRST", "sec"]), []),
        (Capture(only="odd[/]name*"), ["odd/name;1"]),
    ],
)
def test_filters(interpreter: qinterp.Interpreter, capture: Any, kept: list[str]) -> None:
    result = interpreter.run(X, capture=capture)
    everything = interpreter.run(X, capture=True).tensors
    assert list(result.tensors) == kept
    assert equal(dict(result.tensors), {name: everything[name] for name in kept})
    if isinstance(capture, Capture):
        assert result.tensors is capture


def test_a_capture_is_a_hook(interpreter: qinterp.Interpreter) -> None:
    capture = Capture(kinds="add")
    result = interpreter.run(X, hooks=[capture])
    assert list(capture) == ["y"]
    assert equal(dict(capture), result.outputs)


def test_capturing_changes_no_result(interpreter: qinterp.Interpreter) -> None:
    plain = interpreter.run(X)
    assert len(np.unique(plain.outputs["y"])) > 3
    for capture in (True, "y", Capture()):
        for notes in ((), ("accumulator", "multiplier", "shift")):
            result = interpreter.run(X, capture=capture, notes=notes, hooks=[lambda event: None])
            assert equal(result.outputs, plain.outputs)


def test_a_capture_is_a_mapping(interpreter: qinterp.Interpreter) -> None:
    capture = interpreter.run(X, capture="second", notes=["shift"]).tensors
    assert repr(capture) == "<Capture of 1 tensors, 1 nodes with notes>"
    assert len(capture) == 1
    assert "first" not in capture
    with pytest.raises(KeyError, match=r"'first' was not captured \(1 tensors were\)"):
        _ = capture["first"]
    mine = np.zeros(3, np.int8)
    made = Capture.of({"z": mine})
    assert mine.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        made["z"][0] = 1


# ---- files ----------------------------------------------------------------------------------


def test_save_and_load(interpreter: qinterp.Interpreter, tmp_path: Path) -> None:
    capture = interpreter.run(X, capture=True, notes=("accumulator", "multiplier", "shift")).tensors
    assert len(capture.notes) == 4
    capture.save(tmp_path / "c.npz")
    again = Capture.load(tmp_path / "c.npz")
    assert equal(dict(again), dict(capture))
    assert list(again) == list(capture)
    assert again.record == capture.record
    assert again.notes.keys() == capture.notes.keys()
    assert all(equal(again.notes[node], capture.notes[node]) for node in capture.notes)
    with np.load(tmp_path / "c.npz", allow_pickle=False) as archive:  # readable without qinterp
        assert np.array_equal(archive["first"], capture["first"])


def test_every_type_shape_and_odd_name_survives(tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    types = (
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "float16",
        "float32",
        "float64",
        "bool",
    )
    shapes = ((), (0,), (3,), (2, 0, 3), (1, 2, 3, 4), (2, 3))
    tensors = {
        name: rng.integers(0, 2, shapes[i % len(shapes)]).astype(types[i % len(types)])
        for i, name in enumerate(ODD_NAMES)
    }
    tensors["fortran"] = np.asfortranarray(rng.integers(0, 9, (3, 4)))
    tensors["nan"] = np.array([np.nan, -0.0, np.inf])
    capture = Capture.of(tensors)
    capture.notes = {name: {"accumulator": np.array([i])} for i, name in enumerate(ODD_NAMES)}
    capture.record = {"inputs": {"names": list(ODD_NAMES)}}
    capture.save(tmp_path / "odd.npz")
    again = Capture.load(tmp_path / "odd.npz")
    assert list(again) == list(tensors)
    assert all(again[n].tobytes("A") == tensors[n].tobytes("A") for n in tensors)
    assert all(again[n].dtype == tensors[n].dtype for n in tensors)
    assert all(again[n].shape == tensors[n].shape for n in tensors)
    assert {n: v["accumulator"].tolist() for n, v in again.notes.items()} == {
        n: [i] for i, n in enumerate(ODD_NAMES)
    }
    assert again.record == capture.record


def test_an_npz_from_elsewhere_is_a_capture_without_record(tmp_path: Path) -> None:
    np.savez(tmp_path / "dump.npz", first=X, second=X + 1)
    capture = Capture.load(tmp_path / "dump.npz")
    assert {n: v.tolist() for n, v in capture.items()} == {
        "first": X.tolist(),
        "second": (X + 1).tolist(),
    }
    assert capture.record == {}


def test_no_pickle_in_and_none_out(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "bad.npz", a=np.array([Trap()], object))
    with pytest.raises(InputError, match=r"bad\.npz: not an \.npz of arrays: it holds Python obj"):
        Capture.load(tmp_path / "bad.npz")
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        Capture.of({"a": np.array([{}], object)}).save(tmp_path / "out.npz")


def test_files_that_are_no_captures(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(X))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with (
        zipfile.ZipFile(tmp_path / "record.npz", "w") as archive,
        archive.open("__qinterp__.npy", "w") as stream,
    ):
        np.lib.format.write_array(stream, np.array("3"))
    for file in (*sorted(tmp_path.iterdir()), tmp_path / "none.npz", tmp_path):
        with pytest.raises(InputError, match=r"not an \.npz of arrays: "):
            Capture.load(file)


def test_damaged_files_raise_input_errors(interpreter: qinterp.Interpreter, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    interpreter.run(X, capture=True, notes=["accumulator"]).tensors.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(SEED)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(damaged))] if rng.random() < 0.2 else damaged)
        try:
            Capture.load(path)
        except InputError:
            refused += 1
    assert 200 < refused < 400


# ---- records --------------------------------------------------------------------------------


def test_the_record_names_and_hashes_model_scheme_and_inputs(
    interpreter: qinterp.Interpreter,
) -> None:
    record = interpreter.run(X, capture=True).tensors.record
    assert record == {
        "qinterp": qinterp.__version__,
        "model": {"name": "model", "sha256": hashlib.sha256(model()).hexdigest()},
        "scheme": {
            "name": "tflite-reference",
            "sha256": qinterp.load_scheme("tflite-reference").sha256,
        },
        "inputs": {"names": ["x"], "sha256": hash_arrays({"x": X})},
        "replaced": [],
    }


def test_a_replay_gives_the_same_hashes_and_tensors(
    interpreter: qinterp.Interpreter, tmp_path: Path
) -> None:
    first = interpreter.run(X, capture=True).tensors
    first.save(tmp_path / "first.npz")
    again = qinterp.run(
        qinterp.load(model()), {"#0": X.copy()}, first.record["scheme"]["name"], True
    ).tensors
    stored = Capture.load(tmp_path / "first.npz")
    assert again.record == stored.record
    assert hash_arrays(again) == hash_arrays(stored)


def test_real_inputs_are_recorded_as_their_codes(interpreter: qinterp.Interpreter) -> None:
    codes = interpreter.run(X, capture=True).tensors.record
    assert interpreter.run(X * 0.5, capture=True).tensors.record == codes


def test_whatever_differs_changes_a_hash(interpreter: qinterp.Interpreter) -> None:
    def hashes(result: qinterp.Result) -> tuple[str, ...]:
        record = result.tensors.record
        return tuple(record[k]["sha256"] for k in ("model", "scheme", "inputs"))

    base = hashes(interpreter.run(X, capture=True))
    graph = interpreter.graph
    others = {
        0: qinterp.run(qinterp.load(model("other")), X, capture=True),
        1: qinterp.run(graph, X, interpreter.scheme.with_({"accumulator.bits": 20}), capture=True),
        2: interpreter.run(X + np.int8(1), capture=True),
    }
    for place, result in others.items():
        different = [i for i in range(3) if hashes(result)[i] != base[i]]
        assert different == [place]
    middle = interpreter.run(
        {"second": interpreter.run(X, capture=True).tensors["second"]}, capture=True
    )
    assert middle.tensors.record["inputs"]["names"] == ["second"]
    assert hashes(middle)[2] != base[2]


def test_a_record_is_of_the_inputs_as_they_were(interpreter: qinterp.Interpreter) -> None:
    x = X.copy()
    late, sent = interpreter.run(x, capture=True).tensors, interpreter.run(x, capture=True).tensors
    soon = interpreter.run(x, capture=True).tensors.record
    x[:] = 0  # before the first two are asked
    copied = pickle.loads(pickle.dumps(sent))
    assert late.record == soon == copied.record
    assert {n: v.tolist() for n, v in copied.items()} == {n: v.tolist() for n, v in late.items()}


def test_a_dropped_result_is_freed_at_once(interpreter: qinterp.Interpreter) -> None:
    gc.disable()
    try:
        tensors = weakref.ref(interpreter.run(X, capture=True).tensors)
        assert tensors() is None
    finally:
        gc.enable()


def test_the_hash_of_arrays() -> None:
    a, b = np.int8([1, 2]), np.int8([3])
    assert hash_arrays({"a": a, "b": b}) == hash_arrays({"b": b, "a": a.copy()})
    assert hash_arrays({"a": np.arange(6).reshape(2, 3)}) == hash_arrays(
        {"a": np.asfortranarray(np.arange(6).reshape(2, 3))}
    )
    different: list[dict[str, np.ndarray]] = [
        {}, {"a": a}, {"b": a}, {"a": b}, {"a": a, "b": b}, {"a": b, "b": a},
        {"a": a.view(np.uint8)}, {"a": a.astype(np.int16)}, {"a": a.reshape(1, 2)},
        {"a": a.view(np.int16)}, {"a": np.array(3, np.int8)},
    ]  # fmt: skip
    assert len({hash_arrays(one) for one in different}) == len(different)
