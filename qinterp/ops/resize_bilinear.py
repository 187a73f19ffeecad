"""An image resized by linear interpolation along both axes (clause O-resize_bilinear).

Source: tflite/kernels/internal/reference/resize_bilinear.h ResizeBilinearInteger, ResizeBilinear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import ShiftRight, Stage
from qinterp.ops._accumulate import INTEGERS
from qinterp.ops._elementwise import Real, apply_stages, real_finish
from qinterp.ops._operator import Notes, Run
from qinterp.ops._resize import image_sizes, resize

RESIZE_BILINEAR = resize("resize_bilinear", "RESIZE_BILINEAR", "ResizeBilinearOptions")

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """Where each output lies along one axis: between two inputs, and by which share.

    Attributes
    ----------
    lower, upper : input positions.
    share : of the upper one, counted in ``1 / whole`` (integers), or a float.
    whole : what the shares of both add up to.
    """

    lower: Integers
    upper: Integers
    share: Any
    whole: Any


def _axes(call: Call, make: Callable[[Call, int, int], Axis]) -> tuple[Axis, Axis]:
    """Height and width, from input and output sizes."""
    if call.attributes["align_corners"] and call.attributes["half_pixel_centers"]:
        call.unsupported("align_corners and half_pixel_centers exclude each other")
    height, width = image_sizes(call)
    return make(call, *height), make(call, *width)


@dataclass(frozen=True)
class FixedPointWeights:
    """Shares in fixed point; codes are interpolated as they are stored.

    Attributes
    ----------
    bits : fraction bits of a share; the product of two has twice as many.
    places : from a step in fixed point, or in float32, of which the shares are rounded to even.
    stages : from the sum of products, of which twice ``bits`` stand after the binary point.
    """

    bits: int = 10
    places: Literal["fixed_point", "float32"] = "fixed_point"
    stages: tuple[Stage, ...] = (ShiftRight("ties_to_away", "total"),)


@RESIZE_BILINEAR.recipe("fixed_point_weights", FixedPointWeights, family="tflite")
def fixed_point_weights(call: Call) -> Run:
    """``out = r(sum of four codes * shares)``."""
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    params: FixedPointWeights = call.params
    axis = _fixed_axis if params.places == "fixed_point" else _rounded_axis
    rows, columns = _axes(call, partial(axis, params.bits))
    sizes = call["input"].shape[1:3]
    if int(rows.lower.max()) >= sizes[0] or int(columns.lower.max()) >= sizes[1]:
        call.unsupported(
            f"the rounded step from {list(sizes)} to {list(call.output.shape[1:3])} leads past the "
            "edge of the image, where the kernel reads whatever lies there"
        )
    one = Rescale(np.ones(1), np.ones(1, np.int64), np.full(1, -2 * params.bits, np.int64))
    stages = Requantizer(params.stages, one)
    dtype = call.output.numpy_dtype
    wide = np.int32 if dtype.itemsize == 1 and params.bits <= 11 else np.int64

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        total = _interpolate_exactly(values[0].astype(wide), rows, columns)
        notes.add("accumulator", total)
        return [apply_stages(stages, total, dtype)]

    return run


def _fixed_axis(bits: int, call: Call, size: int, output_size: int) -> Axis:
    one = 1 << bits
    step = (one * size + output_size // 2) // output_size
    if call.attributes["align_corners"] and output_size > 1:
        step = (one * (size - 1) + (output_size - 1) // 2) // (output_size - 1)
    place = np.arange(output_size, dtype=np.int64) * step
    if call.attributes["half_pixel_centers"]:
        place += step // 2 - one // 2
    lower = np.maximum(place >> bits, 0)
    upper = np.minimum(-(-place >> bits), size - 1)
    return Axis(lower, upper, place - lower * one, one)


def _rounded_axis(bits: int, call: Call, size: int, output_size: int) -> Axis:
    """XNNPACK src/indirection.c xnn_indirection_init_resize_bilinear2d_hwc_q11."""
    less = int(call.attributes["align_corners"] and output_size > 1)
    scale = np.float32(size - less) / np.float32(output_size - less)
    place = np.arange(output_size, dtype=np.float32) * scale
    if call.attributes["half_pixel_centers"]:
        half = np.float32(0.5)
        place = np.maximum(place + (half * scale - half), np.float32(0))
    place = np.minimum(place, np.float32(size - 1))
    lower = place.astype(np.int64)
    share = np.rint((place - lower.astype(np.float32)) * np.float32(1 << bits)).astype(np.int64)
    return Axis(lower, np.minimum(lower + 1, size - 1), share, 1 << bits)


@RESIZE_BILINEAR.recipe("float_weights")
def float_weights(call: Call) -> Run:
    """Codes interpolated in float32 as they are stored, one half added, the rest cut off."""
    call.types(input=("uint8",), output=("uint8",))
    return _in_float(call, np.float32(0.5))


@RESIZE_BILINEAR.recipe("float_share_products")
def float_share_products(call: Call) -> Run:
    """As ``float_weights``, but the two shares are multiplied first, and rows come first.

    Source: tflite/kernels/internal/optimized/resize_bilinear.h ResizeBilinearGenericSmallChannel.
    """
    call.types(input=("uint8",), output=("uint8",))
    rows, columns = _axes(call, _float_axis)
    dtype = call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x = values[0].astype(np.float32)
        total = np.float32(0)
        for ys, vertical in ((rows.lower, rows.whole - rows.share), (rows.upper, rows.share)):
            for xs, horizontal in (
                (columns.lower, columns.whole - columns.share),
                (columns.upper, columns.share),
            ):
                shares = (vertical[:, None] * horizontal)[..., None]
                total = total + x[:, ys[:, None], xs] * shares
        return [np.asarray(total + np.float32(0.5)).astype(dtype)]

    return run


@RESIZE_BILINEAR.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Four products of three factors added in float32."""
    call.types(input=("float32",), output=("float32",))
    return _in_float(call, np.float32(0.0))


def _in_float(call: Call, offset: np.float32) -> Run:
    rows, columns = _axes(call, _float_axis)
    dtype = call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        total = _interpolate(values[0].astype(np.float32), rows, columns)
        return [(total + offset).astype(dtype)]

    return run


def _float_axis(call: Call, size: int, output_size: int) -> Axis:
    scale = np.float32(size) / np.float32(output_size)
    if call.attributes["align_corners"] and output_size > 1:
        scale = np.float32(size - 1) / np.float32(output_size - 1)
    place = np.arange(output_size, dtype=np.float32)
    if call.attributes["half_pixel_centers"]:
        place = (place + np.float32(0.5)) * scale - np.float32(0.5)
    else:
        place = place * scale
    lower = np.maximum(np.floor(place).astype(np.int64), 0)
    upper = np.minimum(np.ceil(place).astype(np.int64), size - 1)
    return Axis(lower, upper, place - lower.astype(np.float32), np.float32(1))


@RESIZE_BILINEAR.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real interpolation, rounded once."""
    call.types(input=INTEGERS, output=INTEGERS)
    rows, columns = _axes(call, _exact_axis)
    scale, zero_point = call.per_tensor(call["input"])
    finish = real_finish(call, Fraction(scale) / (rows.whole * columns.whole))

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        total = _interpolate_exactly(values[0].astype(np.int64) - zero_point, rows, columns)
        notes.add("accumulator", total)
        return [finish(total)]

    return run


def _exact_axis(call: Call, size: int, output_size: int) -> Axis:
    place = np.arange(output_size, dtype=np.int64)
    if call.attributes["align_corners"] and output_size > 1:
        place, whole = place * (size - 1), output_size - 1
    elif call.attributes["half_pixel_centers"]:
        place, whole = (2 * place + 1) * size - output_size, 2 * output_size
    else:
        place, whole = place * size, output_size
    place = np.clip(place, 0, (size - 1) * whole)
    lower = place // whole
    return Axis(lower, np.minimum(lower + 1, size - 1), place - lower * whole, whole)


def _interpolate(x: Array, rows: Axis, columns: Axis) -> Array:
    """The four products, in the kernels' order of factors and terms."""
    low_y, high_y = (rows.whole - rows.share)[:, None, None], rows.share[:, None, None]
    low_x, high_x = (columns.whole - columns.share)[:, None], columns.share[:, None]

    def pick(ys: Integers, xs: Integers) -> Array:
        return x[:, ys[:, None], xs]

    with np.errstate(all="ignore"):
        total: Array = (
            pick(rows.lower, columns.lower) * low_y * low_x
            + pick(rows.upper, columns.lower) * high_y * low_x
            + pick(rows.lower, columns.upper) * low_y * high_x
            + pick(rows.upper, columns.upper) * high_y * high_x
        )
    return total


def _interpolate_exactly(x: Array, rows: Axis, columns: Axis) -> Array:
    """The same sum of integers, along one axis after the other."""
    share = columns.share.astype(x.dtype)[:, None]
    x = x[:, :, columns.lower] * (columns.whole - share) + x[:, :, columns.upper] * share
    share = rows.share.astype(x.dtype)[:, None, None]
    total: Array = x[:, rows.lower] * (rows.whole - share) + x[:, rows.upper] * share
    return total
