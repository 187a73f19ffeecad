"""Twins, one file an operator; importing this package registers every one of them."""

from __future__ import annotations

import importlib
import pkgutil

from qinterp.twin._twin import TWINS, Line, Twin, compute, judge_of, moved

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    if not _module.startswith("_"):
        importlib.import_module(f"{__name__}.{_module}")

__all__ = ["TWINS", "Line", "Twin", "compute", "judge_of", "moved"]
