"""A scheme: how one backend computes, as a frozen record of policies (clauses C1 to C9).

A scheme is data: defaults, and rules whose conditions range over a closed list of facts about a
node. What one node needs is resolved into a :class:`Policy`.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qinterp.errors import SchemeError
from qinterp.numerics.accumulators import Accumulator
from qinterp.numerics.records import build, convert, one_of, to_table, unknown_key
from qinterp.numerics.requantize import check_exact, needs_multiplier
from qinterp.numerics.scales import ActivationBounds, EffectiveScale, Multiplier
from qinterp.numerics.stages import NAMED_STAGES, Stage, check_stages

Table = dict[str, Any]

FACTS: dict[str, type | tuple[type, ...]] = {
    "op": str,
    "activation": str,
    "weight": str,
    "bias": str,
    "output": str,
    "rank": int,
    "axes": list,
    "keep_dims": bool,
    "groups": int,
    "batch": int,
    "broadcast": str,
    "per_channel": bool,
    "power_of_two_scale": bool,
    "same_parameters": bool,
}
"""The closed list of facts that ``when`` may ask for; a list of values means any of them."""


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
    """

    effective_scale: EffectiveScale = field(default_factory=EffectiveScale)
    multiplier: Multiplier = field(default_factory=Multiplier)
    accumulator: Accumulator = field(default_factory=Accumulator)
    requantize: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]
    tail: Tail | None = None
    activation_bounds: ActivationBounds = field(default_factory=ActivationBounds)
    recipes: str = "tflite"
    recipe: RecipeChoice | None = None


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
        """Families that some operator has a standard recipe for."""
        self._discover()
        return sorted({family for _, family in self._family} - {"*"})

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

_POLICY_KEYS = (
    "effective_scale", "multiplier", "accumulator", "requantize", "tail", "activation_bounds",
    "recipes", "recipe",
)  # fmt: skip
_TOP_KEYS = (
    "name", "extends", "source", "evidence", "default", "rule", "node", "fallback",
)  # fmt: skip
_EVIDENCE_KEYS = ("level", "runtime", "version", "test", "notes")
_LEVELS = ("verified", "source", "literature", "definition")


@dataclass(frozen=True)
class _Override:
    """``with_``: a value put at a key path of every policy, or of one operator kind's."""

    path: str
    value: Any

    def parts(self, kind: str) -> list[str] | None:
        """The keys below the policy, None if this override is for another operator."""
        head, *rest = self.path.split(".")
        if head in _POLICY_KEYS:
            return [head, *rest]
        return rest if head == kind else None


class Scheme:
    """How one backend computes; immutable, hashable, comparable.

    Make one with :func:`qinterp.load_scheme`, or from the table that a TOML file holds.

    Parameters
    ----------
    table : keys ``name``, ``source``, ``evidence``, ``default``, ``rule``, ``node``, ``fallback``,
        ``extends`` already resolved by the loader.
    where : what to call the scheme in messages (a file name).
    parents : schemes that ``node`` tables and ``fallback`` refer to, by name.

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
        _overrides: tuple[_Override, ...] = (),
    ) -> None:
        self._where = where or str(table.get("name", "scheme"))
        self._table: Table = _plain(table)
        self._lookup = lookup
        self._overrides = _overrides
        self._policies: dict[str, Policy] = {}
        self._check()

    # ---- what it is -----------------------------------------------------------------

    @property
    def name(self) -> str:
        """The scheme's name; overrides are appended in brackets."""
        name: str = self._table["name"]
        if self._overrides:
            name += "[" + ", ".join(f"{o.path}={_short(o.value)}" for o in self._overrides) + "]"
        return name

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
        table = copy.deepcopy(self._table)
        if self._overrides:
            table["name"] = self.name
            table["override"] = [{"path": o.path, "value": o.value} for o in self._overrides]
        return table

    @property
    def sha256(self) -> str:
        """Hash of everything that decides a bit: not of name, source and evidence."""
        content: Table = {
            key: self._table[key] for key in ("default", "rule", "node") if key in self._table
        }
        for node in content.get("node", {}).values():
            if "scheme" in node:
                content.setdefault("others", {})[node["scheme"]] = self._find(
                    node["scheme"], "node"
                ).sha256
        if self.fallback is not None:
            content["fallback"] = self.fallback.sha256
        content["overrides"] = [[o.path, o.value] for o in self._overrides]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

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
            and ``"requantize.2.rounding"`` reach into a list of stages.

        Raises
        ------
        SchemeError : no such path, or a value it cannot take.
        """
        added = tuple(
            _Override(path, _plain(to_table(value))) for path, value in changes.items()
        )
        for override in added:
            self._check_override(override)
        return Scheme(
            self._table,
            where=self._where,
            lookup=self._lookup,
            _overrides=self._overrides + added,
        )

    def for_node(self, name: str) -> Scheme:
        """The scheme that ``[node.NAME]`` gives this node, else this one."""
        entry = self._table.get("node", {}).get(name)
        if entry is None:
            return self
        base = self._find(entry["scheme"], f'node."{name}"') if "scheme" in entry else self
        changes = {f"{k}": v for k, v in entry.items() if k != "scheme"}
        return base.with_(changes) if changes else base

    def with_node(self, node: str, scheme: Scheme) -> Scheme:
        """The scheme with another one for ``node``."""
        table = copy.deepcopy(self._table)
        table.setdefault("node", {})[node] = {"scheme": scheme.name}
        known = {scheme.name: scheme}

        def lookup(name: str) -> Scheme:
            if name in known:
                return known[name]
            return self._find(name, "node")

        return Scheme(table, where=self._where, lookup=lookup, _overrides=self._overrides)

    # ---- resolving --------------------------------------------------------------------

    def policy(self, facts: Mapping[str, Any]) -> Policy:
        """What the node described by ``facts`` needs (see :data:`FACTS`)."""
        key = json.dumps(facts, sort_keys=True)
        if key not in self._policies:
            table = self._merged(facts)
            kind = str(facts.get("op", ""))
            for override in self._overrides:
                parts = override.parts(kind)
                if parts is not None:
                    _put(table, parts, override.value, self._where, kind)
            self._policies[key] = _policy(table, kind, self._where)
        return self._policies[key]

    def _merged(self, facts: Mapping[str, Any]) -> Table:
        table = copy.deepcopy(self._table.get("default", {}))
        for rule in self._table.get("rule", []):
            if _matches(rule.get("when", {}), facts):
                _merge(table, {k: v for k, v in rule.items() if k != "when"})
        return table

    # ---- checking ---------------------------------------------------------------------

    def _check(self) -> None:
        where, table = self._where, self._table
        unknown_key(table, (*_TOP_KEYS, "override"), where)
        for override in table.pop("override", []):
            self._overrides += (_Override(override["path"], override["value"]),)
        for key in ("name", "source"):
            if key not in table:
                raise SchemeError(f"{where}: missing key {key!r}")
            convert(str, table[key], f"{where}.{key}")
        evidence = table.get("evidence")
        if not isinstance(evidence, Mapping) or "level" not in evidence:
            raise SchemeError(f"{where}.evidence: expected a table with a key 'level'")
        unknown_key(evidence, _EVIDENCE_KEYS, f"{where}.evidence")
        one_of(evidence["level"], _LEVELS, f"{where}.evidence.level")
        for path, part in self._parts():
            unknown_key(part, _POLICY_KEYS, path)
        _policy(table.get("default", {}), "", where + ".default")
        for i, rule in enumerate(table.get("rule", [])):
            self._check_rule(rule, f"{where}.rule[{i}]")
        for name, entry in table.get("node", {}).items():
            path = f'{where}.node."{name}"'
            unknown_key(entry, ("scheme", *_POLICY_KEYS), path)
            if "scheme" in entry and self._lookup is not None:
                self._find(entry["scheme"], path)

    def _parts(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield f"{self._where}.default", _table_at(self._table.get("default", {}), self._where)
        rules = self._table.get("rule", [])
        if not isinstance(rules, list):
            raise SchemeError(f"{self._where}.rule: expected a list of tables, got {rules!r}")
        for i, rule in enumerate(rules):
            path = f"{self._where}.rule[{i}]"
            yield path, {k: v for k, v in _table_at(rule, path).items() if k != "when"}

    def _check_rule(self, rule: Table, path: str) -> None:
        when = _table_at(rule.get("when", {}), f"{path}.when")
        unknown_key(when, FACTS, f"{path}.when")
        for fact, wanted in when.items():
            options = wanted if isinstance(wanted, list) and FACTS[fact] is not list else [wanted]
            for option in options:
                if not isinstance(option, FACTS[fact]) or (
                    FACTS[fact] is int and isinstance(option, bool)
                ):
                    raise SchemeError(f"{path}.when.{fact}: {option!r} has the wrong type")
        kinds = when.get("op", [])
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            one_of(kind, RECIPES.kinds(), f"{path}.when.op")
            merged = copy.deepcopy(self._table.get("default", {}))
            _merge(merged, {k: v for k, v in rule.items() if k != "when"})
            _policy(merged, kind, path)

    def _check_override(self, override: _Override) -> None:
        head = override.path.split(".")[0]
        where = self._where
        if head in _POLICY_KEYS:
            kind = ""
        else:
            kind = one_of(head, (*_POLICY_KEYS, *RECIPES.kinds()), f"{where}: {override.path}")
        table = self._merged({"op": kind})
        parts = override.parts(kind)
        if not parts:
            raise SchemeError(f"{where}: name a field below {head!r}")
        _put(table, parts, override.value, where, kind)
        _policy(table, kind, where)

    def _find(self, name: str, path: str) -> Scheme:
        if self._lookup is None:
            raise SchemeError(f"{self._where}.{path}: scheme {name!r} cannot be looked up here")
        return self._lookup(name)


def _policy(table: Mapping[str, Any], kind: str, where: str) -> Policy:
    """The typed policy of a merged table, with every range and combination checked."""
    unknown_key(table, _POLICY_KEYS, where)
    parts: dict[str, Any] = {}
    for key, cls in (
        ("effective_scale", EffectiveScale),
        ("multiplier", Multiplier),
        ("accumulator", Accumulator),
        ("activation_bounds", ActivationBounds),
        ("tail", Tail),
    ):
        if table.get(key) is not None:
            parts[key] = build(cls, table[key], f"{where}.{key}")
    if "requantize" in table:
        parts["requantize"] = convert(
            tuple[Stage, ...], table["requantize"], f"{where}.requantize"
        )
    if "recipes" in table:
        parts["recipes"] = one_of(table["recipes"], RECIPES.families(), f"{where}.recipes")
    if table.get("recipe") is not None:
        parts["recipe"] = _recipe(table["recipe"], kind, f"{where}.recipe")
    policy = Policy(**parts)
    check_stages(policy.requantize, f"{where}.requantize")
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
        value = facts.get(fact)
        if isinstance(wanted, list) and FACTS[fact] is not list:
            if value not in wanted:
                return False
        elif value != wanted:
            return False
    return True


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


def _put(table: Any, parts: list[str], value: Any, where: str, kind: str) -> None:
    """Set the field at ``parts`` of a policy table, expanding what it only names."""
    head, *rest = parts
    if not rest:
        if isinstance(table, list):
            table[_stage_index(table, head, where)] = copy.deepcopy(value)
        elif isinstance(value, Mapping):
            _merge(table, {head: value})
        else:
            table[head] = copy.deepcopy(value)
        return
    if isinstance(table, list):
        _put(table[_stage_index(table, head, where)], rest, value, where, kind)
        return
    inner = table.get(head)
    if head == "recipe" and inner is None:
        choice = RECIPES.standard(kind, table.get("recipes", Policy.recipes))
        if choice is None:
            raise SchemeError(f"{where}: no recipe is chosen here")
        inner = {"name": choice.name} | (to_table(choice.params) if choice.params else {})
    if isinstance(inner, str):
        inner = to_table(Stage.named(inner, where))
    elif inner is None:
        default = getattr(Policy(), head, None)
        if default is None and head not in _POLICY_KEYS:
            raise SchemeError(f"{where}: no field {head!r}")
        inner = to_table(default) if default is not None else {}
    table[head] = inner
    _put(inner, rest, value, where, kind)


def _stage_index(stages: list[Any], key: str, where: str) -> int:
    if key.lstrip("-").isdigit():
        index = int(key)
        if -len(stages) <= index < len(stages):
            return index
        raise SchemeError(f"{where}: the list has {len(stages)} stages, no number {key}")
    found = [i for i, s in enumerate(stages) if isinstance(s, Mapping) and s.get("stage") == key]
    if len(found) != 1:
        names = ", ".join(str(s.get("stage")) for s in stages)
        raise SchemeError(f"{where}: {len(found)} stages are called {key!r}; the list: {names}")
    return found[0]


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
