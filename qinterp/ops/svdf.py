"""A fully connected layer over time, of low rank, with its state (clause O-svdf).

Source: tflite/kernels/svdf.cc Prepare; tflite/kernels/internal/reference/svdf.h EvalIntegerSVDF,
EvalFloatSVDF; for float32 also tflite/kernels/internal/optimized/neon_tensor_utils.cc, which x86
builds compile too, and tensorflow/lite/micro/kernels/svdf_common.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.errors import SchemeError
from qinterp.ir import Call, Tensor
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.ops._accumulate import accumulated, bias_reader, check_bias_shape
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run

SVDF = Operator(
    "svdf",
    ("input", "weights_feature", "weights_time", "bias?", "state"),
    {"rank": 1, "activation": "none"},
    state=("state",),
)


@SVDF.reads_tflite("SVDF", "SVDFOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of an SVDF."""
    return {
        "rank": options.rank,
        "activation": options.enum("fused_activation_function"),
    }


@SVDF.infers
def shapes(call: Call) -> list[Shape]:
    """Input (batch, size), weights (filters, size) and (filters, memory); output (batch, units)."""
    batch, size = call.rank("input", 2)
    filters, columns = call.rank("weights_feature", 2)
    rows, memory = call.rank("weights_time", 2)
    rank = call.attributes["rank"]
    call.check(columns == size, f"weights_feature must have {size} columns, has {columns}")
    call.check(rows == filters, f"weights_time must have {filters} rows, has {rows}")
    call.check(memory >= 1, "weights_time must have a column at least")
    call.check(rank >= 1 and filters % rank == 0, f"{filters} filters are not of rank {rank}")
    state = call.rank("state", 2)
    call.check(
        state == (batch, memory * filters), f"state must have shape {[batch, memory * filters]}"
    )
    bias = call.get("bias")
    if bias is not None:
        check_bias_shape(call, bias, filters // rank)
    return [(batch, filters // rank)]


@dataclass(frozen=True)
class IntegerSums:
    """What kernels accept; none of them applies the activation.

    Attributes
    ----------
    states : types of the state, and of the time weights with it.
    activation : the only one that is accepted, or any.
    """

    states: Literal["int16", "int8_or_int16"] = "int16"
    activation: Literal["relu", "any"] = "relu"


@SVDF.recipe("accumulate", IntegerSums, family=ANY_FAMILY)
def accumulate(call: Call) -> Run:
    """``state <- features of the input``; ``out = r(sum of the time products + bias)``.

    Both sums are the policy's accumulator, step by step where it checks each step: a unit adds up
    its filters one after the other, each from the oldest state to the newest.
    """
    if call.policy.tail is not None:
        raise SchemeError(call.where("a tail has no meaning here: svdf has none"))
    if call.policy.bias is not None:
        raise SchemeError(call.where("bias has no meaning here: svdf does not rescale it"))
    params: IntegerSums = call.params
    call.types(
        input=("int8",), weights_feature=("int8",), bias=("int32",), output=("int8",),
        state=("int8", "int16") if params.states == "int8_or_int16" else ("int16",),
        weights_time=(call["state"].dtype,),
    )  # fmt: skip
    if params.activation == "relu" and call.attributes["activation"] != "relu":
        call.unsupported(f"activation must be relu, got {call.attributes['activation']!r}")
    if call.per_tensor(call["state"])[1]:
        call.unsupported(f"state {call['state'].describe()} must have the zero point 0")
    rank = call.attributes["rank"]
    batch, units = call.output.shape
    filters, memory = call["weights_time"].shape
    x_zero_point = call.per_tensor(call["input"])[1]
    features = call.value("weights_feature")
    times = np.ascontiguousarray(call.value("weights_time").reshape(units, 1, 1, rank * memory))
    bias = bias_reader(call, units)
    policy = call.policy.accumulator
    state_type = call["state"].numpy_dtype
    no_zero_point = np.zeros(filters, np.int64)
    to_state = _finish(call, "input", "weights_feature", call["state"])
    to_output = _finish(call, "state", "weights_time", call.output)
    no_zero_points = np.zeros(units, np.int64)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        dot, overflowed = _kernels.matmul(
            values[0], features, None, x_zero_point, no_zero_point, policy.codes
        )
        newest = to_state(dot, np.empty(dot.shape, state_type))
        old = values[4].reshape(batch, filters, memory)
        state = np.concatenate([old[:, :, 1:], newest[:, :, None]], axis=2)
        # a product of each unit with its own states: a convolution with as many groups
        pixels = np.ascontiguousarray(state).reshape(batch, 1, 1, filters * memory)
        one, none = (1, 1), (0, 0)
        total, beyond = _kernels.conv_2d(
            pixels, times, bias(values), 0, no_zero_points, one, one, none, one, units, policy.codes
        )
        acc = accumulated(call, (total.reshape(batch, units), overflowed or beyond), notes)
        out = to_output(acc, np.empty((batch, units), np.int8))
        return [out, np.ascontiguousarray(state).reshape(values[4].shape)]

    return run


@dataclass(frozen=True)
class FloatSums:
    """How float32 sums are made.

    Attributes
    ----------
    lanes : whole blocks of as many products are added lane by lane, then the lanes, then the rest.
    bias : the sum of a unit's filters starts from it, or it is added to that.
    """

    lanes: int = 4
    bias: Literal["first", "last"] = "last"

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ValueError(f"lanes must be at least 1, got {self.lanes}")


@SVDF.recipe("float32", FloatSums, floats=True)
def float32(call: Call) -> Run:
    """The same in float32."""
    floats = ("float32",)
    call.types(
        input=floats, weights_feature=floats, weights_time=floats, bias=floats, state=floats,
        output=floats,
    )  # fmt: skip
    rank = call.attributes["rank"]
    batch, units = call.output.shape
    filters, memory = call["weights_time"].shape
    if call.attributes["activation"] not in ("none", "relu"):
        call.unsupported(f"activation {call.attributes['activation']!r}")
    relu = call.attributes["activation"] == "relu"
    sums: FloatSums = call.params or FloatSums()  # none where the codes were dequantized
    lanes = sums.lanes

    @np.errstate(all="ignore")  # infinities are what they are, in silence
    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        x, features, times, bias, old = values
        newest = add_in_lanes(x[:, None, :], features, lanes)
        kept = old.reshape(batch, filters, memory)[:, :, 1:]
        state = np.concatenate([kept, newest[:, :, None]], axis=2)
        by_filter = add_in_lanes(times, state, lanes).reshape(batch, units, rank)
        if bias is not None and sums.bias == "first":
            total = np.broadcast_to(bias, (batch, units))
            for i in range(rank):
                total = total + by_filter[..., i]
        else:
            total = add_in_lanes(by_filter, np.float32(1), lanes)
            total = total if bias is None else total + bias
        out = np.maximum(total, np.float32(0)) if relu else total
        return [out, np.ascontiguousarray(state).reshape(old.shape)]

    return run


def add_in_lanes(a: Array, b: Any, count: int) -> Array:
    """Sums of ``a * b`` over the last axis: whole blocks in lanes, then the rest singly."""
    a, b = np.broadcast_arrays(a, b)
    whole = a.shape[-1] // count * count
    lanes = np.zeros((*a.shape[:-1], count), np.float32)
    for start in range(0, whole, count):
        lanes += a[..., start : start + count] * b[..., start : start + count]
    total: Array = lanes[..., 0]
    for lane in range(1, count):
        total = total + lanes[..., lane]
    for i in range(whole, a.shape[-1]):
        total = total + a[..., i] * b[..., i]
    return total


def _finish(call: Call, first: str, second: str, result: Tensor) -> Requantizer:
    """From products of two operands to codes of ``result``."""
    scale, zero_point = call.per_tensor(result)
    rescale = Rescale.of_scales(
        call.per_tensor(call[first])[0],
        call.per_tensor(call[second])[0],
        scale,
        call.policy.effective_scale,
        call.policy.multiplier,
    )
    kind = result.int_type
    return Requantizer(
        call.policy.requantize, rescale, zero_point=zero_point, bounds=(kind.min, kind.max)
    )
