"""Tensors of a run, kept by name, with the hashes that make the run auditable."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote

import numpy as np

from qinterp.errors import InputError
from qinterp.ir import Node
from qinterp.ir.tensor import Array

_RECORD = "__qinterp__"
_NOTE = "__note__/"
_QUOTED = "__name__/"
_LARGEST = 1 << 32  # bytes that an archive may unpack to
UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, OverflowError, MemoryError, NotImplementedError,
    RuntimeError, KeyError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """What a hook is told after a node has run.

    Attributes
    ----------
    index : position in execution order.
    node : the graph's node.
    outputs : its output arrays by tensor name, read-only.
    notes : the intermediates that the run asked for ("accumulator", "multiplier", "shift").
    """

    index: int
    node: Node
    outputs: Mapping[str, Array]
    notes: Mapping[str, Any] = field(default_factory=dict)


Hook = Callable[[Event], Mapping[str, Array] | None]
"""Called after every node; a returned dict replaces outputs of the node, by tensor name."""


class Capture(Mapping[str, Array]):
    """A hook that keeps tensors, and the mapping of those it kept.

    A tensor goes by its own name, or by that of the node whose first output it is. A capture holds
    one run: the next one that it is given to starts it afresh.

    Parameters
    ----------
    only : keep tensors whose node's or own name matches one of these ``*`` patterns; all if empty.
    kinds : keep the outputs of these operator kinds; all if empty.

    Attributes
    ----------
    notes : node name to its intermediates.
    record : who made it: version, and name and SHA-256 of model, scheme and inputs.
    """

    def __init__(self, only: Iterable[str] = (), kinds: Iterable[str] = ()) -> None:
        self._only = (only,) if isinstance(only, str) else tuple(only)
        self._kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        self._kept: dict[str, Array] = {}
        self._later: list[Callable[[], Mapping[str, Array]]] = []
        self._making = Lock()
        self._of_node: dict[str, str] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        self._record: dict[str, Any] | Callable[[], dict[str, Any]] = {}

    @property
    def _tensors(self) -> dict[str, Array]:
        """What was kept, in order; arrays are made of what :meth:`keep_later` knows when asked."""
        if self._later:
            with self._making:
                while self._later:
                    self._kept.update(self._later[0]())
                    del self._later[0]  # not before: another reader would miss what it makes
        return self._kept

    @property
    def record(self) -> dict[str, Any]:
        """Who made it; worked out when it is first asked for, since hashes take their time."""
        if callable(self._record):
            self._record = self._record()
        return self._record

    @record.setter
    def record(self, record: dict[str, Any] | Callable[[], dict[str, Any]]) -> None:
        self._record = record

    def __getstate__(self) -> dict[str, Any]:
        """With the record itself, for what works it out cannot be pickled."""
        state = {**self.__dict__, "_record": self.record, "_kept": self._tensors, "_later": []}
        del state["_making"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See :meth:`__getstate__`."""
        self.__dict__.update(state, _making=Lock())

    @classmethod
    def of(cls, tensors: Mapping[str, Array]) -> Capture:
        """A capture that holds ``tensors``."""
        capture = cls()
        for name, value in tensors.items():
            capture.put(name, value)
        return capture

    def like(self) -> Capture:
        """An empty capture with the same filters."""
        return Capture(self._only, self._kinds)

    def __call__(self, event: Event) -> None:
        """Keep what passes the filters."""
        self.keep(event.node, event.outputs, event.notes)

    def keep(self, node: Node, outputs: Mapping[str, Array], notes: Mapping[str, Any]) -> None:
        """Keep what passes the filters of one node's outputs by tensor name, and its notes."""
        if self._only or self._kinds:
            outputs = {t: v for t, v in outputs.items() if self._wants(node, t)}
        if self._later:
            self._later.append(lambda: outputs)
        else:
            self._kept.update(outputs)
        if outputs:
            self._of_node[node.name] = next(iter(outputs))
        if outputs and notes:
            self.notes[node.name] = dict(notes)

    @property
    def keeps_all(self) -> bool:
        """Whether every output is kept, and no subclass wants to see it first."""
        return not (self._only or self._kinds) and type(self).keep is Capture.keep

    def keep_later(
        self, make: Callable[[], Mapping[str, Array]], of_node: Mapping[str, str]
    ) -> None:
        """Keep outputs of several nodes, made when they are looked at; the first ones by node."""
        self._later.append(make)
        self._of_node.update(of_node)

    def _wants(self, node: Node, tensor: str) -> bool:
        if self._kinds and node.kind not in self._kinds:
            return False
        return not self._only or any(
            fnmatch.fnmatchcase(name, pattern)
            for name in (tensor, node.name)
            for pattern in self._only
        )

    def clear(self) -> None:
        """Forget what was kept; the filters stay."""
        self._kept, self._of_node, self.notes, self._record = {}, {}, {}, {}
        self._later = []

    def put(self, name: str, value: Array) -> None:
        """Keep a copy of one tensor."""
        value = np.array(value)
        value.flags.writeable = False
        self._tensors[name] = value

    def __getitem__(self, name: str) -> Array:
        try:
            return self._tensors[name if name in self._tensors else self._of_node[name]]
        except KeyError:
            raise KeyError(f"{name!r} was not captured ({len(self)} tensors were)") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"<Capture of {len(self)} tensors, {len(self.notes)} nodes with notes>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz: tensors under their own names, notes and the record beside them.

        A name that an archive cannot hold, or that starts with two underscores, is quoted.
        """
        arrays = {_RECORD: np.array(json.dumps(self.record, sort_keys=True))}
        arrays |= {_key(name): value for name, value in self._tensors.items()}
        for node, notes in self.notes.items():
            for name, value in notes.items():
                arrays[f"{_NOTE}{quote(node, safe='')}/{name}"] = np.asarray(value)
        # not numpy.savez: its keyword arguments cannot be called "file"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, value in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Capture:
        """Read what ``save`` wrote, or any .npz of named arrays (its record is then empty).

        Raises
        ------
        InputError : not an .npz, or one with pickled objects.
        """
        capture = cls()
        try:
            # not numpy.load: it takes the tensor "a.npy" for the file that holds "a"
            with zipfile.ZipFile(path) as archive:
                _check_sizes(archive)
                for entry in archive.infolist():
                    with archive.open(entry) as stream:
                        value = read_array(cast("BinaryIO", stream), entry.file_size)
                    capture._restore(entry.filename.removesuffix(".npy"), value)
        except UNREADABLE as error:
            raise InputError(f"{os.fspath(path)}: not an .npz of arrays: {error}") from None
        return capture

    def _restore(self, key: str, value: Array) -> None:
        tensor = tensor_name(key)
        if tensor is not None:
            self.put(tensor, value)
        elif key == _RECORD:
            self.record = dict(json.loads(str(value)))
        else:
            node, _, name = key.removeprefix(_NOTE).partition("/")
            self.notes.setdefault(unquote(node), {})[name] = value


def tensor_name(key: str) -> str | None:
    """The tensor under ``key`` of an archive; None if that is something beside the tensors."""
    if key == _RECORD or key.startswith(_NOTE):
        return None
    return unquote(key.removeprefix(_QUOTED)) if key.startswith(_QUOTED) else key


def read_array(stream: BinaryIO, size: int | None) -> Array:
    """An array in the .npy format, without pickle.

    Parameters
    ----------
    stream : at the start of the format's magic.
    size : bytes that are there; None if nobody knows.

    Raises
    ------
    ValueError : no array of plain elements, or a heading that asks for more than is there; it is
        refused before any memory is taken for it. What else goes wrong is in ``UNREADABLE``.
    """
    if size is not None:
        start = stream.tell()
        version = np.lib.format.read_magic(stream)
        one = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        wanted, there = math.prod(shape) * dtype.itemsize, size - (stream.tell() - start)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not read")
        if wanted > there:
            raise ValueError(f"{dtype}{list(shape)} needs {wanted} bytes, the file has {there}")
        stream.seek(start)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """A few bytes must not unpack to gigabytes, and no name may stand twice."""
    total = sum(entry.file_size for entry in archive.infolist())
    if total > _LARGEST:
        raise ValueError(
            f"it unpacks to {total} bytes, more than {_LARGEST}: give .npy files in a folder"
        )
    repeated = [name for name, n in Counter(archive.namelist()).items() if n > 1]
    if repeated:
        raise ValueError(f"{repeated[0]!r} is in it more than once")


def _key(name: str) -> str:
    odd = name.startswith("__") or "\0" in name or "\\" in name
    return _QUOTED + quote(name, safe="/") if odd else name


def hash_arrays(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.asarray(arrays[name], order="C")
        digest.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
