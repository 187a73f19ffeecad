"""Schemes that users bring: from any path, as Python objects, and from installed packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from judging import against_twin

import qinterp
from qinterp import Scheme, SchemeError, load_scheme, scheme_names
from qinterp.cli import main
from qinterp.identification import identify
from qinterp.importers._shipped import samples
from qinterp.interpreter import Interpreter
from qinterp.schemes_io import ENTRY_POINTS, from_table
from qinterp.testing.tflite_writer import ModelWriter

MODEL = "digits_cnn.tflite"
TOML = """
name = "mine"
extends = "tflite-reference"
source = "mine.sv"
evidence = { level = "source" }

[[rule]]
when = { op = "fully_connected" }
set = { "requantize.round.rounding" = "toward_negative" }
"""
TABLE: dict[str, Any] = {
    "name": "mine",
    "extends": "tflite-reference",
    "source": "mine.sv",
    "evidence": {"level": "source"},
    "rule": [
        {
            "when": {"op": "fully_connected"},
            "set": {"requantize.round.rounding": "toward_negative"},
        }
    ],
}
SAME = load_scheme("tflite-reference").with_(
    {"fully_connected.requantize.round.rounding": "toward_negative"}
)


@pytest.fixture(scope="module")
def graph() -> qinterp.Graph:
    return qinterp.load(MODEL)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    own = samples(MODEL)
    assert own is not None
    return own.inputs[:1]


def outputs(graph: qinterp.Graph, image: np.ndarray, scheme: Any) -> dict[str, np.ndarray]:
    return dict(qinterp.run(graph, image, scheme, capture=True).tensors)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


# ---- paths and objects ----------------------------------------------------------------------


def test_every_way_to_give_a_scheme_gives_the_same(
    graph: qinterp.Graph, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "mine.toml"
    path.parent.mkdir()
    path.write_text(TOML)
    monkeypatch.chdir(tmp_path)
    wanted = outputs(graph, image, SAME)
    ways = [path, str(path), "deep/mine.toml", TABLE, from_table(TABLE), load_scheme(path)]
    for way in ways:
        assert same(outputs(graph, image, way), wanted), way
    assert len({load_scheme(way).sha256 for way in ways}) == 1
    assert not same(outputs(graph, image, "tflite-reference"), wanted)
    monkeypatch.chdir(path.parent)
    assert load_scheme("mine.toml") == load_scheme(path)


def test_a_path_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    result = CliRunner().invoke(main, ["run", MODEL, "-s", str(path)])
    assert result.exit_code == 0
    assert "mine" in result.output
    result = CliRunner().invoke(main, ["schemes", str(path)])
    assert result.exit_code == 0
    assert 'name = "mine"' in result.output


def test_a_malformed_table_names_the_scheme() -> None:
    with pytest.raises(SchemeError, match=r"^mine\.rule\[0\]: unknown key 'requantise'"):
        load_scheme({**TABLE, "rule": [{"requantise": "gemmlowp"}]})


# ---- packages -------------------------------------------------------------------------------

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package on the path as an installer leaves it: a module and a .dist-info."""

    def put(package: str, source: str, *names: str, function: str = "make") -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{function}" for name in names]
        (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines]))
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


def test_a_package_adds_schemes(install: Install, graph: qinterp.Graph, image: np.ndarray) -> None:
    install(
        "npu-one",
        f"def make():\n    return { ({**TABLE, 'name': 'npu-one-table'})!r}\n",
        "npu-one-table",
    )
    install(
        "npu-two",
        "import qinterp\n\ndef make():\n"
        f"    return qinterp.load_scheme({ ({**TABLE, 'name': 'npu-two-object'})!r})\n",
        "npu-two-object",
    )
    wanted = outputs(graph, image, SAME)
    for name in ("npu-one-table", "npu-two-object"):
        assert name in scheme_names()
        assert isinstance(load_scheme(name), Scheme)
        assert same(outputs(graph, image, name), wanted)
        listed = CliRunner().invoke(main, ["schemes"])
        assert listed.exit_code == 0
        assert name in listed.output
        found = identify(graph, image, wanted)
        assert name in found.by_kind["fully_connected"]
        assert "tflite-reference" not in found.by_kind["fully_connected"]
    # another scheme may build on it
    child = load_scheme({**TABLE, "name": "child", "extends": "npu-one-table", "rule": []})
    assert child == load_scheme("npu-one-table")


BROKEN = {
    "wrong-key": (
        "def make():\n    return {'name': 'wrong-key', 'sauce': 1}\n",
        r"wrong-key: unknown key 'sauce' \(did you mean 'source'\?\)",
    ),
    "no-table": ("def make():\n    return 3\n", "expected a Scheme or a table, got 3"),
    "raises": ("def make():\n    raise KeyError('silicon')\n", r"KeyError\('silicon'\)"),
    "no-function": ("make = None\n", "not callable"),
    "missing": ("", "has no attribute 'make'"),
    "no-import": ("import nothing_by_that_name\n", "No module named 'nothing_by_that_name'"),
    "syntax": ("def make(:\n", "SyntaxError"),
    "misnamed": (f"def make():\n    return {TABLE!r}\n", "it calls itself 'mine'"),
    "loop": (
        f"def make():\n    return { ({**TABLE, 'name': 'loop', 'extends': 'loop'})!r}\n",
        "refers to itself|loop",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_scheme_of_a_package_names_it_and_breaks_nothing(
    install: Install, graph: qinterp.Graph, image: np.ndarray, name: str
) -> None:
    source, complaint = BROKEN[name]
    install(f"pkg-{name}", source, name)
    with pytest.raises(SchemeError, match=complaint) as error:
        load_scheme(name)
    assert str(error.value).startswith(f"scheme '{name}' of package 'pkg-{name}': ")
    listed = CliRunner().invoke(main, ["schemes"])
    assert listed.exit_code == 0
    assert "tflite-reference" in listed.output
    assert f"package 'pkg-{name}'" in listed.output
    entries = json.loads(CliRunner().invoke(main, ["schemes", "--json"]).output)["schemes"]
    assert [e["name"] for e in entries if "error" in e] == [name]
    assert (
        "tflite-reference"
        in identify(graph, image, outputs(graph, image, "tflite-reference")).schemes
    )
    one = CliRunner().invoke(main, ["run", MODEL, "-s", name])
    assert one.exit_code == 2
    assert one.stderr.count("\n") == 1
    assert f"package 'pkg-{name}'" in one.stderr


def test_no_package_replaces_a_shipped_scheme(install: Install) -> None:
    before = load_scheme("exact").sha256
    install("pkg-thief", f"def make():\n    return { ({**TABLE, 'name': 'exact'})!r}\n", "exact")
    from qinterp import schemes_io

    schemes_io._named.cache_clear()
    assert load_scheme("exact").sha256 == before


# ---- the complete example of the design ------------------------------------------------------

EXAMPLE = """
name = "my-npu"
extends = "cmsis-nn"                       # the usual case: a known backend, but ...
source = "my-npu RTL 1.3, requant.sv"
evidence = { level = "source" }            # verified (then: runtime, version, test) | source | literature

[default]
effective_scale = { form = "product_then_divide", precision = "float64" }
multiplier = { form = "mantissa_shift", bits = 31, rounding = "ties_to_away" }
accumulator = { bits = 24, overflow = "saturate", check = "each_step", operands = "zero_point_subtracted", order = ["kh", "kw", "ic"] }
requantize = [
  { stage = "shift_left",    bits = 32, overflow = "wrap" },
  { stage = "multiply_high", bits = 32, rounding = "ties_toward_positive", overflow = "saturate" },
  { stage = "shift_right",   rounding = "ties_to_away" },
  { stage = "add_zero_point", bits = 32, overflow = "wrap" },
  { stage = "clamp" },
]

[[rule]]                                   # in order; later rules win; `when` uses a closed list of facts
when = { op = "fully_connected", activation = "int8" }
requantize = "float64_ties_to_away"        # common lists have names

[[rule]]
when = { op = "mean", rank = 4, axes = [1, 2], keep_dims = KEEP }
recipe = { name = "float_bias_mean", tail = { block = 16, along = "channel", requantize = "gemmlowp" } }

[node."conv_2d_3"]
scheme = "glow-cpu"                        # an NPU/CPU split graph
"""  # noqa: E501


def test_the_complete_example_runs(tmp_path: Path) -> None:
    """Every node as its part of the example says, on its own operands."""
    path = tmp_path / "my-npu.toml"
    path.write_text(EXAMPLE.replace("KEEP", "false"))  # the model's mean does not keep dimensions
    graph = qinterp.load("glow_resnet.tflite")
    own = samples("glow_resnet.tflite")
    assert own is not None
    interpreter = Interpreter(graph, path)
    schemes = {entry.node: (entry.scheme, entry.recipe) for entry in interpreter.plan}
    assert schemes["conv_2d_3"] == ("glow-cpu", "accumulate")
    assert schemes["conv_2d_4"] == ("my-npu", "accumulate")
    assert schemes["mean_29"] == ("my-npu", "float_bias_mean")  # CMSIS-NN has none
    mine = interpreter.run(own.inputs[:1], capture=True).tensors

    def alone(name: str, scheme: Any) -> np.ndarray:
        node = graph.node(name)
        given: Any = {n: mine[n] for n in node.inputs if n in mine} or own.inputs[:1]
        return qinterp.run(graph, given, scheme, capture=True).tensors[node.outputs[0]]

    of = {name: graph.node(name).outputs[0] for name in schemes}
    assert np.array_equal(mine[of["conv_2d_3"]], alone("conv_2d_3", "glow-cpu"))
    assert not np.array_equal(mine[of["conv_2d_3"]], alone("conv_2d_3", "cmsis-nn"))
    connected = alone("fully_connected_30", "tflite-reference")
    assert np.array_equal(mine[of["fully_connected_30"]], connected)
    for name, (scheme, _) in schemes.items():
        if scheme == "my-npu" and name.startswith("conv_2d"):  # 24 bits are enough here
            assert np.array_equal(mine[of[name]], alone(name, "cmsis-nn")), name
    assert schemes["softmax_31"] == ("my-npu", "gemmlowp")
    narrow = interpreter.scheme.with_({"accumulator.bits": 12})
    assert not same(dict(mine), outputs(graph, own.inputs[:1], narrow))


def test_the_complete_examples_mean(tmp_path: Path) -> None:
    path = tmp_path / "my-npu.toml"
    path.write_text(EXAMPLE.replace("KEEP", "true"))
    scheme = load_scheme(path)
    facts = {"op": "mean", "activation": "int8", "rank": 4, "axes": [1, 2]}
    with_dims = scheme.policy({**facts, "keep_dims": True})
    assert with_dims.recipe is not None
    assert with_dims.recipe.name == "float_bias_mean"
    assert with_dims.recipe.params.tail.block == 16
    assert scheme.policy({**facts, "keep_dims": False}).recipe is None


# ---- several schemes in one run --------------------------------------------------------------


def test_mixing_by_node_on_the_command_line(tmp_path: Path) -> None:
    graph = qinterp.load("digits_resnet.tflite")
    file = tmp_path / "out.npz"
    arguments = ["run", graph.name, "--node", "conv_2d_3=glow-cpu", "--capture", str(file)]
    result = CliRunner().invoke(main, [*arguments, "-s", "cmsis-nn"])
    assert result.exit_code == 0, result.output
    mixed = qinterp.Capture.load(file)
    for node in graph.nodes:
        scheme = "glow-cpu" if node.name == "conv_2d_3" else "cmsis-nn"
        given = {n: mixed[n] for n in node.inputs if n in mixed}
        if given:
            alone = qinterp.run(graph, given, scheme, capture=True).tensors
            assert np.array_equal(mixed[node.outputs[0]], alone[node.outputs[0]]), node.name
    plain = qinterp.run(graph, dict(mixed_input(graph)), "cmsis-nn", capture=True).tensors
    last = graph.node("conv_2d_3").outputs[0]
    assert not np.array_equal(mixed[last], plain[last])


def mixed_input(graph: qinterp.Graph) -> dict[str, np.ndarray]:
    own = samples(graph.name)
    assert own is not None
    return {graph.inputs[0]: own.inputs[:1]}


MIXTURES: dict[str, Any] = {
    "first and last layer in float": {
        "node": {"conv_2d_0": {"scheme": "float"}, "fully_connected_6": {"scheme": "float"}}
    },
    "by kind": {
        "rule": [
            {"when": {"op": "conv_2d"}, "requantize": "single_rounding"},
            {"when": {"op": ["fully_connected", "softmax"]}, "recipes": "float"},
        ]
    },
    "by type": {
        "rule": [
            {"when": {"activation": "uint8"}, "recipes": "float"},
            {"when": {"op": "conv_2d", "activation": "int8"}, "accumulator": {"bits": 12}},
        ]
    },
    "fields of a node": {
        "node": {"conv_2d_2": {"accumulator": {"bits": 14, "overflow": "saturate"}}}
    },
    "two backends and the truth": {
        "node": {"conv_2d_0": {"scheme": "glow-cpu"}, "conv_2d_2": {"scheme": "exact"}}
    },
}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_equals_its_twin_and_its_parts(
    graph: qinterp.Graph, image: np.ndarray, name: str
) -> None:
    """Every node on its own operands; a node of its own scheme as under that scheme."""
    made = {**TABLE, "rule": [], **MIXTURES[name]}
    assert against_twin(graph.source, {graph.inputs[0]: image}, made) == []
    tensors = outputs(graph, image, made)
    own = samples(MODEL)
    assert own is not None
    mixed, plain = Interpreter(graph, made), Interpreter(graph)  # on some image they part
    rows = [row[None] for row in own.inputs[:60]]
    runs = ([i.run(row, capture=True).tensors for i in (mixed, plain)] for row in rows)
    assert any(not same(dict(a), dict(b)) for a, b in runs)
    for node, entry in made.get("node", {}).items():
        if "scheme" in entry:
            operands = [n for n in graph.node(node).inputs if n in tensors]
            given: Any = {n: tensors[n] for n in operands} or image
            alone = outputs(graph, given, entry["scheme"])
            (result,) = graph.node(node).outputs
            assert np.array_equal(alone[result], tensors[result])


def test_a_rule_for_a_type_reaches_that_type_alone() -> None:
    def quantized(dtype: str, zero_point: int) -> bytes:
        writer = ModelWriter()
        x = writer.input("x", (1, 200), dtype, scale=0.05, zero_point=zero_point)
        y = writer.tensor("y", (1, 200), dtype, scale=0.07, zero_point=zero_point)
        writer.operator("QUANTIZE", [x], [y])
        return writer.finish([y])

    mixed = load_scheme(
        {
            **TABLE,
            "rule": [
                {"when": {"op": "quantize", "activation": "uint8"}, "requantize": "single_rounding"}
            ],
        }
    ).with_({"requantize.add_zero_point.overflow": "saturate"})
    for dtype, zero_point, stage in (("int8", 0, "multiply_high"), ("uint8", 128, "multiply")):
        graph = qinterp.load(quantized(dtype, zero_point))
        (step,) = Interpreter(graph, mixed)._steps
        assert step.call is not None
        assert stage in [s.stage for s in step.call.policy.requantize]


def test_a_table_is_not_read_beyond_its_ends() -> None:
    writer = ModelWriter()
    writer.input("x", (1, 4), "int8", scale=0.5)
    writer.tensor("y", (1, 4), "int8", scale=1 / 256, zero_point=-128)
    writer.operator("LOGISTIC", ["x"], ["y"])
    graph = qinterp.load(writer.finish(["y"]))
    scheme = load_scheme("glow-cpu").to_table()
    recipes = [rule["recipe"] for rule in scheme["rule"] if "recipe" in rule]
    table = next(recipe for recipe in recipes if recipe.get("name") == "rescaled_table")
    assert table["from_real"].pop()["stage"] == "clamp"
    with pytest.raises(SchemeError, match=r"logistic_0.*leaves the table's codes"):
        Interpreter(graph, from_table(scheme))
