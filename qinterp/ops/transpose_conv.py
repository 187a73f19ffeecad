"""Transposed convolution: every input element spread over a window (clause O-transpose_conv).

Source: tflite/kernels/transpose_conv.cc; tflite/kernels/internal/reference/transpose_conv.h,
integer_ops/transpose_conv.h TransposeConv.
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
    order_taps,
    reader,
    requantizer,
    weight_zero_points,
)
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run
from qinterp.ops._windows import Pair, window

TRANSPOSE_CONV = Operator(
    "transpose_conv",
    ("output_shape", "filter", "input", "bias?"),
    {"strides": (1, 1), "dilations": (1, 1), "padding": "valid", "activation": "none"},
)


@TRANSPOSE_CONV.reads_tflite("TRANSPOSE_CONV", "TransposeConvOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a TRANSPOSE_CONV."""
    return {
        "strides": (options.stride_h, options.stride_w),
        "padding": options.enum("padding"),
        "activation": options.enum("fused_activation_function"),
    }


@TRANSPOSE_CONV.infers
def shapes(call: Call) -> list[Shape]:
    """Input NHWC, filter OHWI; the convolution it transposes goes from the output to the input."""
    n, h, w, c = call.rank("input", 4)
    oc, kh, kw, ic = call.rank("filter", 4)
    call.check(ic > 0 and c % ic == 0, f"{c} input channels do not divide into groups of {ic}")
    groups = c // ic
    call.check(oc % max(groups, 1) == 0, f"{oc} output channels do not divide into {groups} groups")
    check_activation(call)
    bias = call.get("bias")
    if bias is not None:
        check_bias_shape(call, bias, oc)
    shape = tuple(call.integers("output_shape"))
    call.check(
        len(shape) == 4 and shape[0] == n and shape[3] == oc and min(shape) >= 0,
        f"output shape {list(shape)} must be [{n}, height, width, {oc}]",
    )
    strides, dilations = call.attributes["strides"], call.attributes["dilations"]
    size, _ = window(call, (shape[1], shape[2]), (kh, kw), strides, dilations)
    call.check(
        size == (h, w),
        f"a convolution of the output {list(shape)} gives {list(size)}, the input is {[h, w]}",
    )
    return [shape]


@TRANSPOSE_CONV.recipe("accumulate", family=ANY_FAMILY)
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

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc = _kernels.transpose_conv_2d(
            values[2], weights(values), bias(values), x_zero_point, w_zero_point,
            strides, dilations, padding, size, groups, accumulator, taps,
        )  # fmt: skip
        return [finish(acc, notes)]

    return run


@TRANSPOSE_CONV.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Products added in the order of the input's elements in float32, bias last."""
    call.types(input=("float32",), filter=("float32",), bias=("float32",), output=("float32",))
    groups, strides, dilations, padding, size = _geometry(call)
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        _, w, x, *bias = values
        acc = _kernels.transpose_conv_2d_float32(
            x, w, bias[0] if bias else None, strides, dilations, padding, size, groups
        )
        return [clamp(acc)]

    return run


def _geometry(call: Call) -> tuple[int, Pair, Pair, Pair, Pair]:
    _, oh, ow, _ = call.output.shape
    _, kh, kw, ic = call["filter"].shape
    strides, dilations = call.attributes["strides"], call.attributes["dilations"]
    _, padding = window(call, (oh, ow), (kh, kw), strides, dilations)
    return call["input"].shape[3] // ic, strides, dilations, padding, (oh, ow)
