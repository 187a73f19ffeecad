"""Inputs for the command line: a file's, a shipped model's own samples, or seeded random ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qinterp.capture import Capture
from qinterp.errors import InputError
from qinterp.importers._shipped import samples
from qinterp.ir import Graph, Tensor
from qinterp.ir.tensor import Array


@dataclass(frozen=True)
class ChosenInputs:
    """Input arrays, where they come from, and the label if it is known."""

    arrays: dict[str, Array]
    origin: str
    label: int | None = None


def choose_inputs(graph: Graph, file: Path | None, sample: int = 0, seed: int = 0) -> ChosenInputs:
    """What to run ``graph`` on.

    Raises
    ------
    InputError : a file that cannot be read, or a sample that is not there.
    """
    if file is not None:
        return ChosenInputs(_from_file(graph, file), str(file))
    own = samples(graph.name)
    if own is not None:
        if sample >= len(own.labels):
            raise InputError(f"{graph.name} has {len(own.labels)} samples, no number {sample}")
        label = int(own.labels[sample])
        return ChosenInputs(
            {own.input_name: own.inputs[sample : sample + 1]},
            f"the model's own sample {sample}, which shows a {label}",
            label,
        )
    rng = np.random.default_rng(seed)
    arrays = {name: random_array(graph.tensors[name], rng) for name in graph.inputs}
    return ChosenInputs(arrays, f"random, seed {seed}")


def choose_many(
    graph: Graph, file: Path | None, count: int, seed: int = 0
) -> list[ChosenInputs]:
    """``count`` different inputs, or the one in ``file``."""
    if file is not None:
        return [choose_inputs(graph, file)]
    return [choose_inputs(graph, None, i, seed + i) for i in range(count)]


def random_array(tensor: Tensor, rng: np.random.Generator) -> Array:
    """Uniform codes over the storage type, or normal floats."""
    if tensor.is_float:
        return rng.standard_normal(tensor.shape).astype(tensor.numpy_dtype)
    if tensor.dtype == "bool":
        return rng.integers(0, 2, tensor.shape).astype(bool)
    kind = tensor.int_type
    low, high = (kind.min, kind.max) if tensor.quantization else (0, 1)
    return rng.integers(low, high, tensor.shape, endpoint=True).astype(tensor.numpy_dtype)


def _from_file(graph: Graph, file: Path) -> dict[str, Array]:
    if file.suffix == ".npz":
        return dict(Capture.load(file))
    if len(graph.inputs) != 1:
        raise InputError(f"{file}: the model has {len(graph.inputs)} inputs: give an .npz")
    try:
        value = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file}: not an .npy: {error}") from None
    return {graph.inputs[0]: value}


