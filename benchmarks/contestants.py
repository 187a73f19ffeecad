"""What is measured: each contestant opens a model and gives a function that runs it once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter as LiteRT
from ai_edge_litert.interpreter import OpResolverType

import qinterp
from qinterp import Graph

Array = np.ndarray[Any, Any]
Run = Callable[[], object]

SATURATING = {
    "accumulator.bits": 16,
    "accumulator.overflow": "saturate",
    "accumulator.check": "each_step",
}
"""Every product added in order to 16 bits that saturate: nothing is proven, nothing reordered."""


@dataclass(frozen=True)
class Contestant:
    """Something that runs a model: ``open`` makes of it and its input what runs it once."""

    name: str
    open: Callable[[Graph, Array], Run]


def litert(resolver: str, threads: int = 1) -> Callable[[Graph, Array], Run]:
    """LiteRT with the kernels of ``resolver``; no intermediate tensor is kept."""

    def open_model(graph: Graph, x: Array) -> Run:
        interpreter = LiteRT(
            model_content=graph.source,
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType[resolver],
        )
        interpreter.allocate_tensors()
        index = interpreter.get_input_details()[0]["index"]

        def run() -> None:
            interpreter.set_tensor(index, x)
            interpreter.invoke()

        return run

    return open_model


def ours(
    isa: str = "",
    scheme: str = "tflite-reference",
    changes: dict[str, Any] | None = None,
    capture: bool = False,
) -> Callable[[Graph, Array], Run]:
    """Qinterp under a scheme, or a change of it, with an instruction set forced."""

    def open_model(graph: Graph, x: Array) -> Run:
        changed = qinterp.load_scheme(scheme).with_(changes or {})
        with forced(isa):
            interpreter = qinterp.Interpreter(graph, changed)
        inputs = {graph.inputs[0]: x}
        return lambda: interpreter.run(inputs, capture=capture)

    return open_model


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """Let interpreters that are prepared meanwhile use ``isa``; the best there is if empty."""
    before = os.environ.get("QINTERP_ISA")
    if isa:
        os.environ["QINTERP_ISA"] = isa
    try:
        yield
    finally:
        if isa and before is None:
            del os.environ["QINTERP_ISA"]
        elif before is not None:
            os.environ["QINTERP_ISA"] = before


def contestants(isas: tuple[str, ...]) -> list[Contestant]:
    """All of them, the peers first; ``isas`` are those of this machine, the best first."""
    return [
        Contestant("litert-reference", litert("BUILTIN_REF")),
        Contestant("litert-optimized", litert("BUILTIN_WITHOUT_DEFAULT_DELEGATES")),
        Contestant("litert-xnnpack", litert("AUTO")),
        Contestant(f"qinterp {isas[0]}", ours()),
        Contestant("qinterp as xnnpack", ours(scheme="xnnpack")),
        Contestant("qinterp, all captured", ours(capture=True)),
        *(Contestant(f"qinterp {isa}", ours(isa)) for isa in isas[1:]),
        Contestant("qinterp, saturating", ours(changes=SATURATING)),
    ]


def threaded(threads: int) -> list[Contestant]:
    """The peers that have threads."""
    optimized = litert("BUILTIN_WITHOUT_DEFAULT_DELEGATES", threads)
    return [
        Contestant(f"litert-optimized, {threads} threads", optimized),
        Contestant(f"litert-xnnpack, {threads} threads", litert("AUTO", threads)),
    ]
