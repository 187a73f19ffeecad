"""How two policies differ, in words a person would use; B's part comes first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from qinterp.difference.nodes import Prepared
from qinterp.numerics.accumulators import Accumulator
from qinterp.numerics.stages import (
    NAMED_STAGES,
    DivideScale,
    MultiplyHigh,
    Round,
    Scale,
    ScaleExact,
    ShiftRight,
    Stage,
    ToFloat,
)

GROUPS = {
    "stages": ("requantize",),
    "accumulator": ("accumulator",),
    "preparation": ("effective_scale", "multiplier"),
    "bounds": ("activation_bounds",),
    "tail": ("tail",),
    "recipe": (),
}
"""Fields of a policy that are exchanged together; the recipe goes with its parameters."""

_SAID = 2  # differing fields of a record that are told with their values
_NUMBERS = ("no", "one", "two", "three", "four", "five")
_OVERFLOWS = {"wrap": "wrapping", "saturate": "saturating", "error": "never overflowing"}


def against(b: str, a: str) -> str:
    """One phrase out of two."""
    return f"{b} (B) against {a} (A)"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def differing_groups(a: Prepared, b: Prepared) -> list[str]:
    """The groups of fields in which two prepared nodes differ."""
    first, second = a.policy, b.policy
    found = [
        group
        for group, names in GROUPS.items()
        if any(getattr(first, n) != getattr(second, n) for n in names)
    ]
    if a.recipe != b.recipe or a.params != b.params:
        found.append("recipe")
    return found


def phrase(groups: Sequence[str], a: Prepared, b: Prepared) -> str:
    """How B differs from A in these groups."""
    first, second = a.policy, b.policy
    said = []
    for group in groups:
        if group == "stages":
            said.append(stages_phrase(first.requantize, second.requantize))
        elif group == "accumulator":
            said.append(accumulator_phrase(first.accumulator, second.accumulator))
        elif group == "preparation":
            # where both count, the stages already tell a float scale from a multiplier
            if "stages" not in groups or first.multiplier.bits != second.multiplier.bits:
                said.append(preparation_phrase(first, second))
        elif group == "recipe":
            said.append(recipe_phrase(a, b))
        else:
            said += [
                record_phrase(getattr(first, name), getattr(second, name), name)
                for name in GROUPS[group]
            ]
    return " and ".join(part for part in said if part)


def recipe_phrase(a: Prepared, b: Prepared) -> str:
    """How two recipes differ: by name, or in some parameters."""
    if a.recipe != b.recipe:
        return against(f"recipe {b.recipe}", a.recipe)
    return record_phrase(a.params, b.params, "")


def record_phrase(a: Any, b: Any, name: str) -> str:
    """How two dataclasses of the same type differ; anything else by its value."""
    if type(a) is not type(b) or not dataclasses.is_dataclass(a):
        what = f"{name} " if name else ""
        return against(f"{what}{value_in_words(b)}", value_in_words(a))
    said, plain = [], []
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if x == y:
            continue
        label = f"{name}.{field.name}" if name else field.name
        if _is_stages(x) and _is_stages(y):
            where = "" if label == "stages" else f" in its {label.replace('_', ' ')}"
            said.append(stages_phrase(x, y) + where)
        else:
            plain.append((label, against(f"{label} {value_in_words(y)}", value_in_words(x))))
    # stages tell more than other parameters, which are only named when there are many
    room = max(_SAID - len(said), 0)
    said += [text for _, text in plain[:room]]
    if plain[room:]:
        said.append(f"another {' and '.join(label for label, _ in plain[room:])}")
    return ", ".join(said)


def value_in_words(value: Any) -> str:
    """A field's value."""
    if value is None or value == ():
        return "none"
    if _is_stages(value):
        return _list_name(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return ", ".join(f"{f.name} {value_in_words(getattr(value, f.name))}" for f in fields)
    if isinstance(value, tuple):
        return ", ".join(map(value_in_words, value))
    return str(value).replace("_", " ")


def _is_stages(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, Stage) for v in value)


# ---- stages -----------------------------------------------------------------------------------


def stages_phrase(a: Sequence[Stage], b: Sequence[Stage]) -> str:
    """How two lists of stages differ: in the number of roundings, or in a rule."""
    if roundings(a) != roundings(b):
        return against(roundings(b), roundings(a))
    rules = tie_phrase(a, b)
    if rules:
        return rules
    changed = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
    if len(a) == len(b) and len(changed) == 1 and type(changed[0][0]) is type(changed[0][1]):
        return record_phrase(*changed[0], changed[0][0].stage)
    return against(f"stages {_list_name(b)}", _list_name(a))


def tie_phrase(a: Sequence[Stage], b: Sequence[Stage]) -> str:
    """How the rounding rules of the last stages that round differ; empty if they do not."""
    last = [next((s for s in reversed(stages) if _rounds(s)), None) for stages in (a, b)]
    pairs = [(x, y) for x, y in zip(a, b, strict=False) if x != y and type(x) is type(y)]
    for x, y in [*pairs, (last[0], last[1])]:
        rules = [getattr(s, "rounding", None) for s in (y, x)]
        if None not in rules and rules[0] != rules[1]:
            where = f" in {x.stage}" if x is not None and type(x) is type(y) else ""
            return against(value_in_words(rules[0]), value_in_words(rules[1])) + where
    return ""


def roundings(stages: Sequence[Stage]) -> str:
    """The stages that round: "two integer roundings", "one float32 rounding"."""
    kinds: dict[str, int] = {}
    precision = "float"
    for stage in stages:
        if isinstance(stage, (ToFloat, Scale, DivideScale)):
            precision = stage.precision
        if _rounds(stage):
            kind = "integer"
            if isinstance(stage, Round):
                kind = precision
            elif isinstance(stage, ScaleExact):
                kind = "exact"
            kinds[kind] = kinds.get(kind, 0) + 1
    if not kinds:
        return "no rounding"
    total = sum(kinds.values())
    said = " and ".join(f"{_number(n)} {kind}" for kind, n in kinds.items())
    return f"{said} rounding{'' if total == 1 else 's'}"


def _rounds(stage: Stage) -> bool:
    return isinstance(stage, (MultiplyHigh, ShiftRight, ScaleExact, Round))


def _number(n: int) -> str:
    return _NUMBERS[n] if n < len(_NUMBERS) else str(n)


def _list_name(stages: Sequence[Stage]) -> str:
    for name, known in NAMED_STAGES.items():
        if tuple(stages) == known:
            return name
    return " > ".join(stage.stage for stage in stages)


# ---- the rest ---------------------------------------------------------------------------------


def accumulator_phrase(a: Accumulator, b: Accumulator) -> str:
    """How two accumulators differ."""
    if (a.bits, a.overflow, a.group) != (b.bits, b.overflow, b.group):
        return against(accumulator_in_words(b), accumulator_in_words(a, "one"))
    return record_phrase(a, b, "accumulator")


def accumulator_in_words(accumulator: Accumulator, noun: str = "accumulator") -> str:
    """An accumulator: "a 16-bit saturating accumulator"."""
    text = f"{bits(accumulator.bits)} {_OVERFLOWS[accumulator.overflow]} {noun}"
    group = accumulator.group
    if group is None:
        return text
    return f"{text} of {group.size} products {_OVERFLOWS[group.overflow]} at {group.bits} bits"


def preparation_phrase(a: Any, b: Any) -> str:
    """How two policies differ in what a scale becomes."""
    if (a.multiplier.form, a.multiplier.bits) != (b.multiplier.form, b.multiplier.bits):
        noun = "multiplier" if b.multiplier.form == "none" else "one"
        return against(multiplier_in_words(b), multiplier_in_words(a, noun))
    said = [
        record_phrase(getattr(a, name), getattr(b, name), name) for name in GROUPS["preparation"]
    ]
    return ", ".join(part for part in said if part)


def multiplier_in_words(policy: Any, noun: str = "multiplier") -> str:
    """What a scale becomes: "a 31-bit multiplier", "a float32 scale"."""
    multiplier = policy.multiplier
    if multiplier.form == "none":
        kinds = [s.precision for s in policy.requantize if isinstance(s, (Scale, DivideScale))]
        exact = any(isinstance(s, ScaleExact) for s in policy.requantize)
        return f"a {kinds[0]} scale" if kinds else "the exact scale" if exact else "no multiplier"
    reach = f"{bits(multiplier.bits)[:-4]} to {multiplier.bits + 1}-bit"
    size = reach if multiplier.form == "pre_post_shift" else bits(multiplier.fraction_bits)
    return f"{size} {noun}"


def bits(number: int) -> str:
    """A width with its article: "an 8-bit", "a 16-bit"."""
    article = "an" if number in (8, 11, 18) or 80 <= number <= 89 else "a"
    return f"{article} {number}-bit"
