"""The two sides of a comparison: a scheme, tensors somebody captured, or a real runtime."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qinterp.capture import Capture
from qinterp.difference.dumps import Dump, fit_dump, is_dump, read_dump
from qinterp.difference.nodes import NodeRunner
from qinterp.errors import InputError
from qinterp.interpreter import Result
from qinterp.ir import Graph
from qinterp.ir.tensor import Array
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme, scheme_names

Given = (
    str
    | os.PathLike[str]
    | Scheme
    | NodeRunner
    | Result
    | Mapping[str, Any]
    | Iterable[Mapping[str, Any]]
)
"""What a caller may give as a side; an iterable of dicts has one for each sample."""

RUNTIME = "runtime:"


class Side:
    """One side.

    Attributes
    ----------
    label : what to call it.
    runner : runs single nodes, None where the side cannot be executed.
    captured : its tensors were captured by somebody, from inputs that we only believe to be ours.
    remarks : what was recognised on the way; for people.
    """

    label = ""
    runner: NodeRunner | None = None
    captured = False

    def __init__(self) -> None:
        self.remarks: list[str] = []

    def draw(self) -> Any:
        """What belongs to the next sample; called in order, from one thread."""

    def tensors(self, codes: Mapping[str, Array], drawn: Any) -> dict[str, Array]:
        """What the side has in a sample before any node is run; called from many threads.

        Parameters
        ----------
        codes : the inputs by tensor name.
        drawn : what :meth:`draw` gave for the sample.
        """
        return dict(codes)


class SchemeSide(Side):
    """A scheme, executed node by node."""

    def __init__(self, runner: NodeRunner) -> None:
        super().__init__()
        self.label = runner.scheme.name
        self.runner = runner


class RuntimeSide(Side):
    """A real backend; every thread has a session of its own, since sessions are not shared."""

    def __init__(self, graph: Graph, name: str) -> None:
        from qinterp.runtimes import runtime

        super().__init__()
        self.label = f"{RUNTIME}{name}"
        self._graph = graph
        self._runtime = runtime(name)
        self._local = threading.local()
        self.remarks.append(f"{self.label} is {self._runtime.version()}")

    def tensors(self, codes: Mapping[str, Array], drawn: Any) -> dict[str, Array]:
        """See :meth:`Side.tensors`; what the runtime did not compute is left out."""
        if not hasattr(self._local, "session"):
            self._local.session = self._runtime.open(self._graph.source)
        return {**codes, **self._local.session.run(codes)}


class DumpSide(Side):
    """Captured tensors, of one sample or of several in order."""

    captured = True

    def __init__(self, dumps: Iterable[Dump], label: str) -> None:
        super().__init__()
        self.label = label
        self._dumps: Iterator[Dump] = iter(dumps)
        self._drawn = 0

    def draw(self) -> Dump:
        """The next dump; InputError if there are more samples than dumps."""
        dump = next(self._dumps, None)
        if dump is None:
            raise InputError(
                f"{self.label} has the tensors of {self._drawn} sample"
                f"{'s' if self._drawn != 1 else ''}, more were given as inputs"
            )
        self._drawn += 1
        for remark in dump.remarks:
            if remark not in self.remarks:
                self.remarks.append(remark)
        return dump

    def tensors(self, codes: Mapping[str, Array], drawn: Any) -> dict[str, Array]:
        """See :meth:`Side.tensors`."""
        return {**codes, **drawn.tensors}


def open_side(graph: Graph, given: Given, letter: str, match: Any = "auto") -> Side:
    """The side that a caller means.

    Parameters
    ----------
    letter : "A" or "B", to call an unnamed one by.
    match : how the names of a dump are matched, see :func:`qinterp.difference.dumps.read_dump`.

    Raises
    ------
    SchemeError : neither a scheme nor anything else that can be a side.
    InputError : a dump that cannot be read or fits no tensor.
    QInterpError : no such runtime, or it is not installed.
    """
    if isinstance(given, NodeRunner):
        if given.graph is not graph:
            raise InputError(f"side {letter} was prepared for another graph")
        return SchemeSide(given)
    if isinstance(given, Scheme):
        return SchemeSide(NodeRunner(graph, given))
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        if text.startswith(RUNTIME):
            return RuntimeSide(graph, text[len(RUNTIME) :])
        named = isinstance(given, str) and text in scheme_names()  # a path is never a name
        if text and not named and is_dump(Path(text)):
            return DumpSide([read_dump(Path(text), graph, match)], Path(text).name or text)
        return SchemeSide(NodeRunner(graph, load_scheme(text)))
    if isinstance(given, (Result, Mapping)):
        return DumpSide([fit_dump(_tensors(given), graph, match)], _name(given, letter))
    if not isinstance(given, Iterable):
        raise InputError(f"side {letter} cannot be a {type(given).__name__}")
    dumps = (fit_dump(_tensors(item), graph, match) for item in given)
    return DumpSide(dumps, f"the tensors given as {letter}")


def _tensors(given: Result | Mapping[str, Any]) -> Mapping[str, Any]:
    return {**given.tensors, **given.outputs} if isinstance(given, Result) else given


def _name(given: Result | Mapping[str, Any], letter: str) -> str:
    capture = given.tensors if isinstance(given, Result) else given
    scheme = capture.record.get("scheme") if isinstance(capture, Capture) else None
    return f"a run of {scheme['name']}" if scheme else f"the tensors given as {letter}"
