"""Schemes as data: TOML in and out, strict loading, rules, ``with_``, hashes."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SEED

import qinterp
from qinterp import Scheme, SchemeError, load_scheme, scheme_names
from qinterp.errors import UnsupportedOperatorError
from qinterp.numerics.rounding import ROUNDINGS
from qinterp.numerics.stages import NAMED_STAGES
from qinterp.ops.add import RescaledSum
from qinterp.scheme import FACTS, POLICY_KEYS, RECIPES
from qinterp.schemes_io import from_table, to_toml
from qinterp.testing.tflite_writer import ModelWriter

HEAD = 'name = "mine"\nsource = "here"\nevidence = { level = "source" }\n'
CONV = {"op": "conv_2d"}
Write = Callable[..., Scheme]


@pytest.fixture
def load(tmp_path: Path) -> Write:
    """Write TOML files side by side, HEAD first where there is no name; load ``mine``."""

    def write(mine: str, **others: str) -> Scheme:
        for name, text in {**others, "mine": mine}.items():
            head = "" if text.startswith("name") else HEAD.replace("mine", name)
            (tmp_path / f"{name}.toml").write_text(head + text)
        return load_scheme(tmp_path / "mine.toml")

    return write


# ---- strict loading -------------------------------------------------------------------------

ROUNDED = ", ".join(ROUNDINGS)
POLICY = ", ".join(POLICY_KEYS)
NAMES = ", ".join(scheme_names())
BAD_TOML = {
    'name = "mine': "mine.toml: Unterminated string (at end of document)",
    'name = "mine"': "mine.toml: missing key 'source'",
    'name = "mine"\nsource = "here"': "mine.toml.evidence: expected a table with a key 'level'",
    'name = 3\nsource = "here"\nevidence.level = "source"': "mine.toml.name: expected str, got 3",
    'name = "mine"\nsource = "here"\nevidence.level = "hearsay"': (
        "mine.toml.evidence.level: 'hearsay' is not one of verified, source, literature, definition"
    ),
    'name = "m"\nsource = "s"\nevidence = { level = "verified", runtime = "r", test = "t" }': (
        "mine.toml.evidence: level 'verified' needs a key 'version'"
    ),
    'name = "mine"\nsource = "here"\nevidence = { level = "source", runtime = 3 }': (
        "mine.toml.evidence.runtime: expected str, got 3"
    ),
    'name = "mine"\nsource = "here"\nevidence = { level = "source", runtim = "r" }': (
        "mine.toml.evidence: unknown key 'runtim' (did you mean 'runtime'?); known keys: level, "
        "runtime, version, test, notes"
    ),
    'colour = "red"': (
        "mine.toml: unknown key 'colour'; known keys: name, source, evidence, default, rule, node, "
        "fallback"
    ),
    "default = 3": "mine.toml.default: expected a table, got 3",
    "rule = 3": "mine.toml.rule: expected a list of tables, got 3",
    "rule = [3]": "mine.toml.rule[0]: expected a table, got 3",
    "node = 3": "mine.toml.node: expected a table, got 3",
    "fallback = 3": "mine.toml.fallback: expected str, got 3",
    'fallback = "nothing"': (
        f"mine.toml.fallback: no scheme 'nothing'; known: {NAMES}; or give a path to a .toml"
    ),
    "extends = 3": "mine.toml.extends: expected str, got 3",
    'extends = "nothing"': (
        f"mine.toml.extends: no scheme 'nothing'; known: {NAMES}; or give a path to a .toml"
    ),
    'extends = "exact"\ndefault = 3': "mine.toml.default: expected a table, got 3",
    'extends = "exact"\nnode = 3': "mine.toml.node: expected a table, got 3",
    'extends = "exact"\nrule = 3': "mine.toml.rule: expected a list, got 3",
    'extends = "exact"\n[default]\nwhen = { op = "add" }': (
        f"mine.toml.default: unknown key 'when'; known keys: {POLICY}"
    ),
    'extends = "tflite-reference"\n[default.accumulator]\nbits = 99': (
        "mine.toml.default.accumulator: bits must be in 2..64, got 99"
    ),
    'extends = "tflite-reference"\n[[rule]]\n[[rule]]\naccumulator = { bits = 99 }': (
        "mine.toml.rule[1].accumulator: bits must be in 2..64, got 99"
    ),
    "[node]\nconv = 3": 'mine.toml.node."conv": expected a table, got 3',
    "[node.conv]\nscheme = 3": 'mine.toml.node."conv".scheme: expected str, got 3',
    '[node."conv"]\nscheme = "nothing"': (
        f"mine.toml.node.\"conv\".scheme: no scheme 'nothing'; known: {NAMES}; or give a path to "
        "a .toml"
    ),
    "[node.conv]\nbits = 3": (
        f"mine.toml.node.\"conv\": unknown key 'bits' (did you mean 'bias'?); known keys: scheme, {POLICY}"
    ),
    "[node.conv]\naccumulator = { bits = 99 }": (
        'mine.toml.node."conv".accumulator: bits must be in 2..64, got 99'
    ),
}
BAD_DEFAULT = {
    "acumulator = { bits = 3 }": (
        f": unknown key 'acumulator' (did you mean 'accumulator'?); known keys: {POLICY}"
    ),
    "accumulator = 3": ".accumulator: expected a table, got 3",
    "accumulator = { bit = 3 }": (
        ".accumulator: unknown key 'bit' (did you mean 'bits'?); known keys: bits, overflow, "
        "check, operands, order, padding, bias, group, weight_zero_point"
    ),
    "accumulator = { bits = 1 }": ".accumulator: bits must be in 2..64, got 1",
    "accumulator = { bits = 65 }": ".accumulator: bits must be in 2..64, got 65",
    "accumulator = { bits = true }": ".accumulator.bits: expected int, got True",
    "accumulator = { bits = 32.0 }": ".accumulator.bits: expected int, got 32.0",
    'accumulator = { bits = "32" }': ".accumulator.bits: expected int, got '32'",
    "accumulator = { bits = 1979-05-27 }": ".accumulator.bits: expected int, got '1979-05-27'",
    'accumulator = { overflow = "clip" }': (
        ".accumulator.overflow: 'clip' is not one of wrap, saturate, error"
    ),
    'accumulator = { check = "often" }': (
        ".accumulator.check: 'often' is not one of each_step, at_end"
    ),
    'accumulator = { operands = "shifted" }': (
        ".accumulator.operands: 'shifted' is not one of zero_point_subtracted, raw"
    ),
    'accumulator = { padding = "one" }': (
        ".accumulator.padding: 'one' is not one of skip, zero_point, zero"
    ),
    'accumulator = { bias = "never" }': ".accumulator.bias: 'never' is not one of last, first",
    'accumulator = { order = "kh" }': ".accumulator.order: expected a list, got 'kh'",
    'accumulator = { order = ["kh", "kw", "kw"] }': (
        ".accumulator: order must name kh, kw and ic once each, got ['kh', 'kw', 'kw']"
    ),
    'accumulator = { order = ["kh", "kw", "oc"] }': (
        ".accumulator.order[2]: 'oc' is not one of kh, kw, ic"
    ),
    "accumulator = { group = { size = 1, bits = 16 } }": (
        ".accumulator.group: size must be at least 2, got 1"
    ),
    "accumulator = { group = { size = 2 } }": ".accumulator.group: missing key 'bits'",
    "accumulator = { group = { size = 2, bits = 65 } }": (
        ".accumulator.group: bits must be in 2..64, got 65"
    ),
    'effective_scale = { precision = "float16" }': (
        ".effective_scale.precision: 'float16' is not one of float32, float64, exact"
    ),
    'effective_scale = { product_precision = "exact" }': (
        ".effective_scale: product_precision 'exact' needs precision 'exact'"
    ),
    "multiplier = { bits = 1 }": ".multiplier: bits must be in 2..62, got 1",
    "multiplier = { bits = 63 }": ".multiplier: bits must be in 2..62, got 63",
    "multiplier = { reduce_to = 31 }": ".multiplier: reduce_to must be in 2..30, got 31",
    "multiplier = { renormalize = 1 }": ".multiplier.renormalize: expected bool, got 1",
    'multiplier = { rounding = "half_up" }': (
        f".multiplier.rounding: 'half_up' is not one of {ROUNDED}"
    ),
    'multiplier = { form = "none" }': ".requantize: multiplies, but multiplier.form is 'none'",
    'activation_bounds = { zero_point = "before" }': (
        ".activation_bounds.zero_point: 'before' is not one of after_rounding, before_rounding"
    ),
    'requantize = "gemlowp"': f".requantize: 'gemlowp' is not one of {', '.join(NAMED_STAGES)}",
    "requantize = 3": ".requantize: expected a list, got 3",
    "requantize = []": ".requantize: the last stage must be 'clamp'",
    'requantize = ["clamp"]': (".requantize[0]: expected a table with a key 'stage', got 'clamp'"),
    'requantize = [{ stage = "shift_up" }]': (
        ".requantize[0].stage: 'shift_up' is not one of shift_left, multiply, multiply_high, "
        "shift_right, to_float, scale, scale_exact, divide_scale, round, add_zero_point, saturate, "
        "wrap, clamp, clamp_float"
    ),
    'requantize = [{ stage = "shift_right" }]': ".requantize[0]: missing key 'rounding'",
    'requantize = [{ stage = "shift_right", rounding = "nearest" }]': (
        f".requantize[0].rounding: 'nearest' is not one of {ROUNDED}"
    ),
    'requantize = [{ stage = "saturate", bits = 65 }]': (
        ".requantize[0]: bits must be in 2..64, got 65"
    ),
    'requantize = [{ stage = "clamp" }, { stage = "add_zero_point" }]': (
        ".requantize: the last stage must be 'clamp'"
    ),
    'requantize = [{ stage = "to_float", precision = "float32" }]': (
        ".requantize: the last stage leaves a float; a round stage is missing"
    ),
    'requantize = "exact_ties_to_even"': (
        ".requantize: stage 'scale_exact' needs effective_scale.precision = 'exact'"
    ),
    "recipe = { left_shift = 3 }": ".recipe: missing key 'name'",
    'recipe = "rescaled_sum"': ".recipe: expected a table, got 'rescaled_sum'",
    'tail = { block = 1, along = "flat", requantize = "gemmlowp" }': (
        ".tail: block must be at least 2, got 1"
    ),
    'tail = { block = 16, along = "flat" }': ".tail: missing key 'requantize'",
    'tail = { block = 16, along = "column", requantize = "gemmlowp" }': (
        ".tail.along: 'column' is not one of channel, row, flat"
    ),
    'tail = { block = 16, along = "flat", requantize = "exact_ties_to_even" }': (
        ".tail.requantize: stage 'scale_exact' needs effective_scale.precision = 'exact'"
    ),
    'tail = { block = 16, along = "flat", requantize = [{ stage = "wrap", bits = 8 }] }': (
        ".tail.requantize: the last stage must be 'clamp'"
    ),
}
BAD_RULE = {
    "when = 3": ".when: expected a table, got 3",
    'when = { kind = "add" }': f".when: unknown key 'kind'; known keys: {', '.join(FACTS)}",
    "when = { op = 3 }": ".when.op: 3 has the wrong type",
    "when = { op = [] }": ".when.op: an empty list matches nothing",
    "when = { rank = true }": ".when.rank: True has the wrong type",
    'when = { rank = [4, "4"] }': ".when.rank: '4' has the wrong type",
    "when = { keep_dims = 1 }": ".when.keep_dims: 1 has the wrong type",
    "when = { axes = 1 }": ".when.axes: 1 has the wrong type",
    "when = { axes = [true] }": ".when.axes: [True] has the wrong type",
    "bits = 3": (
        f": unknown key 'bits' (did you mean 'bias'?); known keys: when, {POLICY}, set, unset"
    ),
    'when = { activation = "int8" }\naccumulator = { bits = 99 }': (
        ".accumulator: bits must be in 2..64, got 99"
    ),
    'when = { op = "add" }\nrecipe = { name = "rescaled_sum", left_shift = "20" }': (
        ".recipe.left_shift: expected int, got '20'"
    ),
    'when = { op = "add" }\nrecipe = { name = "rescaled_sum", right_shift = 20 }': (
        ".recipe: unknown key 'right_shift' (did you mean 'left_shift'?); known keys: "
        f"{', '.join(field.name for field in dataclasses.fields(RescaledSum))}"
    ),
    'when = { op = ["add", "conv_2d"] }\nrequantize = "exact_ties_to_even"': (
        ".requantize: stage 'scale_exact' needs effective_scale.precision = 'exact'"
    ),
    "set = 3": ".set: expected a table, got 3",
    "set = { accumulator = 3 }": ".accumulator: expected a table, got 3",
    'set = { "accumulator.bits" = 99 }': ".accumulator: bits must be in 2..64, got 99",
    'set = { "accumulator.bits.high" = 3 }': (
        ".accumulator.bits.high: 'accumulator.bits' has no fields"
    ),
    'set = { "requantize.round.rounding" = "toward_zero" }': (
        ": 0 stages are called 'round'; the list: shift_left, multiply_high, shift_right, "
        "add_zero_point, clamp"
    ),
    'set = { "requantize.9.rounding" = "toward_zero" }': ": the list has 5 stages, no number 9",
    'unset = "tail"': ".unset: expected a list, got 'tail'",
    'unset = ["conv_2d"]': f".set: unknown key 'conv_2d'; known keys: {POLICY}",
}


@pytest.mark.parametrize("text", BAD_TOML)
def test_malformed_scheme(load: Write, text: str) -> None:
    with pytest.raises(SchemeError) as error:
        load(text)
    assert str(error.value) == BAD_TOML[text]


@pytest.mark.parametrize("text", BAD_DEFAULT)
def test_malformed_default_and_the_same_in_a_rule(load: Write, text: str) -> None:
    for header, path in (("default", "default"), ("[rule]", "rule[0]")):
        with pytest.raises(SchemeError) as error:
            load(f"[{header}]\n{text}")
        wanted = f"mine.toml.{path}{BAD_DEFAULT[text]}"
        if header == "[rule]":  # a rule takes more keys
            wanted = wanted.replace(f"keys: {POLICY}", f"keys: when, {POLICY}, set, unset")
        assert str(error.value) == wanted


@pytest.mark.parametrize("text", BAD_RULE)
def test_malformed_rule(load: Write, text: str) -> None:
    with pytest.raises(SchemeError) as error:
        load(f'[[rule]]\nwhen = {{ op = "add" }}\n[[rule]]\n{text}')
    assert str(error.value) == f"mine.toml.rule[1]{BAD_RULE[text]}"


def test_unknown_names_list_what_is_known(load: Write) -> None:
    for text, where in (
        ('when = { op = "adds" }', "rule[0].when.op: 'adds'"),
        ('recipe = { name = "adds" }', "rule[0].recipe.name: 'adds'"),
        ('when.op = "add"\nrecipe.name = "accumulate"', "rule[0].recipe.name: 'accumulate'"),
        ('recipes = "adds"', "rule[0].recipes: 'adds'"),
    ):
        with pytest.raises(SchemeError) as error:
            load("[[rule]]\n" + text)
        assert str(error.value).startswith(f"mine.toml.{where} is not one of ")
        assert {"add", "real", "tflite"} & set(str(error.value).split(" of ")[1].split(", "))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(SchemeError, match="No such file"):
        load_scheme(path)
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(SchemeError, match="utf-8"):
        load_scheme(path)
    with pytest.raises(SchemeError, match=f"no scheme 'none'; known: {NAMES}"):
        load_scheme("none")


# ---- TOML in and out ------------------------------------------------------------------------


@pytest.mark.parametrize("name", scheme_names())
def test_round_trip(name: str, tmp_path: Path) -> None:
    scheme = load_scheme(name)
    changed = scheme.with_({"accumulator.bits": 40, "tail": None}).with_(
        {"add.accumulator.bits": 5}
    )
    for number, one in enumerate((scheme, changed, changed.with_node("x", load_scheme("exact")))):
        path = tmp_path / f"again{number}.toml"
        path.write_text(to_toml(one))
        again = load_scheme(path)
        assert again.sha256 == one.sha256
        assert again == one
        assert again.name == one.name
        assert (again.source, again.evidence) == (one.source, one.evidence)
        assert to_toml(again) == to_toml(one)
    assert load_scheme(scheme) is scheme
    assert changed != scheme


def test_every_shipped_file_is_strictly_the_scheme_it_says() -> None:
    assert len(scheme_names()) >= 3
    for name in scheme_names():
        scheme = load_scheme(name)
        assert from_table(scheme.to_table()) == scheme
        assert repr(scheme) == f"<Scheme {name} {scheme.sha256[:12]}>"


# ---- extends --------------------------------------------------------------------------------


def test_a_child_overrides_and_inherits(load: Write) -> None:
    child = load('extends = "tflite-reference"\n[default]\naccumulator = { bits = 24 }')
    parent = load_scheme("tflite-reference")
    ours, theirs = child.policy(CONV), parent.policy(CONV)
    assert ours.accumulator == dataclasses.replace(theirs.accumulator, bits=24)
    assert dataclasses.replace(ours, accumulator=theirs.accumulator) == theirs
    assert child.name == "mine"
    assert child.evidence == {"level": "source"}


def test_a_childs_default_wins_over_its_parents_rules(load: Write) -> None:
    parent = (
        '[[rule]]\nwhen = { op = "conv_2d" }\naccumulator = { bits = 20, overflow = "saturate" }'
    )
    child = load('extends = "parent"\n[default]\naccumulator = { bits = 24 }', parent=parent)
    assert (child.policy(CONV).accumulator.bits, child.policy({"op": "add"}).accumulator.bits) == (
        24,
        24,
    )
    assert child.policy(CONV).accumulator.overflow == "saturate"
    child = load(
        'extends = "parent"\n[default]\naccumulator = { bits = 24 }\n'
        '[[rule]]\nwhen = { op = "conv_2d" }\naccumulator = { bits = 28 }',
        parent=parent,
    )
    assert child.policy(CONV).accumulator.bits == 28


def test_a_chain_of_three(load: Write) -> None:
    child = load(
        'extends = "b"\n[default]\nmultiplier = { bits = 15 }',
        b='extends = "c"\n[default]\naccumulator = { bits = 24 }\n[node.n]\nmultiplier.bits = 8',
        c='extends = "tflite-reference"\nfallback = "exact"\n'
        '[default]\naccumulator = { bits = 20, bias = "first" }',
    )
    accumulator = child.policy(CONV).accumulator
    assert (accumulator.bits, accumulator.bias) == (24, "first")
    assert child.policy(CONV).multiplier.bits == 15
    assert child.for_node("n").policy(CONV).multiplier.bits == 8
    assert child.fallback == load_scheme("exact")
    assert load_scheme("tflite-reference").fallback is None


def test_a_child_may_take_a_field_away_and_change_one_stage(load: Write) -> None:
    child = load(
        'extends = "parent"\n[[rule]]\nunset = ["accumulator.group", "tail"]\n'
        'set = { "requantize.shift_right.rounding" = "toward_zero" }',
        parent='extends = "tflite-reference"\n[default]\n'
        "accumulator.group = { size = 2, bits = 16 }\n"
        'tail = { block = 16, along = "flat", requantize = "single_rounding" }',
    )
    policy = child.policy(CONV)
    assert policy.accumulator.group is None
    assert policy.tail is None
    assert [getattr(s, "rounding", "") for s in policy.requantize][1:3] == [
        "ties_toward_positive",
        "toward_zero",
    ]


def test_a_child_of_a_changed_scheme_wins_over_the_changes(load: Write) -> None:
    parent = load_scheme("tflite-reference").with_({"accumulator.bits": 20, "multiplier.bits": 15})
    child = load(
        'extends = "parent"\n[default]\naccumulator = { bits = 24 }', parent=to_toml(parent)
    )
    assert (child.policy(CONV).accumulator.bits, child.policy(CONV).multiplier.bits) == (24, 15)


@pytest.mark.parametrize(
    ("texts", "cycle"),
    [
        ({"mine": 'extends = "mine.toml"'}, "mine.toml -> mine.toml"),
        ({"mine": 'extends = "b"', "b": 'extends = "mine"'}, "mine.toml -> b.toml -> mine.toml"),
        (
            {"mine": 'extends = "b"', "b": 'extends = "c"', "c": 'extends = "b"'},
            "b.toml -> c.toml -> b.toml",
        ),
        ({"mine": 'fallback = "b"', "b": 'fallback = "mine"'}, "mine.toml -> b.toml -> mine.toml"),
        (
            {"mine": 'extends = "b"', "b": '[node.x]\nscheme = "mine"'},
            "mine.toml -> b.toml -> mine.toml",
        ),
    ],
)
def test_cycles(load: Write, texts: dict[str, str], cycle: str) -> None:
    with pytest.raises(SchemeError, match=f"refers to itself: {cycle}$"):
        load(texts.pop("mine"), **texts)


def test_a_file_may_bear_the_name_of_the_scheme_it_extends(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exact.toml").write_text(HEAD + 'extends = "exact"\n')
    assert load_scheme("exact.toml") == load_scheme("exact")
    assert load_scheme("exact").name == "exact"


EXAMPLE = """\
name = "my-npu"
extends = "cmsis-nn"                       # the usual case: a known backend, but ...
source = "my-npu RTL 1.3, requant.sv"
evidence = { level = "source" }

[default]
effective_scale = { form = "product_then_divide", precision = "float64" }
multiplier = { form = "mantissa_shift", bits = 31, rounding = "ties_to_away" }
requantize = [
  { stage = "shift_left",    bits = 32, overflow = "wrap" },
  { stage = "multiply_high", bits = 32, rounding = "ties_toward_positive", overflow = "saturate" },
  { stage = "shift_right",   rounding = "ties_to_away" },
  { stage = "add_zero_point", bits = 32, overflow = "wrap" },
  { stage = "clamp" },
]

[default.accumulator]
bits = 24
overflow = "saturate"
check = "each_step"
operands = "zero_point_subtracted"
order = ["kh", "kw", "ic"]

[[rule]]                                   # in order; later rules win
when = { op = "fully_connected", activation = "int8" }
requantize = "float64_ties_to_away"        # common lists have names

[[rule]]
when = { op = "mean", rank = 4, axes = [1, 2], keep_dims = true }

[rule.recipe]
name = "float_bias_mean"
tail = { block = 16, along = "channel", requantize = "gemmlowp" }

[node."conv_2d_3"]
scheme = "glow-cpu"                        # an NPU/CPU split graph
"""


def test_the_complete_example_loads(load: Write) -> None:
    text = EXAMPLE
    coming = "float_bias_mean" not in RECIPES.names("mean")
    if coming:  # the recipe that XNNPACK's scheme brings
        text = (
            text[: text.index('name = "float_bias')]
            + 'name = "real"\n'
            + text[text.index("[node") :]
        )
    others = {  # stand-ins for backends that are not there yet
        name: HEAD.replace("mine", name) + 'extends = "tflite-reference"'
        for name in {"cmsis-nn", "glow-cpu"} - set(scheme_names())
    }
    scheme = load(text, **others)
    policy = scheme.policy({"op": "conv_2d", "activation": "int8"})
    assert (policy.accumulator.bits, policy.accumulator.overflow) == (24, "saturate")
    assert policy.requantize == NAMED_STAGES["gemmlowp"]
    connected = scheme.policy({"op": "fully_connected", "activation": "int8"})
    assert connected.requantize == NAMED_STAGES["float64_ties_to_away"]
    mean = scheme.policy({"op": "mean", "rank": 4, "axes": [1, 2], "keep_dims": True})
    assert mean.recipe is not None
    assert mean.recipe.name == ("real" if coming else "float_bias_mean")
    assert coming or mean.recipe.params.tail.block == 16
    assert scheme.for_node("conv_2d_3").name == "glow-cpu"
    assert scheme.for_node("conv_2d_4") is scheme


# ---- rules ----------------------------------------------------------------------------------

VALUES: dict[str, tuple[Any, Any]] = {
    "op": ("conv_2d", "add"),
    "activation": ("int8", "uint8"),
    "weight": ("int4", "int8"),
    "bias": ("none", "int32"),
    "output": ("int16", "int8"),
    "output_zero_point": (0, -128),
    "rank": (4, 3),
    "axes": ([1, 2], [2]),
    "keep_dims": (True, False),
    "groups": (1, 2),
    "batch": (1, 8),
    "broadcast": ("scalar", "none"),
    "per_channel": (True, False),
    "power_of_two_scale": (True, False),
    "same_parameters": (False, True),
    "constant_weights": (True, False),
    "symmetric_weights": (True, False),
    "whole_bytes": (True, False),
    "weight_dimension": (0, 3),
    "padding": ("valid", "same"),
    "padded": (True, False),
    "gaps": (True, False),
    "negative_axes": (True, False),
    "index_per_axis": (False, True),
    "scale_ratio": ({"least": 0.5, "most": 2.0}, {"least": 4.0, "most": 8.0}),
    "product_ratio": ({"least": 0.5, "most": 2.0}, {"least": 4.0, "most": 8.0}),
    "slope_ratio": ({"least": 0.5, "most": 2.0}, {"least": 4.0, "most": 8.0}),
}


def test_the_facts_tried_here_are_all_there_are() -> None:
    assert VALUES.keys() == FACTS.keys()
    assert all(type(v) is FACTS[fact] for fact, pair in VALUES.items() for v in pair)


@pytest.mark.parametrize("fact", FACTS)
def test_a_rule_with_each_fact(fact: str) -> None:
    yes, no = VALUES[fact]

    def bits(when: Any, facts: dict[str, Any]) -> int:
        return (
            scheme_of(rule=[{"when": when, "accumulator": {"bits": 20}}])
            .policy(facts)
            .accumulator.bits
        )

    assert bits({fact: yes}, {fact: yes}) == 20
    assert bits({fact: yes}, {fact: no}) == 32
    assert bits({fact: yes}, {}) == 32
    if FACTS[fact] is not list:
        assert bits({fact: [no, yes]}, {fact: yes}) == 20
        assert bits({fact: [no]}, {fact: yes}) == 32
    other = next(f for f in FACTS if f != fact)
    both = {fact: yes, other: VALUES[other][0]}
    assert bits(both, both) == 20
    assert bits(both, {**both, other: VALUES[other][1]}) == 32


def scheme_of(**table: Any) -> Scheme:
    return from_table({"name": "made", "source": "here", "evidence": {"level": "source"}, **table})


def test_later_rules_win_field_by_field() -> None:
    scheme = scheme_of(
        default={"accumulator": {"bits": 40, "bias": "first"}},
        rule=[
            {"when": {"op": "conv_2d"}, "accumulator": {"bits": 20, "overflow": "saturate"}},
            {"when": {"activation": "int8"}, "accumulator": {"bits": 24}},
            {"when": {"op": "add"}, "accumulator": {"bits": 10}},
        ],
    )
    found = scheme.policy({"op": "conv_2d", "activation": "int8"}).accumulator
    assert (found.bits, found.overflow, found.bias) == (24, "saturate", "first")
    assert scheme.policy(CONV).accumulator.bits == 20
    assert scheme.policy({"op": "reshape"}).accumulator.bits == 40


def test_a_rule_is_checked_together_with_the_rules_it_builds_on() -> None:
    exact = {"effective_scale": {"precision": "exact"}, "multiplier": {"form": "none"}}
    rules = [
        {"when": {"op": "conv_2d"}, "requantize": "exact_ties_to_even", **exact},
        {"when": {"op": "conv_2d", "activation": "int16"}, "accumulator": {"bits": 64}},
    ]
    assert scheme_of(rule=rules).policy(CONV).multiplier.form == "none"
    rules[1]["effective_scale"] = {"precision": "float64"}
    with pytest.raises(SchemeError, match=r"made.rule\[1\].requantize: stage 'scale_exact' needs"):
        scheme_of(rule=rules)


def test_another_recipe_replaces_all_parameters_of_the_first() -> None:
    scheme = scheme_of(
        rule=[
            {"when": {"op": "add"}, "recipe": {"name": "rescaled_sum", "left_shift": 9}},
            {"when": {"op": "add", "activation": "int8"}, "recipe": {"name": "real"}},
        ]
    )
    assert scheme.policy({"op": "add"}).recipe.params.left_shift == 9
    assert scheme.policy({"op": "add", "activation": "int8"}).recipe.name == "real"


# ---- models: facts as the interpreter gives them, nodes, fallback ----------------------------


def two_convolutions() -> bytes:
    writer = ModelWriter()
    x = writer.input("x", (1, 3, 3, 1), "int8", scale=0.5)
    w = writer.constant("w", np.full((1, 1, 1, 1), 3, np.int8), scale=0.25)
    b = writer.constant("b", np.zeros(1, np.int32), scale=0.125)
    for number in (1, 2):
        y = writer.tensor(f"y{number}", (1, 3, 3, 1), "int8", scale=0.5)
        writer.operator("CONV_2D", [x, w, b], [y], stride_h=1, stride_w=1)
        x = y
    return writer.finish([x])


X = (np.arange(9, dtype=np.int8) - 4).reshape(1, 3, 3, 1)
PLUS = {"requantize.shift_right.rounding": "toward_positive"}


def outputs(scheme: Scheme) -> dict[str, list[int]]:
    tensors = qinterp.run(qinterp.load(two_convolutions()), X, scheme, capture=True).tensors
    return {name: value.ravel().tolist() for name, value in tensors.items()}


def test_a_node_of_its_own_scheme(load: Write) -> None:
    reference = load_scheme("tflite-reference")
    plain, up = outputs(reference), outputs(reference.with_(PLUS))
    assert plain["y1"] != up["y1"]
    split = outputs(reference.with_node("conv_2d_0", reference.with_(PLUS)))
    assert split["y1"] == up["y1"]
    assert split["y2"] != up["y2"]
    mixed = load('extends = "tflite-reference"\n[node.conv_2d_0]\naccumulator.bits = 3')
    assert outputs(mixed)["y1"] != plain["y1"]
    again = load(
        'extends = "tflite-reference"\n[node.conv_2d_0]\nscheme = "up"',
        up='extends = "tflite-reference"\n[[rule]]\n'
        'set = { "requantize.shift_right.rounding" = "toward_positive" }',
    )
    assert outputs(again) == split
    assert again.sha256 != load_scheme("tflite-reference").sha256


def test_the_table_of_a_node_reaches_only_that_node() -> None:
    scheme = scheme_of(node={"conv_2d_1": {"accumulator": {"bits": 20}}})
    assert scheme.for_node("conv_2d_1").policy(CONV).accumulator.bits == 20
    assert scheme.for_node("conv_2d_0").policy(CONV).accumulator.bits == 32


def test_fallback_takes_what_the_scheme_has_no_recipe_for(monkeypatch: Any) -> None:
    writer = ModelWriter()
    x = writer.input("x", (1, 4), "int8", scale=0.5)
    y = writer.tensor("y", (1, 4), "int8", scale=0.5)
    writer.operator("ADD", [x, x], [y])
    graph = qinterp.load(writer.finish([y]))
    monkeypatch.setitem(RECIPES._family, ("conv_2d", "narrow"), "accumulate")
    narrow = {"default": {"recipes": "narrow"}}
    with pytest.raises(UnsupportedOperatorError) as error:
        qinterp.Interpreter(graph, scheme_of(**narrow))
    assert str(error.value) == "node 'add_0' (add): scheme 'made' has no rule for add"
    plan = qinterp.Interpreter(graph, scheme_of(**narrow, fallback="exact")).plan
    assert (plan[0].scheme, plan[0].recipe) == ("exact", "real")


# ---- with_ ----------------------------------------------------------------------------------


def test_with_reaches_every_rule() -> None:
    reference = load_scheme("tflite-reference")
    wide = {"op": "conv_2d", "activation": "int16", "bias": "int64"}
    assert reference.policy(wide).accumulator.bits == 64
    changed = reference.with_({"accumulator.bits": 20})
    for facts in (wide, CONV, {"op": "fully_connected"}, {}):
        assert changed.policy(facts).accumulator.bits == 20
        assert changed.policy(facts).requantize == reference.policy(facts).requantize


def test_with_reaches_one_kind() -> None:
    changed = load_scheme("tflite-reference").with_({"conv_2d.accumulator.bits": 20})
    assert changed.policy(CONV).accumulator.bits == 20
    assert changed.policy({"op": "depthwise_conv_2d"}).accumulator.bits == 32


@pytest.mark.parametrize(
    "path", ["requantize.shift_right.rounding", "requantize.2.rounding", "requantize.-3.rounding"]
)
def test_with_reaches_stages_by_name_and_by_number(path: str) -> None:
    scheme = load_scheme("tflite-reference").with_({f"depthwise_conv_2d.{path}": "toward_zero"})
    before = NAMED_STAGES["gemmlowp"]
    after = scheme.policy({"op": "depthwise_conv_2d"}).requantize
    assert after[2] == dataclasses.replace(before[2], rounding="toward_zero")
    assert (*after[:2], *after[3:]) == (*before[:2], *before[3:])
    assert scheme.policy(CONV).requantize == before


def test_with_a_stage_that_only_some_lists_have() -> None:
    reference = load_scheme("tflite-reference")
    connected = {"op": "fully_connected"}
    changed = reference.with_({"requantize.round.rounding": "ties_to_even"})
    assert changed.policy(connected).requantize[2].rounding == "ties_to_even"
    assert changed.policy(CONV) == reference.policy(CONV)
    with pytest.raises(SchemeError, match="0 stages are called 'round'; the list: shift_left"):
        reference.with_({"depthwise_conv_2d.requantize.round.rounding": "ties_to_even"})


def test_with_replaces_whole_stages_lists_and_tables() -> None:
    reference = load_scheme("tflite-reference")
    changed = reference.with_({"requantize.2": {"stage": "shift_right", "rounding": "toward_zero"}})
    assert changed.policy(CONV).requantize[2].rounding == "toward_zero"
    changed = reference.with_({"requantize": "single_rounding"})
    assert changed.policy({"op": "fully_connected"}).requantize == NAMED_STAGES["single_rounding"]
    changed = reference.with_({"requantize": list(NAMED_STAGES["single_rounding"])})
    assert changed.policy(CONV).requantize == NAMED_STAGES["single_rounding"]
    changed = reference.with_({"accumulator": {"bits": 20}})
    assert (
        changed.policy(CONV).accumulator
        == reference.with_({"accumulator.bits": 20}).policy(CONV).accumulator
    )


def test_with_expands_what_is_only_named_or_implied() -> None:
    scheme = scheme_of(default={"requantize": "single_rounding"})
    changed = scheme.with_({"requantize.shift_right.rounding": "toward_zero"})
    assert changed.policy(CONV).requantize[1].rounding == "toward_zero"
    bare = scheme_of().with_(
        {"requantize.shift_right.rounding": "toward_zero", "multiplier.bits": 15}
    )
    assert bare.policy(CONV).requantize[2].rounding == "toward_zero"
    assert bare.policy(CONV).multiplier.bits == 15


def test_with_optional_tables() -> None:
    scheme = scheme_of()
    grouped = scheme.with_({"accumulator.group.size": 2, "accumulator.group.bits": 16})
    assert grouped.policy(CONV).accumulator.group.bits == 16
    assert grouped.with_({"accumulator.group": None}).policy(CONV) == scheme.policy(CONV)
    tail = {"block": 16, "along": "flat", "requantize": "single_rounding"}
    tailed = scheme.with_({"tail": tail})
    assert tailed.with_({"tail.block": 8}).policy(CONV).tail.block == 8
    assert (
        tailed.with_({"tail.requantize.shift_right.rounding": "toward_zero"})
        .policy(CONV)
        .tail.requantize[1]
        .rounding
        == "toward_zero"
    )
    assert tailed.with_({"tail": None}).policy(CONV) == scheme.policy(CONV)
    with pytest.raises(SchemeError, match="tail: missing key 'along'"):
        scheme.with_({"tail.block": 8})


def test_with_recipe_parameters() -> None:
    scheme = load_scheme("tflite-reference")
    changed = scheme.with_({"add.recipe.left_shift": 12})
    assert changed.policy({"op": "add"}).recipe.params.left_shift == 12
    changed = changed.with_({"add.recipe.input_stages.shift_right.rounding": "toward_zero"})
    params = changed.policy({"op": "add"}).recipe.params
    assert (params.left_shift, params.input_stages[1].rounding) == (12, "toward_zero")
    assert params.output_stages[1].rounding == "ties_to_away"
    changed = changed.with_({"add.recipe": {"name": "real"}})
    assert changed.policy({"op": "add"}).recipe.name == "real"


def test_with_precedence_is_the_order_of_the_changes() -> None:
    scheme = load_scheme("tflite-reference")

    def bits(*changes: dict[str, int]) -> tuple[int, int]:
        changed = scheme
        for change in changes:
            changed = changed.with_(change)
        return changed.policy(CONV).accumulator.bits, changed.policy({"op": "add"}).accumulator.bits

    every, one = {"accumulator.bits": 20}, {"conv_2d.accumulator.bits": 24}
    assert bits(every, one) == bits(every | one) == (24, 20)
    assert bits(one, every) == bits(one | every) == (20, 20)
    assert bits(every, one, {"accumulator.bits": 28}) == (28, 28)
    assert bits() == (32, 32)


def test_with_changes_that_only_fit_together() -> None:
    changes = {
        "multiplier.form": "none",
        "effective_scale.precision": "exact",
        "requantize": "exact_ties_to_even",
    }
    scheme = load_scheme("tflite-reference").with_(changes)
    assert scheme.policy(CONV).requantize == NAMED_STAGES["exact_ties_to_even"]
    with pytest.raises(SchemeError, match=r"requantize: multiplies, but multiplier.form is 'none'"):
        load_scheme("tflite-reference").with_({"multiplier.form": "none"})


WRONG_PATHS = {
    "": ": '' is not one of effective_scale, ",
    "nonsense": ": 'nonsense' is not one of effective_scale, ",
    "nonsense.accumulator.bits": ": 'nonsense' is not one of effective_scale, ",
    "conv_2d": ": conv_2d: name a field below 'conv_2d'",
    "conv_2d.bits": ".set: unknown key 'bits' (did you mean 'bias'?); known keys: effective_scale, ",
    "accumulator": ".accumulator: expected a table, got 3",
    "accumulator.bitz": ".accumulator: unknown key 'bitz' (did you mean 'bits'?); known keys: ",
    "accumulator.bits.x": ".accumulator.bits.x: 'accumulator.bits' has no fields",
    "accumulator.order.x": ": 0 stages are called 'x'; the list: kh, kw, ic",
    "multiplier.form.x": ".multiplier.form.x: 'multiplier.form' has no fields",
    "requantize.nonsense.bits": ": 0 stages are called 'nonsense'; the list: shift_left, ",
    "requantize.5.bits": ": the list has 5 stages, no number 5",
    "requantize.-6.bits": ": the list has 5 stages, no number -6",
    "requantize.shift_left.bitz": ".requantize[0]: unknown key 'bitz' (did you mean 'bits'?)",
    "requantize.²": ": 0 stages are called '²'",
    "recipe.left_shift": ".recipe: no recipe is chosen here",
    "add.recipe.nonsense": ".recipe: unknown key 'nonsense'; known keys: left_shift, ",
    "conv_2d.recipe.left_shift": ".recipe: unknown key 'left_shift'",
}


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_with_a_wrong_path(path: str) -> None:
    with pytest.raises(SchemeError) as error:
        load_scheme("tflite-reference").with_({path: 3})
    assert WRONG_PATHS[path] in str(error.value)
    assert str(error.value).startswith("tflite-reference.toml")


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("accumulator.bits", 65, "bits must be in 2..64, got 65"),
        ("accumulator.bits", True, "accumulator.bits: expected int, got True"),
        ("accumulator.bits", "20", "accumulator.bits: expected int, got '20'"),
        ("accumulator.overflow", "explode", "'explode' is not one of wrap, saturate, error"),
        ("requantize.clamp", {"stage": "wrap", "bits": 8}, "the last stage must be 'clamp'"),
        ("requantize", [], "the last stage must be 'clamp'"),
        ("recipes", "nonsense", "'nonsense' is not one of "),
    ],
)
def test_with_a_wrong_value(path: str, value: Any, complaint: str) -> None:
    for address in (path, f"conv_2d.{path}"):
        with pytest.raises(SchemeError, match=r"^tflite-reference\.toml") as error:
            load_scheme("tflite-reference").with_({address: value})
        assert complaint in str(error.value)


def test_the_name_says_what_was_changed() -> None:
    scheme = load_scheme("exact").with_({"accumulator.bits": 40})
    assert scheme.name == "exact[accumulator.bits=40]"
    assert (
        scheme.with_({"conv_2d.tail": None}).name == "exact[accumulator.bits=40, conv_2d.tail=null]"
    )


# ---- hashes, immutability --------------------------------------------------------------------


def shuffled(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, dict):
        keys = [str(k) for k in rng.permutation(sorted(value))]
        return {key: shuffled(value[key], rng) for key in keys}
    return [shuffled(v, rng) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", scheme_names())
def test_the_hash_does_not_depend_on_the_order_of_keys(name: str) -> None:
    table = load_scheme(name).to_table()
    rng = np.random.default_rng(SEED)
    others = [shuffled(table, rng) for _ in range(5)]
    assert any(json.dumps(other) != json.dumps(table) for other in others)
    assert {from_table(other).sha256 for other in others} == {load_scheme(name).sha256}


def test_the_hash_is_that_of_the_arithmetic_alone() -> None:
    table = load_scheme("tflite-reference").to_table()
    same = {**table, "name": "other", "source": "elsewhere", "evidence": {"level": "source"}}
    assert from_table(same) == load_scheme("tflite-reference")
    assert hash(from_table(same)) == hash(load_scheme("tflite-reference"))
    assert len({from_table(same), load_scheme("tflite-reference"), load_scheme("exact")}) == 2
    assert load_scheme("exact") != "exact"


def test_every_change_of_arithmetic_changes_the_hash() -> None:
    scheme = load_scheme("tflite-reference")
    changes: list[dict[str, Any]] = [{"accumulator.bits": n} for n in range(2, 65)]
    changes += [{"requantize.shift_right.rounding": r} for r in ROUNDINGS]
    changes += [{"multiplier.rounding": r} for r in ROUNDINGS]
    changes += [{"conv_2d.accumulator.bits": n} for n in range(2, 65)]
    lists = ["gemmlowp", "double_rounding_toward_positive", "single_rounding", "int64_reduced"]
    lists += ["float64_ties_to_away", "float32_ties_to_even"]
    changes += [{"requantize": name} for name in lists]
    changes += [{"accumulator.padding": p} for p in ("zero", "zero_point")]
    changes += [{"tail": None}, {"accumulator.group": None}, {"add.recipe.left_shift": 3}]
    changes += [{"recipes": "real"}, {"accumulator.bits": 20, "multiplier.bits": 15}]
    hashes = [scheme.sha256, *(scheme.with_(change).sha256 for change in changes)]
    hashes += [scheme_of(fallback=name).sha256 for name in (*scheme_names(), None) if name]
    hashes += [scheme_of(node={"a": {"scheme": name}}).sha256 for name in scheme_names()]
    hashes += [scheme_of(node={"b": {"scheme": "exact"}}).sha256, scheme_of().sha256]
    assert len(set(hashes)) == len(hashes) > 150


def test_the_hash_follows_the_schemes_that_it_refers_to(load: Write) -> None:
    text = '[node.x]\nscheme = "other"\n'
    hashes = {load(text, other=f"[default]\naccumulator.bits = {n}").sha256 for n in (20, 24)}
    hashes |= {
        load('fallback = "other"', other=f"[default]\naccumulator.bits = {n}").sha256
        for n in (20, 24)
    }
    assert len(hashes) == 4


def test_a_scheme_does_not_change() -> None:
    table = {"name": "made", "source": "here", "evidence": {"level": "source"}}
    table["default"] = {"accumulator": {"bits": 20}}  # type: ignore[assignment]
    scheme = from_table(table)
    before = scheme.sha256, to_toml(scheme)
    table["default"]["accumulator"]["bits"] = 24  # type: ignore[index]
    scheme.to_table()["default"]["accumulator"]["bits"] = 24
    scheme.evidence["level"] = "verified"
    value = {"bits": 28}
    changed = scheme.with_({"accumulator": value})
    value["bits"] = 30
    assert changed.policy(CONV).accumulator.bits == 28
    assert (scheme.policy(CONV).accumulator.bits, scheme.evidence["level"]) == (20, "source")
    assert (from_table(tomllib.loads(to_toml(scheme))).sha256, to_toml(scheme)) == before
    for name in ("name", "source", "evidence", "fallback"):
        with pytest.raises(AttributeError):
            setattr(scheme, name, "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.policy(CONV).tail = None  # type: ignore[misc]
