"""Bugs planted in schemes: every field of what a node needs, changed one at a time.

An :class:`Example` is a model of one operator with its policy, and the outputs that a judge gave.
:func:`flips` lists every other value of every field of that policy and of the recipe's parameters;
:func:`detected` tells whether the example would notice.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

import qinterp
from qinterp import Graph, Scheme, SchemeError
from qinterp.errors import QInterpError
from qinterp.numerics.records import to_table
from qinterp.numerics.stages import Stage
from qinterp.scheme import Policy
from qinterp.schemes_io import from_table

PARTS = (
    "effective_scale", "multiplier", "accumulator", "requantize", "tail", "activation_bounds",
    "bias", "unsigned",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Example:
    """A model of one operator, what a judge made of its inputs, and how a scheme computes it."""

    about: str
    graph: Graph
    inputs: Any
    wanted: dict[str, np.ndarray]
    policy: Policy
    kind: str
    recipe: str
    params: Any
    facts: dict[str, Any]
    reads: frozenset[str]
    scheme: Scheme

    @classmethod
    def of(cls, about: str, graph: Graph, inputs: Any, wanted: Any, scheme: Any) -> Example:
        """From a judge's outputs."""
        (step,) = qinterp.Interpreter(graph, scheme)._steps
        call = step.call
        assert call is not None
        kind = step.node.kind
        policy, params, facts = call.policy, call.params, call.facts()
        own = alone(policy, kind, step.recipe, params)
        reads = fields_read(own, graph, inputs, facts)
        return cls(
            about, graph, inputs, wanted, policy, kind, step.recipe, params, facts, reads, own
        )

    def on(self, graph: Graph, inputs: Any, wanted: dict[str, np.ndarray]) -> Example:
        """The same arithmetic on another model."""
        return dataclasses.replace(self, graph=graph, inputs=inputs, wanted=wanted)


class _Watched(Policy):
    """A policy that notes which of its fields are read."""

    def __getattribute__(self, name: str) -> Any:
        if name in PARTS:
            object.__getattribute__(self, "__dict__")["seen"].add(name)
        return object.__getattribute__(self, name)


def fields_read(scheme: Scheme, graph: Graph, inputs: Any, facts: Any) -> frozenset[str]:
    """The fields of its policy that a node reads, while it is prepared and while it runs."""
    watched = object.__new__(_Watched)
    watched.__dict__.update(vars(scheme.policy(facts)), seen=set())
    own = Scheme(scheme.to_table())
    own.policy = lambda facts: watched  # type: ignore[method-assign]
    qinterp.run(graph, inputs, own)
    return frozenset(watched.__dict__["seen"])


@cache
def alone(policy: Policy, kind: str, recipe: str, params: Any) -> Scheme:
    """The scheme of one policy and one recipe."""
    fields = {f.name: to_table(getattr(policy, f.name)) for f in dataclasses.fields(policy)}
    default = {name: fields[name] for name in (*PARTS, "recipes") if fields[name] is not None}
    chosen = {"name": recipe, **(to_table(params) if params is not None else {})}
    rule = {"when": {"op": kind}, "recipe": chosen}
    table = {"name": "p", "source": "s", "default": default, "rule": [rule]}
    scheme = from_table({**table, "evidence": {"level": "definition"}})
    _SCHEMES[id(scheme)] = scheme
    return scheme


# ---- other values ---------------------------------------------------------------------------

PRESENT: dict[str, list[Any]] = {  # for what is absent
    "product_precision": ["float32", "float64"],
    "reduce_to": [15],
    "group": [{"size": 2, "bits": 16}],
    "left_shift": [15, 20],
}


def alternatives(name: str, hint: Any, value: Any) -> list[Any]:
    """Other values of a field: all that there are, or the next ones."""
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        if value is None:
            return PRESENT.get(name, [])
        others = [
            other for o in options if _fits(value, o) for other in alternatives(name, o, value)
        ]
        if type(None) in get_args(hint):
            others.append(None)
        literals = [v for o in options if get_origin(o) is Literal for v in get_args(o)]
        return others + [v for v in literals if v != value and v not in others]
    if get_origin(hint) is Literal:
        return [option for option in get_args(hint) if option != value]
    if name == "order":
        return [list(p) for p in itertools.permutations(value) if p != tuple(value)]
    if isinstance(value, tuple):
        (inner, *_) = get_args(hint)
        singles = [
            [*value[:i], other, *value[i + 1 :]]
            for i, old in enumerate(value)
            for other in alternatives(name, inner, old)
        ]
        return singles + [[*value[:i], *value[i + 1 :]] for i in range(len(value))]
    if hint is bool:
        return [not value]
    if hint is float:
        return [float(np.nextafter(np.float32(value), np.float32(s * np.inf))) for s in (-1, 1)]
    return [value - 1, value + 1] if hint is int else []


def _fits(value: Any, option: Any) -> bool:
    if get_origin(option) is Literal:
        return value in get_args(option)
    return isinstance(value, option) if isinstance(option, type) else True


def flips(path: str, value: Any) -> Iterator[tuple[str, Any, Any, tuple[Stage, ...], int]]:
    """Key path, value and other value of everything below ``path``.

    For what lies in a list of stages, the list and the number of the stage that is changed or left
    out; elsewhere an empty list.
    """
    if _is_stages(value):
        for i, stage in enumerate(value):
            rest = [other.to_table() for j, other in enumerate(value) if j != i]
            yield path, "whole", rest, value, i
            for below, old, new, _, _ in flips(f"{path}.{i}", stage):
                yield below, old, new, value, i
        return
    hints = get_type_hints(type(value))
    for field in dataclasses.fields(value):
        below, old = f"{path}.{field.name}", getattr(value, field.name)
        if _is_stages(old):
            yield from flips(below, old)
        elif dataclasses.is_dataclass(old):
            yield below, "present", None, (), 0
            yield from flips(below, old)
        else:
            for other in alternatives(field.name, hints[field.name], old):
                yield below, old, other, (), 0


def _is_stages(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], Stage)


_SCHEMES: dict[int, Scheme] = {}


@lru_cache(maxsize=512)
def _changed(scheme: int, path: str, value: str) -> Scheme | None:
    try:
        return _SCHEMES[scheme].with_({path: json.loads(value)})
    except SchemeError:
        return None


def detected(example: Example, path: str, value: Any) -> bool | None:
    """Whether the example's outputs change with another value; None if that is no scheme."""
    if path.startswith("recipe."):
        path = f"{example.kind}.{path}"
    scheme = _changed(id(example.scheme), path, json.dumps(value))
    if scheme is None:
        return None
    try:
        ours = qinterp.run(example.graph, example.inputs, scheme).outputs
    except SchemeError:
        return None
    except QInterpError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, OverflowError | ValueError | QInterpError):
            return True  # refused in so many words
        raise
    return any(not np.array_equal(v, example.wanted[n]) for n, v in ours.items())


@dataclass(frozen=True, eq=False)
class Flip:
    """One changed field: where, from what to what, and the examples that have the old value."""

    part: str
    path: str
    old: Any
    new: Any
    stages: tuple[Stage, ...]
    at: int
    examples: list[Example]

    @property
    def field(self) -> str:
        """The last key."""
        return self.path.rpartition(".")[2]

    def between(self, one: Any, other: Any) -> bool:
        """Whether one of the two becomes the other."""
        return [self.old, self.new] in ([one, other], [other, one])

    def everywhere(self, condition: Callable[[Example], bool]) -> bool:
        """Whether all examples keep a condition."""
        return all(map(condition, self.examples))

    def on_stage(self, *kinds: str) -> bool:
        """Whether a stage of such a kind is changed or left out."""
        return bool(self.stages) and self.stages[self.at].stage in kinds


def notices(flip: Flip, most: int | None) -> bool | None:
    """Whether one of the flip's first examples, or of all, notices it; None if it is no scheme."""
    seen: bool | None = False
    for example in flip.examples[:most]:
        seen = detected(example, flip.path, flip.new)
        if seen:  # likely to show the next one too
            flip.examples.remove(example)
            flip.examples.insert(0, example)
        if seen is not False:
            break
    return seen


def planted(part: str, value: Any, examples: list[Example]) -> Iterator[Flip]:
    """Every other value of a part that all ``examples`` have."""
    if part == "recipe":
        for below, old, new, stages, at in flips(part, value):
            yield Flip(part, below, old, new, stages, at, examples)
    elif part == "unsigned":
        yield Flip(part, part, value, {"native": "as_signed"}.get(value, "native"), (), 0, examples)
    elif part == "bias" and value is None:
        return
    else:
        for below, old, new, stages, at in flips(part, value):
            yield Flip(part, below, old, new, stages, at, examples)
