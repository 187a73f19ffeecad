"""Schemes as TOML: finding, loading, resolving ``extends``, and writing them out."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from qinterp.errors import SchemeError
from qinterp.numerics.records import unknown_key
from qinterp.scheme import Scheme

ENTRY_POINTS = "qinterp.schemes"
"""Entry-point group: a name to a function without arguments that returns a Scheme or a table."""


def folder(kind: str) -> Traversable:
    """The folder of shipped ``kind`` files: "schemes" or "models"."""
    try:
        return resources.files(f"qinterp.{kind}")
    except ModuleNotFoundError:
        checkout = Path(__file__).resolve().parents[1] / kind
        if not checkout.is_dir():
            raise FileNotFoundError(f"qinterp ships no {kind!r} (looked in {checkout})") from None
        return checkout


def scheme_names() -> list[str]:
    """Names of the shipped schemes and of those that installed packages add."""
    shipped = [f.name[:-5] for f in folder("schemes").iterdir() if f.name.endswith(".toml")]
    return sorted({*shipped, *(e.name for e in metadata.entry_points(group=ENTRY_POINTS))})


def load_scheme(scheme: str | os.PathLike[str] | Scheme) -> Scheme:
    """A scheme by name, from a .toml file, or as it is.

    Raises
    ------
    SchemeError : no such scheme, or a malformed one (with file and key path).
    """
    if isinstance(scheme, Scheme):
        return scheme
    text = os.fspath(scheme)
    if text.endswith(".toml") or os.sep in text:
        path = Path(text)
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SchemeError(f"{text}: {getattr(error, 'strerror', None) or error}") from None
        return _from_text(content, path.name, path.parent)
    return _named(text)


@lru_cache(maxsize=64)
def _named(name: str) -> Scheme:
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            made = entry.load()()
            return made if isinstance(made, Scheme) else from_table(made, where=name)
    file = folder("schemes") / f"{name}.toml"
    if name not in scheme_names() or not file.is_file():
        raise SchemeError(
            f"no scheme {name!r}; known: {', '.join(scheme_names())}; or give a path to a .toml"
        )
    return _from_text(file.read_text(encoding="utf-8"), file.name, None)


def _from_text(text: str, where: str, beside: Path | None) -> Scheme:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchemeError(f"{where}: {error}") from None
    return from_table(table, where=where, beside=beside)


def from_table(
    table: Mapping[str, Any], *, where: str = "", beside: Path | None = None
) -> Scheme:
    """A scheme from the table of a TOML file, with ``extends`` resolved.

    Parameters
    ----------
    beside : the folder in which other schemes are looked for first.
    """
    where = where or str(table.get("name", "scheme"))

    def lookup(name: str) -> Scheme:
        if beside is not None and not name.endswith(".toml"):
            file = beside / f"{name}.toml"
            if file.is_file() and file.name != where:
                return load_scheme(file)
        elif beside is not None:
            return load_scheme(beside / name)
        return load_scheme(name)

    return Scheme(_extended(table, where, lookup, ()), where=where, lookup=lookup)


def _extended(
    table: Mapping[str, Any], where: str, lookup: Any, seen: tuple[str, ...]
) -> dict[str, Any]:
    """``table`` over the scheme it extends: its default comes as a rule after the other's."""
    own = copy.deepcopy(dict(table))
    parent_name = own.pop("extends", None)
    if parent_name is None:
        return own
    if not isinstance(parent_name, str):
        raise SchemeError(f"{where}.extends: expected a scheme's name, got {parent_name!r}")
    if parent_name in seen or parent_name == own.get("name"):
        raise SchemeError(f"{where}.extends: {parent_name!r} extends itself")
    unknown_key(own, ("name", "source", "evidence", "default", "rule", "node", "fallback"), where)
    parent = lookup(parent_name).to_table()
    merged = {k: v for k, v in parent.items() if k in ("default", "rule", "node", "fallback")}
    rules = list(merged.get("rule", []))
    if "default" in own:
        rules.append({"when": {}, **own["default"]})
    if not isinstance(own.get("rule", []), list):
        raise SchemeError(f"{where}.rule: expected a list of tables")
    merged["rule"] = rules + own.get("rule", [])
    merged["node"] = {**parent.get("node", {}), **own.get("node", {})}
    merged |= {k: own[k] for k in ("name", "source", "evidence", "fallback") if k in own}
    return {k: v for k, v in merged.items() if v not in ({}, [])}


def to_toml(scheme: Scheme) -> str:
    """The resolved scheme as TOML that loads as the same scheme."""
    import tomli_w

    return tomli_w.dumps(scheme.to_table(), multiline_strings=False)
