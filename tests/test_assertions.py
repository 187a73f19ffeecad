"""The assertion that other projects' tests use."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

import qinterp
from qinterp.difference import Tolerances
from qinterp.difference.tolerances import Tolerance
from qinterp.importers._shipped import samples
from qinterp.interpreter import Interpreter
from qinterp.ir import Graph
from qinterp.testing.assertions import assert_matches

REFERENCE = "tflite-reference"


@cache
def model() -> Graph:
    return qinterp.load("digits_resnet.tflite")


def sample(number: int) -> dict[str, Any]:
    own = samples("digits_resnet.tflite")
    assert own is not None
    return {own.input_name: own.inputs[number : number + 1]}


def outputs(scheme: str, number: int) -> Any:
    run = Interpreter(model(), scheme).run(sample(number))
    return run.outputs[model().outputs[0]]


@cache
def inputs() -> dict[str, Any]:
    """The first sample in which both schemes give different outputs."""
    for number in range(40):
        if not np.array_equal(outputs(REFERENCE, number), outputs("exact", number)):
            return sample(number)
    raise AssertionError("the outputs never differ")


@cache
def captured(scheme: str) -> dict[str, Any]:
    return dict(Interpreter(model(), scheme).run(inputs(), capture=True).tensors)


def test_what_matches_passes() -> None:
    (output,) = model().outputs
    actual = captured(REFERENCE)
    assert_matches(actual, model(), inputs(), REFERENCE)
    assert_matches(actual[output], model(), inputs()["image"])
    assert_matches({output: actual[output]}, "digits_resnet.tflite", inputs(), REFERENCE)
    assert_matches(captured("exact"), model().source, inputs(), "exact")


def test_within_tolerance_passes() -> None:
    (output,) = model().outputs
    right = captured(REFERENCE)
    near = right | {output: np.clip(right[output] + np.int16(1), -128, 127).astype(np.int8)}
    assert_matches(near, model(), inputs(), max_lsb=1)
    assert_matches(near, model(), inputs(), tolerance="nnapi")
    mine = Tolerances("mine", Tolerance(1, "my requantizer"))
    assert_matches(near, model(), inputs(), tolerance=mine)
    with pytest.raises(AssertionError, match="within 0 LSB"):
        assert_matches(near, model(), inputs())
    middle = model().node("conv_2d_3").outputs[0]
    far = right | {middle: right[middle] ^ 2}
    with pytest.raises(AssertionError, match="conv_2d_3 creates 2 LSB, 1 allowed"):
        assert_matches(far, model(), inputs(), max_lsb=1)
    with pytest.raises(qinterp.InputError, match="max_lsb must not be negative, got -1"):
        assert_matches(near, model(), inputs(), max_lsb=-1)
    mine = Tolerances("mine", Tolerance(1, "my requantizer"), Tolerance(0, "exact softmax"))
    with pytest.raises(AssertionError, match="0 allowed: exact softmax"):
        assert_matches(near, model(), inputs(), tolerance=mine)


def test_the_message_has_counts_first_node_trace_and_the_scheme_that_would_match() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_matches(captured("exact"), model(), inputs())
    text = str(caught.value)
    assert "the given tensors (B) are not what tflite-reference (A) gives, within 0 LSB" in text
    assert re.search(r"conv_2d_0\[[\d,]+\], which is -?\d+ in B", text)
    assert "more of the given tensors differ" in text
    assert "softmax_18: Mismatched elements: " in text
    assert "conv_2d_0: Mismatched elements: " in text
    assert "Max absolute difference: 1 LSB (" in text
    assert "First diverging node: conv_2d_0 (conv_2d)" in text
    assert "(B) against two integer roundings (A)" in text
    assert re.search("equals .*exact.* exactly: your rounding, not your data", text)
    assert "multiply_high" in text  # the trace


def test_outputs_alone_say_as_much_as_they_can() -> None:
    (output,) = model().outputs
    with pytest.raises(AssertionError) as caught:
        assert_matches(captured("exact")[output], model(), inputs())
    text = str(caught.value)
    assert "First diverging node: softmax_18 (softmax)" in text
    assert "or one of the 18 before it, from conv_2d_0 on: give more tensors" in text
    assert re.search("equals .*exact.* exactly: your rounding, not your data", text)


def test_data_that_no_scheme_gives_is_not_called_a_rounding() -> None:
    wrong = dict(captured(REFERENCE))
    name = model().nodes[3].outputs[0]
    wrong[name] = np.roll(wrong[name], 1, axis=1)
    with pytest.raises(AssertionError) as caught:
        assert_matches(wrong, model(), inputs())
    text = str(caught.value)
    assert "First diverging node: conv_2d_3" in text
    assert "it is too much for a rounding: look at this node's weights" in text
    assert "no known scheme gives this in" in text
    assert "your rounding" not in text


def test_what_cannot_be_compared_is_an_error_and_not_a_failure() -> None:
    with pytest.raises(qinterp.InputError, match="none of 1 tensors"):
        assert_matches({"blob": np.zeros(3)}, model(), inputs())
    with pytest.raises(qinterp.InputError, match="has shape"):
        assert_matches({model().outputs[0]: np.zeros(3, np.int8)}, model(), inputs())
    with pytest.raises(qinterp.InputError, match="nothing to compare"):
        assert_matches(Interpreter(model()).input_codes(inputs()), model(), inputs())
    with pytest.raises(qinterp.InputError, match="no tensors in it"):
        assert_matches({}, model(), inputs())
    lacking = qinterp.load_scheme(REFERENCE).with_({"add.recipe": {"name": "float32"}})
    with pytest.raises(qinterp.InputError, match=r"add_4 cannot be compared: .*float32"):
        assert_matches(captured(REFERENCE), model(), inputs(), lacking)
    with pytest.raises(qinterp.SchemeError):
        assert_matches(captured(REFERENCE), model(), inputs(), "nobody")
