"""Two-dimensional convolution (clause O-conv_2d).

Source: tflite/kernels/internal/reference/integer_ops/conv.h ConvPerChannel, conv.h Conv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from qinterp.ops._windows import window

CONV_2D = Operator(
    "conv_2d",
    ("input", "filter", "bias?"),
    {"strides": (1, 1), "dilations": (1, 1), "padding": "valid", "activation": "none", "groups": 1},
)


@CONV_2D.reads_tflite("CONV_2D", "Conv2DOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a CONV_2D; groups follow from the shapes."""
    return {
        "strides": (options.stride_h, options.stride_w),
        "dilations": (options.dilation_h_factor, options.dilation_w_factor),
        "padding": options.enum("padding"),
        "activation": options.enum("fused_activation_function"),
    }


@CONV_2D.infers
def shapes(call: Call) -> list[Shape]:
    """Input NHWC, filter OHWI with C / groups input channels, output NHWC."""
    n, h, w, c = call.rank("input", 4)
    oc, kh, kw, ic = call.rank("filter", 4)
    call.check(ic > 0 and c % ic == 0, f"{c} input channels do not divide into groups of {ic}")
    groups = c // ic
    call.check(oc % max(groups, 1) == 0, f"{oc} output channels do not divide into {groups} groups")
    check_activation(call)
    bias = call.get("bias")
    if bias is not None:
        check_bias_shape(call, bias, oc)
    attributes = call.attributes
    size, _ = window(call, (h, w), (kh, kw), attributes["strides"], attributes["dilations"])
    return [(n, *size, oc)]


@CONV_2D.recipe("accumulate", family=ANY_FAMILY)
def accumulate(call: Call) -> Run:
    """Sum of products in the policy's accumulator, then its requantization."""
    call.types(input=INTEGERS, filter=WEIGHTS, bias=("int32", "int64"), output=INTEGERS)
    oc, kh, kw, ic = call["filter"].shape
    x_zero_point = call.per_tensor(call["input"])[1]
    weights = reader(call, "filter")
    w_zero_point = weight_zero_points(call, call["filter"], oc)
    bias = bias_reader(call, oc)
    groups, strides, dilations, padding, size = _geometry(call)
    accumulator = call.policy.accumulator.codes
    taps = order_taps(call.policy, (kh, kw), ic)
    finish = requantizer(call, call["input"], call["filter"], oc)

    def plain(values: Sequence[Any]) -> tuple[Array, bool]:
        return _kernels.conv_2d(
            values[0], weights(values), bias(values), x_zero_point, w_zero_point,
            strides, dilations, padding, size, groups, accumulator, taps,
        )  # fmt: skip

    def pack(**options: Any) -> _kernels.PackedConv:
        _, h, w, c = call["input"].shape
        return _kernels.PackedConv(
            (h, w, c), call["input"].numpy_dtype, call.value("filter"), known_bias(call),
            x_zero_point, w_zero_point, strides, dilations, padding, size, groups, **options,
        )  # fmt: skip

    rows = ("filter", lambda w: w.reshape(oc, -1))
    return prepare_run(call, finish, plain, pack, call["input"], rows, w_zero_point, taps=taps)


@CONV_2D.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Products added one after the other in float32, bias last (reference/conv.h)."""
    call.types(input=("float32",), filter=("float32",), bias=("float32",), output=("float32",))
    groups, strides, dilations, padding, size = _geometry(call)
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x, w, *bias = values
        acc = _kernels.conv_2d_float32(
            x, w, bias[0] if bias else None, strides, dilations, padding, size, groups
        )
        return [clamp(acc)]

    return run


def _geometry(call: Call) -> tuple[int, tuple[int, int], tuple[int, int], Any, Any]:
    _, h, w, c = call["input"].shape
    _, kh, kw, ic = call["filter"].shape
    strides, dilations = call.attributes["strides"], call.attributes["dilations"]
    size, padding = window(call, (h, w), (kh, kw), strides, dilations)
    return c // ic, strides, dilations, padding, size
