"""Where two sides part, and why."""

from __future__ import annotations

from qinterp.difference.blame import Blame
from qinterp.difference.comparison import Diff, NodeDiff, diff
from qinterp.difference.dumps import Dump, fit_dump, read_dump
from qinterp.difference.nodes import NodeRunner
from qinterp.difference.statistics import Differences, OutputEffect
from qinterp.difference.tolerances import Tolerances, Violation, at_most, load_tolerances

__all__ = [
    "Blame",
    "Diff",
    "Differences",
    "Dump",
    "NodeDiff",
    "NodeRunner",
    "OutputEffect",
    "Tolerances",
    "Violation",
    "at_most",
    "diff",
    "fit_dump",
    "load_tolerances",
    "read_dump",
]
