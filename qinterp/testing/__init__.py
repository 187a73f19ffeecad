"""What other projects' test suites import: assertions, a model writer, random models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "ModelWriter": "tflite_writer",
    "assert_matches": "assertions",
    "random_model": "random_models",
}

if TYPE_CHECKING:
    from qinterp.testing.assertions import assert_matches
    from qinterp.testing.random_models import random_model
    from qinterp.testing.tflite_writer import ModelWriter

__all__ = ["ModelWriter", "assert_matches", "random_model"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
