"""Every n-th element between two bounds along each axis (clause O-strided_slice).

Source: tflite/kernels/strided_slice.cc BuildStridedSliceParams, ResizeOutputTensor;
tflite/kernels/internal/reference/strided_slice.h StartForAxis, EndForAxis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ops._movement import check_same_type
from qinterp.ops._operator import Move, Operator

_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
STRIDED_SLICE = Operator(
    "strided_slice",
    ("input", "begin", "end", "strides"),
    dict.fromkeys(_MASKS, 0) | {"offset": False},
)

Position = int | slice | None
"""How numpy writes one place of an index: one element, a range, a new axis."""


@STRIDED_SLICE.reads_tflite("STRIDED_SLICE", "StridedSliceOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a STRIDED_SLICE; bit i of a mask is about place i of the operands."""
    return {name: getattr(options, name) for name in _MASKS} | {"offset": bool(options.offset)}


@STRIDED_SLICE.infers
def shapes(call: Call) -> list[Shape]:
    """Ranges keep their axis, single elements lose it, new axes are of one."""
    index = _index(call)
    remaining = iter(call["input"].shape)
    shape = []
    for position in index:
        if position is None:
            shape.append(1)
        elif isinstance(position, slice):
            shape.append(len(range(*position.indices(next(remaining)))))
        else:
            next(remaining)
    return [tuple(shape)]


@STRIDED_SLICE.moves
def move(call: Call) -> Move:
    """The elements of the index."""
    check_same_type(call, [call["input"], call.output])
    index = _index(call)
    return lambda values, fill: [values[0][*index, ...]]


def _index(call: Call) -> tuple[Position, ...]:
    """The places of the operands, the ellipsis written out, as a numpy index."""
    shape = call["input"].shape
    begin, end, strides = (call.integers(name) for name in ("begin", "end", "strides"))
    call.check(
        len(begin) == len(end) == len(strides),
        f"begin, end and strides have {len(begin)}, {len(end)} and {len(strides)} elements",
    )
    masks = {name: call.attributes[name] for name in _MASKS}

    def has(mask: str, place: int) -> bool:
        return bool(masks[mask] >> place & 1)

    places = range(len(begin))
    ellipses = [p for p in places if has("ellipsis_mask", p)]
    new = [p for p in places if has("new_axis_mask", p) and p not in ellipses]
    call.check(len(ellipses) <= 1, "has more than one ellipsis")
    named = len(begin) - len(new) - len(ellipses)
    call.check(named <= len(shape), f"{named} axes are named, the input has {len(shape)}")
    if ellipses and named == len(shape):
        call.unsupported("an ellipsis that stands for no axis: LiteRT gives it one all the same")
    if call.attributes["offset"] and (new or named < len(shape) or masks["end_mask"]):
        call.unsupported("ends that are offsets must be given for every axis, and for no new one")
    whole = [slice(None)] * (len(shape) - named)
    index: list[Position] = []
    axis = 0
    for p in places:
        if p in ellipses:
            index += whole
            axis += len(whole)
        elif p in new:
            index.append(None)
        else:
            index.append(
                _position(
                    call,
                    shape[axis],
                    None if has("begin_mask", p) else begin[p],
                    None if has("end_mask", p) else end[p],
                    strides[p],
                    shrink=has("shrink_axis_mask", p),
                )
            )
            axis += 1
    return tuple(index if ellipses else [*index, *whole])


def _position(
    call: Call, size: int, begin: int | None, end: int | None, stride: int, *, shrink: bool
) -> Position:
    """One place; bounds count from the back when negative and are clamped to the axis."""
    call.check(stride != 0, "a stride is 0")
    start = _bound(begin, 0 if stride > 0 else size - 1, size, stride)
    if shrink:
        call.check(
            stride > 0 and start < size,
            f"there is no single element at {begin}, by steps of {stride}, on an axis of {size}",
        )
        return start
    if call.attributes["offset"] and end is not None:
        call.check(0 <= start + end <= size, f"{end} elements from {start} leave an axis of {size}")
        end += start
    stop = _bound(end, size if stride > 0 else -1, size, stride)
    if (stop - start) * stride <= 0:
        return slice(0, 0)
    return slice(start, None if stop < 0 else stop, stride)


def _bound(value: int | None, default: int, size: int, stride: int) -> int:
    if value is None:
        return default
    if value < 0:
        value += size
    return min(max(value, 0), size) if stride > 0 else min(max(value, -1), size - 1)
