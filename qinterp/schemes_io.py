"""Schemes as TOML: finding, loading, resolving ``extends``, and writing them out."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from qinterp.errors import SchemeError
from qinterp.numerics.records import convert, unknown_key
from qinterp.scheme import POLICY_KEYS, Scheme

ENTRY_POINTS = "qinterp.schemes"
"""Entry-point group by which a package adds schemes.

The entry's name is the scheme's; it points to a function without arguments that returns a Scheme,
or a table as a TOML file holds it.
"""


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
    return sorted({*_shipped(), *(e.name for e in metadata.entry_points(group=ENTRY_POINTS))})


def sound_scheme_names() -> list[str]:
    """The names under which a scheme can be loaded: a package may add one that cannot."""
    return [name for name in scheme_names() if _loads(name)]


def _loads(name: str) -> bool:
    try:
        load_scheme(name)
    except SchemeError:
        return False
    return True


def _shipped() -> list[str]:
    return [f.name[:-5] for f in folder("schemes").iterdir() if f.name.endswith(".toml")]


def load_scheme(scheme: str | os.PathLike[str] | Mapping[str, Any] | Scheme) -> Scheme:
    """A scheme by name, from a .toml file, from the table of such a file, or as it is.

    A shipped scheme goes before one of the same name that a package adds.

    Raises
    ------
    SchemeError : no such scheme, or a malformed one (with file and key path, or with the package
        that adds it).
    """
    if isinstance(scheme, Scheme):
        return scheme
    if isinstance(scheme, Mapping):
        return from_table(scheme)
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
    if name in _shipped():
        file = folder("schemes") / f"{name}.toml"
        return _from_text(file.read_text(encoding="utf-8"), file.name, None)
    for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
        return _from_package(entry)
    raise SchemeError(
        f"no scheme {name!r}; known: {', '.join(scheme_names())}; or give a path to a .toml"
    )


def _from_package(entry: metadata.EntryPoint) -> Scheme:
    """The scheme of an entry point; whatever is wrong with it is the package's fault."""
    package = f"package {entry.dist.name!r}" if entry.dist else f"entry point {entry.value!r}"
    try:
        made = entry.load()()
        if not isinstance(made, (Scheme, Mapping)):
            raise SchemeError(f"expected a Scheme or a table, got {made!r}")
        scheme = made if isinstance(made, Scheme) else from_table(made, where=entry.name)
        if scheme.name != entry.name:
            raise SchemeError(f"it calls itself {scheme.name!r}")
    except SchemeError as error:
        raise SchemeError(f"scheme {entry.name!r} of {package}: {error}") from None
    except Exception as error:
        raise SchemeError(f"scheme {entry.name!r} of {package}: {error!r}") from error
    return scheme


def _from_text(text: str, where: str, beside: Path | None) -> Scheme:
    try:
        return from_table(tomllib.loads(text), where=where, beside=beside)
    except RecursionError:
        raise SchemeError(f"{where}: nested too deeply") from None
    except ValueError as error:  # a TOMLDecodeError, or a number of too many digits
        raise SchemeError(f"{where}: {error}") from None


_loading: ContextVar[tuple[Path, ...]] = ContextVar("_loading", default=())


def from_table(table: Mapping[str, Any], *, where: str = "", beside: Path | None = None) -> Scheme:
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

    this = (beside.resolve() if beside is not None else Path("qinterp/schemes")) / where
    users = _loading.get()
    if this in users:
        names = " -> ".join(path.name for path in (*users[users.index(this) :], this))
        raise SchemeError(f"{where}: refers to itself: {names}")
    token = _loading.set((*users, this))
    try:
        full, paths = _extended(table, where, lookup)
        return Scheme(full, where=where, lookup=lookup, rule_paths=paths)
    finally:
        _loading.reset(token)


def _extended(
    table: Mapping[str, Any], where: str, lookup: Callable[[str], Scheme]
) -> tuple[dict[str, Any], list[str] | None]:
    """``table`` over the scheme it extends, and what messages call its rules.

    Its default comes as a rule after the other's.
    """
    own = copy.deepcopy(dict(table))
    parent_name = own.pop("extends", None)
    if parent_name is None:
        return own, None
    convert(str, parent_name, f"{where}.extends")
    for key, kind, what in (
        ("default", dict, "table"),
        ("node", dict, "table"),
        ("rule", list, "list"),
    ):
        if not isinstance(own.get(key, kind()), kind):
            raise SchemeError(f"{where}.{key}: expected a {what}, got {own[key]!r}")
    try:
        parent = lookup(parent_name).to_table()
    except SchemeError as error:
        raise SchemeError(f"{where}.extends: {error}") from None
    rules = parent.get("rule", [])
    paths = [f"{parent_name}.rule[{i}]" for i in range(len(rules))]
    if "default" in own:
        unknown_key(own["default"], POLICY_KEYS, f"{where}.default")
        rules = [*rules, {"when": {}, **own.pop("default")}]
        paths.append(f"{where}.default")
    paths += [f"{where}.rule[{i}]" for i in range(len(own.get("rule", [])))]
    inherited = {k: v for k, v in parent.items() if k in ("default", "fallback")}
    merged = {
        **inherited,
        **own,
        "rule": rules + own.get("rule", []),
        "node": {**parent.get("node", {}), **own.get("node", {})},
    }
    return {k: v for k, v in merged.items() if v not in ({}, [])}, paths


def to_toml(scheme: Scheme) -> str:
    """The resolved scheme as TOML that loads as the same scheme."""
    import tomli_w

    return tomli_w.dumps(scheme.to_table(), multiline_strings=False)
