"""The models that ship with qinterp, and their samples."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.schemes_io import folder


@dataclass(frozen=True)
class Samples:
    """Held-out inputs of a shipped model.

    Attributes
    ----------
    inputs : real-valued, float32, one a row.
    labels : int64, what each shows.
    input_name : the tensor they are for.
    """

    inputs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    input_name: str


def shipped_models() -> dict[str, Traversable]:
    """File name to file."""
    return {
        file.name: file
        for directory in sorted(folder("models").iterdir(), key=lambda d: d.name)
        if directory.is_dir()
        for file in sorted(directory.iterdir(), key=lambda f: f.name)
        if file.name.endswith(".tflite")
    }


def provenance(name: str) -> dict[str, Any] | None:
    """How the shipped model ``name`` was made and how accurate it is; None for another model."""
    for directory in folder("models").iterdir():
        if directory.is_dir() and (directory / name).is_file():
            return tomllib.loads((directory / "provenance.toml").read_text(encoding="utf-8"))
    return None


def samples(name: str) -> Samples | None:
    """The held-out samples of the shipped model ``name``; None for another model."""
    record = provenance(name)
    if record is None:
        return None
    raw = (folder("models") / record["samples"]).read_bytes()
    with np.load(BytesIO(raw), allow_pickle=False) as archive:
        return Samples(archive["images"], archive["labels"], record["input"]["name"])
