"""TensorFlow Lite Micro (``tflite_micro``): its reference kernels, with all tensors preserved.

What it refuses is known only from a status; the words go to standard error. Its tensors have the
shapes of the file, and its arena is allocated anew, larger, until the model fits.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qinterp.errors import InputError, QInterpError, RuntimeUnavailableError
from qinterp.runtimes.litert import _interface, _listed

_MISSING = "the runtime {name} needs: pip install --pre 'qinterp[tflite-micro]'"
_ARENAS = (1 << 20, 1 << 24, 1 << 28)


class TFLiteMicroError(QInterpError):
    """TensorFlow Lite Micro refused a model or failed while running it."""


@dataclass(frozen=True)
class TFLiteMicro:
    """The interpreter of the ``tflite-micro`` wheel.

    Parameters
    ----------
    name : str
    """

    name: str

    def run(self, model: bytes, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run `model` once, in an interpreter of its own; see `TFLiteMicroSession.run`."""
        return self.open(model).run(inputs)

    def open(self, model: bytes) -> TFLiteMicroSession:
        """Open a .tflite file's bytes.

        Raises
        ------
        TFLiteMicroError
            The runtime refuses the model.
        RuntimeUnavailableError
            ``tflite_micro`` is not installed.
        """
        return TFLiteMicroSession(model, self)

    def version(self) -> str:
        """Return, for example, ``tflite-micro 0.dev20261023182759``."""
        self._package()
        from importlib import metadata

        return f"tflite-micro {metadata.version('tflite-micro')}"

    def unavailable(self) -> str | None:
        """Return why it cannot run here, or None."""
        try:
            self._package()
        except RuntimeUnavailableError as error:
            return str(error)
        return None

    def create(self, model: bytes) -> Any:
        """Return an interpreter of `model` that keeps all tensors."""
        runtime = self._package()
        for arena in _ARENAS:
            try:
                with _runtime_errors(self.name):
                    return runtime.Interpreter.from_bytes(
                        model,
                        arena_size=arena,
                        intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
                    )
            except TFLiteMicroError as error:
                if arena == _ARENAS[-1] or "arena" not in str(error):
                    raise
        raise AssertionError("the last arena returns or raises")

    def _package(self) -> Any:
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ImportError as error:
            message = _MISSING.format(name=self.name)
            if error.name != "tflite_micro":
                message += f" ({error})"
            raise RuntimeUnavailableError(message) from error
        return runtime


class TFLiteMicroSession:
    """A model opened in TensorFlow Lite Micro, to be run on many inputs, one at a time."""

    def __init__(self, model: bytes, runtime: TFLiteMicro) -> None:
        self._name = runtime.name
        self._interpreter = runtime.create(model)
        self._inputs, self._computed = _interface(model, runtime.name)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once, on reset state.

        Parameters
        ----------
        inputs : mapping of str to ndarray
            One array per model input, of its dtype and shape.

        Returns
        -------
        dict of str to ndarray
            Copies of the outputs of all operators of the main subgraph, named as by LiteRT.

        Raises
        ------
        InputError
            Missing or unknown names, or a wrong dtype or shape.
        TFLiteMicroError
            The runtime's own error.
        """
        if inputs.keys() != self._inputs.keys():
            raise InputError(
                f"the model's inputs are {_listed(self._inputs)}; given: {_listed(inputs)}"
            )
        with _runtime_errors(self._name):
            self._interpreter.reset()
        for position, name in enumerate(self._inputs):
            array = np.asarray(inputs[name], order="C")
            details = self._interpreter.get_input_details(position)
            wanted = np.dtype(details["dtype"]), tuple(int(n) for n in details["shape"])
            # a tensor without dimensions cannot be told from one of one element
            if array.dtype != wanted[0] or (array.shape != wanted[1] and array.ndim):
                raise InputError(
                    f"input {name!r} is {wanted[0]}{wanted[1]} in the model; "
                    f"given: {array.dtype}{array.shape}"
                )
            with _runtime_errors(self._name):
                self._interpreter.set_input(array, position)
        with _runtime_errors(self._name):
            self._interpreter.invoke()
            return {
                name: np.asarray(self._interpreter.GetTensor(index, 0)["tensor_data"])
                for name, index in self._computed.items()
            }


_redirected = threading.Lock()


@contextlib.contextmanager
def _runtime_errors(name: str) -> Iterator[None]:
    """Turn what the runtime raises into a TFLiteMicroError, with what it wrote to descriptor 2."""
    with _redirected, tempfile.TemporaryFile() as log:
        try:
            original = os.dup(2)
        except OSError:  # there is no standard error: nothing is written
            original = None
        else:
            os.dup2(log.fileno(), 2)
        try:
            yield
        except (ValueError, RuntimeError, TypeError, MemoryError) as error:
            log.seek(0)
            words = " ".join(log.read().decode(errors="replace").split())
            raise TFLiteMicroError(f"{name}: {error}" + (f" ({words})" if words else "")) from error
        finally:
            if original is not None:
                os.dup2(original, 2)
                os.close(original)


RUNTIMES = {runtime.name: runtime for runtime in (TFLiteMicro("tflite-micro"),)}
