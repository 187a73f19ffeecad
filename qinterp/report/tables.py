"""One way of printing tables: rich on a terminal, plain and pasteable elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qinterp.text import WIDTH, folded, printable

_GAP = 3  # between columns, as rich draws this box
_LEAST = 6


def console() -> Console:
    """A console of at most 100 columns; NO_COLOR and pipes are respected by rich."""
    out = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    if not out.is_terminal or out.width > WIDTH:
        out = Console(file=sys.stdout, highlight=False, width=WIDTH)
    return out


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table.

    Parameters
    ----------
    columns : names; one that starts with ``>`` is aligned right, one with ``~`` is cut where the
        table would be wider than the console.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    out = console()
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for name, width in zip(columns, _widths(columns, cells, out.width), strict=True):
        table.add_column(
            name.lstrip(">~"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=width,
        )
    for row in cells:
        table.add_row(*map(Text, row))
    with out.capture() as capture:
        out.print(table)
    # no blanks at the ends of lines: tables are pasted into issues
    out.out("\n".join(line.rstrip() for line in capture.get().splitlines()), highlight=False)


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], total: int) -> list[int]:
    """Every column as wide as its cells; what is too much is taken from the ``~`` columns."""
    widths = [
        max(len(name.lstrip(">~")), *(len(row[i]) for row in cells), 1)
        for i, name in enumerate(columns)
    ]
    excess = sum(widths) + _GAP * (len(widths) - 1) - total
    cut = [i for i, name in enumerate(columns) if name.startswith("~")]
    while excess > 0 and cut and max(widths[i] for i in cut) > _LEAST:
        widest = max(cut, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    return widths


def say(text: str) -> None:
    """Print a line of plain text."""
    console().print(Text(printable(text)), soft_wrap=True)


def paragraph(label: str, text: str, indent: int = 8) -> None:
    """Print a labelled text, folded."""
    for line in folded(text, f"{label:<{indent}}", " " * indent):
        say(line)
