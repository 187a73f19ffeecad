"""LiteRT (``ai_edge_litert``): its reference kernels, its optimized ones, and XNNPACK.

All tensors are preserved, on one thread. With that setting the interpreter gives XNNPACK one
partition per operator (`Subgraph::PartitionGraph` disables node fusion), and allocates the outputs
of exactly those nodes that it executes: what was not computed has no data and is left out. The two
cases in which data is allocated but not written are known here (`_unwritten`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qinterp.errors import InputError, QInterpError, RuntimeUnavailableError

_MISSING = "the runtime {name} needs: pip install 'qinterp[litert]'"


class LiteRTError(QInterpError):
    """LiteRT refused a model or failed while running it; the text is its own."""


@dataclass(frozen=True)
class LiteRT:
    """One way of LiteRT to choose kernels.

    Parameters
    ----------
    name : str
    resolver : str
        Member of ``ai_edge_litert.interpreter.OpResolverType``.
    """

    name: str
    resolver: str

    def run(self, model: bytes, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run `model` once, in an interpreter of its own; see `LiteRTSession.run`."""
        return self.open(model).run(inputs)

    def open(self, model: bytes) -> LiteRTSession:
        """Open a .tflite file's bytes.

        Raises
        ------
        LiteRTError
            The runtime refuses the model.
        RuntimeUnavailableError
            ``ai_edge_litert`` is not installed.
        """
        return LiteRTSession(model, self)

    def version(self) -> str:
        """Return, for example, ``ai-edge-litert 2.3.0``."""
        return f"ai-edge-litert {self._package().__version__}"

    def unavailable(self) -> str | None:
        """Return why it cannot run here, or None."""
        try:
            self._package()
        except RuntimeUnavailableError as error:
            return str(error)
        return None

    def create(self, model: bytes) -> Any:
        """Return an ``ai_edge_litert.interpreter.Interpreter`` of `model`, not yet allocated."""
        self._package()
        from ai_edge_litert import interpreter

        # The warning is about memory: all tensors are kept, which is what is wanted here.
        with warnings.catch_warnings(), _runtime_errors(self.name):
            warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
            return interpreter.Interpreter(
                model_content=model,
                num_threads=1,
                experimental_op_resolver_type=interpreter.OpResolverType[self.resolver],
                experimental_preserve_all_tensors=True,
            )

    def _package(self) -> Any:
        try:
            import ai_edge_litert
        except ImportError as error:
            message = _MISSING.format(name=self.name)
            if error.name != "ai_edge_litert":
                message += f" ({error})"
            raise RuntimeUnavailableError(message) from error
        return ai_edge_litert


class LiteRTSession:
    """A model opened in LiteRT, to be run on many inputs, one at a time."""

    def __init__(self, model: bytes, runtime: LiteRT) -> None:
        self._model = model
        self._runtime = runtime
        self._interpreter = runtime.create(model)
        self._inputs, self._computed = _interface(model, runtime.resolver)
        self._allocated: dict[str, tuple[int, ...]] | None = None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once, on reset state.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            One array per model input, of its dtype. A shape other than the model's resizes the
            input.

        Returns
        -------
        dict of str to ndarray
            Copies of the outputs of all operators of the main subgraph, in the operators' order,
            by tensor name. A name that is empty or occurs more than once in the subgraph gets
            ``#index`` appended. int4 tensors come as int8. Outputs that the runtime did not
            compute are left out.

        Raises
        ------
        InputError
            Missing or unknown names, or a wrong dtype.
        LiteRTError
            The runtime's own error.
        """
        arrays = self._checked(inputs)
        try:
            with _runtime_errors(self._runtime.name):
                self._allocate({name: array.shape for name, array in arrays.items()})
                self._interpreter.reset_all_variables()
                for name, array in arrays.items():
                    self._interpreter.set_tensor(self._inputs[name], array)
                self._interpreter.invoke()
        except LiteRTError:
            # Its state is unknown now, and it would repeat this message in the next one.
            self._interpreter, self._allocated = self._runtime.create(self._model), None
            raise
        results = {name: self._read(index) for name, index in self._computed.items()}
        return {name: array for name, array in results.items() if array is not None}

    def _checked(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if inputs.keys() != self._inputs.keys():
            raise InputError(
                f"the model's inputs are {_listed(self._inputs)}; given: {_listed(inputs)}"
            )
        arrays = {name: np.asarray(inputs[name]) for name in self._inputs}
        dtypes = {d["index"]: np.dtype(d["dtype"]) for d in self._interpreter.get_input_details()}
        for name, array in arrays.items():
            wanted = dtypes[self._inputs[name]]
            if array.dtype != wanted:
                raise InputError(f"input {name!r} is {wanted} in the model; given: {array.dtype}")
        return arrays

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Allocate all tensors for inputs of these shapes, unless they are."""
        if shapes == self._allocated:
            return
        current = {d["index"]: tuple(d["shape"]) for d in self._interpreter.get_input_details()}
        for name, shape in shapes.items():
            index = self._inputs[name]
            if current[index] != shape:
                self._interpreter.resize_tensor_input(index, shape)
        if self._runtime.resolver == "AUTO":
            with _without_greeting():
                self._interpreter.allocate_tensors()
        else:
            self._interpreter.allocate_tensors()
        self._allocated = shapes

    def _read(self, index: int) -> NDArray[Any] | None:
        try:
            array: NDArray[Any] = self._interpreter.get_tensor(index)
        except ValueError:
            # Without data: either empty, or never executed.
            details = self._interpreter._get_tensor_details(index, 0)
            shape = tuple(details["shape"])
            return np.empty(shape, details["dtype"]) if 0 in shape else None
        return array


def _interface(model: bytes, resolver: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the indices, by name, of the main subgraph's inputs and of its operators' outputs.

    They are read from the file because the interpreter appends its own temporaries to its tensors.
    """
    import tflite

    file = tflite.Model.GetRootAsModel(model, 0)
    graph = file.Subgraphs(0)
    stored = [(graph.Tensors(i).Name() or b"").decode() for i in range(graph.TensorsLength())]
    counts = Counter(stored)
    names = [
        name if name and counts[name] == 1 else f"{name}#{index}"
        for index, name in enumerate(stored)
    ]
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    outputs = [o.Outputs(i) for o in operators for i in range(o.OutputsLength())]
    left_out = {-1, *_unwritten(file, resolver)}
    inputs = [graph.Inputs(i) for i in range(graph.InputsLength())]
    return {names[i]: i for i in inputs}, {names[i]: i for i in outputs if i not in left_out}


def _unwritten(file: Any, resolver: str) -> set[int]:
    """Return the tensors that this choice of kernels allocates but does not write, or not whole."""
    from tflite import BuiltinOperator, TensorType

    graph = file.Subgraphs(0)
    found: set[int] = set()
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        code = file.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if resolver == "AUTO" and kind in (BuiltinOperator.DEQUANTIZE, BuiltinOperator.DENSIFY):
            source = operator.Inputs(0)
            is_constant = file.Buffers(graph.Tensors(source).Buffer()).DataLength() > 0
            # XNNPACK unpacks such weights for itself, when it is created.
            unwritten = source in found or is_constant
        elif resolver == "BUILTIN_REF" and kind == BuiltinOperator.SUM:
            # The reference kernel writes bytes, which fill half of an int16 tensor.
            unwritten = graph.Tensors(operator.Outputs(0)).Type() == TensorType.INT16
        else:
            unwritten = False
        if unwritten:
            found.add(operator.Outputs(0))
    return found


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "none"


@contextlib.contextmanager
def _runtime_errors(name: str) -> Iterator[None]:
    """Turn what ``ai_edge_litert`` raises into a LiteRTError with its message."""
    try:
        yield
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise LiteRTError(f"{name}: {error}") from error


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep the line by which XNNPACK's first use in a process is announced from standard error.

    It is written to file descriptor 2 by C++ code, so that the descriptor is redirected, once.
    Whatever else arrives there meanwhile is written on.
    """
    if _greeted.is_set():
        yield
        return
    with _greeting_lock, tempfile.TemporaryFile() as log:
        try:
            original = os.dup(2)
        except OSError:  # there is no standard error: nothing to keep quiet
            yield
            return
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            _greeted.set()
            log.seek(0)
            for line in log:
                if not line.startswith(_GREETING):
                    os.write(2, line)


_GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate"
_greeting_lock = threading.Lock()
_greeted = threading.Event()

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        LiteRT("litert-reference", "BUILTIN_REF"),
        LiteRT("litert-optimized", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
        LiteRT("litert-xnnpack", "AUTO"),
    )
}
