"""Fully connected layer: the input's rows times the weights' rows (clause O-fully_connected).

Source: tflite/kernels/internal/reference/integer_ops/fully_connected.h, fully_connected.cc.
"""

from __future__ import annotations

import math
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
    reader,
    requantizer,
    weight_zero_points,
)
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run
from qinterp.ops._packed import identity, prepare_run

FULLY_CONNECTED = Operator(
    "fully_connected",
    ("input", "weights", "bias?"),
    {"activation": "none", "keep_num_dims": False},
)


@FULLY_CONNECTED.reads_tflite("FULLY_CONNECTED", "FullyConnectedOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a FULLY_CONNECTED."""
    weights_format = options.enum("weights_format")
    return {
        "activation": options.enum("fused_activation_function")
        if weights_format == "default"
        else f"none with weights format {weights_format}",
        "keep_num_dims": bool(options.keep_num_dims),
    }


@FULLY_CONNECTED.infers
def shapes(call: Call) -> list[Shape]:
    """Input of any rank, read as rows of the weights' length; weights (units, length)."""
    units, length = call.rank("weights", 2)
    shape = call["input"].shape
    size = math.prod(shape)
    call.check(
        length > 0 and size % length == 0,
        f"input {call['input'].describe()} does not divide into rows of {length}",
    )
    check_activation(call)
    bias = call.get("bias")
    if bias is not None:
        check_bias_shape(call, bias, units)
    if call.attributes["keep_num_dims"]:
        call.check(
            bool(shape) and shape[-1] == length,
            f"the last dimension of {call['input'].describe()} must be {length}",
        )
        return [(*shape[:-1], units)]
    return [(size // length, units)]


@FULLY_CONNECTED.recipe("accumulate", family=ANY_FAMILY)
def accumulate(call: Call) -> Run:
    """Sum of products in the policy's accumulator, then its requantization."""
    call.types(
        input=INTEGERS, weights=(*WEIGHTS, "int16"), bias=("int32", "int64"), output=INTEGERS
    )
    units, length = call["weights"].shape
    x_zero_point = call.per_tensor(call["input"])[1]
    weights = reader(call, "weights")
    w_zero_point = weight_zero_points(call, call["weights"], units)
    bias = bias_reader(call, units)
    accumulator = call.policy.accumulator.codes
    finish = requantizer(call, call["input"], call["weights"], units)

    def plain(values: Sequence[Any]) -> tuple[Array, bool]:
        rows = values[0].reshape(-1, length)
        return _kernels.matmul(
            rows, weights(values), bias(values), x_zero_point, w_zero_point, accumulator
        )

    def pack(**options: Any) -> _kernels.PackedMatmul:
        taps = options.pop("taps", None)
        return _kernels.PackedMatmul(
            call["input"].numpy_dtype, call.value("weights"), known_bias(call), x_zero_point,
            w_zero_point, order=taps, **options,
        )  # fmt: skip

    return prepare_run(
        call, finish, plain, pack, call["input"], ("weights", identity), w_zero_point,
        arrange=lambda x: x.reshape(-1, length),
    )  # fmt: skip


@FULLY_CONNECTED.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Products added one after the other in float32 (reference/fully_connected.h)."""
    call.types(input=("float32",), weights=("float32",), bias=("float32",), output=("float32",))
    length = call["weights"].shape[1]
    clamp = float_clamp(call)
    shape = call.output.shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x, w, *bias = values
        rows = _kernels.matmul_float32(x.reshape(-1, length), w, bias[0] if bias else None)
        return [clamp(rows).reshape(shape)]

    return run
