"""Strict building of frozen dataclasses from plain tables, as TOML gives them.

The dataclass is the schema: its field names are the keys, its annotations the types, its
``__post_init__`` the ranges. Every complaint carries the key path.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from qinterp.errors import SchemeError

T = TypeVar("T")


def build(cls: type[T], table: object, path: str) -> T:
    """A ``cls`` from ``table``.

    Raises
    ------
    SchemeError : an unknown or missing key, a wrong type, or a value out of range; the text
        starts with the key path.
    """
    if isinstance(table, cls):
        return table
    if "from_table" in vars(cls):
        made: T = vars(cls)["from_table"].__func__(cls, table, path)
        return made
    if not isinstance(table, Mapping):
        raise SchemeError(f"{path}: expected a table, got {table!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown_key(table, fields, path)
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = convert(hints[name], table[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SchemeError(f"{path}: missing key {name!r}")
    try:
        return cls(**values)
    except ValueError as error:
        raise SchemeError(f"{path}: {error}") from None


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def unknown_key(table: Mapping[str, Any], known: Iterable[str], path: str) -> None:
    """SchemeError if ``table`` has a key that is not in ``known``."""
    known = list(known)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise SchemeError(f"{path}: unknown key {key!r}{hint}; known keys: {', '.join(known)}")


def convert(hint: Any, value: object, path: str) -> Any:
    """``value`` as the annotation ``hint`` wants it."""
    origin = get_origin(hint)
    if origin is Literal:
        return one_of(value, get_args(hint), path)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        options = [o for o in get_args(hint) if o is not type(None)]
        if len(options) == 1:
            return convert(options[0], value, path)
        errors = []
        for option in options:
            try:
                return convert(option, value, path)
            except SchemeError as error:
                errors.append(str(error))
        raise SchemeError("; or ".join(errors))
    if origin is tuple:
        inner = get_args(hint)[0]
        if isinstance(value, str) and (named := getattr(inner, "named", None)):
            return named(value, path)
        if not isinstance(value, (list, tuple)):
            raise SchemeError(f"{path}: expected a list, got {value!r}")
        return tuple(convert(inner, v, f"{path}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return build(hint, value, path)  # type: ignore[arg-type]  # a class, not an instance
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise SchemeError(f"{path}: expected {hint.__name__}, got {value!r}")
    return value


def one_of(value: object, known: Iterable[object], path: str) -> Any:
    """``value`` if it is one of ``known``, else a SchemeError that lists them."""
    known = list(known)
    for option in known:
        if option == value and isinstance(value, type(option)):
            return option
    raise SchemeError(f"{path}: {value!r} is not one of {', '.join(map(str, known))}")


def to_table(record: Any) -> Any:
    """The plain table that builds ``record`` again."""
    if hasattr(record, "to_table"):
        return record.to_table()
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {
            f.name: to_table(value)
            for f in dataclasses.fields(record)
            if (value := getattr(record, f.name)) is not None
        }
    if isinstance(record, (tuple, list)):
        return [to_table(item) for item in record]
    return record
