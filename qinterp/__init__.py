"""qinterp: a configurable reference interpreter for quantized networks.

Names are loaded on first use, so that ``import qinterp`` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Capture": "capture",
    "Diff": "difference",
    "Event": "capture",
    "Graph": "ir",
    "Identification": "identification",
    "InputError": "errors",
    "Interpreter": "interpreter",
    "ModelFormatError": "errors",
    "QInterpError": "errors",
    "Result": "interpreter",
    "Scheme": "scheme",
    "SchemeError": "errors",
    "UnsupportedOperatorError": "errors",
    "choose_qparams": "numerics.parameters",
    "diff": "difference",
    "explain": "explanation",
    "identify": "identification",
    "load": "importers",
    "load_scheme": "schemes_io",
    "run": "interpreter",
    "scheme_names": "schemes_io",
}
_MODULES = ("testing",)

if TYPE_CHECKING:
    from qinterp import testing
    from qinterp.capture import Capture, Event
    from qinterp.difference import Diff, diff
    from qinterp.errors import (
        InputError,
        ModelFormatError,
        QInterpError,
        SchemeError,
        UnsupportedOperatorError,
    )
    from qinterp.explanation import explain
    from qinterp.identification import Identification, identify
    from qinterp.importers import load
    from qinterp.interpreter import Interpreter, Result, run
    from qinterp.ir import Graph
    from qinterp.numerics.parameters import choose_qparams
    from qinterp.scheme import Scheme
    from qinterp.schemes_io import load_scheme, scheme_names

__all__ = [
    "Capture",
    "Diff",
    "Event",
    "Graph",
    "Identification",
    "InputError",
    "Interpreter",
    "ModelFormatError",
    "QInterpError",
    "Result",
    "Scheme",
    "SchemeError",
    "UnsupportedOperatorError",
    "__version__",
    "choose_qparams",
    "diff",
    "explain",
    "identify",
    "load",
    "load_scheme",
    "run",
    "scheme_names",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"qinterp.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"qinterp.{name}")
    raise AttributeError(f"module 'qinterp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
