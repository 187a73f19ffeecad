"""Tensors that somebody dumped from a device, recognised as tensors of a graph.

A dump is an .npz, an .npy, a folder of .npy files, or raw binaries with a manifest::

    layout = "NCHW"                        # of all tensors; optional
    [[tensors]]
    name = "layer3_out"
    file = "layer3_out.bin"
    dtype = "int8"                         # or any numpy type, ">i2" included
    shape = [1, 16, 8, 8]
    tensor = "conv_2d_3"                   # what it is in the graph; optional
    layout = "NCHW"                        # optional
    offset = 0                             # bytes to skip; optional

The manifest is TOML, or the same as JSON; in a folder it is called manifest.toml or manifest.json.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qinterp.capture import UNREADABLE, Capture, read_array, tensor_name
from qinterp.difference.statistics import along_axes
from qinterp.errors import InputError, SchemeError
from qinterp.ir import Graph, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.records import build, one_of

Match = str | Mapping[str, str] | Iterable[str]
"""How dumped names are matched: "auto", "exact", "order", and pairs ``dumped=tensor``."""

_WAYS = ("auto", "exact", "order")
_MANIFESTS = ("manifest.toml", "manifest.json")
_OFF_GRID = 1e-2  # of a step: float32 holds code * scale closer than this for 16-bit codes
_SIGN = {8: 128, 16: 32768}
_FLAT = "flattened"


@dataclass
class Dump:
    """Dumped tensors as the graph has them.

    Attributes
    ----------
    tensors : by the graph's names, with its types and layout.
    names : dumped name to graph name.
    unmatched : dumped names that stand for no tensor.
    off_grid : graph name to the number of real values that no code stands for.
    remarks : what was recognised, in sentences.
    """

    tensors: dict[str, Array] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    off_grid: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Entry:
    """One tensor of a manifest."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    tensor: str | None = None
    layout: Literal["NHWC", "NCHW"] | None = None
    offset: int = 0


@dataclass(frozen=True)
class _Manifest:
    """A whole manifest."""

    tensors: tuple[_Entry, ...]
    layout: Literal["NHWC", "NCHW"] | None = None


@dataclass(frozen=True)
class _Votes:
    """What all tensors of a dump have in common, since they come from one device.

    It decides for those that by themselves could be read either way.

    Attributes
    ----------
    channels_first : of images.
    shifted : signed codes are dumped as unsigned ones.
    codes : floats hold codes, and not the real numbers that they stand for.
    """

    channels_first: bool = False
    shifted: bool = False
    codes: bool = False


@dataclass(frozen=True, eq=False)
class _Raw:
    """A dumped array before it is recognised."""

    name: str
    value: Array
    file: str = ""
    tensor: str | None = None
    layout: str | None = None

    def fail(self, message: str) -> InputError:
        """An error that names file and tensor."""
        where = f"{self.file}: " if self.file else ""
        return InputError(f"{where}dumped tensor {self.name!r}: {message}")


# ---- reading ----------------------------------------------------------------------------------


def is_dump(path: Path) -> bool:
    """Whether ``path`` looks like a dump rather than a scheme."""
    if path.suffix == ".toml" and path.is_file():
        return bool(re.search(rb"^\s*\[\[\s*tensors", path.read_bytes(), re.MULTILINE))
    return path.suffix in (".npz", ".npy", ".json") or path.is_dir()


def read_dump(path: Path, graph: Graph, match: Match = "auto") -> Dump:
    """Read a dump and recognise its tensors.

    Parameters
    ----------
    path : of an .npz, an .npy, a folder, or a manifest.
    match : "auto" by name, part of a name or suffix; "exact" by name only; "order" by shape, in
        order of execution; a mapping of dumped to graph names; or an iterable of these words and
        of strings ``dumped=tensor``.

    Raises
    ------
    InputError : a malformed dump, naming file and tensor, or one that fits nothing.
    """
    return _recognise(_read(path), graph, match, str(path))


def fit_dump(tensors: Mapping[str, Any], graph: Graph, match: Match = "auto") -> Dump:
    """Recognise arrays given by name; see :func:`read_dump`."""
    raws = []
    for name, value in tensors.items():
        try:
            raws.append(_Raw(str(name), np.asarray(value)))
        except ValueError as error:
            raise InputError(f"dumped tensor {name!r}: not an array: {error}") from None
    return _recognise(raws, graph, match, "the tensors given")


def _read(path: Path) -> list[_Raw]:
    if path.suffix == ".npz":
        return [_Raw(name, value, str(path)) for name, value in Capture.load(path).items()]
    if path.suffix == ".npy":
        return [_Raw(path.stem, read_npy(path), str(path))]
    if not path.is_dir():
        return _read_manifest(path)
    for name in _MANIFESTS:
        if (path / name).is_file():
            return _read_manifest(path / name)
    files = sorted(path.rglob("*.npy"), key=lambda f: _natural(f.relative_to(path).as_posix()))
    if not files:
        raise InputError(f"{path}: has no .npy files and no {' or '.join(_MANIFESTS)}")
    # an unpacked archive has what a capture says of itself, too
    keys = {file: file.relative_to(path).with_suffix("").as_posix() for file in files}
    named = {file: tensor_name(key) for file, key in keys.items()}
    return [_Raw(n, read_npy(file), str(file)) for file, n in named.items() if n is not None]


def read_npy(path: Path) -> Array:
    """The array in an .npy file; InputError with the file's name if there is none."""
    try:
        with path.open("rb") as stream:
            return read_array(stream, path.stat().st_size if path.is_file() else None)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UNREADABLE as error:
        raise InputError(f"{path}: not an .npy of numbers: {error}") from None


def _read_manifest(path: Path) -> list[_Raw]:
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        manifest = build(_Manifest, table, str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise InputError(f"{path}: not a manifest: nested too deeply") from None
    except (ValueError, SchemeError) as error:
        raise InputError(f"{path}: not a manifest: {error}") from None
    return [_read_binary(path.parent, entry, manifest.layout) for entry in manifest.tensors]


def _read_binary(folder: Path, entry: _Entry, layout: str | None) -> _Raw:
    file = folder / entry.file
    raw = _Raw(entry.name, np.empty(0), str(file), entry.tensor, entry.layout or layout)
    try:
        dtype = np.dtype(entry.dtype)
    except TypeError:
        raise raw.fail(f"unknown dtype {entry.dtype!r}") from None
    if dtype.kind not in "iufb":
        raise raw.fail(f"dtype {entry.dtype!r} is not of numbers")
    if any(size < 0 for size in entry.shape) or entry.offset < 0:
        raise raw.fail(f"shape {list(entry.shape)} and offset {entry.offset} must not be negative")
    if "\0" in entry.file or not file.resolve().is_relative_to(folder.resolve()):
        raise raw.fail("the file lies outside the manifest's folder")
    count = math.prod(entry.shape)
    try:
        size = file.stat().st_size
        wanted = entry.offset + count * dtype.itemsize
        if size != wanted:
            raise raw.fail(
                f"{entry.dtype}{list(entry.shape)} needs {wanted} bytes, the file has {size}"
            )
        value = np.fromfile(file, dtype, count, offset=entry.offset)
    except OSError as error:
        raise raw.fail(error.strerror or str(error)) from None
    native = value.astype(dtype.newbyteorder("="), copy=False)
    return replace(raw, value=native.reshape(entry.shape))


# ---- names ------------------------------------------------------------------------------------


def _recognise(raws: Sequence[_Raw], graph: Graph, match: Match, what: str) -> Dump:
    way, pairs = _ways(match)
    if not raws:
        raise InputError(f"{what}: no tensors in it")
    dump = Dump()
    chosen = _match(raws, graph, way, pairs, dump)
    if not chosen:
        raise InputError(
            f"{what}: none of {len(raws)} tensors is one of the graph's by name; dumped are "
            f"{_some([raw.name for raw in raws])}; the graph has "
            f"{_some([n.name for n in graph.nodes])}; 'order' matches by shape and order"
        )
    votes = _Votes(
        channels_first=_layout_vote(chosen, graph),
        shifted=_shift_vote(chosen, graph),
        codes=_codes_vote(chosen, graph),
    )
    for raw, name, _ in chosen:
        tensor = graph.tensors[name]
        value, said = _shaped(raw, tensor, votes.channels_first)
        if tensor.data is not None:
            _check_constant(raw, tensor, value, dump)
            continue
        codes, also, off_grid = _typed(raw, tensor, value, votes)
        dump.tensors[name] = np.ascontiguousarray(codes)
        if off_grid:
            dump.off_grid[name] = off_grid
        dump.names[raw.name] = name
        dump.remarks += [f"{raw.name}: {remark}" for remark in (*said, *also)]
    dump.remarks = _gathered(dump.remarks)
    if dump.unmatched:
        count = len(dump.unmatched)
        are = "tensor is" if count == 1 else "tensors are"
        dump.remarks.append(f"{count} dumped {are} none of the graph's: {_some(dump.unmatched)}")
    return dump


def _ways(match: Match) -> tuple[str, dict[str, str]]:
    """The way to match, and the pairs that are given; InputError for an unknown word."""
    if isinstance(match, Mapping):
        return "auto", dict(match)
    way, pairs = "auto", {}
    for item in [match] if isinstance(match, str) else match:
        name, equals, tensor = item.partition("=")
        if equals:
            pairs[name] = tensor
        else:
            try:
                way = one_of(item, _WAYS, "match")
            except SchemeError as error:
                raise InputError(f"{error}; or NAME=TENSOR") from None
    return way, pairs


def _match(
    raws: Sequence[_Raw], graph: Graph, way: str, pairs: Mapping[str, str], dump: Dump
) -> list[tuple[_Raw, str, bool]]:
    """Raw arrays with the tensors they stand for, and whether the name alone says so."""
    for absent in pairs.keys() - {raw.name for raw in raws}:
        raise InputError(
            f"match: {absent!r} was not dumped; dumped: {_some([r.name for r in raws])}"
        )
    index = _NameIndex(graph)
    found: dict[str, tuple[_Raw, bool]] = {}
    rest: list[_Raw] = []
    for raw in raws:
        said = pairs.get(raw.name) or raw.tensor
        name = graph.find_tensor(said).name if said else index.exact(raw.name)
        if name is not None and not said and _is_other(raw, graph.tensors[name]):
            name = None
        if name is None:
            rest.append(raw)
        elif name in found:
            raise raw.fail(f"stands for {name!r}, and so does {found[name][0].name!r}")
        else:
            found[name] = (raw, True)
    if way == "order":
        _match_in_order(rest, graph, found, dump)
    else:
        for raw in rest:
            near = index.near(raw.name) if way == "auto" else []
            free = [name for name in near if name not in found]
            fitting = [name for name in free if _views(raw, graph.tensors[name])]
            if len(fitting) == 1:
                found[fitting[0]] = (raw, False)
                continue
            dump.unmatched.append(raw.name)
            if len(fitting) > 1:
                dump.remarks.append(
                    f"{raw.name}: may be any of {_some(fitting)}; say which with {raw.name}=TENSOR"
                )
    return [(raw, name, sure) for name, (raw, sure) in found.items()]


def _is_other(raw: _Raw, tensor: Tensor) -> bool:
    """Whether an array has the name of a constant, but not its shape.

    Weights often bear the name of the layer that they belong to.
    """
    return tensor.is_constant and not _views(raw, tensor)


def _match_in_order(
    raws: Iterable[_Raw], graph: Graph, found: dict[str, tuple[_Raw, bool]], dump: Dump
) -> None:
    """Each array is the next tensor, in order of execution, that it can be by shape.

    Padded channels fit too much, so they count only where nothing further down fits as it is.
    """
    order = [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)]
    left = [name for name in order if name not in found]
    for raw in raws:
        fitting = [
            (view.padded, place)
            for place, name in enumerate(left)
            for view in _views(raw, graph.tensors[name])
        ]
        if not fitting:
            dump.unmatched.append(raw.name)
            continue
        _, place = min(fitting)
        found[left[place]] = (raw, False)
        dump.remarks.append(f"{raw.name}: taken for {left[place]!r} by shape and order")
        del left[: place + 1]


class _NameIndex:
    """The graph's tensors by the names that a dump may give them.

    File names lack most punctuation, so names are compared as words: runs of letters and digits.
    """

    def __init__(self, graph: Graph) -> None:
        self._words: dict[str, list[tuple[str, ...]]] = {}
        self._exact: dict[str, str] = {}
        self._folded: dict[tuple[str, ...], set[str]] = {}
        for name, tensor in graph.tensors.items():
            node = graph.producer(name)
            names = [name, f"#{tensor.index}"]
            if node is not None:
                position = node.outputs.index(name)
                names += [node.name] * (position == 0) + [f"{node.name}:{position}"]
            self._exact |= {n: name for n in names if n not in graph.tensors or n == name}
            if tensor.is_constant:
                continue
            self._words[name] = [_words(n) for n in names if not n.startswith("#")]
            for words in self._words[name]:
                self._folded.setdefault(words, set()).add(name)
            # converters join the names of what they fuse, and others keep the first of them
            self._words[name] += [_words(part) for part in name.split(";")[:-1]]

    def exact(self, name: str) -> str | None:
        """The tensor of this name, or of the same words."""
        if name in self._exact:
            return self._exact[name]
        same = self._folded.get(_words(name), set())
        return next(iter(same)) if len(same) == 1 else None

    def near(self, name: str) -> list[str]:
        """Tensors whose name the given one is part of, or that are part of it; the best only."""
        words = _words(name)
        ends, parts, contained = [], [], {}
        for tensor, known in self._words.items():
            if any(_ends(k, words) for k in known):
                ends.append(tensor)
            if any(_within(words, k) for k in known):
                parts.append(tensor)
            longest = max((len(k) for k in known if _within(k, words)), default=0)
            if longest:
                contained[tensor] = longest
        best = max(contained.values(), default=0)
        for found in (parts, ends, [t for t, n in contained.items() if n == best]):
            if len(found) == 1:
                return found
        return ends or parts or list(contained)


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))


def _within(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    n = len(part)
    return 0 < n <= len(whole) and any(whole[i : i + n] == part for i in range(len(whole) - n + 1))


def _ends(whole: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return bool(part) and whole[-len(part) :] == part


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key in which layer10 comes after layer9."""
    return [
        (0, int(part)) if part.isdigit() else (1, part) for part in re.findall(r"\d+|\D+", name)
    ]


# ---- shapes -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _View:
    """One way to see a dumped array as a tensor."""

    value: Array
    remark: str = ""
    channels_first: bool = False
    padded: bool = False


def _views(raw: _Raw, tensor: Tensor) -> list[_View]:
    """Every way in which the array has the tensor's shape, the plainest first."""
    x, rank = raw.value, len(tensor.shape)
    views = []
    for value, said in _batched(x, tensor):
        want = _want(value, tensor)
        for first in (False, True):
            if first and rank < 3:
                continue
            shape = (want[0], want[-1], *want[1:-1]) if first else want
            order = "channels first (NCHW)" if first else ""
            for view, also in _padded(value, shape, 1 if first else rank - 1):
                back = np.moveaxis(view, 1, -1) if first else view
                remark = ", ".join(part for part in (said, order, also) if part)
                views.append(_View(back, remark, first, bool(also)))
    return views


def _want(value: Array, tensor: Tensor) -> tuple[int, ...]:
    """The tensor's shape, at the batch of the array where the file says 1."""
    shape = tensor.shape
    if value.ndim == len(shape) > 0 and shape[0] == 1:
        return (value.shape[0], *shape[1:])
    return shape


def _batched(x: Array, tensor: Tensor) -> Iterable[tuple[Array, str]]:
    """The array at the tensor's rank: as it is, with ones put back, or unflattened."""
    rank, shape = len(tensor.shape), tensor.shape
    if x.ndim == rank:
        yield x, ""
        return
    orders = [shape] + [(shape[0], shape[-1], *shape[1:-1])] * (rank > 2)
    for order in orders:
        if _without_ones(order) == _without_ones(x.shape):
            yield x.reshape(order), "dimensions of one were left out"
            return
    if x.ndim == rank - 1 > 0:
        yield x[np.newaxis], "the batch dimension was left out"
    if x.size == math.prod(shape):
        yield x.reshape(shape), _FLAT


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _padded(x: Array, shape: tuple[int, ...], axis: int) -> Iterable[tuple[Array, str]]:
    """The array if it has ``shape``, or more channels that are then left out."""
    if x.shape == shape:
        yield x, ""
    elif (
        x.ndim == len(shape) > 0
        and x.shape[:axis] + x.shape[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
        and shape[axis] < x.shape[axis] <= -(-shape[axis] // 64) * 64
    ):
        cut = np.take(x, range(shape[axis]), axis)
        yield cut, f"channels padded from {shape[axis]} to {x.shape[axis]}"


def _layout_vote(chosen: Iterable[tuple[_Raw, str, bool]], graph: Graph) -> bool:
    """Whether arrays that could have either layout are taken as channels first.

    Those that can have only one decide.
    """
    votes: Counter[bool] = Counter()
    for raw, name, _ in chosen:
        ways = {view.channels_first for view in _views(raw, graph.tensors[name])}
        if len(graph.tensors[name].shape) > 2 and len(ways) == 1:
            votes[ways.pop()] += 1
    return votes[True] > votes[False]


def _shaped(raw: _Raw, tensor: Tensor, channels_first: bool) -> tuple[Array, list[str]]:
    views = _views(raw, tensor)
    if not views:
        raise raw.fail(
            f"has shape {list(raw.value.shape)}, which is not that of {tensor.describe()}, "
            "nor with channels first, a dimension of one left out, or padded channels"
        )
    told = raw.layout == "NCHW" if raw.layout else channels_first
    fitting = [view for view in views if view.channels_first == told] or views
    view = fitting[0]
    if view.remark == _FLAT and told and len(tensor.shape) > 2:
        n, *middle, c = tensor.shape
        turned = np.moveaxis(view.value.reshape(n, c, *middle), 1, -1)
        return turned, [f"{_FLAT} with channels first (NCHW)"]
    return view.value, [view.remark] if view.remark else []


# ---- types ------------------------------------------------------------------------------------


def _shift_vote(chosen: Iterable[tuple[_Raw, str, bool]], graph: Graph) -> bool:
    """Whether signed codes were dumped as unsigned ones in a wider type.

    Codes that fit either way follow those that do not.
    """
    signed = [
        raw.value
        for raw, name, _ in chosen
        if graph.tensors[name].dtype in ("int8", "int16") and raw.value.dtype.kind in "iuf"
    ]
    whole = [x for x in signed if x.size and (x.dtype.kind != "f" or (x == np.rint(x)).all())]
    lows = [x.min() for x in whole]
    return bool(whole) and min(lows) >= 0 and any(x.max() > 127 for x in whole)


def _codes_vote(chosen: Iterable[tuple[_Raw, str, bool]], graph: Graph) -> bool:
    """Whether floats that may be codes as well as reals are codes; the unmistakable ones decide."""
    votes: Counter[bool | None] = Counter()
    for raw, name, _ in chosen:
        q = graph.tensors[name].quantization
        if raw.value.dtype.kind == "f" and q is not None and not q.per_channel:
            votes[_Reals.of(raw.value, graph.tensors[name]).are_codes] += 1
    return votes[True] > votes[False]


@dataclass(frozen=True, eq=False)
class _Reals:
    """Floats taken for real numbers on a tensor's grid.

    Attributes
    ----------
    codes : the nearest, not yet cut to the tensor's range.
    off_grid, beyond : how many lie between codes, and out of range.
    blurred : how many the float type holds too coarsely to tell one code from the next.
    are_codes : True if they can only be codes, False if only reals, None if either.
    """

    codes: Array
    off_grid: int
    beyond: int
    blurred: int
    are_codes: bool | None

    @classmethod
    def of(cls, x: Array, tensor: Tensor) -> _Reals:
        """``x``: finite, of any shape if the tensor has one scale."""
        kind, q = tensor.int_type, tensor.quantization
        assert q is not None
        scale, zero_point = along_axes(q, x.ndim)
        if not q.per_channel:
            scale, zero_point = scale.reshape(-1), zero_point.reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            values = x.astype(np.float64)
            steps = values / scale
            # a coarse type is as far off as it rounds
            blur = np.abs(steps) * np.finfo(x.dtype).eps
            off_grid = np.abs(steps - np.rint(steps)) > _OFF_GRID + blur
            codes = np.rint(steps) + zero_point
            beyond = (codes < kind.min) | (codes > kind.max)
            whole = bool((values == np.rint(values)).all())
        wrong = int((off_grid | beyond).sum())
        # a zero lies on every grid, so it says nothing of what the array holds
        only_codes = wrong > np.count_nonzero(values) // 2
        are_codes = False if not whole else True if only_codes else None
        return cls(codes, int(off_grid.sum()), int(beyond.sum()), int((blur > 1).sum()), are_codes)


def _typed(raw: _Raw, tensor: Tensor, x: Array, votes: _Votes) -> tuple[Array, list[str], int]:
    """The array in the tensor's type; what was recognised; real values off the grid."""
    want = tensor.numpy_dtype
    if x.dtype == want:
        return x, [], 0
    if x.dtype.kind not in "iufb":
        raise raw.fail(f"elements of {x.dtype} are no numbers")
    if x.dtype.kind == "b" and tensor.quantization is not None:
        raise raw.fail(f"truth values for {tensor.describe()}")
    if tensor.is_float or tensor.dtype == "bool":
        return x.astype(want), [f"stored as {x.dtype}"], 0
    if x.dtype.kind == "f":
        return _codes_of_floats(raw, tensor, x, votes)
    return (*_codes_of_integers(raw, tensor, x, votes.shifted), 0)


def _codes_of_integers(
    raw: _Raw, tensor: Tensor, x: Array, shifted: bool
) -> tuple[Array, list[str]]:
    """Codes of an integer array: of the other sign, or of another width."""
    want, kind = tensor.numpy_dtype, tensor.int_type
    low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    offset = _SIGN.get(kind.bits, 0) if tensor.quantization else 0
    shift = -offset if kind.min < 0 else offset
    same_width = x.dtype.itemsize == want.itemsize
    fits_shifted = offset and kind.min <= low + shift and high + shift <= kind.max
    if fits_shifted and (same_width or shifted or not kind.min <= low <= high <= kind.max):
        moved = (x.astype(np.int64) + shift).astype(want)
        return moved, [f"{x.dtype} codes, {-shift:+d} against the model's {tensor.dtype}"]
    if kind.min <= low and high <= kind.max:
        return x.astype(want), [f"stored as {x.dtype}"]
    raise raw.fail(f"values {low}..{high} do not fit {tensor.describe()}")


def _codes_of_floats(
    raw: _Raw, tensor: Tensor, x: Array, votes: _Votes
) -> tuple[Array, list[str], int]:
    """Codes of a float array: of the reals they stand for, or the codes themselves."""
    bad = x.size - int(np.isfinite(x).sum())
    if bad:
        raise raw.fail(f"{bad} of {x.size} values are not finite: no code stands for them")
    q = tensor.quantization
    if q is None:
        if not (x == np.rint(x)).all():
            raise raw.fail(f"real values for {tensor.describe()}, which is not quantized")
        return *_codes_of_integers(raw, tensor, _integers(raw, x), votes.shifted), 0
    reals, kind = _Reals.of(x, tensor), tensor.int_type
    if reals.are_codes or (reals.are_codes is None and votes.codes):
        codes, said = _codes_of_integers(raw, tensor, _integers(raw, x), votes.shifted)
        moved = [remark for remark in said if not remark.startswith("stored as")]
        return codes, [f"codes stored as {x.dtype}", *moved], 0
    remarks = ["real values, turned back into codes by the tensor's scale"]
    if reals.blurred:
        remarks.append(
            f"{x.dtype} is too coarse to tell the codes of {reals.blurred} of {x.size} real values"
        )
    if reals.off_grid:
        remarks.append(
            f"{reals.off_grid} of {x.size} real values lie off the grid of {q}: another scale, or "
            "not rounded to it"
        )
    if reals.beyond:
        remarks.append(
            f"{reals.beyond} of {x.size} real values lie beyond the range of {tensor.dtype}"
        )
    cut = np.clip(reals.codes, kind.min, kind.max).astype(tensor.numpy_dtype)
    return cut, remarks, reals.off_grid


def _integers(raw: _Raw, x: Array) -> Array:
    """Whole floats as integers."""
    if x.size and np.abs(x).max() >= 2.0**62:
        raise raw.fail(f"values of up to {np.abs(x).max():g} are no codes")
    return x.astype(np.int64)


def _check_constant(raw: _Raw, tensor: Tensor, value: Array, dump: Dump) -> None:
    """A dumped constant must be the model's; weights of another model explain everything."""
    assert tensor.data is not None
    codes, _, _ = _typed(raw, tensor, value, _Votes())
    wrong = int((codes != tensor.data).sum()) if codes.shape == tensor.data.shape else codes.size
    if wrong:
        dump.remarks.append(
            f"{raw.name}: differs from the model's own {tensor.name!r} in {wrong} of "
            f"{tensor.data.size} elements: not the same weights"
        )


# ---- sentences --------------------------------------------------------------------------------


def _gathered(remarks: Iterable[str]) -> list[str]:
    """``name: remark`` with the names of equal remarks put together."""
    by_remark: dict[str, list[str]] = {}
    for remark in remarks:
        name, _, text = remark.partition(": ")
        by_remark.setdefault(text, []).append(name)
    return [f"{_some(names)}: {text}" for text, names in by_remark.items()]


def _some(names: Sequence[str], most: int = 4) -> str:
    listed = ", ".join(name or "''" for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
