"""Operators of one operand: activations, requantization and normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinterp.testing.random_models.draw import LIMITS, QUANTIZED, Case, Draw, Quant, generates

_DTYPES = ("int8", "uint8", "int16", "float32")


@generates("QUANTIZE", dtypes=QUANTIZED)
def quantize(draw: Draw) -> Case:
    """QUANTIZE to `dtype`, from float32 with exact ties, or from another quantized type."""
    shape = draw.shape(0, 4)
    quant = draw.quant(draw.dtype)
    assert quant is not None
    sources = {
        "int8": ["int8", "uint8", "int16"],
        "uint8": ["int8", "uint8"],
        "int16": ["int16"],
    }
    source = draw.pick(["float32", "float32", *sources[draw.dtype]])
    if source == "float32":
        low, high = LIMITS[draw.dtype]
        steps = draw.rng.integers(2 * low - 8, 2 * high + 8, shape, endpoint=True) / 2
        if draw.chance(0.5):
            steps = steps + draw.rng.normal(0, 0.3, shape)
        values = np.asarray((steps - quant.zero_point) * quant.scale, np.float32)
        x = draw.input(shape, source, values=values)
    else:
        x = draw.input(shape, source, draw.near(quant, source))
    y = draw.output(shape, draw.dtype, quant)
    draw.operator([x], [y])
    return draw.case([y])


@generates("DEQUANTIZE", dtypes=QUANTIZED)
def dequantize(draw: Draw) -> Case:
    """DEQUANTIZE of `dtype` to float32."""
    shape = draw.shape(0, 4)
    x = draw.input(shape, draw.dtype, draw.quant(draw.dtype))
    y = draw.output(shape, "float32")
    draw.operator([x], [y])
    return draw.case([y])


def _unary(draw: Draw, output: Quant | None, input_quant: Quant | None, **options: Any) -> Case:
    shape = draw.shape(1, 4)
    x = draw.input(shape, draw.dtype, input_quant)
    y = draw.output(shape, draw.dtype, output)
    draw.operator([x], [y], **options)
    return draw.case([y])


@generates("RELU", "RELU6", dtypes=_DTYPES)
@generates("RELU_N1_TO_1", "RELU_0_TO_1", dtypes=("int8", "uint8", "float32"))
@generates("ABS", dtypes=("int8", "int16", "float32"))
def rescaling(draw: Draw) -> Case:
    """Piecewise linear operators that requantize; some outputs have the input's parameters."""
    quant = draw.quant(draw.dtype)
    output = quant if draw.chance(0.3) else draw.near(quant, draw.dtype)
    return _unary(draw, output, quant)


@generates("LEAKY_RELU", dtypes=_DTYPES)
def leaky_relu(draw: Draw) -> Case:
    """LEAKY_RELU, also with slopes that are negative, zero and above one."""
    quant = draw.quant(draw.dtype)
    alpha = draw.pick([0.01, 0.1, 0.2, 0.5, 0.25, 0.0, -0.5, 1.5, draw.log_uniform(1e-3, 1.0)])
    return _unary(draw, draw.near(quant, draw.dtype), quant, alpha=alpha)


@generates("PRELU", dtypes=_DTYPES)
def prelu(draw: Draw) -> Case:
    """PRELU with a slope per element, per channel or one for all; int8 slopes for int16."""
    shape = draw.shape(2, 4)
    quant = draw.quant(draw.dtype)
    slope_shape = draw.pick([shape[1:], (*(1 for _ in shape[2:]), shape[-1]), shape, (1,)])
    slope_type = "int8" if draw.dtype == "int16" else draw.dtype
    slope = draw.quant(slope_type)
    if slope and (draw.chance(0.7) or slope.scale > 1.0):  # slopes of the order of one
        slope = Quant(draw.float32(draw.pick([1 / 128, 1 / 64, 0.005])), slope.zero_point)
    if slope and draw.dtype == "int16":
        slope = Quant(slope.scale, 0)
    x = draw.input(shape, draw.dtype, quant)
    zero_point = slope.zero_point if slope else 0
    codes = draw.codes(slope_shape, slope_type, zero_point)
    alpha = draw.writer.constant(
        "alpha", codes, scale=slope.scale if slope else None, zero_point=zero_point
    )
    draw.note(alpha=f"{slope_type}{list(slope_shape)}{slope or ''}")
    y = draw.output(shape, draw.dtype, draw.near(quant, draw.dtype))
    draw.operator([x, alpha], [y])
    return draw.case([y])


def _argument_quant(draw: Draw, size: float) -> Quant | None:
    """Return input parameters that spread most arguments of a curve over +-`size`."""
    if draw.dtype not in QUANTIZED:
        return None
    if draw.dtype != "int16" and draw.chance(0.2):  # int16 arguments must fit a shift in 32 bits
        return draw.quant(draw.dtype)
    steps = 32768.0 if draw.dtype == "int16" else 128.0
    ratio = draw.pick([1.0, 0.5, 2.0, draw.log_uniform(0.1, 3.0)])
    return Quant(draw.float32(size / steps * ratio), draw.zero_point(draw.dtype))


# The output parameters that LiteRT demands where the range of the results is known.
_FIXED_OUTPUT = {
    ("LOGISTIC", "int8"): Quant(1 / 256, -128),
    ("LOGISTIC", "uint8"): Quant(1 / 256, 0),
    ("LOGISTIC", "int16"): Quant(1 / 32768, 0),
    ("TANH", "int8"): Quant(1 / 128, 0),
    ("TANH", "uint8"): Quant(1 / 128, 128),
    ("TANH", "int16"): Quant(1 / 32768, 0),
    ("SOFTMAX", "int8"): Quant(1 / 256, -128),
    ("SOFTMAX", "uint8"): Quant(1 / 256, 0),
    ("SOFTMAX", "int16"): Quant(1 / 32768, 0),
    ("LOG_SOFTMAX", "int8"): Quant(16 / 256, 127),
    ("LOG_SOFTMAX", "uint8"): Quant(16 / 256, 255),
    ("L2_NORMALIZATION", "int8"): Quant(1 / 128, 0),
    ("L2_NORMALIZATION", "uint8"): Quant(1 / 128, 128),
}


@generates("LOGISTIC", "TANH", dtypes=_DTYPES)
def sigmoid(draw: Draw) -> Case:
    """LOGISTIC and TANH; int16 inputs often have the scales 2**-12, 2**-11 of the LSTM cells."""
    quant = _argument_quant(draw, 8.0)
    if draw.dtype == "int16" and draw.chance(0.4):
        quant = Quant(2.0 ** draw.pick([-12, -12, -11, -13, -10]), 0)
    output = _FIXED_OUTPUT.get((draw.kind, draw.dtype))
    if output and draw.kind == "TANH" and draw.dtype != "int16" and draw.chance(0.3):
        output = draw.near(output, draw.dtype)
    return _unary(draw, output, quant)


@generates("ELU", dtypes=(), beyond_reference=("int8", "float32"))
@generates("GELU", dtypes=_DTYPES)
@generates("HARD_SWISH", dtypes=("int8", "uint8", "float32"))
def smooth_rectifier(draw: Draw) -> Case:
    """Rectifiers with a curve."""
    quant = _argument_quant(draw, 6.0)
    output = draw.near(quant, draw.dtype)
    options = {"approximate": draw.chance(0.5)} if draw.kind == "GELU" else {}
    return _unary(draw, output, quant, **options)


@generates("EXP", dtypes=("int8", "int16", "float32"))
def exp(draw: Draw) -> Case:
    """EXP."""
    quant = _argument_quant(draw, 4.0)
    output = None
    if quant:
        steps = 32768.0 if draw.dtype == "int16" else 128.0
        top = draw.log_uniform(0.5, 60.0)
        output = Quant(draw.float32(top / steps), draw.zero_point(draw.dtype))
    return _unary(draw, output, quant)


@generates("RSQRT", dtypes=("int8", "int16", "float32"))
def rsqrt(draw: Draw) -> Case:
    """RSQRT. LiteRT refuses arguments below zero, so none is."""
    shape = draw.shape(1, 4)
    if draw.dtype == "float32":
        x = draw.input(shape, draw.dtype, values=np.abs(draw.floats(shape)) + np.float32(1e-3))
        y = draw.output(shape, draw.dtype)
    else:
        low, high = LIMITS[draw.dtype]
        zero_point = draw.pick([low, low, draw.integer(low, 0)]) if draw.dtype == "int8" else 0
        quant = Quant(draw.scale(), zero_point)
        codes = np.maximum(draw.codes(shape, draw.dtype, zero_point), zero_point)
        x = draw.input(shape, draw.dtype, quant, values=codes.astype(draw.dtype))
        top = 1.0 / np.sqrt(quant.scale * draw.pick([1, 4, 30]))
        output = Quant(draw.float32(top / high), draw.zero_point(draw.dtype))
        y = draw.output(shape, draw.dtype, output)
    draw.operator([x], [y])
    return draw.case([y])


@generates("NEG", dtypes=("int8", "int16", "float32"))
@generates("SQUARE", dtypes=("float32",))
def plain(draw: Draw) -> Case:
    """Operators that ignore the parameters: LiteRT negates the stored codes."""
    quant = draw.quant(draw.dtype)
    return _unary(draw, quant, quant)


@generates("SOFTMAX", dtypes=_DTYPES)
def softmax(draw: Draw) -> Case:
    """SOFTMAX over the last axis; int8 also to int16."""
    shape = draw.shape(1, 4)
    output_type = "int16" if draw.dtype == "int8" and draw.chance(0.2) else draw.dtype
    x = draw.input(shape, draw.dtype, _argument_quant(draw, 8.0))
    grid = _FIXED_OUTPUT.get(("SOFTMAX", output_type))
    if draw.dtype == "int8" and output_type == "int16" and draw.chance(0.5):
        grid = Quant(1 / 65536, -32768)
    y = draw.output(shape, output_type, grid)
    draw.operator([x], [y], beta=draw.pick([1.0, 1.0, 1.0, 0.5, 2.0, draw.log_uniform(0.01, 30.0)]))
    return draw.case([y])


@generates("LOG_SOFTMAX", "L2_NORMALIZATION", dtypes=("int8", "uint8", "float32"))
def normalization(draw: Draw) -> Case:
    """Operators over the last axis with a fixed output range."""
    return _unary(draw, _FIXED_OUTPUT.get((draw.kind, draw.dtype)), _argument_quant(draw, 8.0))
