"""Inputs for the command line: a file's, a shipped model's own samples, or seeded random ones."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from qinterp.capture import Capture
from qinterp.difference import read_dump
from qinterp.difference.dumps import Match, read_npy
from qinterp.errors import InputError
from qinterp.importers import load
from qinterp.importers._shipped import samples as shipped_samples
from qinterp.importers._shipped import shipped_models
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
    own = shipped_samples(graph.name)
    if own is not None:
        if sample >= len(own.labels):
            raise InputError(f"{graph.name} has {len(own.labels)} samples, no number {sample}")
        label = int(own.labels[sample])
        return ChosenInputs(
            {own.input_name: own.inputs[sample : sample + 1]},
            f"the model's own sample {sample}, which shows a {label}",
            label,
        )
    return ChosenInputs(random_inputs(graph, seed), f"random, seed {seed}")


def choose_many(graph: Graph, file: Path | None, count: int, seed: int = 0) -> list[ChosenInputs]:
    """``count`` different inputs, or the one in ``file``."""
    if file is not None:
        return [choose_inputs(graph, file)]
    return [choose_inputs(graph, None, i, seed + i) for i in range(count)]


class Samples(Sequence[dict[str, Array]]):
    """So many input dicts, each made when it is asked for: there may be thousands."""

    def __init__(self, count: int, make: Callable[[int], dict[str, Array]]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> dict[str, Array]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Array]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Array] | list[dict[str, Array]]:
        numbers = range(self._count)[index]
        if isinstance(numbers, range):
            return [self._make(i) for i in numbers]
        return self._make(numbers)


@dataclass(frozen=True)
class DiffInputs:
    """What a comparison runs on, with the labels and the float model where they are known.

    ``options`` are what gives a verb of one sample the same input, by the number of the sample;
    None if no options do.
    """

    inputs: Sequence[dict[str, Array]]
    origin: str
    labels: list[int] | None = None
    original: Graph | None = None
    options: Callable[[int], str | None] = lambda sample: None


def choose_for_diff(
    graph: Graph,
    file: Path | None,
    *,
    samples: int | None = None,
    random_count: int | None = None,
    seed: int = 0,
    labels: Path | None = None,
    original: str | None = None,
    dump: Path | None = None,
    match: Match = "auto",
) -> DiffInputs:
    """A file's input, a dump's own, a shipped model's samples with their labels, or random ones.

    Raises
    ------
    InputError : two of these at once, or what is asked for is not there.
    """
    if sum(given is not None for given in (file, samples, random_count)) > 1:
        raise InputError("-i, --samples and --random exclude each other")
    real = load(original) if original is not None else None
    classes = _read_labels(labels) if labels is not None else None
    own = shipped_samples(graph.name)
    if samples is not None and own is None:
        raise InputError(f"{graph.name} has no samples of its own: give -i or --random")
    if file is None and samples is None and random_count is None and dump is not None:
        dumped = dumped_inputs(graph, dump, match)
        if dumped is not None:
            return DiffInputs([dumped], f"the dump {dump}", classes, real)
    if file is not None or random_count is not None or own is None:
        if file is not None:
            arrays = [_from_file(graph, file)]
            option = f"-i {shlex.quote(str(file))}"
            return DiffInputs(arrays, str(file), classes, real, lambda sample: option)
        count = random_count or 1
        made = Samples(count, lambda i: random_inputs(graph, seed + i))
        return DiffInputs(
            made,
            f"{count} random, seed {seed}",
            classes,
            real,
            lambda sample: f"--seed {seed + sample}" if own is None else None,
        )
    count = 1 if dump is not None and samples is None else min(samples or 50, len(own.labels))
    if real is None:
        name = graph.name.replace(".tflite", "_float.tflite")
        real = load(name) if name in shipped_models() else None
    return DiffInputs(
        [{own.input_name: own.inputs[i : i + 1]} for i in range(count)],
        f"the model's first {count} own samples" if count > 1 else "the model's own sample 0",
        classes or [int(label) for label in own.labels[:count]],
        real,
        lambda sample: f"--sample {sample}",
    )


def dumped_inputs(graph: Graph, path: Path, match: Match = "auto") -> dict[str, Array] | None:
    """The graph's inputs, where a dump has them all; else None."""
    tensors = read_dump(path, graph, match).tensors
    if not all(name in tensors for name in graph.inputs):
        return None
    return {name: tensors[name] for name in graph.inputs}


def _read_labels(file: Path) -> list[int]:
    try:
        return [int(label) for label in read_npy(file).reshape(-1)]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{file}: not an .npy of classes") from None


def random_inputs(graph: Graph, seed: int) -> dict[str, Array]:
    """Seeded random arrays for every input of the graph."""
    rng = np.random.default_rng(seed)
    return {name: random_array(graph.tensors[name], rng) for name in graph.inputs}


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
    if not file.exists():
        raise InputError(f"{file}: no such file")
    if file.suffix == ".npz":
        return dict(Capture.load(file))
    if len(graph.inputs) != 1:
        raise InputError(f"{file}: the model has {len(graph.inputs)} inputs: give an .npz")
    return {graph.inputs[0]: read_npy(file)}
