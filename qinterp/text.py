"""Text that comes from files, made fit for a terminal."""

from __future__ import annotations

import textwrap

WIDTH = 100
"""Columns of whatever is printed: it is pasted into issues."""


def printable(text: str) -> str:
    """``text`` with every character that a terminal might obey written as an escape.

    Names of nodes and tensors are whatever a file says; a printed one must not colour, move or
    break a line, nor turn its direction.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def folded(text: str, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most ``WIDTH`` columns, the first indented by ``first``, others by ``rest``."""
    return textwrap.wrap(
        printable(text), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
