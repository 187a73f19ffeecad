"""Operators that move elements without computing; input and output share their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np

from qinterp.testing.random_models.draw import QUANTIZED, Case, Draw, generates

_DTYPES = ("int8", "uint8", "int16", "int32", "float32")


def _moved(
    draw: Draw, shape: tuple[int, ...], output_shape: tuple[int, ...], *more: str, **options: Any
) -> Case:
    """Write the operator from `shape` to `output_shape` with the further operands `more`."""
    quant = draw.quant(draw.dtype)
    x = draw.input(shape, draw.dtype, quant)
    y = draw.output(output_shape, draw.dtype, quant)
    draw.operator([x, *more], [y], **options)
    return draw.case([y])


def _axis(draw: Draw, rank: int) -> int:
    """Return an axis, written from either end."""
    return draw.integer(-rank, rank - 1)


def _factored(draw: Draw, total: int) -> tuple[int, ...]:
    """Return a shape of `total` elements."""
    shape = []
    for _ in range(draw.integer(0, 3)):
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        shape.append(draw.pick(divisors))
        total //= shape[-1]
    return (*shape, total)


@generates("RESHAPE", dtypes=_DTYPES)
def reshape(draw: Draw) -> Case:
    """RESHAPE, its shape given as a constant, as an option or as both, with -1 or without."""
    shape = draw.shape(0, 4)
    output_shape = _factored(draw, int(np.prod(shape)))
    written = list(output_shape)
    if draw.chance(0.4):
        written[draw.integer(0, len(written) - 1)] = -1
    form = draw.pick(["constant", "option", "both"])
    more = [] if form == "option" else [draw.integers("shape", written)]
    options = {} if form == "constant" else {"new_shape": written}
    return _moved(draw, shape, output_shape, *more, **options)


@generates("SQUEEZE", dtypes=_DTYPES)
def squeeze(draw: Draw) -> Case:
    """SQUEEZE of some dimensions of one, or of all of them."""
    shape = tuple(1 if draw.chance(0.5) else size for size in draw.shape(2, 5))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    squeezed = [axis for axis in ones if draw.chance(0.6)]
    written = [axis - len(shape) if draw.chance(0.3) else axis for axis in squeezed]
    gone = squeezed or ones  # no axes stands for all
    output_shape = tuple(size for axis, size in enumerate(shape) if axis not in gone)
    return _moved(draw, shape, output_shape, squeeze_dims=written)


@generates("EXPAND_DIMS", dtypes=_DTYPES)
def expand_dims(draw: Draw) -> Case:
    """EXPAND_DIMS, its axis written from either end."""
    shape = draw.shape(0, 4)
    axis = _axis(draw, len(shape) + 1)
    output_shape = list(shape)
    output_shape.insert(axis % (len(shape) + 1), 1)
    return _moved(draw, shape, tuple(output_shape), draw.integers("axis", axis))


@generates("TRANSPOSE", dtypes=_DTYPES)
def transpose(draw: Draw) -> Case:
    """TRANSPOSE of up to five dimensions."""
    shape = draw.shape(1, 5)
    order = [int(axis) for axis in draw.rng.permutation(len(shape))]
    output_shape = tuple(shape[axis] for axis in order)
    written = [axis - len(shape) if draw.chance(0.1) else axis for axis in order]
    return _moved(draw, shape, output_shape, draw.integers("perm", written))


def _paddings(draw: Draw, rank: int, *, high: int = 3) -> list[list[int]]:
    return [[draw.pick([0, 0, 1, high]), draw.pick([0, 0, 1, 2])] for _ in range(rank)]


def _padded(shape: tuple[int, ...], paddings: list[list[int]]) -> tuple[int, ...]:
    return tuple(size + sum(pair) for size, pair in zip(shape, paddings, strict=True))


@generates("PAD", "PADV2", dtypes=_DTYPES)
def pad(draw: Draw) -> Case:
    """PAD by up to three on every side; PADV2 with any value."""
    shape = draw.shape(1, 4, elements=500)
    paddings = _paddings(draw, len(shape))
    quant = draw.quant(draw.dtype)
    operands = [draw.input(shape, draw.dtype, quant)]
    operands.append(draw.integers("paddings", paddings, draw.pick(["int32", "int64"])))
    if draw.kind == "PADV2":
        zero_point = quant.zero_point if quant else 0
        value = draw.codes((1,) if draw.chance(0.5) else (), draw.dtype, zero_point)
        scale = quant.scale if quant else None
        operands.append(draw.writer.constant("value", value, scale=scale, zero_point=zero_point))
        draw.note(value=value.tolist())
    y = draw.output(_padded(shape, paddings), draw.dtype, quant)
    draw.operator(operands, [y])
    return draw.case([y])


@generates("MIRROR_PAD", dtypes=_DTYPES)
def mirror_pad(draw: Draw) -> Case:
    """MIRROR_PAD by no more than there is to mirror."""
    mode = draw.pick(["REFLECT", "SYMMETRIC"])
    shape = draw.shape(1, 4, elements=500)
    most = [size - 1 if mode == "REFLECT" else size for size in shape]
    paddings = [[draw.integer(0, min(m, 3)), draw.integer(0, min(m, 3))] for m in most]
    amounts = draw.integers("paddings", paddings, draw.pick(["int32", "int64"]))
    return _moved(draw, shape, _padded(shape, paddings), amounts, mode=mode)


@generates("CONCATENATION", dtypes=_DTYPES)
def concatenation(draw: Draw) -> Case:
    """CONCATENATION of one to four operands; those of uint8 may differ in their parameters."""
    shape = draw.shape(1, 4, elements=800)
    axis = _axis(draw, len(shape))
    quant = draw.quant(draw.dtype)
    operands, total = [], 0
    for index in range(draw.integer(1, 4)):
        size = draw.size(7)
        total += size
        one = list(shape)
        one[axis] = size
        differs = draw.dtype == "uint8" and draw.chance(0.5)
        one_quant = draw.near(quant, draw.dtype) if differs else quant
        constant = index > 0 and draw.chance(0.3)
        add = draw.operand if constant else draw.input
        operands.append(add(one, draw.dtype, one_quant, name=f"x{index}"))
    output_shape = list(shape)
    output_shape[axis] = total
    y = draw.output(output_shape, draw.dtype, quant)
    draw.operator(operands, [y], axis=axis)
    return draw.case([y])


@generates("PACK", dtypes=_DTYPES)
def pack(draw: Draw) -> Case:
    """PACK of one to four operands along a new axis."""
    shape = draw.shape(0, 3, elements=800)
    count = draw.integer(1, 4)
    axis = _axis(draw, len(shape) + 1)
    quant = draw.quant(draw.dtype)
    operands = [draw.input(shape, draw.dtype, quant, name=f"x{i}") for i in range(count)]
    output_shape = list(shape)
    output_shape.insert(axis % (len(shape) + 1), count)
    y = draw.output(output_shape, draw.dtype, quant)
    draw.operator(operands, [y], values_count=count, axis=axis)
    return draw.case([y])


@generates("UNPACK", dtypes=_DTYPES)
def unpack(draw: Draw) -> Case:
    """UNPACK along any axis."""
    shape = draw.shape(1, 4)
    axis = _axis(draw, len(shape))
    output_shape = list(shape)
    count = output_shape.pop(axis)
    quant = draw.quant(draw.dtype)
    x = draw.input(shape, draw.dtype, quant)
    outputs = [draw.output(output_shape, draw.dtype, quant, name=f"y{i}") for i in range(count)]
    draw.operator([x], outputs, num=count, axis=axis)
    return draw.case(outputs)


@generates("SPLIT", "SPLIT_V", dtypes=_DTYPES)
def split(draw: Draw) -> Case:
    """SPLIT into equal parts, SPLIT_V into any, one of them written as -1."""
    shape = list(draw.shape(1, 4, elements=800))
    axis = _axis(draw, len(shape))
    count = draw.integer(1, 4)
    sizes = [draw.size(4)] * count if draw.kind == "SPLIT" else [draw.size(4) for _ in range(count)]
    shape[axis] = sum(sizes)
    quant = draw.quant(draw.dtype)
    x = draw.input(shape, draw.dtype, quant)
    outputs = []
    for index, size in enumerate(sizes):
        one = list(shape)
        one[axis] = size
        outputs.append(draw.output(one, draw.dtype, quant, name=f"y{index}"))
    if draw.kind == "SPLIT":
        operands = [draw.integers("axis", axis), x]
    else:
        written = list(sizes)
        if draw.chance(0.3):
            written[draw.integer(0, count - 1)] = -1
        operands = [x, draw.integers("sizes", written), draw.integers("axis", axis)]
    draw.operator(operands, outputs, num_splits=count)
    return draw.case(outputs)


@generates("SLICE", dtypes=_DTYPES)
def slice_(draw: Draw) -> Case:
    """SLICE, sizes to the end written as -1."""
    shape = draw.shape(1, 5)
    begin = [draw.integer(0, size - 1) for size in shape]
    sizes = [draw.integer(1, size - start) for size, start in zip(shape, begin, strict=True)]
    written = [
        -1 if start + size == whole and draw.chance(0.5) else size
        for start, size, whole in zip(begin, sizes, shape, strict=True)
    ]
    dtype = draw.pick(["int32", "int64"])
    more = [draw.integers("begin", begin, dtype), draw.integers("size", written, dtype)]
    return _moved(draw, shape, tuple(sizes), *more)


@dataclass(frozen=True)
class _Cut:
    """One entry of STRIDED_SLICE: what is written, its masks, and numpy's index for the same."""

    begin: int
    end: int
    stride: int
    masks: tuple[str, ...]
    index: int | slice | EllipsisType | None


def _cut(draw: Draw, size: int) -> _Cut:
    """Return a slice or a single position of a dimension, with at least one element."""
    stride = draw.pick([1, 1, 1, 2, 3, -1, -2])
    first = draw.integer(0, size - 1)
    last = draw.integer(first, size - 1) if stride > 0 else draw.integer(0, first)
    stop = last + (1 if stride > 0 else -1)
    begin = first - size if draw.chance(0.2) else first
    if draw.chance(0.2):
        return _Cut(begin, first + 1, 1, ("shrink_axis",), first)
    open_begin, open_end = draw.chance(0.3), stop < 0 or draw.chance(0.3)
    masks = ("begin",) * open_begin + ("end",) * open_end
    index = slice(None if open_begin else first, None if open_end else stop, stride)
    end = stop - size if 0 < stop < size and draw.chance(0.2) else stop
    return _Cut(begin, end, stride, masks, index)


@generates("STRIDED_SLICE", dtypes=_DTYPES)
def strided_slice(draw: Draw) -> Case:
    """STRIDED_SLICE with strides of either sign and all its masks."""
    shape = draw.shape(1, 4)
    cuts = [_cut(draw, size) for size in shape]
    # Not both: with a new axis behind an empty ellipsis LiteRT allocates gigabytes.
    if draw.chance(0.2):
        first = draw.integer(0, len(cuts) - 1)
        last = draw.integer(first + 1, len(cuts))
        cuts[first:last] = [_Cut(0, 0, 1, ("ellipsis",), ...)]
    elif draw.chance(0.2):
        cuts.insert(draw.integer(0, len(cuts)), _Cut(0, 1, 1, ("new_axis",), None))
    output_shape = np.empty(shape)[tuple(cut.index for cut in cuts)].shape
    options = {
        f"{mask}_mask": sum(1 << i for i, cut in enumerate(cuts) if mask in cut.masks)
        for mask in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    more = [
        draw.integers("begin", [cut.begin for cut in cuts]),
        draw.integers("end", [cut.end for cut in cuts]),
        draw.integers("strides", [cut.stride for cut in cuts]),
    ]
    return _moved(draw, shape, output_shape, *more, **options)


@generates("GATHER", dtypes=_DTYPES)
def gather(draw: Draw) -> Case:
    """GATHER along any axis, with and without batch dimensions."""
    shape = draw.shape(1, 4)
    axis = draw.integer(0, len(shape) - 1)
    batch_dims = draw.pick([0, 0, draw.integer(0, min(axis, 2))])
    tail = tuple(draw.size(4) for _ in range(draw.integer(0 if batch_dims == 0 else 1, 2)))
    indices_shape = (*shape[:batch_dims], *tail)
    dtype = draw.pick(["int32", "int64"])
    positions = draw.rng.integers(0, shape[axis], indices_shape, dtype=dtype)
    quant = draw.quant(draw.dtype)
    x = draw.input(shape, draw.dtype, quant)
    if draw.chance(0.5):
        indices = draw.writer.constant("indices", np.asarray(positions))
    else:
        indices = draw.input(indices_shape, dtype, name="indices", values=np.asarray(positions))
    output_shape = (*shape[:axis], *tail, *shape[axis + 1 :])
    y = draw.output(output_shape, draw.dtype, quant)
    written = axis - len(shape) if batch_dims == 0 and draw.chance(0.3) else axis
    draw.operator([x, indices], [y], axis=written, batch_dims=batch_dims)
    return draw.case([y])


@generates("TILE", dtypes=_DTYPES)
def tile(draw: Draw) -> Case:
    """TILE up to threefold along every axis."""
    shape = draw.shape(1, 4, elements=300)
    multiples = [draw.pick([1, 1, 2, 3]) for _ in shape]
    output_shape = tuple(size * m for size, m in zip(shape, multiples, strict=True))
    more = draw.integers("multiples", multiples, draw.pick(["int32", "int64"]))
    return _moved(draw, shape, output_shape, more)


@generates("BROADCAST_TO", dtypes=_DTYPES)
def broadcast_to(draw: Draw) -> Case:
    """BROADCAST_TO a larger shape of the same or a higher rank."""
    output_shape = draw.shape(1, 5)
    shape = tuple(1 if draw.chance(0.5) else size for size in output_shape)
    shape = shape[draw.integer(0, len(shape) - 1) :]
    more = draw.integers("shape", list(output_shape), draw.pick(["int32", "int64"]))
    return _moved(draw, shape, output_shape, more)


@generates("REVERSE_V2", dtypes=_DTYPES)
def reverse(draw: Draw) -> Case:
    """REVERSE_V2 along one axis or several adjacent ones."""
    shape = draw.shape(1, 4)
    first = draw.integer(0, len(shape) - 1)
    axes = range(first, draw.integer(first, len(shape) - 1) + 1)
    written = [axis - len(shape) if draw.chance(0.2) else axis for axis in axes]
    return _moved(draw, shape, shape, draw.integers("axis", written))


@generates("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", dtypes=("int8", "uint8", "int32", "float32"))
def depth_and_space(draw: Draw) -> Case:
    """SPACE_TO_DEPTH and DEPTH_TO_SPACE."""
    block = draw.pick([1, 2, 2, 3, 4])
    batch, height, width, depth = (draw.pick([1, 2]), draw.size(5), draw.size(5), draw.size(8))
    space = (batch, height * block, width * block, depth)
    deep = (batch, height, width, depth * block * block)
    shapes = (space, deep) if draw.kind == "SPACE_TO_DEPTH" else (deep, space)
    return _moved(draw, *shapes, block_size=block)


@generates("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", dtypes=_DTYPES)
def batch_and_space(draw: Draw) -> Case:
    """SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND over one or two dimensions."""
    spatial = draw.integer(1, 2)
    blocks = [draw.pick([1, 2, 2, 3]) for _ in range(spatial)]
    inner = [draw.size(4) for _ in range(spatial)]  # of every block's image
    margins = []
    most = draw.pick([2, 2, 0])
    for block, size in zip(blocks, inner, strict=True):
        before = draw.integer(0, min(most, block * size - 1))
        margins.append([before, draw.integer(0, min(most, block * size - 1 - before))])
    batch, depth = draw.pick([1, 2]), draw.size(8)
    space = tuple(
        block * size - sum(margin)
        for block, size, margin in zip(blocks, inner, margins, strict=True)
    )
    spread = (batch, *space, depth)
    stacked = (batch * int(np.prod(blocks)), *inner, depth)
    gathers = draw.kind == "BATCH_TO_SPACE_ND"
    more = [draw.integers("block_shape", blocks)]
    more.append(draw.integers("crops" if gathers else "paddings", margins))
    return _moved(draw, *((stacked, spread) if gathers else (spread, stacked)), *more)


@generates("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR", dtypes=(*QUANTIZED, "float32"))
def resize(draw: Draw) -> Case:
    """Image resizing, both ways and with all three conventions for the corners."""
    image, resized = ([draw.size(9), draw.size(9)] for _ in range(2))
    if draw.chance(0.3):
        resized = [2 * size for size in image]
    convention = draw.pick(["", "align_corners", "half_pixel_centers"])
    batch, depth = draw.pick([1, 2]), draw.size(9)
    options = {convention: True} if convention else {}
    size = draw.integers("size", resized)
    return _moved(draw, (batch, *image, depth), (batch, *resized, depth), size, **options)


@generates("SHAPE", dtypes=_DTYPES)
def shape(draw: Draw) -> Case:
    """SHAPE of a tensor of `dtype`, as int32 or int64."""
    dimensions = draw.shape(0, 5)
    x = draw.input(dimensions, draw.dtype, draw.quant(draw.dtype))
    out_type = draw.pick(["int32", "int64"])
    y = draw.output((len(dimensions),), out_type)
    draw.operator([x], [y], out_type=out_type)
    return draw.case([y])
