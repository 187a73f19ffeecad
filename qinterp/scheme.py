"""A scheme: how one backend computes, as a frozen record of policies (clauses C1 to C9).

A scheme is data: defaults, and rules whose conditions range over a closed list of facts about a
node. What one node needs is resolved into a :class:`Policy`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import itertools
import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

from qinterp.errors import SchemeError
from qinterp.numerics.accumulators import Accumulator, BiasRescale
from qinterp.numerics.records import build, convert, one_of, to_table, unknown_key
from qinterp.numerics.requantize import check_exact, needs_multiplier
from qinterp.numerics.scales import ActivationBounds, EffectiveScale, Multiplier
from qinterp.numerics.stages import NAMED_STAGES, Stage, check_stages

Table = dict[str, Any]

FACTS: dict[str, type] = {
    "op": str,
    "activation": str,
    "weight": str,
    "bias": str,
    "output": str,
    "output_zero_point": int,
    "rank": int,
    "axes": list,
    "keep_dims": bool,
    "groups": int,
    "batch": int,
    "broadcast": str,
    "per_channel": bool,
    "power_of_two_scale": bool,
    "same_parameters": bool,
    "constant_weights": bool,
    "symmetric_weights": bool,
    "whole_bytes": bool,
    "weight_dimension": int,
    "padding": str,
    "padded": bool,
    "gaps": bool,
    "negative_axes": bool,
    "index_per_axis": bool,
    "scale_ratio": dict,
    "product_ratio": dict,
    "slope_ratio": dict,
}
"""The closed list of facts that ``when`` may ask for; a list of values means any of them.

A fact of type dict is an interval ``{least, most}``, and is asked for by the bounds it must keep:
``least``, ``most`` and ``below``.
"""

_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "least": ("least", operator.ge),
    "most": ("most", operator.le),
    "below": ("most", operator.lt),
}


@dataclass(frozen=True)
class Tail:
    """What the remainder of a vectorized loop does otherwise than its full blocks.

    Attributes
    ----------
    block : elements of a vector block.
    along : the remainder is counted within the channels, a row, or the flat tensor.
    requantize : stages of the remainder.
    """

    block: int
    along: Literal["channel", "row", "flat"]
    requantize: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if self.block < 2:
            raise ValueError(f"block must be at least 2, got {self.block}")


@dataclass(frozen=True)
class RecipeChoice:
    """A recipe by name, with its parameters: a frozen dataclass that the operator declares."""

    name: str
    params: Any = None


@dataclass(frozen=True)
class Policy:
    """Everything that one node needs of a scheme.

    Attributes
    ----------
    effective_scale, multiplier, accumulator, requantize, tail, activation_bounds : see the types.
    recipes : the family whose recipe an operator takes unless ``recipe`` names one.
    recipe : a recipe with parameters, for operators that are not accumulate-and-requantize.
    bias : how a bias on another scale joins the accumulator; None: its codes are steps of it.
    lacks : why the backend cannot run the node; empty if it can. A rule with a recipe takes it
        away.
    unsigned : codes of uint8 as they are, or as those of int8, 128 less, as in a backend that has
        no others.
    """

    effective_scale: EffectiveScale = field(default_factory=EffectiveScale)
    multiplier: Multiplier = field(default_factory=Multiplier)
    accumulator: Accumulator = field(default_factory=Accumulator)
    requantize: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]
    tail: Tail | None = None
    activation_bounds: ActivationBounds = field(default_factory=ActivationBounds)
    recipes: str = "tflite"
    recipe: RecipeChoice | None = None
    bias: BiasRescale | None = None
    lacks: str = ""
    unsigned: Literal["native", "as_signed"] = "native"


class RecipeRegistry:
    """Recipes by operator kind and name; operator files add theirs when they are imported.

    Operators live a layer above, so they are discovered by package name, not imported.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._params: dict[tuple[str, str], type | None] = {}
        self._family: dict[tuple[str, str], str] = {}

    def add(self, kind: str, name: str, params: type | None, family: str | None) -> None:
        """Declare recipe ``name`` of operator ``kind``; ``family``: whose standard recipe it is."""
        if (kind, name) in self._params:
            raise ValueError(f"recipe {name!r} of {kind} is declared twice")
        self._params[kind, name] = params
        if family:
            if (kind, family) in self._family:
                raise ValueError(f"{kind} has two recipes in the family {family!r}")
            self._family[kind, family] = name

    def names(self, kind: str | None = None) -> list[str]:
        """Recipe names of ``kind``, or of all."""
        self._discover()
        return sorted({name for k, name in self._params if kind in (None, k)})

    def kinds(self) -> list[str]:
        """Operators that have a recipe."""
        self._discover()
        return sorted({kind for kind, _ in self._params})

    def families(self) -> list[str]:
        """Families that some operator has a standard recipe for, and "none", without any."""
        self._discover()
        return sorted({family for _, family in self._family} - {"*"} | {"none"})

    def params(self, kind: str, name: str) -> type | None:
        """The parameter dataclass of a recipe; KeyError if there is no such recipe."""
        self._discover()
        return self._params[kind, name]

    def standard(self, kind: str, family: str) -> RecipeChoice | None:
        """What ``family`` uses for ``kind``, with default parameters."""
        self._discover()
        name = self._family.get((kind, family)) or self._family.get((kind, "*"))
        if name is None:
            return None
        params = self._params[kind, name]
        return RecipeChoice(name, params() if params else None)

    def _discover(self) -> None:
        importlib.import_module(self._package)


RECIPES = RecipeRegistry("qinterp.ops")

POLICY_KEYS = (
    "effective_scale", "multiplier", "accumulator", "requantize", "tail", "activation_bounds",
    "recipes", "recipe", "bias", "lacks", "unsigned",
)  # fmt: skip
_TOP_KEYS = (
    "name", "extends", "source", "evidence", "default", "rule", "node", "fallback",
)  # fmt: skip
_RULE_KEYS = ("when", *POLICY_KEYS, "set", "unset")
_EVIDENCE_KEYS = ("level", "runtime", "version", "test", "notes")
_LEVELS = ("verified", "source", "literature", "definition")


class _NoStageError(SchemeError):
    """A path names a stage that the list does not have."""


class Scheme:
    """How one backend computes; immutable, hashable, comparable.

    Make one with :func:`qinterp.load_scheme`, or from the table that a TOML file holds.

    Parameters
    ----------
    table : keys ``name``, ``source``, ``evidence``, ``default``, ``rule``, ``node``, ``fallback``,
        ``extends`` already resolved by the loader.
    where : what to call the scheme in messages (a file name).
    lookup : finds the schemes that ``node`` tables and ``fallback`` refer to by name.
    rule_paths : what to call each rule in messages, where that is not its number in ``table``.

    Raises
    ------
    SchemeError : with the key path, for anything unknown, missing, ill-typed or impossible.
    """

    def __init__(
        self,
        table: Mapping[str, Any],
        *,
        where: str = "",
        lookup: Callable[[str], Scheme] | None = None,
        rule_paths: Sequence[str] | None = None,
    ) -> None:
        self._where = where or str(table.get("name", "scheme"))
        self._table: Table = _plain(table)
        self._lookup = lookup
        self._others: dict[str, Scheme] = {}
        self._rule_paths = rule_paths
        self._policies: dict[str, Policy] = {}
        self._check()

    # ---- what it is -----------------------------------------------------------------

    @property
    def name(self) -> str:
        """The scheme's name; what ``with_`` changed is appended in brackets."""
        return str(self._table["name"])

    @property
    def source(self) -> str:
        """Where the behaviour is documented or implemented."""
        return str(self._table.get("source", ""))

    @property
    def evidence(self) -> Table:
        """How it is known: level, runtime, version, test, notes."""
        return copy.deepcopy(self._table.get("evidence", {}))

    @property
    def fallback(self) -> Scheme | None:
        """The scheme that takes the operators this one has no recipe for."""
        name = self._table.get("fallback")
        return self._find(name, "fallback") if name else None

    def to_table(self) -> Table:
        """The resolved content as a plain table; ``Scheme(table)`` is the same scheme."""
        return copy.deepcopy(self._table)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides a bit: not of name, source and evidence."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _content(self) -> Table:
        """What decides a bit, with names and defaults replaced by what they stand for."""
        default = _policy(self._table.get("default", {}), "", self._where)
        content: Table = {
            "default": to_table(default),
            "rule": [_expanded(rule) for rule in self._table.get("rule", [])],
            "recipes": {
                kind: [choice.name, to_table(choice.params)]
                for kind in RECIPES.kinds()
                if (choice := RECIPES.standard(kind, default.recipes)) is not None
            },
            "chosen": [
                [facts.get("op", ""), to_table(choice.params)]
                for number, rule in enumerate(self._table.get("rule", []))
                if "recipe" in rule
                for facts in _cases(rule)
                if (choice := self._policy_after(facts, number).recipe) is not None
            ],
            "node": {},
        }
        for name, entry in self._table.get("node", {}).items():
            own = {k: v for k, v in entry.items() if k != "scheme"}
            other = self._find(entry["scheme"], "node").sha256 if "scheme" in entry else ""
            content["node"][name] = [other, _expanded(own)]
        if self.fallback is not None:
            content["fallback"] = self.fallback.sha256
        return content

    def _policy_after(self, facts: Mapping[str, Any], number: int) -> Policy:
        """The policy once rule ``number`` has applied."""
        return _policy(self._merged(facts, number + 1), facts.get("op", ""), self._where)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scheme) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"<Scheme {self.name} {self.sha256[:12]}>"

    # ---- deriving ---------------------------------------------------------------------

    def with_(self, changes: Mapping[str, Any]) -> Scheme:
        """A scheme that differs in some fields, under every rule.

        Parameters
        ----------
        changes : key path to value: ``"accumulator.bits"`` for every operator,
            ``"conv_2d.accumulator.bits"`` for one kind; ``"requantize.shift_right.rounding"``
            reaches into every list of stages that has such a stage, ``"requantize.2.rounding"``
            into every list, by number. None takes an optional field away.

        Raises
        ------
        SchemeError : no such path, or a value it cannot take.
        """
        table = copy.deepcopy(self._table)
        rules = table.setdefault("rule", [])
        paths = [self._rule_path(i) for i in range(len(rules))]
        for path, value in changes.items():
            when, keys = self._addressed(path)
            if len(rules) == len(self._table.get("rule", [])) or rules[-1]["when"] != when:
                rules.append({"when": when})
                paths.append(self._where)
            if value is None:
                rules[-1].setdefault("unset", []).append(keys)
            else:
                rules[-1].setdefault("set", {})[keys] = to_table(value)
        made = ", ".join(f"{path}={_short(to_table(value))}" for path, value in changes.items())
        table["name"] = _marked(table["name"], made)
        table["evidence"] = _CHANGED
        return Scheme(table, where=self._where, lookup=self._resolve, rule_paths=paths)

    def _addressed(self, path: str) -> tuple[Table, str]:
        """The condition and the keys that ``path`` stands for."""
        head, _, rest = path.partition(".")
        one_of(head, (*POLICY_KEYS, *RECIPES.kinds()), f"{self._where}: {path}")
        if head in POLICY_KEYS:
            return {}, path
        if not rest:
            raise SchemeError(f"{self._where}: {path}: name a field below {head!r}")
        return {"op": head}, rest

    def for_node(self, name: str) -> Scheme:
        """The scheme that ``[node.NAME]`` gives this node, else this one."""
        entry = self._table.get("node", {}).get(name)
        if entry is None:
            return self
        base = self._find(entry["scheme"], f'node."{name}".scheme') if "scheme" in entry else self
        changes = {k: v for k, v in entry.items() if k != "scheme"}
        return base.with_(changes) if changes else base

    def with_node(self, node: str, scheme: Scheme) -> Scheme:
        """The scheme with another one for ``node``."""
        table = copy.deepcopy(self._table)
        key = scheme.name
        named = {entry.get("scheme") for entry in table.get("node", {}).values()}
        if key in named | {table.get("fallback")} and self._find(key, "node") != scheme:
            key = f"{key} {scheme.sha256[:12]}"  # another scheme has the name already
        table.setdefault("node", {})[node] = {"scheme": key}
        table["name"] = _marked(table["name"], f"{node}={scheme.name}")
        table["evidence"] = _CHANGED

        def lookup(name: str) -> Scheme:
            return scheme if name == key else self._resolve(name)

        return Scheme(table, where=self._where, lookup=lookup, rule_paths=self._rule_paths)

    # ---- resolving --------------------------------------------------------------------

    def policy(self, facts: Mapping[str, Any]) -> Policy:
        """What the node described by ``facts`` needs (see :data:`FACTS`)."""
        key = json.dumps(facts, sort_keys=True)
        if key not in self._policies:
            table = self._merged(facts)
            self._policies[key] = _policy(table, str(facts.get("op", "")), self._where)
        return self._policies[key]

    def _merged(self, facts: Mapping[str, Any], rules: int | None = None) -> Table:
        """The default, and over it each of the first ``rules`` rules that match, in order."""
        table: Table = copy.deepcopy(self._table.get("default", {}))
        for i, rule in enumerate(self._table.get("rule", [])[:rules]):
            if _matches(rule.get("when", {}), facts):
                self._apply(table, rule, self._rule_path(i), str(facts.get("op", "")))
        return table

    def _apply(self, table: Table, rule: Table, path: str, kind: str) -> None:
        if "recipe" in rule:
            table.pop("lacks", None)  # whoever says how an operator is computed has it
        _merge(table, {k: v for k, v in rule.items() if k in POLICY_KEYS})
        changes = {**dict.fromkeys(rule.get("unset", [])), **rule.get("set", {})}
        for keys, value in changes.items():
            with contextlib.suppress(_NoStageError):
                _put(table, keys, value, path, kind)

    # ---- checking ---------------------------------------------------------------------

    def _check(self) -> None:
        where, table = self._where, self._table
        unknown_key(table, [key for key in _TOP_KEYS if key != "extends"], where)
        for key in ("name", "source"):
            if key not in table:
                raise SchemeError(f"{where}: missing key {key!r}")
            convert(str, table[key], f"{where}.{key}")
        self._check_evidence(table.get("evidence"), f"{where}.evidence")
        for key in ("default", "node"):
            _table_at(table.get(key, {}), f"{where}.{key}")
        _policy(table.get("default", {}), "", f"{where}.default")
        rules = table.get("rule", [])
        if not isinstance(rules, list):
            raise SchemeError(f"{where}.rule: expected a list of tables, got {rules!r}")
        for i in range(len(rules)):
            self._check_rule(i, self._rule_path(i))
        for name, entry in table.get("node", {}).items():
            self._check_node(entry, f'node."{name}"')
        if "fallback" in table:
            convert(str, table["fallback"], f"{where}.fallback")
            if self._lookup is not None:
                self._find(table["fallback"], "fallback")

    @staticmethod
    def _check_evidence(evidence: object, path: str) -> None:
        if not isinstance(evidence, Mapping) or "level" not in evidence:
            raise SchemeError(f"{path}: expected a table with a key 'level'")
        unknown_key(evidence, _EVIDENCE_KEYS, path)
        level = one_of(evidence["level"], _LEVELS, f"{path}.level")
        for key in ("runtime", "version", "test"):
            if key in evidence:
                convert(str, evidence[key], f"{path}.{key}")
            elif level == "verified":
                raise SchemeError(f"{path}: level 'verified' needs a key {key!r}")

    def _check_rule(self, number: int, path: str) -> None:
        rule = _table_at(self._table["rule"][number], path)
        unknown_key(rule, _RULE_KEYS, path)
        _check_when(_table_at(rule.get("when", {}), f"{path}.when"), f"{path}.when")
        changed = [
            *_table_at(rule.get("set", {}), f"{path}.set"),
            *convert(tuple[str, ...], rule.get("unset", []), f"{path}.unset"),
        ]
        unknown_key({keys.split(".")[0]: None for keys in changed}, POLICY_KEYS, f"{path}.set")
        for facts in _cases(rule):
            merged = self._merged(facts, number + 1)
            _policy(merged, facts.get("op", ""), path)
        for keys in changed:
            self._check_reaches(number, keys, path)

    def _check_reaches(self, number: int, keys: str, path: str) -> None:
        """A stage that no list has is a mistake; one that some lists lack is not."""
        rules = self._table["rule"]
        missing: SchemeError | None = None
        for earlier in ({}, *rules[:number]):
            for own, facts in itertools.product(_cases(rules[number]), _cases(earlier)):
                both = {**facts, **own}
                for count in (number, number + 1):  # the rule itself may bring the list
                    try:
                        _put(self._merged(both, count), keys, None, path, both.get("op", ""))
                    except _NoStageError as error:
                        missing = missing or error
                    else:
                        return
        assert missing is not None
        raise missing

    def _check_node(self, entry: object, key: str) -> None:
        path = f"{self._where}.{key}"
        entry = _table_at(entry, path)
        unknown_key(entry, ("scheme", *POLICY_KEYS), path)
        merged = copy.deepcopy(self._table.get("default", {}))
        if "scheme" in entry:
            convert(str, entry["scheme"], f"{path}.scheme")
            if self._lookup is not None:
                merged = self._find(entry["scheme"], f"{key}.scheme")._merged({})
        _merge(merged, {k: v for k, v in entry.items() if k != "scheme"})
        _policy(merged, "", path)

    def _rule_path(self, number: int) -> str:
        if self._rule_paths is not None:
            return self._rule_paths[number]
        return f"{self._where}.rule[{number}]"

    def _find(self, name: str, path: str) -> Scheme:
        """Another scheme by name, the same object every time, whatever becomes of its file."""
        where = f"{self._where}.{path}"
        if name not in self._others:
            if self._lookup is None:
                raise SchemeError(f"{where}: scheme {name!r} cannot be looked up here")
            try:
                self._others[name] = self._lookup(name)
            except SchemeError as error:
                raise SchemeError(f"{where}: {error}") from None
        return self._others[name]

    def _resolve(self, name: str) -> Scheme:
        """``lookup`` for schemes derived from this one."""
        if name not in self._others and self._lookup is None:
            raise SchemeError(f"scheme {name!r} cannot be looked up here")
        return self._others[name] if name in self._others else self._find(name, "node")


_CHANGED = {"level": "definition", "notes": "A changed scheme; nobody has verified it."}


def _marked(name: str, change: str) -> str:
    """The name of a scheme with what was changed of it."""
    return f"{name[:-1]}, {change}]" if name.endswith("]") else f"{name}[{change}]"


def _expanded(value: Any, key: str = "") -> Any:
    """A table with the names of stage lists replaced by the lists."""
    if isinstance(value, Mapping):
        if "stage" in value:
            return to_table(Stage.from_table(value, key))
        return {k: _expanded(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v, key) for v in value]
    is_list = isinstance(value, str) and value in NAMED_STAGES
    if is_list and (key.endswith(("requantize", "stages")) or key not in FACTS):
        return to_table(NAMED_STAGES[value])
    return value


def _policy(table: Mapping[str, Any], kind: str, where: str) -> Policy:
    """The typed policy of a merged table, with every range and combination checked."""
    return _policy_of(json.dumps(table, sort_keys=True, default=str), kind, where)


@lru_cache(maxsize=4096)
def _policy_of(text: str, kind: str, where: str) -> Policy:
    table = json.loads(text)
    unknown_key(table, POLICY_KEYS, where)
    parts: dict[str, Any] = {}
    for key, cls in (
        ("effective_scale", EffectiveScale),
        ("multiplier", Multiplier),
        ("accumulator", Accumulator),
        ("activation_bounds", ActivationBounds),
        ("tail", Tail),
        ("bias", BiasRescale),
    ):
        if table.get(key) is not None:
            parts[key] = build(cls, table[key], f"{where}.{key}")
    if "requantize" in table:
        parts["requantize"] = convert(tuple[Stage, ...], table["requantize"], f"{where}.requantize")
    if "recipes" in table:
        parts["recipes"] = one_of(table["recipes"], RECIPES.families(), f"{where}.recipes")
    if "lacks" in table:
        parts["lacks"] = convert(str, table["lacks"], f"{where}.lacks")
    if "unsigned" in table:
        signs = ("native", "as_signed")
        parts["unsigned"] = one_of(table["unsigned"], signs, f"{where}.unsigned")
    if table.get("recipe") is not None:
        parts["recipe"] = _recipe(table["recipe"], kind, f"{where}.recipe")
    policy = Policy(**parts)
    if policy.bias is not None:
        check_stages(policy.bias.stages, f"{where}.bias.stages", bounded=False)
    for stages, path in ((policy.requantize, "requantize"),) + (
        ((policy.tail.requantize, "tail.requantize"),) if policy.tail else ()
    ):
        check_stages(stages, f"{where}.{path}")
        problem = check_exact(stages, policy.effective_scale)
        if problem:
            raise SchemeError(f"{where}.{path}: {problem}")
        if needs_multiplier(stages) and policy.multiplier.form == "none":
            raise SchemeError(f"{where}.{path}: multiplies, but multiplier.form is 'none'")
    return policy


def _recipe(table: object, kind: str, path: str) -> RecipeChoice:
    entry = _table_at(table, path)
    if "name" not in entry:
        raise SchemeError(f"{path}: missing key 'name'")
    name = one_of(entry["name"], RECIPES.names(kind or None), f"{path}.name")
    rest = {k: v for k, v in entry.items() if k != "name"}
    if not kind:
        return RecipeChoice(name, None)
    params = RECIPES.params(kind, name)
    if params is None:
        unknown_key(rest, (), path)
        return RecipeChoice(name, None)
    return RecipeChoice(name, build(params, rest, path))


def _matches(when: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    for fact, wanted in when.items():
        value, options = facts.get(fact), _options(fact, wanted)
        if FACTS[fact] is dict:
            if value is None or not any(_within(value, bounds) for bounds in options):
                return False
        elif value not in options:
            return False
    return True


def _within(interval: Mapping[str, float], bounds: Mapping[str, float]) -> bool:
    """Whether an interval keeps all bounds."""
    return all(
        compare(interval[end], bounds[name])
        for name, (end, compare) in _BOUNDS.items()
        if name in bounds
    )


def _merge(table: Table, changes: Mapping[str, Any]) -> None:
    """Put ``changes`` over ``table``, field by field; another recipe replaces the whole one."""
    for key, value in changes.items():
        old = table.get(key)
        renamed = isinstance(value, Mapping) and value.get("name", None) not in (
            None,
            old.get("name") if isinstance(old, Mapping) else None,
        )
        if isinstance(value, Mapping) and isinstance(old, dict) and not renamed:
            _merge(old, value)
        else:
            table[key] = copy.deepcopy(value)


def _put(table: Table, path: str, value: Any, where: str, kind: str) -> None:
    """Set the field at ``path`` of a policy table, expanding what it only names."""
    inner: Any = table
    keys = path.split(".")
    for depth, key in enumerate(keys[:-1]):
        if isinstance(inner, list):
            inner = inner[_stage_index(inner, key, where)]
            continue
        below = inner.get(key)
        if below is None:
            below = _implied(table, key, kind, where) if depth == 0 else {}
        elif isinstance(below, str) and below in NAMED_STAGES:
            below = to_table(NAMED_STAGES[below])
        if not isinstance(below, (dict, list)):
            raise SchemeError(f"{where}.{path}: {'.'.join(keys[: depth + 1])!r} has no fields")
        inner[key] = inner = below
    last = keys[-1]
    if isinstance(inner, list):
        inner[_stage_index(inner, last, where)] = copy.deepcopy(value)
    elif value is None:
        inner.pop(last, None)
    else:
        _merge(inner, {last: value})


def _implied(table: Table, key: str, kind: str, where: str) -> Any:
    """The table of a policy field that a scheme leaves out."""
    if key != "recipe":
        default = getattr(Policy(), key)
        return {} if default is None else to_table(default)
    choice = RECIPES.standard(kind, table.get("recipes", Policy.recipes))
    if choice is None:
        raise SchemeError(f"{where}.recipe: no recipe is chosen here")
    return {"name": choice.name} | (to_table(choice.params) if choice.params else {})


def _stage_index(stages: list[Any], key: str, where: str) -> int:
    if key.lstrip("-").isdecimal():
        index = int(key)
        if -len(stages) <= index < len(stages):
            return index
        raise SchemeError(f"{where}: the list has {len(stages)} stages, no number {key}")
    names = [str(s.get("stage")) if isinstance(s, Mapping) else str(s) for s in stages]
    if names.count(key) == 1:
        return names.index(key)
    message = f"{where}: {names.count(key)} stages are called {key!r}; the list: {', '.join(names)}"
    raise (SchemeError if key in names else _NoStageError)(message)


def _check_when(when: Mapping[str, Any], path: str) -> None:
    unknown_key(when, FACTS, path)
    for fact, wanted in when.items():
        if not _options(fact, wanted):
            raise SchemeError(f"{path}.{fact}: an empty list matches nothing")
        for option in _options(fact, wanted):
            elements = option if isinstance(option, list) else []
            if type(option) is not FACTS[fact] or any(type(e) is not int for e in elements):
                raise SchemeError(f"{path}.{fact}: {option!r} has the wrong type")
            if isinstance(option, dict):
                unknown_key(option, _BOUNDS, f"{path}.{fact}")
                for bound, number in option.items():
                    convert(float, number, f"{path}.{fact}.{bound}")
            if fact == "op":
                one_of(option, RECIPES.kinds(), f"{path}.op")


def _cases(rule: Mapping[str, Any]) -> list[Table]:
    """Facts that a rule applies to: every operator it names, the first option of all else."""
    when = rule.get("when", {})
    facts = {
        fact: _example(_options(fact, wanted)[0]) for fact, wanted in when.items() if fact != "op"
    }
    return [{**facts, "op": op} for op in _options("op", when["op"])] if "op" in when else [facts]


def _example(option: Any) -> Any:
    """A value of the fact that the option stands for."""
    if not isinstance(option, dict):
        return option
    least = option.get("least", -math.inf)
    return {"least": least, "most": min(option.get("most", math.inf), max(least, 0.0))}


def _options(fact: str, wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) and FACTS[fact] is not list else [wanted]


def _table_at(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SchemeError(f"{path}: expected a table, got {value!r}")
    return value


def _plain(value: Any) -> Any:
    """A deep copy in dicts, lists and scalars only."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 40 else text[:37] + "..."
