"""What ``qinterp schemes`` prints."""

from __future__ import annotations

from typing import Any

from qinterp.errors import SchemeError
from qinterp.report.tables import print_table
from qinterp.schemes_io import load_scheme, scheme_names


def scheme_list() -> list[dict[str, Any]]:
    """Every named scheme: name, evidence, source, hash; or what is wrong with it."""
    found: list[dict[str, Any]] = []
    for name in scheme_names():
        try:
            scheme = load_scheme(name)
        except SchemeError as error:
            found.append({"name": name, "error": str(error)})
            continue
        found.append(
            {
                "name": name,
                "evidence": scheme.evidence,
                "source": " ".join(scheme.source.split()),
                "sha256": scheme.sha256,
            }
        )
    return found


def print_schemes(found: list[dict[str, Any]], *, show_hash: bool = False) -> None:
    """The list as a table."""
    columns = ("scheme", "evidence", "runtime", "sha256" if show_hash else "~source")
    rows = [
        (
            s["name"],
            s["evidence"]["level"],
            s["evidence"].get("runtime", ""),
            s["sha256"] if show_hash else s["source"],
        )
        for s in found
        if "error" not in s
    ]
    if show_hash:
        for row in rows:
            print(f"{row[3]}  {row[0]}")
        return
    print_table(columns, rows)
    for s in found:
        if "error" in s:
            print(f"\ncannot be loaded: {s['error']}")
