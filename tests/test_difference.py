"""Differences, created and propagated; blame; sides; tolerances; what is printed."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import signal
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judging import session

import qinterp
from qinterp.difference import (
    Diff,
    Differences,
    NodeRunner,
    Tolerances,
    at_most,
    diff,
    load_tolerances,
)
from qinterp.difference.nodes import alone
from qinterp.difference.statistics import OutputEffect, signed_difference
from qinterp.importers._shipped import samples, shipped_models
from qinterp.interpreter import Interpreter
from qinterp.ir import Graph, Node, Quantization, Tensor
from qinterp.report.difference import print_diff, run_diff, to_csv, to_json
from qinterp.schemes_io import load_scheme, scheme_names
from qinterp.testing.random_models import KINDS, random_model, small_chain
from qinterp.testing.tflite_writer import ModelWriter

MODELS = sorted(name for name in shipped_models() if "float" not in name)
FLOAT_REQUANTIZATION = {
    f"{kind}.requantize": "float32_ties_to_even"
    for kind in ("conv_2d", "depthwise_conv_2d", "fully_connected")
}
SHORT = [
    {"stage": "multiply"},
    {"stage": "shift_right", "rounding": "ties_toward_positive", "amount": "total", "by": 8},
    {"stage": "add_zero_point"},
    {"stage": "clamp"},
]
REFERENCE = "tflite-reference"


@cache
def model(name: str) -> Graph:
    return qinterp.load(name if name.endswith(".tflite") else f"{name}.tflite")


def images(name: str, count: int) -> list[dict[str, Any]]:
    own = samples(model(name).name)
    assert own is not None, name
    return [{own.input_name: own.inputs[i : i + 1]} for i in range(count)]


def captured(graph: Graph, inputs: Mapping[str, Any], scheme: Any) -> dict[str, Any]:
    return dict(Interpreter(graph, scheme).run(inputs, capture=True).tensors)


# ---- what is created, what is passed on -------------------------------------------------------


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_created_and_propagated_add_up_element_by_element(name: str) -> None:
    """Every scheme against every other, either way round."""
    graph, inputs = model(name), images(name, 1)[0]
    runners = {scheme: NodeRunner(graph, scheme) for scheme in scheme_names()}
    differing: Counter[str] = Counter()
    orders = itertools.combinations if "float" in name else itertools.permutations
    for a, b in orders(runners, 2):
        found = diff(graph, inputs, runners[a], runners[b], keep=True)
        for entry in found.nodes:
            if entry.reason:
                continue
            parts = (entry.created, entry.propagated, entry.end_to_end)
            assert None not in parts, (a, b, entry.node.name)
            created, propagated, total = (part.elements for part in parts)
            for tensor in entry.node.outputs:
                assert np.array_equal(created[tensor][0] + propagated[tensor][0], total[tensor][0])
            for part in ("created", "propagated"):
                differing[part] += getattr(entry, part).count
    if "float" not in name:  # of which all schemes have the same arithmetic
        assert min(differing["created"], differing["propagated"]) > 100


def test_differences_are_those_of_separate_runs() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    a, b = captured(graph, inputs, REFERENCE), captured(graph, inputs, "exact")
    runner = NodeRunner(graph, REFERENCE)
    known = {**runner.codes(inputs), **b}
    found = diff(graph, inputs, REFERENCE, "exact", keep=True)
    for entry in found.nodes:
        (tensor,) = entry.node.outputs
        forced = runner.run(entry.node, known).outputs[tensor]
        for what, x, y in (
            (entry.created, b[tensor], forced),
            (entry.propagated, forced, a[tensor]),
            (entry.end_to_end, b[tensor], a[tensor]),
        ):
            delta = x.astype(int) - y.astype(int)
            assert np.array_equal(what.elements[tensor][0], delta)
            assert (what.count, what.size) == (np.count_nonzero(delta), delta.size)
            assert what.max_lsb == np.abs(delta).max()
            values, counts = np.unique(delta[delta != 0], return_counts=True)
            assert dict(what.histogram) == dict(zip(values.tolist(), counts.tolist(), strict=True))
            if what.count:
                assert abs(delta[what.where]) == what.max_lsb
                assert what.first == tuple(np.argwhere(delta)[0])
                assert what.share == what.count / delta.size
                scale = graph.tensors[tensor].scale
                assert what.max_error == pytest.approx(what.max_lsb * scale)
    assert found.first is not None
    assert found.first is next(n for n in found.nodes if n.end_to_end.count)
    assert found[found.first.node.name] is found.first


def test_same_sides_do_not_differ() -> None:
    found = diff(model("digits_cnn"), images("digits_cnn", 2), REFERENCE, REFERENCE)
    assert found.same
    assert found.first is None
    assert {n.status for n in found.nodes} == {"same"}
    assert "the same in 2 samples" in str(found)


def test_amplification_is_largest_out_over_largest_in() -> None:
    found = diff(model("digits_resnet"), images("digits_resnet", 2), REFERENCE, "exact")
    by_tensor = {t: n.end_to_end.max_lsb for n in found.nodes for t in n.node.outputs}
    seen = 0
    for entry in found.nodes:
        into = max((by_tensor.get(name, 0) for name in entry.node.inputs), default=0)
        if into:
            assert entry.amplification == entry.end_to_end.max_lsb / into
            seen += 1
        else:
            assert entry.amplification is None
    assert seen > 10


@pytest.mark.parametrize(
    ("dtype", "values", "steps"),
    [
        ("float32", [1.0, np.nextafter(np.float32(1), np.float32(2)), -0.0, np.nan], [0, 1, 0, 0]),
        ("float32", [-np.float32(1e-45), np.inf, 5.0, 1.0], None),
        ("float64", [1.0, 2.0, 3.0, 4.0], None),
        ("float16", [1.0, 2.0, np.inf, np.nan], None),
    ],
)
def test_steps_of_floats_add_up(dtype: str, values: list[float], steps: list[int] | None) -> None:
    b = np.array(values, dtype)
    a = np.array([1.0, 1.0, 0.0, np.nan], dtype)
    middle = np.array([0.5, -2.0, np.nan, 1.0], dtype)
    delta = signed_difference(b, a)
    if steps is not None:
        assert delta.tolist() == steps
    assert np.array_equal(signed_difference(b, middle) + signed_difference(middle, a), delta)


def test_differences_that_no_64_bits_hold() -> None:
    tensor = Tensor("y", (4,), "int64")
    b = np.array([-(2**63), 5, 0, 1], np.int64)
    a = np.array([0, 5, 2**62, 0], np.int64)
    found = Differences.of(signed_difference(b, a), tensor, 0)
    assert (found.count, found.max_lsb, found.where) == (3, 2**63, (0,))
    assert found.histogram == {-(2**63): 1, -(2**62): 1, 1: 1}


def test_a_float_model_is_compared_in_ulps() -> None:
    graph = model("digits_cnn_float")
    inputs = images("digits_cnn", 1)[0]
    given = captured(graph, inputs, REFERENCE)
    name = graph.nodes[0].outputs[0]
    given[name] = np.nextafter(given[name], np.float32(np.inf))
    found = diff(graph, inputs, REFERENCE, given)
    first = found.first
    assert first is not None
    assert first.node is graph.nodes[0]
    assert (first.created.unit, first.created.max_lsb) == ("ULP", 1)
    assert 0 < first.created.max_error < 1e-5
    # the rest is what A makes of A's first tensor, so nothing else is created but the difference
    # between that and what A makes of B's
    assert found.nodes[1].created.count == found.nodes[1].propagated.count


# ---- planted layers ---------------------------------------------------------------------------


def planted(graph: Graph, inputs: Mapping[str, Any], node: Node, wrong: Graph | Any) -> Any:
    """Every tensor of a run in which one node is wrong, and all after it follow from that."""
    runner = NodeRunner(graph, REFERENCE)
    values = dict(runner.codes(inputs))
    for each in graph.nodes:
        if each is not node:
            values |= runner.run(each, values).outputs
        elif isinstance(wrong, Graph):
            values |= NodeRunner(wrong, REFERENCE).run(wrong.nodes[0], values).outputs
        else:
            values |= NodeRunner(graph, wrong).run(each, values).outputs
    return values


def with_tensor(graph: Graph, node: Node, tensor: Tensor, values: Mapping[str, Any]) -> Graph:
    return alone(graph, node, values, {tensor.name: tensor})


PLANTED = {
    "ties": "toward negative (B) against ties to away (A) in shift_right",
    "accumulator": "a 16-bit saturating accumulator (B) against a 32-bit wrapping one (A)",
    "weights": "stored as OWHI (B) against OHWI (A)",
    "zero point": "zero point 0 (B) against",
    "swapped": " swapped (B)",
    "scale": "the first channel's scale (B) against one a channel (A) of ",
}


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_planted_layer_is_the_only_one_that_creates(bug: str, place: int) -> None:
    graph, inputs = model("digits_resnet"), images("digits_resnet", 4)[3]
    kind = "add" if bug == "swapped" else "conv_2d"
    node = [n for n in graph.nodes if n.kind == kind][place if kind == "conv_2d" else place // 5]
    scheme = load_scheme(REFERENCE)
    values = captured(graph, inputs, REFERENCE) | NodeRunner(graph, REFERENCE).codes(inputs)
    if bug == "ties":
        wrong: Any = scheme.with_({"requantize.shift_right.rounding": "toward_negative"})
    elif bug == "accumulator":
        narrow = {"accumulator.bits": 16, "accumulator.overflow": "saturate"}
        wrong = scheme.with_(narrow)
    elif bug == "weights":
        weights = graph.tensors[node.inputs[1]]
        turned = np.ascontiguousarray(np.swapaxes(weights.data, 1, 2))
        wrong = with_tensor(graph, node, replace(weights, data=turned), values)
    elif bug == "scale":
        weights = graph.tensors[node.inputs[1]]
        scale = np.full_like(weights.quantization.scale, weights.quantization.scale[0])
        one = replace(weights, quantization=replace(weights.quantization, scale=scale))
        wrong = with_tensor(graph, node, one, values)
    elif bug == "swapped":
        one, other = (graph.tensors[n] for n in (node.inputs[0], node.outputs[0]))
        points = [other.quantization.zero_point, one.quantization.zero_point]
        assert points[0] != points[1]
        swapped = {
            tensor.name: replace(
                tensor, quantization=replace(tensor.quantization, zero_point=point)
            )
            for tensor, point in zip((one, other), points, strict=True)
        }
        wrong = alone(graph, node, values, swapped)
    else:
        read = graph.tensors[node.inputs[0]]
        zero = replace(read.quantization, zero_point=np.zeros(1, np.int64))
        wrong = with_tensor(graph, node, replace(read, quantization=zero), values)
    dump = planted(graph, inputs, node, wrong)
    if bug == "accumulator" and np.array_equal(dump[node.outputs[0]], values[node.outputs[0]]):
        pytest.skip("16 bits are enough here")
    found = diff(graph, inputs, REFERENCE, dump)
    assert [n.node.name for n in found.nodes if n.created.count] == [node.name]
    assert found.first is not None
    assert found.first.node is node
    assert PLANTED[bug] in str(found.first.blame)


RUNTIMES = {
    "litert-reference": "tflite-reference",
    "litert-optimized": "tflite-optimized",
    "litert-xnnpack": "xnnpack",
    "tflite-micro": "tflite-micro",
}


@cache
def network(name: str) -> tuple[Graph, Mapping[str, Any]]:
    """A shipped model, or a random one by its seed, and an input."""
    if not name.startswith("random"):
        return model(name), images(name, 1)[0]
    case = small_chain(np.random.default_rng(int(name.removeprefix("random "))))
    return qinterp.load(case.model), case.inputs


@pytest.mark.parametrize("name", [*MODELS, *(f"random {seed}" for seed in range(6))])
@pytest.mark.parametrize("mode", RUNTIMES)
def test_a_runtime_diverges_first_where_its_tensors_do(name: str, mode: str) -> None:
    """Under its own scheme and the others', and nowhere under its own."""
    if (reason := session(mode).unavailable()) is not None:
        pytest.skip(reason)
    graph, inputs = network(name)
    codes = Interpreter(graph, REFERENCE).input_codes(inputs)
    theirs = session(mode).run(graph.source, codes)
    for scheme in RUNTIMES.values():
        ours = captured(graph, inputs, scheme)
        wrong = [
            n.name
            for n in graph.nodes
            if any(not np.array_equal(ours[t], theirs.get(t, ours[t])) for t in n.outputs)
        ]
        found = diff(graph, inputs, scheme, f"runtime:{mode}")
        assert (found.first.node.name if found.first else None) == (wrong[0] if wrong else None)
        if scheme == RUNTIMES[mode]:
            assert found.same
    assert any(session(mode).version() in remark for remark in found.remarks)


# ---- blame ------------------------------------------------------------------------------------


def blame_of_first(found: Diff) -> Any:
    assert found.first is not None
    assert found.first.blame is not None
    return found.first.blame


def test_one_float_rounding_is_blamed_against_two_integer_roundings() -> None:
    scheme = load_scheme(REFERENCE).with_(FLOAT_REQUANTIZATION)
    graph = model("digits_resnet")
    found = diff(graph, images("digits_resnet", 3), REFERENCE, scheme)
    blame = blame_of_first(found)
    assert str(blame).startswith(
        "conv_2d_0: one float32 rounding (B) against two integer roundings (A): "
    )
    assert blame.groups == (("stages",),)
    assert blame.causes.looked_at == found.first.created.count
    assert blame.causes.kinds.keys() <= {"tie", "rounding in A"}
    # and what it says of A makes A equal B
    repaired = load_scheme(REFERENCE).with_(dict(blame.changes[0]))
    assert repaired.policy({"op": "conv_2d"}) == scheme.policy({"op": "conv_2d"})


@pytest.mark.parametrize(
    ("changes", "groups", "said"),
    [
        (
            {"accumulator.bits": 16, "accumulator.overflow": "saturate"},
            (("accumulator",),),
            "a 16-bit saturating accumulator (B) against a 32-bit wrapping one (A)",
        ),
        (
            {"conv_2d.multiplier.bits": 8, "conv_2d.requantize": SHORT},
            (("stages", "preparation"),),
            "an 8-bit multiplier (B) against a 31-bit one (A)",
        ),
        (
            {
                "conv_2d.requantize.shift_right.rounding": "toward_negative",
                "conv_2d.accumulator.bits": 16,
            },
            (("stages", "accumulator"),),
            "in shift_right and a 16-bit wrapping accumulator (B)",
        ),
    ],
)
def test_the_smallest_set_of_groups_is_blamed(
    changes: dict[str, Any], groups: Any, said: str
) -> None:
    found = diff(convolution(), noise(), REFERENCE, load_scheme(REFERENCE).with_(changes))
    blame = blame_of_first(found)
    assert blame.groups == groups, str(blame)
    assert said in str(blame)


def convolution(scale: float = 0.0017, largest: int = 127) -> Graph:
    """A convolution with weights up to ``largest``; its effective scale is half of ``scale``."""
    rng = np.random.default_rng(1)
    writer = ModelWriter()
    writer.input("x", (1, 24, 24, 8), "int8", scale=0.5, zero_point=-3)
    weights = rng.integers(-largest, largest + 1, (4, 3, 3, 8), np.int8)
    writer.constant("w", weights, scale=[scale] * 4)
    writer.constant("b", rng.integers(-500, 500, 4, np.int32), scale=[0.5 * scale] * 4)
    writer.tensor("y", (1, 22, 22, 4), "int8", scale=1.0, zero_point=5)
    writer.operator(
        "CONV_2D", ["x", "w", "b"], ["y"], padding="VALID", stride_w=1, stride_h=1,
        dilation_w_factor=1, dilation_h_factor=1,
    )  # fmt: skip
    return qinterp.load(writer.finish(outputs=["y"]))


def noise() -> dict[str, Any]:
    return {"x": np.random.default_rng(3).integers(-128, 128, (1, 24, 24, 8), np.int8)}


def test_xnnpack_rounds_once_in_float_where_the_reference_rounds_twice() -> None:
    found = diff(model("digits_resnet"), images("digits_resnet", 3), REFERENCE, "xnnpack")
    assert str(blame_of_first(found)).startswith(
        "conv_2d_0: one float32 rounding (B) against two integer roundings (A): "
    )


def test_glow_cpu_has_a_short_multiplier_and_another_tie_rule() -> None:
    glow = ("glow-interpreter", "glow-cpu")
    blame = blame_of_first(diff(model("glow_resnet"), images("glow_resnet", 2), *glow))
    assert str(blame).startswith(
        "conv_2d_0: an 8 to 9-bit multiplier (B) against a float32 scale (A): "
    )
    # a power of two needs no multiplier, so only the ties are left
    blame = blame_of_first(diff(convolution(2.0**-4, 3), noise(), *glow))
    assert str(blame).startswith("conv_2d_0: ties toward positive (B) against ties to away (A): ")
    assert blame.causes.ties == blame.causes.looked_at > 10


def test_exact_ties_are_counted() -> None:
    once = load_scheme(REFERENCE).with_({"conv_2d.requantize": "single_rounding"})
    ties = once.with_({"conv_2d.requantize.shift_right.rounding": "ties_to_away"})
    found = diff(convolution(2.0**-4, 3), noise(), once, ties)
    blame = blame_of_first(found)
    count = found.first.created.count
    assert count > 10
    assert blame.causes.ties == blame.causes.kinds["tie"] == count
    assert str(blame) == (
        "conv_2d_0: ties to away (B) against ties toward positive (A) in shift_right: "
        f"{count} of 1936 differ by 1 LSB, {count} exact ties"
    )


def test_overflows_and_multipliers_are_told_from_roundings() -> None:
    narrow = load_scheme(REFERENCE).with_({"accumulator.bits": 16})
    blame = blame_of_first(diff(convolution(), noise(), REFERENCE, narrow))
    assert blame.causes.kinds.keys() == {"overflow in B"}
    assert "the accumulator overflows at" in str(blame)
    short = {"conv_2d.multiplier.bits": 8, "conv_2d.requantize": SHORT}
    found = diff(convolution(), noise(), REFERENCE, load_scheme(REFERENCE).with_(short))
    blame = blame_of_first(found)
    assert blame.causes.kinds["multiplier in B"] > 0.9 * blame.causes.looked_at > 9
    assert blame.causes.nearer["a"] > 0.9 * blame.causes.looked_at
    assert "A is the nearer on" in str(blame)


def test_a_runtime_is_blamed_by_the_scheme_that_reproduces_it() -> None:
    graph, inputs = model("digits_resnet"), images("digits_resnet", 1)[0]
    dump = captured(graph, inputs, "exact")
    blame = blame_of_first(diff(graph, inputs, REFERENCE, dump))
    assert "exact" in blame.schemes
    assert "(B) against two integer roundings (A), as in " in str(blame)
    # the same, seen from the other side
    blame = blame_of_first(diff(graph, inputs, dump, REFERENCE))
    assert "two integer roundings (B) against one " in str(blame)


# ---- sides ------------------------------------------------------------------------------------


def test_a_dump_as_baseline_says_that_b_was_executed() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    forward = diff(graph, inputs, REFERENCE, captured(graph, inputs, "exact"), keep=True)
    result = Interpreter(graph, "exact").run(inputs, capture=True)
    back = diff(graph, inputs, result, REFERENCE, keep=True)
    assert (forward.executed, back.executed) == ("a", "b")
    assert any("cannot be executed" in remark for remark in back.remarks)
    assert back.a == "a run of exact"
    for there, here in zip(forward.nodes, back.nodes, strict=True):
        for tensor in there.node.outputs:
            for what in ("created", "propagated", "end_to_end"):
                x = getattr(there, what).elements[tensor][0]
                assert np.array_equal(x, -getattr(here, what).elements[tensor][0])


def test_two_dumps_differ_but_nobody_knows_what_was_created() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    a, b = captured(graph, inputs, REFERENCE), captured(graph, inputs, "exact")
    found = diff(graph, inputs, a, qinterp.Capture.of(b))
    assert found.executed is None
    assert all(n.created is None and n.propagated is None for n in found.nodes)
    assert {n.status for n in found.nodes} <= {"differs", "same"}
    assert found.first is not None
    assert found.first.blame is None


def test_a_partial_dump_is_compared_from_the_nearest_captured_tensors() -> None:
    graph, inputs = model("digits_resnet"), images("digits_resnet", 1)[0]
    whole = captured(graph, inputs, "exact")
    kept = [graph.nodes[i].outputs[0] for i in (2, 5, 18)]
    found = diff(graph, inputs, REFERENCE, {name: whole[name] for name in kept})
    assert [n.node.name for n in found.nodes if n.status != "not captured"] == [
        graph.nodes[i].name for i in (2, 5, 18)
    ]
    assert found.nodes[2].unit == ("conv_2d_0", "conv_2d_1", "conv_2d_2")
    assert found.nodes[5].unit == ("conv_2d_3", "add_4", "conv_2d_5") or (
        set(found.nodes[5].unit) >= {"add_4", "conv_2d_5"}
    )
    blame = blame_of_first(found)
    assert "nothing captured between" in str(blame)
    assert "exact" in blame.schemes
    for entry in found.nodes:
        if entry.created is not None:
            assert entry.created.size == whole[entry.node.outputs[0]].size


PARTIAL = {
    "scheme": " rounding (B) against two integer roundings (A), as in ",
    "everywhere": "a 16-bit saturating accumulator (B) against a 32-bit wrapping one (A)",
    "one node": "accumulator (B) against a 32-bit wrapping one (A) in conv_2d_1",
    "weights": "stored as OWHI (B) against OHWI (A) in conv_2d_1",
}


@pytest.mark.parametrize("bug", PARTIAL)
def test_a_segment_is_blamed_by_field_too(bug: str) -> None:
    """Only what leaves conv_2d_0 to conv_2d_2 was captured, so that they are one unit."""
    graph, inputs = model("digits_resnet"), images("digits_resnet", 4)[3]
    node = graph.node("conv_2d_1")
    reference = load_scheme(REFERENCE)
    narrow = reference.with_({"accumulator.bits": 16, "accumulator.overflow": "saturate"})
    if bug == "weights":
        weights = graph.tensors[node.inputs[1]]
        turned = np.ascontiguousarray(np.swapaxes(weights.data, 1, 2))
        values = captured(graph, inputs, REFERENCE) | NodeRunner(graph, REFERENCE).codes(inputs)
        wrong: Any = with_tensor(graph, node, replace(weights, data=turned), values)
        dump = planted(graph, inputs, node, wrong)
    elif bug == "one node":
        dump = planted(graph, inputs, node, narrow)
    else:
        floats = reference.with_(FLOAT_REQUANTIZATION)
        dump = captured(graph, inputs, narrow if bug == "everywhere" else floats)
    kept = graph.node("conv_2d_2").outputs[0]
    found = diff(graph, inputs, REFERENCE, {kept: dump[kept]})
    blame = blame_of_first(found)
    head = "conv_2d_0 to conv_2d_2 (3 nodes, nothing captured between): "
    assert str(blame).startswith(head)
    assert PARTIAL[bug] in str(blame)
    if blame.groups:
        # what it says, said of A, gives what B has
        repaired = reference.with_(dict(blame.changes[0]))
        only = {"conv_2d_1": repaired} if bug == "one node" else dict.fromkeys(found.first.unit)
        mixed = reference
        for name in only:
            mixed = mixed.with_node(name, repaired)
        assert np.array_equal(captured(graph, inputs, mixed)[kept], dump[kept])


def test_samples_of_several_batches_are_blamed_from_those_of_the_first() -> None:
    graph, own = model("digits_mobilenet"), samples("digits_mobilenet.tflite")
    assert own is not None
    streams = [
        [{own.input_name: own.inputs[i:j]} for i, j in cuts]
        for cuts in (((0, 1), (1, 4), (4, 5)), ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)))
    ]
    mixed, single = (diff(graph, x, REFERENCE, "glow-cpu", labels=own.labels[:5]) for x in streams)
    for one, other in zip(mixed.nodes, single.nodes, strict=True):
        assert one.created.count == other.created.count
        assert (one.blame and one.blame.groups) == (other.blame and other.blame.groups)
    assert mixed.outputs["probabilities"].rows == 5
    assert mixed.outputs["probabilities"].accuracy == single.outputs["probabilities"].accuracy


def test_a_segment_of_several_kinds_is_blamed_by_kind() -> None:
    graph, inputs = model("digits_resnet"), images("digits_resnet", 4)[3]
    whole = captured(graph, inputs, "glow-cpu")
    kept = [graph.nodes[i].outputs[0] for i in (2, 5)]
    found = diff(graph, inputs, REFERENCE, {name: whole[name] for name in kept})
    blame = found["conv_2d_5"].blame
    assert blame is not None
    assert "add_4" in found["conv_2d_5"].unit
    assert ": in conv_2d ties toward positive (B)" in str(blame)
    assert "; in add " in str(blame)
    assert str(blame).count("as in glow-cpu") == 1
    assert {path.partition(".")[0] for path in blame.changes[0]} == {"conv_2d", "add"}


def test_a_node_with_state_is_blamed_from_its_first_state() -> None:
    case = random_model("SVDF", "int8", np.random.default_rng(2))
    graph = qinterp.load(case.model)
    other = load_scheme(REFERENCE).with_({"svdf.recipe": {"name": "dequantized"}})
    given = captured(graph, case.inputs, other)
    assert not np.array_equal(*(captured(graph, case.inputs, s)["y"] for s in (REFERENCE, other)))
    for b in (other, given):
        found = diff(graph, case.inputs, REFERENCE, b)
        assert found.first is not None
        assert "dequantized" in str(found.first.blame)


def test_a_missing_operator_is_not_available_and_stops_nothing() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    lacking = load_scheme(REFERENCE).with_({"max_pool_2d.recipe": {"name": "float32"}})
    for a, b in ((REFERENCE, lacking), (lacking, REFERENCE)):
        found = diff(graph, inputs, a, b)
        pool = next(n for n in found.nodes if n.node.kind == "max_pool_2d")
        assert pool.status == "not available"
        assert "float32" in pool.reason
        assert pool.created is None
        others = [n for n in found.nodes if n is not pool]
        assert {n.status for n in others} == {"same"}
        assert any("stands in" in remark for remark in found.remarks)


def test_samples_are_streamed_in_order_and_labels_with_them() -> None:
    graph = model("digits_cnn")
    own = samples("digits_cnn.tflite")
    assert own is not None
    told: list[tuple[int, int | None]] = []

    def stream() -> Iterator[dict[str, Any]]:
        yield from images("digits_cnn", 7)

    found = diff(
        graph, stream(), REFERENCE, "exact", labels=own.labels[:7],
        original="digits_cnn_float.tflite", progress=lambda *n: told.append(n), workers=2,
    )  # fmt: skip
    one = [diff(graph, x, REFERENCE, "exact") for x in images("digits_cnn", 7)]
    assert found.samples == 7
    assert told == [(n, None) for n in range(1, 8)]
    for i, entry in enumerate(found.nodes):
        parts = [d.nodes[i].end_to_end for d in one]
        assert entry.end_to_end.count == sum(p.count for p in parts)
        assert entry.end_to_end.max_lsb == max(p.max_lsb for p in parts)
        first = next((n for n, p in enumerate(parts) if p.count), None)
        assert entry.end_to_end.first_sample == first
        assert entry.end_to_end.size == sum(p.size for p in parts)
    effect = found.outputs["probabilities"]
    assert effect.rows == effect.accuracy["a"].rows == effect.accuracy["original"].rows == 7
    assert effect.original_agreement.keys() == {"a", "b"}
    with pytest.raises(qinterp.InputError, match="no labels are left for sample 2"):
        diff(graph, stream(), REFERENCE, "exact", labels=[1, 2])


def test_dumps_can_be_streamed_too() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 3)
    dumps = (captured(graph, x, "exact") for x in inputs)
    found = diff(graph, inputs, REFERENCE, dumps)
    schemes = diff(graph, inputs, REFERENCE, "exact")
    assert [n.created.count for n in found.nodes] == [n.created.count for n in schemes.nodes]
    with pytest.raises(qinterp.InputError, match="tensors of 1 sample, more were given"):
        diff(graph, inputs, REFERENCE, captured(graph, inputs[0], "exact"))


def test_an_interrupted_comparison_tells_what_it_knows() -> None:
    graph = model("digits_cnn")

    def stream() -> Iterator[dict[str, Any]]:
        yield from images("digits_cnn", 6)
        raise KeyboardInterrupt

    found = diff(graph, stream(), REFERENCE, "exact", workers=1)
    assert found.interrupted
    assert found.samples == 6
    assert found.first is not None


@pytest.mark.parametrize("workers", [1, 3])
def test_a_signal_ends_the_threads_and_tells_what_is_known(workers: int) -> None:
    graph = model("digits_cnn")
    before = threading.active_count()

    def stream() -> Iterator[dict[str, Any]]:
        yield from images("digits_cnn", 20)
        os.kill(os.getpid(), signal.SIGINT)
        yield from itertools.repeat(images("digits_cnn", 1)[0])

    found = diff(graph, stream(), REFERENCE, "exact", workers=workers)
    assert found.interrupted
    assert 20 - 2 * workers <= found.samples <= 20
    assert found.first is not None
    assert found.first.blame is not None
    assert threading.active_count() == before
    for entry in found.nodes:
        size = found.samples * np.prod(graph.tensors[entry.node.outputs[0]].shape)
        assert entry.end_to_end.size == entry.created.size == size


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """A tensor of a megabyte on either side, so that thirty samples would hold a hundred."""
    shape, writer = (1, 1 << 20, 1), ModelWriter()
    x = writer.input("x", shape, "int8", scale=0.5)
    y = writer.tensor("y", shape, "int8", scale=0.37)
    writer.operator("RELU", [x], [y])
    graph = qinterp.load(writer.finish(outputs=[y]))
    rng = np.random.default_rng(0)

    def stream(count: int) -> Iterator[dict[str, Any]]:
        for _ in range(count):
            yield {"x": rng.integers(-128, 128, shape, np.int8)}

    peaks = []
    for count in (6, 30):
        tracemalloc.start()
        assert diff(graph, stream(count), REFERENCE, REFERENCE, workers=2).samples == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (8 << 20)


def test_what_is_kept_for_blame_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr("qinterp.difference.comparison._EVIDENCE_BYTES", 20_000)
    graph = model("digits_resnet")
    found = diff(graph, images("digits_resnet", 12), REFERENCE, "exact")
    held = {n.node.name: n._evidence for n in found.nodes if n._evidence}
    assert sum(e.nbytes for kept in held.values() for e in kept) < 20_000 + 20_000 * len(held)
    # the first sample that differs is always kept, so that there is a blame
    assert all(n.blame is not None for n in found.nodes if n.created.count)


def test_sides_that_are_none_are_refused() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    with pytest.raises(qinterp.SchemeError, match="no scheme 'nobody'"):
        diff(graph, inputs, REFERENCE, "nobody")
    with pytest.raises(qinterp.QInterpError, match="unknown runtime 'none'"):
        diff(graph, inputs, REFERENCE, "runtime:none")
    with pytest.raises(qinterp.InputError, match="missing input"):
        diff(graph, {}, REFERENCE, "exact")
    with pytest.raises(qinterp.InputError, match="side B cannot be"):
        diff(graph, inputs, REFERENCE, 3)
    with pytest.raises(qinterp.InputError, match="side A was prepared for another graph"):
        diff(graph, inputs, NodeRunner(model("digits_resnet"), REFERENCE), "exact")
    with pytest.raises(qinterp.InputError, match="workers must be at least 1, got 0"):
        diff(graph, inputs, REFERENCE, "exact", workers=0)
    with pytest.raises(qinterp.InputError, match="no inputs were given"):
        diff(graph, [], REFERENCE, "exact")
    for labels in (["a"], [[1, 2]], [1.5]):
        with pytest.raises(qinterp.InputError, match="sample 0: labels are numbers of classes"):
            diff(graph, inputs, REFERENCE, "exact", labels=labels)


def test_tensors_of_another_batch_are_a_mistake_and_no_match() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    given = captured(graph, inputs, REFERENCE)
    twice = {name: np.concatenate([value, value]) for name, value in given.items()}
    for a, b in ((REFERENCE, twice), (twice, REFERENCE), (given, twice)):
        with pytest.raises(qinterp.InputError, match=r"conv_2d_0 is .* another batch\?"):
            diff(graph, inputs, a, b)


def test_what_could_not_be_compared_is_not_the_same() -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)[0]
    codes = NodeRunner(graph, REFERENCE).codes(inputs)
    found = diff(graph, inputs, REFERENCE, dict(codes))
    assert found.compared == 0
    assert "the same at 0 of 8 nodes" in str(found)
    with pytest.raises(qinterp.InputError, match="nothing could be compared: no node's output"):
        run_diff(graph, inputs, REFERENCE, dict(codes))
    graph = model("digits_resnet")
    empty = {name: value[:0] for name, value in inputs.items()}
    assert diff(graph, empty, REFERENCE, "exact").compared == 0


# ---- the effect on the outputs ----------------------------------------------------------------


def test_the_effect_on_an_output_is_in_real_numbers() -> None:
    quantization = Quantization(np.array([0.5], np.float32), np.array([10], np.int64))
    tensor = Tensor("y", (2, 6), "int8", quantization)
    a = np.array([[10, 14, 12, 10, 10, 10], [10, 10, 12, 11, 10, 10]], np.int8)
    b = np.array([[10, 12, 14, 10, 10, 10], [10, 10, 12, 11, 10, 12]], np.int8)
    effect = OutputEffect.of(tensor, a, b, np.array([1, 5]), a * 0.5 - 5)
    assert (effect.rows, effect.flips, effect.in_top5) == (2, 1, 2)
    assert (effect.max_error, effect.elements) == (1.0, 12)
    assert effect.mean_error == pytest.approx(3 / 12)
    reference = 2.0**2 + 1 + 1 + 0.5**2
    assert effect.sqnr == pytest.approx(10 * np.log10(reference / 3))
    assert effect.max_relative_error == 1.0
    assert (effect.accuracy["a"].top1, effect.accuracy["b"].top1) == (1, 0)
    assert effect.original_agreement == {"a": 2, "b": 1}
    assert effect.within_half_percent("a") is True
    assert effect.within_half_percent("b") is False
    assert effect.accuracy_drop("b") == 0.5
    # of int8 codes -128 is the least, though it has no negative
    lowest = np.array([[-128, 14, 12, 10, 10, 10], [10, 10, 12, 11, 10, -128]], np.int8)
    assert OutputEffect.of(tensor, a, b, original=lowest).original_agreement == {"a": 2, "b": 1}
    same = OutputEffect.of(tensor, a, a)
    assert (same.sqnr, same.relative_error, same.flips) == (np.inf, 0.0, 0)
    assert same.within_half_percent("a") is None


# ---- tolerances -------------------------------------------------------------------------------


def test_tolerances_have_reasons_and_places(tmp_path: Path) -> None:
    graph, inputs = model("digits_resnet"), images("digits_resnet", 2)
    found = diff(graph, inputs, REFERENCE, "exact")
    assert found.violations(at_most(0))
    assert not found.violations(at_most(100))
    assert {v.what for v in found.violations(at_most(1))} == {"end_to_end"}
    nnapi = load_tolerances("nnapi")
    assert all(v.what == "end_to_end" for v in found.violations(nnapi))
    assert all(v.tensor in graph.outputs for v in found.violations(nnapi))
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\noperators = { max_lsb = 0, reason = "exact hardware" }\n'
        '[[exception]]\nkind = "conv_2d"\nmax_lsb = 1\nreason = "rounds once"\n'
        '[[exception]]\nnode = "conv_2d_3"\nmax_lsb = 0\nreason = "fixed in 1.3"\n'
    )
    broken = found.violations(load_tolerances(file))
    assert "conv_2d_3" in {v.node for v in broken}
    assert not {v.node for v in broken} & {"conv_2d_0", "conv_2d_1"}
    assert "fixed in 1.3" in next(str(v) for v in broken if v.node == "conv_2d_3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"', "missing key 'operators'"),
        ('name = "x"\noperators = { max_lsb = -1, reason = "r" }', "must not be negative"),
        ('name = "x"\noperators = { max_lsb = 1, reason = " " }', "needs a reason"),
        ("operators = 3 =", "mine.toml"),
        ("operators = " + "[" * 100_000, "mine.toml: .*nested too deeply"),
    ],
)
def test_malformed_tolerances_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(qinterp.InputError, match=message):
        load_tolerances(file)
    with pytest.raises(qinterp.InputError, match="known: nnapi"):
        load_tolerances("nobody")
    assert isinstance(load_tolerances(at_most(2)), Tolerances)


# ---- what is printed --------------------------------------------------------------------------


def test_the_table_fits_100_columns_and_has_everything(capsys: Any, tmp_path: Path) -> None:
    graph, inputs = model("digits_resnet"), images("digits_resnet", 2)
    file = tmp_path / "table.csv"
    status = run_diff(
        graph, inputs, REFERENCE, "exact", origin="samples", model="digits_resnet.tflite",
        options="--sample {}".format, tolerance="nnapi", csv_file=file,
    )  # fmt: skip
    text = capsys.readouterr().out
    assert status == int("beyond tolerance" in text)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    for wanted in ("first   conv_2d_0", "why     conv_2d_0: one exact rounding", "output", "SQNR"):
        assert wanted in text
    assert "qinterp explain digits_resnet.tflite 'conv_2d_0[" in text
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["node"] for row in rows] == [n.name for n in graph.nodes]
    assert rows[0]["status"] == "creates"


def test_an_output_that_is_all_zero_has_no_relative_error(capsys: Any) -> None:
    writer = ModelWriter()
    x = writer.input("x", (1, 3), "float32")
    y = writer.tensor("y", (1, 3), "float32")
    writer.operator("RELU", [x], [y])
    graph = qinterp.load(writer.finish(outputs=[y]))
    given = {"y": np.float32([[0, np.inf, 1]])}
    assert run_diff(graph, {"x": np.zeros((1, 3), np.float32)}, REFERENCE, given) == 1
    assert "of an output that is all zero in A" in capsys.readouterr().out
    assert run_diff(graph, {"x": np.zeros((1, 3), np.float32)}, REFERENCE, given, as_json=True) == 1
    output = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["outputs"][0]
    assert output["sqnr_db"] is None


@pytest.mark.parametrize(
    "kind",
    sorted(
        kind
        for kind, types in KINDS.items()
        if "float32" in types and kind != "UNIDIRECTIONAL_SEQUENCE_LSTM"  # which is refused
    ),
)
def test_infinities_make_no_noise(kind: str, capsys: Any) -> None:
    case = random_model(kind, "float32", np.random.default_rng(7))
    graph = qinterp.load(case.model)
    inputs = {name: np.array(value) for name, value in case.inputs.items()}
    for value in inputs.values():
        if value.dtype.kind == "f":
            value.flat[:3] = [np.nan, np.inf, -1e38][: value.size]
    made = captured(graph, inputs, REFERENCE)
    found = diff(graph, inputs, REFERENCE, {
        name: value * 2 if value.dtype.kind == "f" else value for name, value in made.items()
    })  # fmt: skip
    assert found.compared == len(graph.nodes)
    json.dumps(to_json(found), allow_nan=False)
    print_diff(found)
    assert capsys.readouterr().err == ""


def test_json_says_the_same_and_csv_has_a_row_a_node(capsys: Any) -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)
    assert run_diff(graph, inputs, REFERENCE, "exact", as_json=True, fail_lsb=100) == 0
    table = json.loads(capsys.readouterr().out)
    found = diff(graph, inputs, REFERENCE, "exact")
    assert table["schema"] == "qinterp.diff/1"
    assert table["first"] == found.first.node.name
    assert table["violations"] == []
    assert [n["created"]["count"] for n in table["nodes"]] == [n.created.count for n in found.nodes]
    assert table == json.loads(json.dumps(to_json(found, at_most(100)), allow_nan=False))
    assert len(to_csv(found).splitlines()) == len(graph.nodes) + 1


def test_the_exit_status_is_that_of_a_difference(capsys: Any) -> None:
    graph, inputs = model("digits_cnn"), images("digits_cnn", 1)
    assert run_diff(graph, inputs, REFERENCE, REFERENCE) == 0
    assert "no node differs" in capsys.readouterr().out
    assert run_diff(graph, inputs, REFERENCE, "exact") == 1
    assert run_diff(graph, inputs, REFERENCE, "exact", fail_lsb=0) == 1
