"""Elementwise operators of two operands, comparisons and selections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qinterp.testing.random_models.draw import (
    LIMITS,
    QUANTIZED,
    Case,
    Draw,
    Quant,
    generates,
)

_DTYPES = ("int8", "uint8", "int16", "float32")

Shape = tuple[int, ...]


def broadcast_shapes(draw: Draw, high_rank: int = 4) -> tuple[Shape, Shape, Shape]:
    """Return two operand shapes and the shape they broadcast to."""
    shape = draw.shape(1, high_rank)
    if draw.chance(0.45):
        return shape, shape, shape
    second = [1 if draw.chance(0.5) else size for size in shape]
    first = list(shape)
    if draw.chance(0.3):  # the first broadcasts too, where the second does not
        first = [
            1 if size == other and draw.chance(0.5) else size
            for size, other in zip(shape, second, strict=True)
        ]
    second = second[draw.integer(0, len(second) - 1) :]
    result = tuple(np.broadcast_shapes(tuple(first), tuple(second)))
    if draw.chance(0.5):
        return tuple(first), tuple(second), result
    return tuple(second), tuple(first), result


def _two_operands(
    draw: Draw,
    shapes: tuple[Shape, Shape, Shape],
    first: Quant | None,
    second: Quant | None,
    second_values: NDArray[Any] | None = None,
) -> list[str]:
    x1 = draw.input(shapes[0], draw.dtype, first, name="x1")
    x2 = draw.operand(shapes[1], draw.dtype, second, name="x2", values=second_values)
    return [x1, x2]


@generates("ADD", "SUB", dtypes=_DTYPES)
def add(draw: Draw) -> Case:
    """ADD and SUB, broadcasting; int16 also on the path that power-of-two scales have."""
    shapes = broadcast_shapes(draw)
    options = {}
    first, second, output = draw.quant(draw.dtype), draw.quant(draw.dtype), None
    if first and second:
        near = draw.near(first, draw.dtype)
        if near and draw.chance(0.6):
            second = near
        larger = max(first.scale, second.scale)
        # LiteRT aborts unless 2 * larger / (2**20 * output scale) is below one (2**15 for int16).
        ratio = draw.pick([1.0, 2.0, 0.5, 4.0, draw.log_uniform(0.05, 100.0)])
        output = Quant(draw.float32(larger * ratio), draw.zero_point(draw.dtype))
    if draw.dtype == "int16":
        options["pot_scale_int16"] = draw.chance(0.5)
        if options["pot_scale_int16"]:
            first, second, output = _power_of_two_scales(draw)
            if draw.kind == "ADD":  # LiteRT's ADD aborts on this path if it has to broadcast
                shapes = (shapes[2],) * 3
    operands = _two_operands(draw, shapes, first, second)
    y = draw.output(shapes[2], draw.dtype, output)
    activation = draw.activation(output, draw.dtype)
    draw.operator(operands, [y], fused_activation_function=activation, **options)
    return draw.case([y])


def _power_of_two_scales(draw: Draw) -> tuple[Quant, Quant, Quant]:
    """Return the scales that the power-of-two path takes: the output's, and at most one finer."""
    output = -draw.integer(5, 18)
    pair = [output, output - draw.pick([0, 1, 1, 2, 3, 8, 14, 15])]
    if draw.chance(0.5):
        pair.reverse()
    # LiteRT's test of a power of two has a tolerance of 0.001 in the exponent.
    first, second, third = (
        draw.float32(2.0 ** (exponent + (5e-4 if draw.chance(0.05) else 0.0)))
        for exponent in (*pair, output)
    )
    return Quant(first, 0), Quant(second, 0), Quant(third, 0)


@generates("MUL", dtypes=_DTYPES)
def mul(draw: Draw) -> Case:
    """MUL, broadcasting."""
    shapes = broadcast_shapes(draw)
    first, second, output = draw.quant(draw.dtype), draw.quant(draw.dtype), None
    if first and second:
        scale = first.scale * second.scale
        if draw.dtype == "int16":  # below one: a product has no bit to spare for a shift
            scale = draw.float32(scale * draw.pick([2.0**15, 2.0**17, 2.0**11, 3e4, 1e6]))
        else:
            scale = draw.output_scale(scale, 5000.0)
        output = Quant(scale, draw.zero_point(draw.dtype))
    operands = _two_operands(draw, shapes, first, second)
    y = draw.output(shapes[2], draw.dtype, output)
    activation = draw.activation(output, draw.dtype)
    draw.operator(operands, [y], fused_activation_function=activation)
    return draw.case([y])


@generates("DIV", dtypes=_DTYPES)
def div(draw: Draw) -> Case:
    """DIV, broadcasting. No divisor is zero: the kernels divide by it without a check."""
    shapes = broadcast_shapes(draw)
    first, second, output = draw.quant(draw.dtype), draw.quant(draw.dtype), None
    if first and second:
        ratio = draw.pick([0.01, 0.1, 1.0, 1 / 64, 1 / 16, draw.log_uniform(1e-3, 10.0)])
        output = Quant(
            draw.float32(first.scale / second.scale * ratio), draw.zero_point(draw.dtype)
        )
    zero = second.zero_point if second else 0
    divisor = draw.codes(shapes[1], draw.dtype, zero)
    divisor[divisor == zero] = zero - 1 if zero == LIMITS.get(draw.dtype, (0, 0))[1] else zero + 1
    operands = _two_operands(draw, shapes, first, second, divisor)
    y = draw.output(shapes[2], draw.dtype, output)
    activation = draw.activation(output, draw.dtype)
    draw.operator(operands, [y], fused_activation_function=activation)
    return draw.case([y])


@generates("SQUARED_DIFFERENCE", dtypes=("int8", "float32"), beyond_reference=("int16",))
def squared_difference(draw: Draw) -> Case:
    """SQUARED_DIFFERENCE, broadcasting."""
    shapes = broadcast_shapes(draw)
    first, second, output = draw.quant(draw.dtype), draw.quant(draw.dtype), None
    if first and second:
        near = draw.near(first, draw.dtype)
        if near and draw.chance(0.7):
            second = near
        larger = max(first.scale, second.scale)
        # LiteRT aborts unless (2 * larger)**2 / (2**14 * output scale) is below one.
        steps = draw.pick([64.0, 128.0, 1.0, 0.01, draw.log_uniform(0.001, 1000.0)])
        steps *= draw.pick([1024, 1024, 2]) if draw.dtype == "int16" else 1
        output = Quant(draw.float32(larger**2 * steps), draw.zero_point(draw.dtype))
    operands = _two_operands(draw, shapes, first, second)
    y = draw.output(shapes[2], draw.dtype, output)
    draw.operator(operands, [y])
    return draw.case([y])


@generates("MAXIMUM", "MINIMUM", dtypes=(*_DTYPES, "int32"))
def extremum(draw: Draw) -> Case:
    """MAXIMUM and MINIMUM, broadcasting; all parameters are the same."""
    shapes = broadcast_shapes(draw)
    quant = draw.quant(draw.dtype)
    operands = _two_operands(draw, shapes, quant, quant)
    y = draw.output(shapes[2], draw.dtype, quant)
    draw.operator(operands, [y])
    return draw.case([y])


@generates(
    "EQUAL",
    "NOT_EQUAL",
    "GREATER",
    "GREATER_EQUAL",
    "LESS",
    "LESS_EQUAL",
    dtypes=("int8", "uint8", "int16", "int32", "float32"),
)
def comparison(draw: Draw) -> Case:
    """Comparisons, broadcasting, of operands with equal or different parameters."""
    shapes = broadcast_shapes(draw)
    first = draw.quant(draw.dtype)
    if first and first.scale >= 1.0:  # LiteRT aborts on scales that are not below one
        first = Quant(draw.float32(1.0 / (1.0 + first.scale)), first.zero_point)
    second = first if draw.chance(0.4) else draw.near(first, draw.dtype)
    if second and second.scale >= 1.0:
        second = first
    first_values = draw.codes(shapes[0], draw.dtype, first.zero_point if first else 0)
    second_values = draw.codes(shapes[1], draw.dtype, second.zero_point if second else 0)
    # A third of the pairs is equal, wherever the shapes let them be.
    whole = np.broadcast_to(first_values, shapes[2])
    corner = tuple(slice(0, n) for n in (1,) * (whole.ndim - len(shapes[1])) + shapes[1])
    equal = draw.rng.random(shapes[1]) < 0.33
    second_values = np.where(equal, whole[corner].reshape(shapes[1]), second_values)
    x1 = draw.input(shapes[0], draw.dtype, first, name="x1", values=first_values)
    x2 = draw.operand(shapes[1], draw.dtype, second, name="x2", values=second_values)
    operands = [x1, x2]
    y = draw.output(shapes[2], "bool")
    draw.operator(operands, [y])
    return draw.case([y])


@generates("SELECT", "SELECT_V2", dtypes=(*_DTYPES, "int32"))
def select(draw: Draw) -> Case:
    """SELECT with a condition of the operands' shape, of rank one or a scalar; V2 broadcasts."""
    if draw.kind == "SELECT":
        shape = draw.shape(1, 4)
        condition = draw.pick([shape, shape, (shape[0],), ()])
        shapes: tuple[Shape, Shape, Shape] = (shape, shape, shape)
    else:
        shapes = broadcast_shapes(draw)
        condition = shapes[2] if draw.chance(0.5) else shapes[0]
    quant = draw.quant(draw.dtype)
    chosen = draw.input(condition, "bool", name="condition")
    operands = _two_operands(draw, shapes, quant, quant)
    y = draw.output(shapes[2], draw.dtype, quant)
    draw.operator([chosen, *operands], [y])
    return draw.case([y])


@generates("CAST", dtypes=(*_DTYPES, "int32"))
def cast(draw: Draw) -> Case:
    """CAST from `dtype`, unquantized. Floats stay in the target's range: beyond it is undefined."""
    shape = draw.shape(0, 4)
    target = draw.pick([t for t in (*QUANTIZED, "int32", "float32", "bool") if t != draw.dtype])
    values = None
    if draw.dtype == "float32" and target != "bool":
        low, high = LIMITS[target]
        reach = min(-low, high, 30000) or high
        values = draw.rng.uniform(max(low, -reach), reach, shape).astype(np.float32)
    x = draw.input(shape, draw.dtype, values=values)
    y = draw.output(shape, target)
    draw.operator([x], [y], in_data_type=draw.dtype, out_data_type=target)
    return draw.case([y])
