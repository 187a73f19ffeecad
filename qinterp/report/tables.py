"""One way of printing tables: rich on a terminal, plain and pasteable elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 100


def console() -> Console:
    """A console of at most 100 columns; NO_COLOR and pipes are respected by rich."""
    out = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    if not out.is_terminal or out.width > WIDTH:
        out = Console(file=sys.stdout, highlight=False, width=WIDTH)
    return out


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table; a column whose name starts with ``>`` is aligned right, ``~`` may be cut."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for name in columns:
        table.add_column(
            name.lstrip(">~"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis" if "~" in name else "fold",
            min_width=None if "~" in name else len(name.lstrip(">")),
        )
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console().print(table)


def say(text: str) -> None:
    """Print a line of plain text."""
    console().print(Text(text), soft_wrap=True)
