"""Which known schemes compute what somebody captured."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from judging import session

import qinterp
from qinterp.identification import identify, matching_schemes
from qinterp.importers._shipped import samples, shipped_models
from qinterp.interpreter import Interpreter
from qinterp.ir import Graph
from qinterp.schemes_io import load_scheme, scheme_names

MODELS = sorted(name for name in shipped_models() if "float" not in name)
REFERENCE = "tflite-reference"


@cache
def model(name: str = "digits_cnn.tflite") -> Graph:
    return qinterp.load(name)


def images(count: int, name: str = "digits_cnn.tflite") -> list[dict[str, Any]]:
    own = samples(name)
    assert own is not None
    return [{own.input_name: own.inputs[i : i + 1]} for i in range(count)]


def captured(graph: Graph, inputs: Any, scheme: Any) -> dict[str, Any]:
    return dict(Interpreter(graph, scheme).run(inputs, capture=True).tensors)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", [REFERENCE, "exact"])
def test_a_scheme_is_found_in_its_own_tensors(name: str, scheme: str) -> None:
    graph, inputs = model(name), images(1, name)[0]
    found = identify(graph, inputs, captured(graph, inputs, scheme))
    assert scheme in found.everywhere
    assert found.by_kind.keys() == {n.kind for n in graph.nodes}
    assert (
        found.elements["conv_2d_0"]
        == captured(graph, inputs, scheme)[graph.nodes[0].outputs[0]].size
    )
    other = "exact" if scheme == REFERENCE else REFERENCE
    assert other not in found.everywhere
    assert scheme in str(found)


def test_each_kind_is_identified_by_itself() -> None:
    """Convolutions of one backend and the rest of another, as in LiteRT itself."""
    graph, inputs = model("digits_resnet.tflite"), images(2, "digits_resnet.tflite")
    mixed = load_scheme(REFERENCE)
    for node in graph.nodes:
        if node.kind == "conv_2d":
            mixed = mixed.with_node(node.name, load_scheme("exact"))
    dumps = [captured(graph, x, mixed) for x in inputs]
    found = identify(graph, inputs, dumps)
    assert found.samples == 2
    assert "exact" in found.by_kind["conv_2d"]
    assert REFERENCE not in found.by_kind["conv_2d"]
    assert REFERENCE in found.by_kind["average_pool_2d"]
    assert "exact" not in found.by_kind["average_pool_2d"]
    assert not {"exact", REFERENCE} & set(found.everywhere)
    assert found.wrong["conv_2d_0"][REFERENCE] > 0
    assert found.by_node["conv_2d_0"] == tuple(
        s for s in found.schemes if not found.wrong["conv_2d_0"].get(s, 1)
    )


def test_a_node_runs_from_its_captured_operands_however_wrong_they_are() -> None:
    graph, inputs = model(), images(1)[0]
    tensors = captured(graph, inputs, REFERENCE)
    pool = next(n for n in graph.nodes if n.kind == "max_pool_2d")
    rng = np.random.default_rng(0)
    noise = {t: rng.integers(-9, 9, tensors[t].shape).astype(np.int8) for t in pool.inputs}
    made = Interpreter(graph, REFERENCE).run_node(pool, [noise[t] for t in pool.inputs])[0]
    found = identify(graph, inputs, {**noise, **made})
    assert REFERENCE in found.by_kind["max_pool_2d"]
    assert found.by_kind["conv_2d"] == ()
    assert any("lack captured operands" in remark for remark in found.remarks)


def test_candidates_may_be_given_and_streams_are_streams() -> None:
    graph = model()
    narrow = load_scheme(REFERENCE).with_({"accumulator.bits": 12})

    def stream() -> Iterator[dict[str, Any]]:
        yield from images(3)

    dumps = (captured(graph, x, narrow) for x in images(3))
    found = identify(graph, stream(), dumps, schemes=[REFERENCE, narrow])
    assert found.everywhere == (narrow.name,)
    assert found.samples == 3


def test_threads_change_nothing_and_an_interrupt_tells_what_is_known() -> None:
    graph, inputs = model(), images(4)
    dumps = [captured(graph, x, "xnnpack") for x in inputs]
    told: list[int] = []
    alone = identify(graph, inputs, dumps, workers=1)
    found = identify(graph, inputs, dumps, workers=5, progress=told.append)
    assert told == [1, 2, 3, 4]
    assert found == alone
    assert not found.interrupted

    def stream() -> Iterator[dict[str, Any]]:
        yield from inputs[:3]
        raise KeyboardInterrupt

    partial = identify(graph, stream(), dumps, workers=1)
    assert partial.interrupted
    assert partial.samples == 3


def test_a_scheme_without_the_operator_does_not_reproduce_it() -> None:
    graph, inputs = model(), images(1)[0]
    lacking = load_scheme(REFERENCE).with_({"max_pool_2d.recipe": {"name": "float32"}})
    found = identify(graph, inputs, captured(graph, inputs, REFERENCE), schemes=[lacking])
    assert found.by_kind["max_pool_2d"] == ()
    assert found.by_kind["conv_2d"] == (lacking.name,)
    nothing = identify(graph, inputs, {graph.outputs[0]: captured(graph, inputs, REFERENCE)[
        graph.outputs[0]
    ]})  # fmt: skip
    assert "nothing to identify" in str(nothing)


def test_whole_runs_match_too() -> None:
    graph, inputs = model(), images(1)[0]
    tensors = captured(graph, inputs, "exact")
    assert "exact" in matching_schemes(graph, inputs, tensors)
    assert REFERENCE not in matching_schemes(graph, inputs, tensors)
    output = {n: tensors[n] for n in graph.outputs}
    assert "exact" in matching_schemes(graph, inputs, output)


def test_every_scheme_with_a_runtime_is_found_in_its_convolutions() -> None:
    graph, inputs = model("digits_mobilenet.tflite"), images(2, "digits_mobilenet.tflite")
    seen = 0
    for name in scheme_names():
        evidence = load_scheme(name).evidence
        runtime = str(evidence.get("runtime", ""))
        if evidence["level"] != "verified" or not runtime.startswith("litert"):
            continue
        if session(runtime).unavailable() is not None:
            continue
        found = identify(graph, inputs, f"runtime:{runtime}")
        assert name in found.by_kind["conv_2d"]
        assert name in found.by_kind["depthwise_conv_2d"]
        seen += 1
    if not seen:
        pytest.skip("no runtime here")
