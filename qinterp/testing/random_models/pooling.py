"""Pooling and reductions."""

from __future__ import annotations

import numpy as np

from qinterp.testing.random_models.draw import LIMITS, Case, Draw, Quant, generates

_DTYPES = ("int8", "uint8", "int16", "float32")


@generates("AVERAGE_POOL_2D", "MAX_POOL_2D", dtypes=_DTYPES)
def pool_2d(draw: Draw) -> Case:
    """Average and maximum pooling; input and output share their parameters."""
    padding = draw.pick(["SAME", "VALID"])
    kernel = (draw.pick([1, 2, 3, 5, 7]), draw.pick([1, 2, 3, 5, 7]))
    strides = (draw.pick([1, 2, 3]), draw.pick([1, 2, 3]))
    least = kernel if padding == "VALID" else (1, 1)
    image = (least[0] + draw.size() - 1, least[1] + draw.size() - 1)
    covered = image if padding == "SAME" else (image[0] - kernel[0] + 1, image[1] - kernel[1] + 1)
    output_size = (-(-covered[0] // strides[0]), -(-covered[1] // strides[1]))
    batch, depth = draw.pick([1, 1, 2]), draw.channels()
    quant = draw.quant(draw.dtype)
    x = draw.input((batch, *image, depth), draw.dtype, quant)
    y = draw.output((batch, *output_size, depth), draw.dtype, quant)
    draw.operator(
        [x],
        [y],
        padding=padding,
        stride_h=strides[0],
        stride_w=strides[1],
        filter_height=kernel[0],
        filter_width=kernel[1],
        fused_activation_function=draw.activation(quant, draw.dtype),
    )
    return draw.case([y])


@generates("MEAN", "REDUCE_MAX", "REDUCE_MIN", dtypes=_DTYPES)
@generates("SUM", dtypes=("int8", "uint8", "float32"), beyond_reference=("int16",))
def reduction(draw: Draw) -> Case:
    """Reductions over any axes, written from either end; some output parameters are the input's."""
    shape = draw.shape(1, 4)
    rank = len(shape)
    axes = [axis for axis in range(rank) if draw.chance(0.5)] or [draw.integer(0, rank - 1)]
    if all(shape[axis] == 1 or axis in axes for axis in range(rank)) and draw.chance(0.8):
        axes = [draw.integer(0, rank - 1)]  # more than one result, if there can be
    if rank == 4 and draw.chance(0.3):  # the form with a kernel of its own
        axes = [1, 2]
    keep = draw.chance(0.5)
    output_shape = tuple(
        1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes
    )
    quant = draw.quant(draw.dtype)
    x = draw.input(shape, draw.dtype, quant)
    written: int | list[int] = [axis - rank if draw.chance(0.25) else axis for axis in axes]
    if len(axes) == 1 and draw.chance(0.3):
        written = axes[0]
    output_quant = quant
    if draw.kind == "MEAN" and draw.chance(0.7):
        output_quant = draw.near(quant, draw.dtype)
    elif draw.kind == "SUM" and quant:
        sums = np.sum(draw.inputs[x].astype(np.int64) - quant.zero_point, axis=tuple(axes))
        # Never a step below the input's, so that no sum is shifted out of 32 bits.
        fitting = max(float(np.abs(sums).max()) / LIMITS[draw.dtype][1], 1.0)
        steps = draw.pick([2.0 ** np.ceil(np.log2(fitting)), fitting, 2 * fitting, 1.0])
        zero_point = quant.zero_point if draw.chance(0.6) else draw.zero_point(draw.dtype)
        output_quant = Quant(draw.float32(quant.scale * steps), zero_point)
    y = draw.output(output_shape, draw.dtype, output_quant)
    draw.operator([x, draw.integers("axes", written)], [y], keep_dims=keep)
    return draw.case([y])


@generates("ARG_MAX", "ARG_MIN", dtypes=("int8", "uint8", "float32"))
def arg_extremum(draw: Draw) -> Case:
    """ARG_MAX and ARG_MIN along any axis, to int32 or int64."""
    shape = draw.shape(1, 4)
    axis = draw.integer(-len(shape), len(shape) - 1)
    output_shape = list(shape)
    output_shape.pop(axis)
    x = draw.input(shape, draw.dtype, draw.quant(draw.dtype))
    output_type = draw.pick(["int32", "int64"])
    y = draw.output(output_shape, output_type)
    draw.operator([x, draw.integers("axis", axis)], [y], output_type=output_type)
    return draw.case([y])
