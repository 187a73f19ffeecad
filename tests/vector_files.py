"""Reads the files in vectors/: single-operator models, and what real code made of their inputs.

The format is described in vectors/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qinterp.testing.tflite_writer import ModelWriter

FOLDER = Path(__file__).parent / "vectors"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class VectorCase:
    """A model, its inputs, and real code's outputs by the name of the scheme that equals it."""

    about: str
    model: bytes
    inputs: Arrays
    results: dict[str, Arrays]


def read_cases(path: Path) -> Iterator[VectorCase]:
    """The cases of a file, in order."""
    with np.load(path, allow_pickle=False) as file:
        cases, data = json.loads(file["cases"].tobytes()), file["data"].tobytes()

    def array(reference: list[Any]) -> np.ndarray:
        dtype, shape, offset = reference
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(data, dtype, count, offset).reshape(shape)

    def arrays(references: dict[str, list[Any]]) -> Arrays:
        return {name: array(reference) for name, reference in references.items()}

    for case in cases:
        model = _model(case, array)
        results = {scheme: arrays(outputs) for scheme, outputs in case["results"].items()}
        yield VectorCase(case["about"], model, arrays(case["inputs"]), results)


def _model(case: dict[str, Any], array: Any) -> bytes:
    writer = ModelWriter()
    for tensor in case["tensors"]:
        name, role = tensor["name"], tensor["role"]
        options = {k: tensor[k] for k in ("scale", "zero_point", "axis") if k in tensor}
        if role == "constant":
            writer.constant(name, array(tensor["data"]), dtype=tensor["dtype"], **options)
        else:
            add = {"input": writer.input, "tensor": writer.tensor, "variable": writer.variable}
            add[role](name, tensor["shape"], tensor["dtype"], **options)
    writer.operator(
        case["kind"],
        case["operands"],
        case["outputs"],
        intermediates=case.get("intermediates", ()),
        version=case.get("version"),
        **case.get("options", {}),
    )
    return writer.finish(case["outputs"])
