"""Convolution of every channel by itself (clause O-depthwise_conv_2d).

Source: tflite/kernels/depthwise_conv.cc; tflite/kernels/internal/reference/integer_ops/
depthwise_conv.h DepthwiseConvPerChannel, depthwiseconv_uint8.h, depthwiseconv_float.h.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._accumulate import (
    INTEGERS,
    WEIGHTS,
    bias_reader,
    check_activation,
    check_bias_shape,
    float_clamp,
    known_bias,
    order_taps,
    reader,
    requantizer,
    weight_zero_points,
)
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run
from qinterp.ops._packed import prepare_run
from qinterp.ops._windows import Pair, window

DEPTHWISE_CONV_2D = Operator(
    "depthwise_conv_2d",
    ("input", "filter", "bias?"),
    {"strides": (1, 1), "dilations": (1, 1), "padding": "valid", "activation": "none"},
)


@DEPTHWISE_CONV_2D.reads_tflite("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a DEPTHWISE_CONV_2D; the depth multiplier follows from the shapes."""
    return {
        "strides": (options.stride_h, options.stride_w),
        "dilations": (options.dilation_h_factor, options.dilation_w_factor),
        "padding": options.enum("padding"),
        "activation": options.enum("fused_activation_function"),
    }


@DEPTHWISE_CONV_2D.infers
def shapes(call: Call) -> list[Shape]:
    """Input NHWC, filter (1, H, W, C * multiplier), output NHWC."""
    n, h, w, c = call.rank("input", 4)
    one, kh, kw, oc = call.rank("filter", 4)
    call.check(one == 1, f"{call['filter'].describe()} must start with a dimension of 1")
    call.check(
        c > 0 and oc > 0 and oc % c == 0, f"{oc} output channels are no multiple of {c} inputs"
    )
    check_activation(call)
    bias = call.get("bias")
    if bias is not None:
        check_bias_shape(call, bias, oc)
    attributes = call.attributes
    size, _ = window(call, (h, w), (kh, kw), attributes["strides"], attributes["dilations"])
    return [(n, *size, oc)]


@DEPTHWISE_CONV_2D.recipe("accumulate", family=ANY_FAMILY)
def accumulate(call: Call) -> Run:
    """Sum of products in the policy's accumulator, then its requantization."""
    call.types(input=INTEGERS, filter=WEIGHTS, bias=("int32", "int64"), output=INTEGERS)
    _, kh, kw, oc = call["filter"].shape
    x_zero_point = call.per_tensor(call["input"])[1]
    weights = reader(call, "filter", lambda w: w.reshape(kh, kw, oc))
    w_zero_point = weight_zero_points(call, call["filter"], oc)
    bias = bias_reader(call, oc)
    strides, dilations, size, padding = _geometry(call)
    accumulator = call.policy.accumulator.codes
    taps = order_taps(call.policy, (kh, kw), 1)
    finish = requantizer(call, call["input"], call["filter"], oc)

    def plain(values: Sequence[Any]) -> tuple[Array, bool]:
        return _kernels.depthwise_conv_2d(
            values[0], weights(values), bias(values), x_zero_point, w_zero_point,
            strides, dilations, padding, size, accumulator, taps,
        )  # fmt: skip

    def pack(**options: Any) -> _kernels.PackedDepthwise | _kernels.PackedConv:
        _, h, w, c = call["input"].shape
        codes = call.value("filter").reshape(kh, kw, oc)
        operands = (known_bias(call), x_zero_point, w_zero_point)
        dtype = call["input"].numpy_dtype
        if "wide" not in options:
            with contextlib.suppress(ValueError):
                return _kernels.PackedDepthwise(
                    (h, w, c), dtype, codes, *operands, strides, dilations, padding, size, **options
                )
        grouped = np.ascontiguousarray(codes.transpose(2, 0, 1)[..., None])
        return _kernels.PackedConv(
            (h, w, c), dtype, grouped, *operands, strides, dilations, padding, size, c, **options
        )

    rows = ("filter", lambda w: w.reshape(-1, oc).T)
    return prepare_run(call, finish, plain, pack, call["input"], rows, w_zero_point, taps=taps)


@DEPTHWISE_CONV_2D.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Products added one after the other in float32, bias last."""
    call.types(input=("float32",), filter=("float32",), bias=("float32",), output=("float32",))
    strides, dilations, size, padding = _geometry(call)
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x, w, *bias = values
        acc = _kernels.depthwise_conv_2d_float32(
            x, w.reshape(w.shape[1:]), bias[0] if bias else None, strides, dilations, padding, size
        )
        return [clamp(acc)]

    return run


def _geometry(call: Call) -> tuple[Pair, Pair, Pair, Pair]:
    _, h, w, _ = call["input"].shape
    _, kh, kw, _ = call["filter"].shape
    strides, dilations = call.attributes["strides"], call.attributes["dilations"]
    size, padding = window(call, (h, w), (kh, kw), strides, dilations)
    return strides, dilations, size, padding
