"""Real backends: a model file and its inputs in, every tensor the backend computed out.

Each module of this package offers its runtimes in a ``RUNTIMES`` dict; they are collected here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from qinterp.errors import QInterpError

Arrays = Mapping[str, NDArray[Any]]


class Session(Protocol):
    """One opened model."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run on fresh state; return every tensor that was computed, by name."""


class Runtime(Protocol):
    """A backend that runs model files."""

    @property
    def name(self) -> str:
        """The name it is asked for by."""

    def run(self, model: bytes, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Open `model`, run it once and return every tensor that was computed, by name."""

    def open(self, model: bytes) -> Session:
        """Open `model` to run it many times."""

    def version(self) -> str:
        """Return package and version, as evidence of what was run."""

    def unavailable(self) -> str | None:
        """Return why it cannot run here, or None."""


def _discover() -> dict[str, Runtime]:
    found: dict[str, Runtime] = {}
    for module in pkgutil.iter_modules(__path__):
        offered = importlib.import_module(f"{__name__}.{module.name}").RUNTIMES
        repeated = found.keys() & offered.keys()
        if repeated:
            raise QInterpError(f"runtime {sorted(repeated)[0]!r} is offered by two modules")
        found.update(offered)
    return found


RUNTIMES: dict[str, Runtime] = _discover()


def runtime(name: str) -> Runtime:
    """Return the runtime called `name`; a QInterpError lists the known names."""
    try:
        return RUNTIMES[name]
    except KeyError:
        known = ", ".join(sorted(RUNTIMES))
        raise QInterpError(f"unknown runtime {name!r}; known: {known}") from None


def available(name: str) -> str | None:
    """Return why the runtime `name` cannot run here, or None if it can."""
    return runtime(name).unavailable()
