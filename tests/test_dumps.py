"""Device dumps: reading, names, layouts, types, and what is wrong with a malformed one."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qinterp
from qinterp.capture import Capture
from qinterp.difference import diff, fit_dump, read_dump
from qinterp.importers._shipped import samples, shipped_models
from qinterp.interpreter import Interpreter
from qinterp.ir import Graph
from qinterp.report.inputs import dumped_inputs
from qinterp.testing.tflite_writer import ModelWriter

MODELS = sorted(name for name in shipped_models() if "float" not in name)


@cache
def model(name: str = "digits_resnet.tflite") -> Graph:
    return qinterp.load(name)


@cache
def tensors(name: str = "digits_resnet.tflite") -> dict[str, Any]:
    own = samples(name)
    assert own is not None
    inputs = {own.input_name: own.inputs[:1]}
    interpreter = Interpreter(model(name), "exact")
    return {
        **interpreter.input_codes(inputs),
        **interpreter.run(inputs, capture=True).tensors,
    }


def channels_first(x: Any) -> Any:
    return np.moveaxis(x, -1, 1) if x.ndim > 2 else x


def as_reals(name: str, x: Any) -> Any:
    tensor = model().tensors[name]
    return ((x.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)


def padded(x: Any) -> Any:
    extra = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % 32)]
    return np.pad(x, extra, constant_values=7)


def names_of_nodes(graph: Graph, values: dict[str, Any]) -> dict[str, Any]:
    return {n.name: values[n.outputs[0]] for n in graph.nodes}


def check(found: Any, name: str = "digits_resnet.tflite") -> None:
    assert found.tensors
    for tensor, value in found.tensors.items():
        assert value.dtype == tensors(name)[tensor].dtype
        assert np.array_equal(value, tensors(name)[tensor]), tensor


# ---- containers -------------------------------------------------------------------------------


def test_every_container_is_read(tmp_path: Path) -> None:
    graph, values = model(), tensors()
    Capture.of(values).save(tmp_path / "all.npz")
    named = names_of_nodes(graph, values)
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for i, (name, value) in enumerate(named.items()):
        np.save((folder / "deep" if i % 2 else folder) / f"{name}.npy", value)
    entries = []
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, value in named.items():
        (raw / f"{name}.bin").write_bytes(b"head" + value.tobytes())
        entries.append(
            {"name": name, "file": f"{name}.bin", "dtype": "int8", "shape": list(value.shape)}
            | {"offset": 4}
        )
    (raw / "manifest.json").write_text(json.dumps({"tensors": entries}))
    np.save(tmp_path / "conv_2d_3.npy", named["conv_2d_3"])
    for path, count in (
        (tmp_path / "all.npz", len(values)),
        (folder, len(named)),
        (raw, len(named)),
        (raw / "manifest.json", len(named)),
        (tmp_path / "conv_2d_3.npy", 1),
    ):
        found = read_dump(path, graph)
        check(found)
        assert len(found.tensors) == count
        assert not found.unmatched
        assert not found.remarks


def test_a_toml_manifest_says_type_layout_and_tensor(tmp_path: Path) -> None:
    graph = model()
    wanted = graph.node("conv_2d_3").outputs[0]
    value = channels_first(tensors()[wanted])
    (tmp_path / "x.bin").write_bytes(value.astype(">i2").tobytes())
    (tmp_path / "manifest.toml").write_text(
        f'layout = "NCHW"\n[[tensors]]\nname = "blob17"\nfile = "x.bin"\ndtype = ">i2"\n'
        f'shape = {list(value.shape)}\ntensor = "conv_2d_3"\n'
    )
    for path in (tmp_path, tmp_path / "manifest.toml"):
        found = read_dump(path, graph)
        check(found)
        assert found.names == {"blob17": wanted}
        assert any("stored as int16" in remark for remark in found.remarks)


# ---- layouts and types ------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (channels_first, "channels first (NCHW)"),
        (np.squeeze, "dimensions of one were left out"),
        (lambda x: np.squeeze(channels_first(x)), "channels first (NCHW)"),
        (padded, "channels padded from"),
        (lambda x: channels_first(padded(x)), "channels first (NCHW), channels padded from"),
        (np.ravel, ""),
        (lambda x: x.astype(np.int32), "stored as int32"),
        (lambda x: x.astype(np.float32), "codes stored as float32"),
        (lambda x: (x.astype(np.int16) + 128).astype(np.uint8), "uint8 codes, +128"),
        (lambda x: x.astype(np.int32) + 128, "int32 codes, +128"),
        (lambda x: x.astype(np.float32) + 128, "codes stored as float32"),
    ],
)
def test_layouts_and_types_are_recognised_and_said(name: str, change: Any, said: str) -> None:
    graph, values = model(name), tensors(name)
    found = fit_dump({n: change(v) for n, v in values.items()}, graph)
    for tensor, value in found.tensors.items():
        assert np.array_equal(value, values[tensor]), (tensor, found.remarks)
    assert len(found.tensors) == len(values)
    assert said in " ".join(found.remarks)


def test_real_values_become_codes_by_the_scale_of_the_tensor() -> None:
    values = tensors()
    found = fit_dump({n: as_reals(n, v) for n, v in values.items()}, model())
    check(found)
    assert not found.off_grid
    assert any("turned back into codes" in remark for remark in found.remarks)
    name = model().node("conv_2d_3").outputs[0]
    wrong = as_reals(name, values[name])
    wrong.flat[:5] += 0.4 * model().tensors[name].scale
    found = fit_dump({name: wrong}, model())
    assert found.off_grid == {name: 5}
    assert any("5 of 4096 real values lie off the grid" in remark for remark in found.remarks)
    wrong.flat[0] = 1e9
    found = fit_dump({name: wrong}, model())
    assert any("1 of 4096 real values lie beyond the range" in r for r in found.remarks)
    assert found.tensors[name].flat[0] == 127


def test_floats_that_may_be_codes_or_reals_follow_those_that_may_not() -> None:
    """On a grid of halves small codes are reals too: the other tensors of the device tell."""
    writer = ModelWriter()
    x = writer.input("x", (1, 4), "int8", scale=0.5)
    y, z = (writer.tensor(name, (1, 4), "int8", scale=0.5) for name in "yz")
    writer.operator("RELU", [x], [y])
    writer.operator("RELU", [y], [z])
    graph = qinterp.load(writer.finish(outputs=[z]))
    small, large = np.int8([[0, 1, 2, 3]]), np.int8([[100, 110, 120, 127]])
    for other, wanted in ((large, small), (large * 0.5 + 0.25, 2 * small)):
        found = fit_dump({"y": small.astype(np.float32), "z": other.astype(np.float32)}, graph)
        assert np.array_equal(found.tensors["y"], wanted)
        assert found.tensors["y"].dtype == np.int8


def test_a_coarse_float_type_is_not_off_the_grid() -> None:
    graph, values = model(), tensors()
    found = fit_dump({n: as_reals(n, v).astype(np.float16) for n, v in values.items()}, graph)
    check(found)
    assert not found.off_grid
    writer = ModelWriter()
    x = writer.input("x", (1, 4), "int16", scale=2.0**-9)
    y = writer.tensor("y", (1, 4), "int16", scale=2.0**-9)
    writer.operator("RELU", [x], [y])
    graph = qinterp.load(writer.finish(outputs=[y]))
    reals = np.float16([[0, 0.75, 32767 * 2.0**-9, 1 + 2.0**-10]])
    said = fit_dump({"y": reals}, graph).remarks
    assert any("float16 is too coarse to tell the codes of 1 of 4" in remark for remark in said)


def test_weights_of_another_model_are_noticed() -> None:
    graph = model()
    filter_name = graph.nodes[0].inputs[1]
    wrong = graph.tensors[filter_name].data.copy()
    wrong.flat[0] ^= 1
    name = graph.nodes[0].outputs[0]
    found = fit_dump({filter_name: wrong, name: tensors()[name]}, graph)
    assert any("not the same weights" in remark for remark in found.remarks)
    found = fit_dump({filter_name: graph.tensors[filter_name].data, name: tensors()[name]}, graph)
    assert not found.remarks


# ---- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_names_with_the_punctuation_of_files_are_exact(name: str) -> None:
    graph, values = model(name), tensors(name)
    clean = {"".join(c if c.isalnum() else "_" for c in n): v for n, v in values.items()}
    assert len(clean) == len(values)
    found = fit_dump(clean, graph, "exact")
    assert len(found.tensors) == len(values)
    check(found, name)


@pytest.mark.parametrize(
    "dumped",
    [
        "conv_2d_3",
        "conv_2d_3:0",
        "Conv-2D.3",
        "dump/layer_conv_2d_3_out",
        "7_conv_2d_3",
        "#{index}",
        "block1_conv2_bn_1.batchnorm.add_1",
    ],
)
def test_a_name_may_be_that_of_the_node_or_part_of_one(dumped: str) -> None:
    graph = model()
    name = graph.node("conv_2d_3").outputs[0]
    dumped = dumped.format(index=graph.tensors[name].index)
    assert fit_dump({dumped: tensors()[name]}, graph).names == {dumped: name}


@pytest.mark.parametrize("name", MODELS)
def test_the_first_of_the_names_that_a_converter_joined_is_enough(name: str) -> None:
    """One of them is that of the weights, too, whose shape is another."""
    graph, values = model(name), tensors(name)
    firsts = {n.outputs[0].split(";")[0]: values[n.outputs[0]] for n in graph.nodes}
    assert len(firsts) == len(graph.nodes)
    for change in (str, lambda n: n.replace("/", "_") + "_output"):
        found = fit_dump({change(first): value for first, value in firsts.items()}, graph)
        assert not found.unmatched
        assert len(found.tensors) == len(graph.nodes)
        check(found, name)


def test_names_that_mean_nothing_match_by_order_or_by_hand() -> None:
    graph, values = model(), tensors()
    kept = [graph.nodes[i].outputs[0] for i in (0, 5, 6, 9, 18)]
    blobs = {f"blob{chr(97 + i)}": values[name] for i, name in enumerate(kept)}
    with pytest.raises(qinterp.InputError, match="none of 5 tensors is one of the graph's by name"):
        fit_dump(blobs, graph)
    found = fit_dump(blobs, graph, "order")
    taken = list(found.names.values())
    order = [*graph.inputs, *(t for n in graph.nodes for t in n.outputs)]
    assert [order.index(name) for name in taken] == sorted(order.index(name) for name in taken)
    assert all(values[name].shape == blobs[blob].shape for blob, name in found.names.items())
    assert any("by shape and order" in remark for remark in found.remarks)
    pairs = {"bloba": graph.nodes[0].name, "blobb": kept[1]}
    for match in (pairs, [f"{k}={v}" for k, v in pairs.items()]):
        found = fit_dump(blobs, graph, match)
        assert found.names == dict(zip(blobs, kept[:2], strict=False))
        assert len(found.unmatched) == 3


@pytest.mark.parametrize(
    ("given", "match", "message"),
    [
        ({"conv_2d_3": (1, 2, 3)}, "auto", r"'conv_2d_3': has shape \[1, 2, 3\], which is not"),
        ({"conv_2d_3": "nan"}, "auto", "'conv_2d_3': 1 of 4096 values are not finite"),
        ({"conv_2d_3": "big"}, "auto", r"'conv_2d_3': values 0..300 do not fit"),
        ({"conv_2d_3": "text"}, "auto", "'conv_2d_3': elements of <U1 are no numbers"),
        ({"conv_2d_3": "bool"}, "auto", "'conv_2d_3': truth values for"),
        ({"conv_2d_3": "1e30"}, "auto", "'conv_2d_3': values of up to 1e.30 are no codes"),
        ({"conv_2d_3": "ragged"}, "auto", "'conv_2d_3': not an array"),
        ({}, "auto", "no tensors in it"),
        ({"conv_2d_3": "ok"}, "nearly", "'nearly' is not one of auto, exact, order"),
        ({"conv_2d_3": "ok"}, {"x": "conv_2d_3"}, "'x' was not dumped"),
        ({"x": "ok"}, {"x": "conv_2d_99"}, "no tensor 'conv_2d_99'"),
        ({"conv_2d_3": "ok", "CONV_2D_3": "ok"}, "auto", "and so does 'conv_2d_3'"),
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, Any], match: Any, message: str) -> None:
    shape = tensors()[model().node("conv_2d_3").outputs[0]].shape
    made: dict[str, Any] = {
        "ok": np.zeros(shape, np.int8),
        "nan": np.full(shape, 0.0),
        "big": np.zeros(shape, np.int32),
        "text": np.full(shape, "a"),
        "bool": np.zeros(shape, bool),
        "1e30": np.full(shape, 1e30),
        "ragged": [[1], [2, 3]],
    }
    made["nan"].flat[3] = np.nan
    made["big"].flat[3] = 300
    arrays = {n: made[v] if isinstance(v, str) else np.zeros(v) for n, v in given.items()}
    with pytest.raises(qinterp.InputError, match=message) as caught:
        fit_dump(arrays, model(), match)
    assert "\n" not in str(caught.value)


# ---- malformed files --------------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "conv_2d_3", "file": "x.bin", "dtype": "int8", "shape": [2, 2]} | changes


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"tensors": [entry()]}, r"x.bin: dumped tensor 'conv_2d_3': int8\[2, 2\] needs 4 bytes"),
        ({"tensors": [entry(shape=[10**9, 10**9, 10**9])]}, "needs 10{27} bytes"),
        ({"tensors": [entry(dtype="int9")]}, "unknown dtype 'int9'"),
        ({"tensors": [entry(dtype="O")]}, "dtype 'O' is not of numbers"),
        ({"tensors": [entry(shape=[-1, 4])]}, "must not be negative"),
        ({"tensors": [entry(file="../x.bin")]}, "outside the manifest's folder"),
        ({"tensors": [entry(file="absent.bin")]}, "No such file"),
        ({"tensors": [entry(color="red")]}, "unknown key 'color'"),
        ({"tensors": [{"name": "x"}]}, "missing key 'file'"),
        ({"tensor": []}, "unknown key 'tensor'"),
        ([1], "expected a table"),
        ("{", "not a manifest"),
        ("[" * 100_000, "not a manifest: nested too deeply"),
        ({"tensors": [entry(file="x\0y")]}, "outside the manifest's folder"),
        ({"tensors": [entry(dtype="i1,f4")]}, "is not of numbers"),
        ({"tensors": [entry(offset=10**30)]}, "needs 10{29}4 bytes"),
    ],
)
def test_a_malformed_manifest_names_file_and_tensor(
    tmp_path: Path, manifest: Any, message: str
) -> None:
    (tmp_path / "x.bin").write_bytes(b"123")
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(qinterp.InputError, match=message):
        read_dump(tmp_path, model())


def test_files_that_are_no_dump_are_refused(tmp_path: Path) -> None:
    graph = model()
    with pytest.raises(qinterp.InputError, match=r"has no \.npy files"):
        read_dump(tmp_path, graph)
    (tmp_path / "conv_2d_3.npy").write_bytes(b"\x93NUMPY nonsense")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    for name in ("", "conv_2d_3.npy", "objects.npy", "x.npz", "absent.npz", "absent.json"):
        with pytest.raises(qinterp.InputError, match=name or "conv_2d_3.npy"):
            read_dump(tmp_path / name, graph)


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": "|i1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def test_a_few_bytes_do_not_ask_for_gigabytes(tmp_path: Path) -> None:
    graph = model()
    (tmp_path / "x.npy").write_bytes(header((1 << 40,)) + b"abc")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("conv_2d_3.npy", header((1 << 40,)))
    for file in ("x.npy", "x.npz"):
        message = f"{file}: .*needs {1 << 40} bytes, the file has"
        with pytest.raises(qinterp.InputError, match=message):
            read_dump(tmp_path / file, graph)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conv_2d_3.npy", header((1 << 33,)))
    # what the directory of the archive says, without writing eight gigabytes of zeros
    raw = (tmp_path / "bomb.npz").read_bytes()
    at = raw.rindex(b"PK\x01\x02") + 24
    (tmp_path / "bomb.npz").write_bytes(raw[:at] + b"\xfe\xff\xff\xff" + raw[at + 4 :])
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as archive:
        for name in ("a.npy", "b.npy"):
            archive.writestr(name, b"")
    raw = (tmp_path / "two.npz").read_bytes()
    for _ in range(2):
        at = raw.index(b"PK\x01\x02")
        raw = raw[:at] + b"PK\1\0" + raw[at + 4 : at + 24] + b"\xfe\xff\xff\xff" + raw[at + 28 :]
    (tmp_path / "two.npz").write_bytes(raw.replace(b"PK\1\0", b"PK\x01\x02"))
    for file, message in (("bomb", "needs 8589934592 bytes"), ("two", "it unpacks to 8589934588")):
        with pytest.raises(qinterp.InputError, match=f"{file}.npz: .*{message}"):
            read_dump(tmp_path / f"{file}.npz", graph)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for _ in range(2):
            archive.writestr("conv_2d_3.npy", header((1,)) + b"x")
    with pytest.raises(qinterp.InputError, match=r"'conv_2d_3.npy' is in it more than once"):
        read_dump(tmp_path / "x.npz", model())


def test_orders_of_bytes_and_of_memory_are_read(tmp_path: Path) -> None:
    graph, values = model(), names_of_nodes(model(), tensors())
    for name, value in values.items():
        np.save(tmp_path / f"{name}.npy", np.asfortranarray(value.astype(">i4")))
    found = read_dump(tmp_path, graph)
    check(found)
    assert len(found.tensors) == len(values)


# ---- the whole way ----------------------------------------------------------------------------


def test_from_a_folder_of_a_device_to_the_first_wrong_layer(tmp_path: Path) -> None:
    graph = model()
    own = samples(graph.name)
    assert own is not None
    inputs = {own.input_name: own.inputs[:1]}
    narrow = qinterp.load_scheme("tflite-reference").with_(
        {"accumulator.bits": 16, "accumulator.overflow": "saturate"}
    )
    device = qinterp.load_scheme("tflite-reference").with_node("conv_2d_3", narrow)
    interpreter = Interpreter(graph, device)
    result = interpreter.run(inputs, capture=True)
    for node in graph.nodes:
        value = channels_first(result.tensors[node.outputs[0]])
        np.save(tmp_path / f"{node.name}.npy", (value.astype(np.int16) + 128).astype(np.uint8))
    codes = interpreter.input_codes(inputs)
    np.save(tmp_path / f"{graph.inputs[0]}.npy", codes[graph.inputs[0]])
    given = dumped_inputs(graph, tmp_path)
    assert given is not None
    assert np.array_equal(given[graph.inputs[0]], codes[graph.inputs[0]])
    for start in (inputs, given):
        found = diff(graph, start, "tflite-reference", tmp_path)
        assert [n.node.name for n in found.nodes if n.created.count] == ["conv_2d_3"]
        assert "a 16-bit saturating accumulator (B)" in str(found.first.blame)
        assert any("uint8 codes" in remark for remark in found.remarks)
    (tmp_path / f"{graph.inputs[0]}.npy").unlink()
    assert dumped_inputs(graph, tmp_path) is None
