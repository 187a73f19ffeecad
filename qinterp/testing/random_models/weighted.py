"""Operators with weights: convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qinterp.testing.random_models.draw import LIMITS, Case, Draw, Quant, generates

# Labels: the activation type, except "int4" (int8 activations, int4 weights). int16 activations go
# with int8 weights and an int64 or int32 bias.
_DTYPES = ("int8", "uint8", "int16", "int4", "float32")


def _activation_type(draw: Draw) -> str:
    return "int8" if draw.dtype == "int4" else draw.dtype


def _weight_type(draw: Draw) -> str:
    return {"int16": "int8"}.get(draw.dtype, draw.dtype)


def _weights(draw: Draw, shape: Sequence[int], axis: int) -> tuple[str, NDArray[np.float64], float]:
    """Add weights; return their name, one scale or one per channel, and a typical code's size."""
    dtype = _weight_type(draw)
    channels = shape[axis]
    if dtype == "float32":
        name = draw.writer.constant("w", draw.floats(shape, 1.0))
        return name, np.ones(1), 1.0
    zero_point = draw.zero_point(dtype) if dtype == "uint8" else 0
    codes = draw.codes(shape, dtype, zero_point)
    if dtype != "uint8" and draw.chance(0.6):  # narrow range, as converters make it
        codes = np.maximum(codes, LIMITS[dtype][0] + 1).astype(codes.dtype)
    many = dtype != "uint8" and draw.chance(0.6)
    base = draw.scale()
    scales = np.full(1, base)
    if many:
        ratios = [draw.pick([1.0, 2.0, 0.5, draw.log_uniform(0.1, 10.0)]) for _ in range(channels)]
        scales = (base * np.array(ratios)).astype(np.float32).astype(np.float64)
    draw.note(
        w=f"{dtype}{list(shape)}", w_scale=f"{scales[0]:.6g}x{len(scales)}", w_zero_point=zero_point
    )
    name = draw.writer.constant(
        "w", codes, dtype=dtype, scale=scales, zero_point=zero_point, axis=axis
    )
    typical = float(np.sqrt(np.mean((codes.astype(np.float64) - zero_point) ** 2)))
    return name, scales, typical


def _bias(
    draw: Draw,
    channels: int,
    product_scales: NDArray[np.float64],
    spread: float,
    options: dict[str, Any],
) -> str:
    """Add a bias of accumulator steps; for int16, also choose its type (and say so in options)."""
    if draw.dtype == "float32":
        return draw.writer.constant("b", draw.floats((channels,)))
    dtype = "int32"
    if draw.dtype == "int16":
        # Without the option, which DEPTHWISE_CONV_2D has not, LiteRT reads an int32 bias as int64.
        has_option = draw.kind != "DEPTHWISE_CONV_2D" and draw.chance(0.5)
        dtype = draw.pick(["int64", "int32"]) if has_option else "int64"
        if has_option:
            options["quantized_bias_type"] = dtype.upper()
    values = np.rint(draw.rng.normal(0, max(spread, 2.0), channels))
    if draw.chance(0.1):  # the bias decides everything
        values = draw.rng.choice([-(2.0**29), 2.0**29, 2.0**24 + 1], channels)
    draw.note(b=f"{dtype}[{channels}]")
    return draw.writer.constant("b", values.astype(dtype), scale=product_scales.astype(np.float32))


def _typical_distance(values: NDArray[Any], quant: Quant | None) -> float:
    zero_point = quant.zero_point if quant else 0
    return float(np.sqrt(np.mean((values.astype(np.float64) - zero_point) ** 2)))


def _output_quant(draw: Draw, product_scales: NDArray[np.float64], spread: float) -> Quant | None:
    dtype = _activation_type(draw)
    if dtype == "float32":
        return None
    scale = draw.output_scale(float(np.median(product_scales)), spread)
    if dtype == "int16":
        scale = draw.float32(scale / 128.0)
    # XNNPACK fails to prepare effective scales from 256 on. LiteRT refuses output scales by which
    # the bounds of a fused activation leave 32 bits.
    scale = max(scale, draw.float32(product_scales.max() / 128), 1e-8)
    return Quant(scale, draw.zero_point(dtype))


def _convolution_geometry(draw: Draw) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    """Return image size, kernel size and options; VALID kernels fit the image."""
    padding = draw.pick(["SAME", "VALID"])
    kernel = (draw.pick([1, 1, 2, 3, 3, 5]), draw.pick([1, 1, 2, 3, 3, 5]))
    dilation = (draw.pick([1, 1, 1, 2, 3]), draw.pick([1, 1, 1, 2, 3]))
    least = [
        (k - 1) * d + 1 if padding == "VALID" else 1 for k, d in zip(kernel, dilation, strict=True)
    ]
    image = (least[0] + draw.size() - 1, least[1] + draw.size() - 1)
    options = {
        "padding": padding,
        "stride_h": draw.pick([1, 1, 2, 3]),
        "stride_w": draw.pick([1, 1, 2, 3]),
        "dilation_h_factor": dilation[0],
        "dilation_w_factor": dilation[1],
    }
    return image, kernel, options


def _window_output(
    image: tuple[int, int], kernel: tuple[int, int], options: dict[str, Any]
) -> tuple[int, int]:
    sizes = []
    for size, k, axis in zip(image, kernel, "hw", strict=True):
        stride = options[f"stride_{axis}"]
        reach = (k - 1) * options.get(f"dilation_{axis}_factor", 1) + 1
        covered = size if options["padding"] == "SAME" else size - reach + 1
        sizes.append(-(-covered // stride))
    return sizes[0], sizes[1]


def _convolve(
    draw: Draw,
    depths: tuple[int, int],
    filter_shape: Sequence[int],
    axis: int,
    terms: int,
    geometry: tuple[tuple[int, int], tuple[int, int], dict[str, Any]],
) -> Case:
    """Write a convolution from `depths[0]` to `depths[1]` channels, `terms` products each."""
    image, kernel, options = geometry
    dtype = _activation_type(draw)
    batch = draw.pick([1, 1, 2, 3])
    quant = draw.quant(dtype)
    x = draw.input((batch, *image, depths[0]), dtype, quant)
    w, scales, weight_size = _weights(draw, filter_shape, axis)
    product_scales = np.float64(quant.scale if quant else 1.0) * scales
    spread = np.sqrt(terms) * weight_size * _typical_distance(draw.inputs["x"], quant)
    b = _bias(draw, depths[1], product_scales, spread, options)
    output_shape = (batch, *_window_output(image, kernel, options), depths[1])
    output = _output_quant(draw, product_scales, spread)
    y = draw.output(output_shape, dtype, output)
    activation = draw.activation(output, dtype)
    draw.operator([x, w, b], [y], fused_activation_function=activation, **options)
    return draw.case([y])


@generates("CONV_2D", dtypes=_DTYPES)
def conv_2d(draw: Draw) -> Case:
    """CONV_2D, some of them grouped. LiteRT does not prepare it without a bias."""
    geometry = _convolution_geometry(draw)
    kernel = geometry[1]
    groups = draw.pick([1, 1, 1, 1, draw.integer(2, 4)])
    group_depth = draw.pick([1, 2, 3, 4, 8, 16]) if groups > 1 else draw.channels()
    units = groups * draw.pick([1, 2, 3, 5]) if groups > 1 else draw.channels()
    return _convolve(
        draw,
        (groups * group_depth, units),
        (units, *kernel, group_depth),
        0,
        kernel[0] * kernel[1] * group_depth,
        geometry,
    )


@generates("DEPTHWISE_CONV_2D", dtypes=_DTYPES)
def depthwise_conv_2d(draw: Draw) -> Case:
    """DEPTHWISE_CONV_2D with depth multipliers; LiteRT's optimized one crashes without a bias."""
    geometry = _convolution_geometry(draw)
    kernel, options = geometry[1], geometry[2]
    depth = draw.channels()
    multiplier = draw.pick([1, 1, 1, 2, 3, 8])
    options["depth_multiplier"] = multiplier
    return _convolve(
        draw,
        (depth, depth * multiplier),
        (1, *kernel, depth * multiplier),
        3,
        kernel[0] * kernel[1],
        geometry,
    )


@generates("FULLY_CONNECTED", dtypes=_DTYPES)
def fully_connected(draw: Draw) -> Case:
    """FULLY_CONNECTED over inputs of rank 2 to 4, with and without bias and kept dimensions."""
    dtype = _activation_type(draw)
    depth, units = draw.pick([1, 2, 5, 8, 16, 17, 33, 64, 100]), draw.channels()
    keep = draw.chance(0.3)
    if keep:
        leading = tuple(draw.size(4) for _ in range(draw.integer(1, 3)))
        shape, output_shape = (*leading, depth), (*leading, units)
    else:
        batch = draw.pick([1, 1, 2, 3, 5])
        split = draw.pick([s for s in (1, 2, 4) if depth % s == 0])
        shape = draw.pick([(batch, depth), (batch, split, depth // split)])
        output_shape = (batch, units)
    quant = draw.quant(dtype)
    x = draw.input(shape, dtype, quant)
    w, scales, weight_size = _weights(draw, (units, depth), 0)
    product_scales = np.float64(quant.scale if quant else 1.0) * scales
    spread = np.sqrt(depth) * weight_size * _typical_distance(draw.inputs["x"], quant)
    options: dict[str, Any] = {"keep_num_dims": keep}
    operands: list[str | None] = [x, w]
    if draw.chance(0.7):
        operands.append(_bias(draw, units, product_scales, spread, options))
    elif draw.chance(0.5):
        operands.append(None)
    output = _output_quant(draw, product_scales, spread)
    y = draw.output(output_shape, dtype, output)
    activation = draw.activation(output, dtype)
    draw.operator(operands, [y], fused_activation_function=activation, **options)
    return draw.case([y])


@generates("TRANSPOSE_CONV", dtypes=("int8", "uint8", "int16", "float32"))
def transpose_conv(draw: Draw) -> Case:
    """TRANSPOSE_CONV, with and without bias, to any output size that fits the input's."""
    padding = draw.pick(["SAME", "VALID"])
    image = (draw.size(6), draw.size(6))
    kernel = (draw.pick([1, 2, 3, 5]), draw.pick([1, 2, 3, 5]))
    strides = (draw.pick([1, 2, 2, 3]), draw.pick([1, 2, 2, 3]))
    output_image = []
    for size, k, stride in zip(image, kernel, strides, strict=True):
        least = (size - 1) * stride + (1 if padding == "SAME" else k)
        output_image.append(least + draw.integer(0, stride - 1))
    depth, units = draw.channels(), draw.channels()
    output_shape = (draw.pick([1, 1, 2]), *output_image, units)
    quant = draw.quant(draw.dtype)
    shape = draw.integers("output_shape", output_shape)
    x = draw.input((output_shape[0], *image, depth), draw.dtype, quant)
    w, scales, weight_size = _weights(draw, (units, *kernel, depth), 0)
    product_scales = np.float64(quant.scale if quant else 1.0) * scales
    spread = np.sqrt(depth * kernel[0] * kernel[1] / (strides[0] * strides[1]))
    spread *= weight_size * _typical_distance(draw.inputs["x"], quant)
    options: dict[str, Any] = {
        "padding": padding,
        "stride_h": strides[0],
        "stride_w": strides[1],
    }
    operands: list[str | None] = [shape, w, x]
    if draw.chance(0.6):
        operands.append(_bias(draw, units, product_scales, spread, options))
    elif draw.chance(0.3):
        operands.append(None)
    output = _output_quant(draw, product_scales, spread)
    y = draw.output(output_shape, draw.dtype, output)
    activation = draw.activation(output, draw.dtype)
    draw.operator(operands, [y], fused_activation_function=activation, **options)
    return draw.case([y])


@generates("BATCH_MATMUL", dtypes=("int8", "int16", "float32"))
def batch_matmul(draw: Draw) -> Case:
    """BATCH_MATMUL with either operand adjoined, and batches that broadcast."""
    rows, depth, columns = (draw.pick([1, 2, 3, 5, 8, 17]) for _ in range(3))
    batches = [draw.pick([1, 2, 3]) for _ in range(draw.integer(0, 3))]
    adjoined = (draw.chance(0.3), draw.chance(0.3))
    shapes = []
    for pair, adjoin in zip(((rows, depth), (depth, columns)), adjoined, strict=True):
        leading = [1 if draw.chance(0.2) else size for size in batches]
        leading = leading[draw.integer(0, len(leading)) if draw.chance(0.2) else 0 :]
        shapes.append((*leading, *(pair[::-1] if adjoin else pair)))
    output_shape = (*np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2]), rows, columns)
    first, second = draw.quant(draw.dtype), draw.quant(draw.dtype)
    x1 = draw.input(shapes[0], draw.dtype, first, name="x1")
    values = draw.codes(shapes[1], draw.dtype, second.zero_point if second else 0)
    x2 = draw.operand(shapes[1], draw.dtype, second, name="x2", values=values)
    output = None
    if first and second:
        spread = np.sqrt(depth) * _typical_distance(draw.inputs["x1"], first)
        spread *= _typical_distance(values, second)
        output = _output_quant(draw, np.array([first.scale * second.scale]), spread)
    y = draw.output(output_shape, draw.dtype, output)
    draw.operator([x1, x2], [y], adj_x=adjoined[0], adj_y=adjoined[1])
    return draw.case([y])


@generates("EMBEDDING_LOOKUP", dtypes=_DTYPES)
def embedding_lookup(draw: Draw) -> Case:
    """EMBEDDING_LOOKUP of rows as they are, or dequantized, per tensor or per row."""
    rows, row = draw.size(12), draw.shape(1, 2, elements=200)
    count = draw.size(8)
    indices = draw.rng.integers(0, rows, (count,), dtype="int32")
    lookup = draw.input((count,), "int32", name="lookup", values=indices)
    quant = draw.quant("int8" if draw.dtype == "int4" else draw.dtype)
    dequantized = draw.dtype == "int4" or (draw.dtype in ("int8", "uint8") and draw.chance(0.5))
    if quant and dequantized:
        quant = Quant(quant.scale, 0)
    values = draw.codes((rows, *row), draw.dtype, quant.zero_point if quant else 0)
    scale: Any = quant.scale if quant else None
    if quant and dequantized and draw.chance(0.5):
        scale = [quant.scale * draw.pick([1.0, 0.5, 3.0]) for _ in range(rows)]
    zero_point = quant.zero_point if quant else 0
    table = draw.writer.constant(
        "table", values, dtype=draw.dtype, scale=scale, zero_point=zero_point
    )
    draw.note(table=f"{draw.dtype}{[rows, *row]}", scale=scale, zero_point=zero_point)
    shape = (count, *row)
    y = draw.output(shape, "float32") if dequantized else draw.output(shape, draw.dtype, quant)
    draw.operator([lookup, table], [y])
    return draw.case([y])
