"""Operators, one a file; importing this package registers every one of them."""

from __future__ import annotations

import importlib
import pkgutil

from qinterp.ops._operator import NO_NOTES, OPERATORS, Notes, Operator, Recipe

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    if not _module.startswith("_"):
        importlib.import_module(f"{__name__}.{_module}")

__all__ = ["NO_NOTES", "OPERATORS", "Notes", "Operator", "Recipe"]
