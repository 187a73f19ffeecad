"""Model files to graphs; an importer is one file here that declares the suffixes it reads."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

from qinterp.errors import ModelFormatError
from qinterp.importers._shipped import shipped_models
from qinterp.ir import Graph

Importer = Callable[[bytes, str], Graph]
IMPORTERS: dict[str, Importer] = {}
"""Suffix to importer; a function of the file's bytes and its name."""


def importer(suffix: str) -> Callable[[Importer], Importer]:
    """Declare the importer of files whose name ends with ``suffix``."""

    def declare(read: Importer) -> Importer:
        if suffix in IMPORTERS:
            raise ValueError(f"two importers read {suffix}")
        IMPORTERS[suffix] = read
        return read

    return declare


def load(path: str | os.PathLike[str] | bytes) -> Graph:
    """Read a model file.

    Parameters
    ----------
    path : a file, the name of a shipped model ("digits_resnet.tflite"), or the bytes of a
        .tflite file.

    Raises
    ------
    ModelFormatError : it cannot be read, or is not a well-formed model.
    UnsupportedOperatorError : it holds operators that are not known, all listed.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    if isinstance(path, (bytes, bytearray, memoryview)):
        return IMPORTERS[".tflite"](bytes(path), "model")
    file = Path(path)
    read = IMPORTERS.get(file.suffix)
    if read is None:
        raise ModelFormatError(
            f"{file}: no importer reads {file.suffix or 'a file without suffix'!r}; "
            f"known: {', '.join(sorted(IMPORTERS))}"
        )
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        shipped = shipped_models()
        if file.name != str(file) or file.name not in shipped:
            raise ModelFormatError(
                f"{file}: no such file; shipped models: {', '.join(shipped)}"
            ) from None
        data = shipped[file.name].read_bytes()
    except OSError as error:
        raise ModelFormatError(f"{file}: {error.strerror or error}") from None
    return read(data, file.name)
