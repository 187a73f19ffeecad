"""Graphs: what makes them well-formed, how nodes and tensors are called and found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import networkx
import numpy as np
import pytest

import qinterp
from qinterp import InputError, ModelFormatError
from qinterp.integers import INT_TYPES, IntType
from qinterp.ir import Graph, GraphBuilder, Node, Quantization, Tensor
from qinterp.testing.tflite_writer import ModelWriter

Operator = tuple[str, Sequence[str], Sequence[str]]


def quantized(scale: Any = 0.5, zero_point: Any = 0, axis: int | None = None) -> Quantization:
    return Quantization(np.atleast_1d(np.float32(scale)), np.atleast_1d(np.int64(zero_point)), axis)


def graph(
    tensors: Sequence[Tensor] = (),
    operators: Sequence[Operator] = (),
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
) -> Graph:
    """A graph of int8 tensors called as they are used, but for those in ``tensors``."""
    builder = GraphBuilder(name="small", source=b"bytes", format="none")
    mentioned = dict.fromkeys(
        [*inputs, *(t for _, ins, outs in operators for t in (*ins, *outs) if t), *outputs]
    )
    for index, name in enumerate({t.name: t for t in tensors} | mentioned):
        named = {t.name: t for t in tensors}
        if name != "missing":
            builder.tensor(named.get(name) or Tensor(name, (2,), "int8", quantized(), index=index))
    for index, (name, ins, outs) in enumerate(operators):
        builder.node(Node(name, "add", tuple(ins), tuple(outs), index=index))
    return builder.build(inputs, outputs)


PLAIN: list[Operator] = [("n", ["x", "x"], ["y"])]


def broken(**parts: Any) -> str:
    with pytest.raises(ModelFormatError) as error:
        graph(**{"operators": PLAIN, **parts})
    return str(error.value)


# ---- clauses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (Tensor("x", (2,), "int3"), "storage type int3 is not one of int8, uint8, .*(G1)"),
        (Tensor("x", (2, -1), "int8"), "shape [2, -1] has a negative dimension (G2)"),
        (
            Tensor("x", (1 << 16, 1 << 15, 2), "int8"),
            "shape [65536, 32768, 2] has more than 2147483648 elements (G2)",
        ),
        (
            Tensor("c", (2,), "int8", data=np.zeros(3, np.int8)),
            "the file holds a value of shape [3], wanted [2] (G3)",
        ),
        (Tensor("x", (2,), "int8", quantized(0.0)), "scale 0.0 is not finite and positive (G4)"),
        (Tensor("x", (2,), "int8", quantized(-1.0)), "scale -1.0 is not finite and positive (G4)"),
        (Tensor("x", (2,), "int8", quantized(np.inf)), "scale inf is not finite and positive (G4)"),
        (Tensor("x", (2,), "int8", quantized(np.nan)), "scale nan is not finite and positive (G4)"),
        (Tensor("x", (2,), "int8", quantized([1, 2], 0, 0)), "2 scales but 1 zero points (G4)"),
        (
            Tensor("x", (2,), "int8", quantized([1, 2, 3], [0] * 3, 0)),
            "3 scales on axis 0 do not fit shape [2] (G4)",
        ),
        (
            Tensor("x", (2,), "int8", quantized([1, 2], [0] * 2, 1)),
            "2 scales on axis 1 do not fit shape [2] (G4)",
        ),
        (Tensor("x", (2,), "int8", quantized(1, 128)), "zero point 128 does not fit int8 (G4)"),
        (Tensor("x", (2,), "uint8", quantized(1, -1)), "zero point -1 does not fit uint8 (G4)"),
        (Tensor("x", (2,), "int4", quantized(1, 8)), "zero point 8 does not fit int4 (G4)"),
    ],
)
def test_a_malformed_tensor(tensor: Tensor, complaint: str) -> None:
    text = broken(tensors=[tensor])
    start, _, end = complaint.partition(".*")
    assert text.startswith(f"small: tensor {tensor.name!r}: {start}")
    assert text.endswith(end)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"operators": [*PLAIN, ("n", ["y", "y"], ["z"])]}, "2 nodes are called 'n' (G5)"),
        ({"operators": [("n", ["missing"], ["y"])]}, "node 'n': no tensor 'missing' (G6)"),
        ({"operators": [*PLAIN, ("m", ["y"], [])]}, "node 'm': has no output (G6)"),
        (
            {"operators": [*PLAIN, ("m", ["x"], ["y"])]},
            "tensor 'y': written by 'n' and by 'm' (G7)",
        ),
        ({"operators": [("n", ["x"], ["y", "y"])]}, "tensor 'y': written by 'n' and by 'n' (G7)"),
        (
            {"tensors": [Tensor("y", (2,), "int8", data=np.zeros(2, np.int8))]},
            "node 'n': writes the constant 'y' (G7)",
        ),
        ({"inputs": ["x", "y"]}, "graph input 'y' is also computed or constant (G8)"),
        (
            {"tensors": [Tensor("c", (2,), "int8", data=np.zeros(2, np.int8))], "inputs": "xc"},
            "graph input 'c' is also computed or constant (G8)",
        ),
        ({"inputs": ["x", "missing"]}, "graph input 'missing' is not a tensor (G8)"),
        ({"outputs": ["y", "z"]}, "graph output 'z' is never computed (G8)"),
        ({"inputs": []}, "node 'n': input 'x' is never computed (G8)"),
    ],
)
def test_a_malformed_graph(parts: dict[str, Any], complaint: str) -> None:
    assert complaint in broken(**parts).removeprefix("small: ").split("; ")


def test_every_problem_is_told_at_once() -> None:
    text = broken(
        tensors=[Tensor("x", (-1,), "int8"), Tensor("y", (2,), "int3")], outputs=["y", "z"]
    )
    assert [problem[-4:] for problem in text.split("; ")] == ["(G2)", "(G1)", "(G8)"]


def test_a_cycle() -> None:
    ring: list[Operator] = [("n", ["x", "z"], ["y"]), ("m", ["y"], ["z"])]
    with pytest.raises(ModelFormatError, match=r"the graph has a cycle through '[nmyz]'"):
        graph(operators=ring)


def test_a_repeated_tensor_name() -> None:
    builder = GraphBuilder()
    builder.tensor(Tensor("x", (2,), "int8"))
    with pytest.raises(ModelFormatError, match="two tensors are called 'x'"):
        builder.tensor(Tensor("x", (2,), "int8"))


def test_what_is_well_formed() -> None:
    found = graph(
        tensors=[
            Tensor("w", (2,), "int8", quantized([1, 2], [0, 0], 0), np.zeros(2, np.int8)),
            Tensor("state", (2,), "int8", variable=True),
            Tensor("x", (1 << 31,), "int8", quantized(1e-45, -128)),
        ],
        operators=[("n", ["x", "w", "", "state"], ["y"])],
    )
    assert found.node("n").inputs == ("x", "w", "", "state")
    assert found.tensors["w"].quantization.per_channel  # type: ignore[union-attr]
    assert graph(outputs=["x"]).nodes == ()


# ---- structure ------------------------------------------------------------------------------


def diamond() -> Graph:
    return graph(
        operators=[
            ("last", ["b", "c"], ["y"]),
            ("left", ["a", "a"], ["b"]),
            ("right", ["a"], ["c"]),
            ("first", ["x"], ["a"]),
        ]
    )


def test_execution_order_is_topological_then_that_of_the_file() -> None:
    assert [n.name for n in diamond().nodes] == ["first", "left", "right", "last"]
    wide = graph(operators=[(f"n{i}", ["x"], [f"t{i}"]) for i in range(20)], outputs=["t0"])
    assert [n.index for n in wide.nodes] == list(range(20))


def test_the_networkx_graph_is_bipartite_and_keeps_add_of_one_tensor_twice() -> None:
    g = diamond()
    assert networkx.is_bipartite(g.nx)
    assert networkx.is_directed_acyclic_graph(g.nx)
    assert g.nx.has_edge(("tensor", "a"), ("op", "left"))
    assert g.nx.has_edge(("op", "left"), ("tensor", "b"))
    assert g.node("left").inputs == ("a", "a")
    assert set(g.nx) == {("op", n.name) for n in g.nodes} | {("tensor", t) for t in g.tensors}
    assert {d["bipartite"] for _, d in g.nx.nodes(data=True)} == {0, 1}
    reached = networkx.descendants(g.nx, ("op", "left"))
    assert reached == {("tensor", "b"), ("op", "last"), ("tensor", "y")}


def test_a_graph_is_frozen() -> None:
    g = diamond()
    with pytest.raises(networkx.NetworkXError, match="Frozen graph"):
        g.nx.add_node("z")
    with pytest.raises(TypeError):
        g.tensors["z"] = g.tensors["x"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        g.nodes[0].name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        g.tensors["x"].shape = (3,)  # type: ignore[misc]


def test_producer_and_consumers() -> None:
    g = diamond()
    assert g.producer("x") is None
    assert g.producer("b") is g.node("left")
    assert [n.name for n in g.consumers("a")] == ["left", "right"]
    assert g.consumers("y") == ()
    assert repr(g) == "<Graph small: 4 nodes, 5 tensors>"
    assert (g.source, g.format, g.name) == (b"bytes", "none", "small")


# ---- names and addresses --------------------------------------------------------------------


def test_addresses() -> None:
    g = graph(
        tensors=[
            Tensor(name, (2,), "int8", index=7 + i)
            for i, name in enumerate(["x", "model/block/conv;bias", "model/block/relu", "#7"])
        ],
        operators=[
            ("conv_2d_3", ["x"], ["model/block/conv;bias"]),
            ("relu_4", ["model/block/conv;bias"], ["model/block/relu"]),
            ("both", ["x"], ["#7", "second"]),
            ("x", ["second"], ["y"]),
        ],
    )

    def found(address: str) -> str:
        return g.find_tensor(address).name

    assert found("model/block/relu") == "model/block/relu"  # its name
    assert found("x") == "x"  # a name goes before a node's name
    assert found("#8") == "model/block/conv;bias"  # its number
    assert found("#7") == "#7"  # a name goes before a number
    assert found("conv_2d_3") == "model/block/conv;bias"  # its node
    assert found("both") == "#7"  # the first output
    assert found("conv;") == "model/block/conv;bias"  # a part that no other has
    assert found("elu") == "model/block/relu"
    for address, complaint in {
        "block": "'block' is part of 2 tensor names: 'model/block/conv;bias', 'model/block/relu'",
        "": "no tensor ''",
        "#99": "no tensor '#99'",
        "model/block/rleu": "no tensor 'model/block/rleu'; near: 'model/block/relu'",
    }.items():
        with pytest.raises(InputError) as error:
            found(address)
        assert str(error.value).startswith(complaint)


def test_a_part_of_one_computed_tensor_and_of_constants_is_that_of_the_tensor() -> None:
    constant = Tensor("conv/weights", (2,), "int8", data=np.zeros(2, np.int8))
    g = graph(
        tensors=[constant],
        operators=[("n", ["x", "conv/weights"], ["conv/out"])],
        outputs=["conv/out"],
    )
    assert g.find_tensor("conv").name == "conv/out"
    assert g.find_tensor("weights").name == "conv/weights"


def test_an_unknown_node_is_told_with_near_names() -> None:
    with pytest.raises(InputError) as error:
        diamond().node("rigth")
    assert str(error.value) == "no node 'rigth'; near: 'right'"


def named(*stored: str) -> Graph:
    """A chain of additions whose tensors have these names in the file."""
    writer = ModelWriter()
    x = writer.input("t0", (1, 2), "int8", scale=0.5, stored_name=stored[0])
    for i, name in enumerate(stored[1:], 1):
        y = writer.tensor(f"t{i}", (1, 2), "int8", scale=0.5, stored_name=name)
        writer.operator("ADD", [x, x], [y])
        x = y
    return qinterp.load(writer.finish([x]))


def test_repeated_and_empty_names_get_their_index() -> None:
    g = named("x", "", "twice", "twice", "", "once")
    assert list(g.tensors) == ["x", "#1", "twice#2", "twice#3", "#4", "once"]
    assert [t.index for t in g.tensors.values()] == list(range(6))
    assert g.find_tensor("#3").name == "twice#3"
    assert g.find_tensor("#1").name == "#1"
    result = qinterp.run(g, np.ones((1, 2), np.int8), capture=True)
    assert list(result.tensors) == ["#1", "twice#2", "twice#3", "#4", "once"]
    assert result.outputs["once"].tolist() == [[32, 32]]


def test_a_made_name_that_is_another_tensors_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="two tensors are called 'a#2'"):
        named("a", "a#2", "a")


def test_long_and_odd_names_stay_as_they_are() -> None:
    names = ("x" * 258, "conv/é;\n\t[0]", " ", "#5")
    g = named(*names)
    assert tuple(g.tensors) == names
    assert g.find_tensor("é").name == names[1]
    assert [n.name for n in g.nodes] == ["add_0", "add_1", "add_2"]
    assert g.find_tensor("add_1").name == " "


# ---- small types ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*INT_TYPES.values(), IntType(8, narrow=True), IntType(5)])
def test_integer_types(kind: IntType) -> None:
    span = 1 << kind.bits
    assert kind.max - kind.min == span - 1 - kind.narrow
    assert kind.max == (span if not kind.signed else span // 2) - 1
    for value in (kind.min, kind.max, 0):
        assert kind.fits(value)
        assert kind.saturate(value) == value
        assert kind.wrap(value + 3 * span) == value
    assert not kind.fits(kind.max + 1)
    assert not kind.fits(kind.min - 1)
    assert (kind.saturate(kind.max + 9), kind.saturate(kind.min - 9)) == (kind.max, kind.min)
    assert kind.wrap(kind.max + 1) == kind.max + 1 - span


def test_tensor_and_quantization() -> None:
    tensor = Tensor("x", (1, 2), "int8", quantized(0.25, -3))
    assert (tensor.scale, tensor.zero_point, tensor.is_float) == (0.25, -3, False)
    assert tensor.describe() == "'x' int8[1, 2]"
    assert tensor.with_shape((1, 2)) is tensor
    assert tensor.with_shape((4, 2)).quantization is tensor.quantization
    assert str(tensor.quantization) == "scale 0.25 zero point -3"
    assert quantized(0.5).same_as(quantized(0.5))
    assert not quantized(0.5).same_as(quantized(0.5, 1))
    assert not quantized(0.5).same_as(quantized(0.25))
    assert not quantized([0.5, 1], [0, 0], 0).same_as(quantized([0.5, 1], [0, 0], 1))
    with pytest.raises(ValueError, match=r"tensor 'f' \(float32\) is not quantized"):
        _ = Tensor("f", (2,), "float32").scale
    with pytest.raises(KeyError):
        _ = Tensor("f", (2,), "float32").int_type
