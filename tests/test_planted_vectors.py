"""Every value that decides a bit is pinned, also of the schemes that are judged by vectors.

tests/test_planted.py pins the layers of the schemes that have a runtime, by a corpus. Here each
field of what the vectors' nodes need, the parameters of recipes among them, is changed, one at a
time: some vector must then differ, but for what no input can tell (``REASONS``), for what the
source leaves undefined (``UNDEFINED``), and for what is known to be open (vectors/open.txt).
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from planting import PARTS, Example, Flip, detected, notices, planted
from test_planted import SAME_ON_POSITIVES
from test_vectors import FILES, SCHEMES, cases
from vector_files import FOLDER

import qinterp
from qinterp import Scheme, load_scheme
from qinterp.errors import QInterpError
from qinterp.numerics.stages import AddZeroPoint, DivideScale, Multiply, MultiplyHigh, Scale, Stage
from qinterp.ops.softmax.interpolated_tables import _tables
from qinterp.schemes_io import folder
from qinterp.testing.tflite_writer import ModelWriter

FUZZ = os.environ.get("QINTERP_FUZZ") == "1"
NAMES = [name for names in SCHEMES.values() for name in names]
TRIED = 3  # examples that may contradict a reason; all of them with QINTERP_FUZZ=1


@cache
def examples(name: str) -> list[Example]:
    """The vectors under a scheme, those that were chosen to decide first."""
    (place,) = (f for f, names in SCHEMES.items() if name in names)
    found = [
        Example.of(case.about, qinterp.load(case.model), case.inputs, case.results[name], name)
        for path in FILES
        if path.parent.name == place
        for case in cases(path)
        if name in case.results
    ]
    return sorted(found, key=lambda e: ("pinned" not in e.about, e.recipe != "accumulate"))


def groups(name: str) -> dict[tuple[str, Any], list[Example]]:
    """Every distinct value of a part or of a recipe's parameters, and the examples that read it."""
    found: dict[tuple[str, Any], list[Example]] = {}
    for example in examples(name):
        for part in PARTS:
            value = getattr(example.policy, part)
            if value is not None and part in example.reads:
                found.setdefault((part, value), []).append(example)
        if example.params is not None:
            key = ("recipe", (example.recipe, example.params))
            found.setdefault(key, []).append(example)
    return found


def all_flips(name: str) -> Iterator[Flip]:
    """Every other value of what the vectors of a scheme need."""
    for (part, value), found in groups(name).items():
        yield from planted(part, value[1] if part == "recipe" else value, found)


# ---- what no input can tell -----------------------------------------------------------------


def stage_lists(example: Example) -> Iterator[tuple[Stage, ...]]:
    """Every list of stages that a node goes through."""
    policy = example.policy
    if "requantize" in example.reads:
        yield policy.requantize
    if "bias" in example.reads and policy.bias is not None:
        yield policy.bias.stages
    if example.params is not None:
        for field in dataclasses.fields(example.params):
            value = getattr(example.params, field.name)
            if isinstance(value, tuple) and value and isinstance(value[0], Stage):
                yield value


def multiplies(example: Example) -> bool:
    """Whether an integer multiplier is used in any list."""
    return any(
        isinstance(s, Multiply | MultiplyHigh) for list_ in stage_lists(example) for s in list_
    )


def of_uint8(example: Example) -> bool:
    """Whether an operand or a result has codes of uint8."""
    return any(t.dtype == "uint8" for t in example.graph.tensors.values())


def floats_before(flip: Flip) -> bool:
    """Whether the stage that is changed works on a float."""
    domain = "integer"
    if "quantize" in flip.path or "from_real" in flip.path:
        domain = flip.stages[0].takes or domain
    for stage in flip.stages[: flip.at]:
        domain = stage.gives or domain
    return domain == "float"


def stored_as_float32(flip: Flip) -> bool:
    """Whether the stage that is changed gives the float32 that the list ends in."""
    return flip.at == len(flip.stages) - 1 and flip.stages[-1].gives == "float"


def in_float32(flip: Flip) -> bool:
    """Whether the next stage computes in float32 whatever it is given."""
    after = flip.stages[flip.at + 1] if flip.at + 1 < len(flip.stages) else None
    return isinstance(after, Scale | DivideScale) and after.precision == "float32"


def in_every(flip: Flip, field: str, part: str, *values: Any) -> bool:
    """Whether a field has one of some values in all examples."""
    return flip.everywhere(lambda e: getattr(getattr(e.policy, part), field) in values)


REASONS: dict[str, Callable[[Flip], bool]] = {
    "nothing reads the multiplier": lambda f: (
        f.part == "multiplier" and not any(map(multiplies, f.examples))
    ),
    "only the form 'pre_post_shift' reads it": lambda f: (
        f.field == "post_limit" and in_every(f, "form", "multiplier", "mantissa_shift")
    ),
    "the form 'pre_post_shift' does not read it": lambda f: (
        f.part == "multiplier"
        and f.field in ("flush_below", "renormalize", "reduce_to")
        and in_every(f, "form", "multiplier", "pre_post_shift")
    ),
    "only the amounts 'literal' and 'total' read it": lambda f: (
        f.field == "by" and f.stages[f.at].amount not in ("literal", "total")  # type: ignore[attr-defined]
    ),
    "scales are positive: what is above them is away from zero": lambda f: (
        f.path == "multiplier.rounding" and any(f.between(*pair) for pair in SAME_ON_POSITIVES)
    ),
    "a float32 has 24 bits: a mantissa of 31 is exact": lambda f: (
        f.path in ("multiplier.rounding", "multiplier.renormalize")
        and in_every(f, "form", "multiplier", "mantissa_shift")
        and in_every(f, "precision", "effective_scale", "float32")
    ),
    "a scale below 2**-32 times 32 bits is below one half": lambda f: (
        f.field == "flush_below" and f.new < f.old <= -31 and in_every(f, "bits", "accumulator", 32)
    ),
    "the product is rounded to the precision of the quotient anyway": lambda f: (
        f.field == "product_precision"
        and (
            in_every(f, "precision", "effective_scale", "float32")
            or f.between(None, f.examples[0].policy.effective_scale.precision)
        )
    ),
    "sums modulo 2**n come out the same in every order and grouping": lambda f: (
        f.part == "accumulator"
        and f.field in ("check", "order", "operands", "bias")
        and in_every(f, "overflow", "accumulator", "wrap")
    ),
    "a code that is the zero point adds nothing": lambda f: (
        f.path == "accumulator.padding" and "zero" not in (f.old, f.new)
    ),
    "a 32-bit number times a mantissa below 2**31, over 2**31, fits": lambda f: (
        f.field == "overflow" and f.on_stage("multiply_high")
    ),
    "a float has no width": lambda f: (
        f.on_stage("add_zero_point") and f.field in ("bits", "overflow") and floats_before(f)
    ),
    "the next stage is in float32": lambda f: (
        f.on_stage("to_float", "scale", "divide_scale") and f.new == "float64" and in_float32(f)
    ),
    "a product or quotient of float32 is the same by way of float64": lambda f: (
        f.on_stage("scale", "divide_scale") and f.new == "float64" and stored_as_float32(f)
    ),
}


@cache
def own_grid(
    kind: str, arguments: tuple[float, float], values: tuple[float, float]
) -> qinterp.Graph:
    """A model of one function whose operand and result have the table's own grids."""
    writer = ModelWriter()
    x, y = qinterp.choose_qparams(*arguments), qinterp.choose_qparams(*values)
    writer.input("x", (1, 256), "int8", scale=x.scale, zero_point=int(x.zero_point))
    writer.tensor("y", (1, 256), "int8", scale=y.scale, zero_point=int(y.zero_point))
    writer.operator(kind.upper(), ["x"], ["y"])
    return qinterp.load(writer.finish(["y"]))


def same_table(flip: Flip) -> bool:
    """Whether all 256 entries of a table come out the same: no input gets anything else."""
    example = flip.examples[0]
    if example.recipe != "rescaled_table" or "_real" in flip.path:
        return False
    params = example.params
    if flip.field in ("arguments", "values"):  # they also are the ends of the table's grids
        if len(flip.new) != 2:
            return False
        grids = [qinterp.choose_qparams(*ends) for ends in (flip.old, flip.new)]
        if grids[0] != grids[1]:
            return False
    graph = own_grid(example.kind, params.arguments, params.values)
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    wanted = dict(qinterp.run(graph, codes, example.scheme).outputs)
    return detected(example.on(graph, codes, wanted), flip.path, flip.new) is False


def same_exponentials(flip: Flip) -> bool:
    """Whether another library's ``expf`` fills the tables of a 16-bit softmax with the same."""
    if flip.field != "library" or flip.examples[0].recipe != "interpolated_tables":
        return False
    one, other = (_tables(flip.examples[0].params.tables, name) for name in (flip.old, flip.new))
    return all(map(np.array_equal, one, other))


def in_lstm(flip: Flip, *fields: str) -> bool:
    """Whether the stages of a product in an LSTM of table functions are changed."""
    below = any(f"{flip.path}.".startswith(f"recipe.{field}.") for field in fields)
    return below and flip.everywhere(lambda e: e.recipe == "table_functions")


REASONS |= {
    "all 256 entries of the table come out the same": same_table,
    "all entries of the tables come out the same": same_exponentials,
    "factors above one are refused: nothing shifts left": lambda f: (
        (f.field, f.old, f.new) == ("amount", "right", "total")
        and f.everywhere(lambda e: e.recipe == "rescaled_sum" and e.params.above_one == "refused")
    ),
    "a cell's scale is 2**-24 at least: 30 bits times 2**-30 over it shift right, and fit": (
        lambda f: (
            in_lstm(f, "added")
            and (
                (f.on_stage("shift_left") and f.new not in ("right", "total"))
                or f.on_stage("wrap")
                or (f.old, f.new) == ("right", "total")
            )
        )
    ),
    "a product of two 16-bit codes times a mantissa of 31 bits fits 63": lambda f: (
        in_lstm(f, "added", "product") and f.on_stage("multiply") and f.between(64, 63)
    ),
    "the zero point that follows wraps to 32 bits as well": lambda f: (
        in_lstm(f, "product") and f.on_stage("wrap") and f.old == "whole"
    ),
    "it has no elementary function": lambda f: (
        f.field == "library" and f.everywhere(lambda e: e.kind == "hard_swish")
    ),
    "a negative slope is refused": lambda f: (
        f.field == "sign" and f.everywhere(lambda e: e.policy.unsigned == "as_signed")
    ),
    "no operand is of uint8, for which the backend has no kernel": lambda f: (
        f.part == "unsigned" and f.everywhere(lambda e: not of_uint8(e))
    ),
    "with 16-bit codes the zero point is 0": lambda f: (
        f.everywhere(lambda e: e.facts["activation"] == e.facts["output"] == "int16")
        and (f.path == "accumulator.padding" or f.on_stage("add_zero_point"))
        and f.field in ("padding", "requantize")
    ),
    "the scheme does not align powers of two": lambda f: (
        f.path.startswith("recipe.aligned_stages") and not f.examples[0].params.power_of_two
    ),
    "the next stage wraps to 32 bits as well": lambda f: (
        f.on_stage("wrap")
        and f.old == "whole"
        and f.at + 1 < len(f.stages)
        and f.stages[f.at + 1] == AddZeroPoint()
    ),
    "32 bits times a mantissa of 31 fit 63": lambda f: (
        f.on_stage("multiply")
        and (f.field, f.new) == ("bits", 63)
        and in_every(f, "bits", "multiplier", 31)
        and in_every(f, "bits", "accumulator", 32)
    ),
    "only the sign is asked for, and negatives round up both ways": lambda f: (
        f.path.startswith("recipe.gate") and f.between("toward_zero", "toward_positive")
    ),
}
UNDEFINED: dict[str, Callable[[Flip], bool]] = {
    "signed overflow, and conversion of floats beyond the type, have no meaning in C and C++": (
        lambda f: f.field == "overflow" or (f.field == "bits" and f.new > f.old)
    ),
}
OPEN = set((FOLDER / "open.txt").read_text().splitlines())
"""What some input could tell, and no vector does: scheme, operators, key path, values."""


def line(name: str, flip: Flip) -> str:
    """A flip as a line of ``open.txt``."""
    new = f"without stage {flip.at}" if flip.old == "whole" else json.dumps(flip.new)
    of = ",".join(sorted({f"{e.kind} {e.facts['activation']}" for e in flip.examples}))
    return f"{name} | {of[:120]} | {flip.path} | {json.dumps(flip.old)[:60]} -> {new}"


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_the_scheme_is_pinned(name: str) -> None:
    assert [e.about for e in examples(name) if detected(e, "recipes", e.policy.recipes)] == []
    vain, needless, closed, tried = [], [], [], 0
    for flip in all_flips(name):
        what = line(name, flip)
        reasons = [reason for reason, holds in REASONS.items() if holds(flip)]
        excused = what in OPEN or any(holds(flip) for holds in UNDEFINED.values())
        seen = notices(flip, TRIED if (reasons or excused) and not FUZZ else None)
        if seen is None:
            continue
        tried += 1
        if seen and reasons:
            needless.append(f"{what} {reasons}")
        elif seen and what in OPEN:
            closed.append(what)
        elif not (seen or reasons or excused):
            vain.append(what)
    assert tried > 80
    assert needless == [], "these have an effect, and a reason for having none"
    assert closed == [], "vectors show these: take them out of open.txt"
    assert vain == [], "no vector differs with these"


# It refuses states of int8, which no vector has; Glow's Interpreter has no softmax of codes.
UNJUDGED = {"cmsis-nn": ["svdf"], "glow-interpreter": ["softmax"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_needed(name: str) -> None:
    """Without one of the rules of the scheme's own file some vector differs, or cannot run."""
    table = load_scheme(name).to_table()
    own = len(tomllib.loads((folder("schemes") / f"{name}.toml").read_text()).get("rule", []))
    first, needless = len(table["rule"]) - own, []
    for i, rule in enumerate(table["rule"][first:]):
        if not set(rule) - {"when", "lacks"}:
            continue  # says what is refused: tests/test_every_operator.py
        rest = {**table, "rule": [r for j, r in enumerate(table["rule"]) if j != first + i]}
        scheme = Scheme(rest, lookup=load_scheme)
        options = rule["when"]["op"]
        kinds = options if isinstance(options, list) else [options]
        concerned = [e for e in examples(name) if e.kind in kinds]
        if not any(_differs(e, scheme) for e in concerned):
            needless.append(options)
    assert needless == UNJUDGED.get(name, [])


def _differs(example: Example, scheme: Scheme) -> bool:
    try:
        ours = qinterp.run(example.graph, example.inputs, scheme).outputs
    except QInterpError:
        return True
    return any(not np.array_equal(v, example.wanted[n]) for n, v in ours.items())
