"""What convolutions and matrix products share: bias, bounds, requantization, float clamps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.errors import SchemeError
from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.accumulators import Accumulator
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import ACTIVATIONS, EffectiveScale
from qinterp.numerics.stages import Stage
from qinterp.ops._operator import Notes
from qinterp.ops._tails import tail_mask

INTEGERS = ("int8", "uint8", "int16")
WEIGHTS = ("int8", "uint8", "int4")
_FLOAT32 = EffectiveScale(precision="float32")
EXACT_SUM: Any = Accumulator(bits=64, overflow="error", check="at_end").codes
"""For the kernels: a sum that stays exact."""


def check_activation(call: Call) -> None:
    """ModelFormatError unless the fused activation is one we know."""
    activation = call.attributes["activation"]
    if activation not in ACTIVATIONS:
        call.unsupported(f"fused activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")


def activation_bounds(call: Call) -> tuple[int, int]:
    """The codes between which the output is clamped (clause B1)."""
    output = call.output
    kind = output.int_type
    low, high = ACTIVATIONS[call.attributes.get("activation", "none")]
    scale, zero_point = call.per_tensor(output)
    bounds = call.policy.activation_bounds
    lo = kind.min if low is None else max(kind.min, bounds.code(low, scale, zero_point))
    hi = kind.max if high is None else min(kind.max, bounds.code(high, scale, zero_point))
    return lo, hi


def float_clamp(call: Call) -> Callable[[Array], Array]:
    """The fused activation of a float operator: ``min(max(x, low), high)``.

    A bound that is missing is the last finite number: infinities are clamped too
    (tflite/kernels/kernel_util.h CalculateActivationRange).
    """
    low, high = ACTIVATIONS[call.attributes.get("activation", "none")]
    finite = np.finfo(np.float32)
    bottom = finite.min if low is None else np.float32(low)
    top = finite.max if high is None else np.float32(high)

    def clamp(x: Array) -> Array:
        # as std::max and std::min: a zero keeps its sign, and NaN stays
        x = np.where(x < bottom, bottom, x)
        return np.where(x > top, top, x)

    return clamp


Reader = Callable[[Sequence[Any]], Any]
"""From the operand arrays of a run to the form of one of them that a kernel takes."""


def reader(call: Call, operand: str, form: Callable[[Array], Array] = lambda x: x) -> Reader:
    """``form`` of an operand: of a constant it is made once, of a computed one in every run."""
    constant = call.known(operand)
    if constant is not None:
        made = form(constant)
        return lambda values: made
    position = call.position(operand)
    return lambda values: form(values[position])


def bias_steps(call: Call) -> Callable[[Array], Array]:
    """From codes of the bias to steps of the accumulator, int64 (clause A9)."""
    spec, bias = call.policy.bias, call["bias"]

    def codes(values: Array) -> Array:
        return np.ascontiguousarray(values, np.int64).reshape(-1)

    if spec is None or bias.quantization is None:
        return codes
    weights = call["filter" if call.has("filter") else "weights"]
    step = np.float32(call.per_tensor(call["input"])[0]) * call.quantization(weights).scale
    scale = bias.quantization.scale
    near = np.abs(step - scale) / step < np.float32(spec.tolerance)
    rescale = Rescale.of_scales(
        np.where(near, step, scale), 1.0, step, _FLOAT32, call.policy.multiplier
    )
    to_steps = Requantizer(spec.stages, rescale)

    def steps(values: Array) -> Array:
        made = codes(values)
        return to_steps(made, np.empty_like(made))

    return steps


def known_bias(call: Call) -> Array | None:
    """A constant bias in steps of the accumulator.

    None where there is none, where it is computed, and where it is not added in the accumulator.
    """
    bias = call.known("bias")
    return None if bias is None or _added_later(call) else bias_steps(call)(bias)


def _added_later(call: Call) -> bool:
    spec = call.policy.bias
    return spec is not None and spec.sum != "accumulator"


def all_constant(call: Call, *operands: str) -> bool:
    """Whether the value of each operand that is there is known."""
    return all(call.get(name) is None or call.known(name) is not None for name in operands)


def bias_reader(call: Call, channels: int) -> Reader:
    """The bias in steps of the accumulator, None if none is added there."""
    tensor = call.get("bias")
    if tensor is None or _added_later(call):
        return lambda values: None
    check_bias_shape(call, tensor, channels)
    return reader(call, "bias", bias_steps(call))


def check_bias_shape(call: Call, bias: Tensor, channels: int) -> None:
    """ModelFormatError unless ``bias`` has one element a channel."""
    size = int(np.prod(bias.shape))
    call.check(size == channels, f"bias {bias.describe()} must have {channels} elements")


def weight_zero_points(call: Call, weights: Tensor, channels: int) -> npt.NDArray[np.int64]:
    """The weights' zero points, one a channel."""
    zero_point = call.quantization(weights).zero_point
    if call.policy.accumulator.weight_zero_point == "ignored":
        return np.zeros(channels, np.int64)
    call.check(
        zero_point.size in (1, channels),
        f"{weights.describe()} has {zero_point.size} zero points for {channels} channels",
    )
    return np.ascontiguousarray(np.broadcast_to(zero_point, channels), np.int64)


def requantizer(
    call: Call, first: Tensor, second: Tensor, channels: int, *, rows: bool = False
) -> Finish:
    """From accumulators of ``first * second`` to codes of the output.

    ``rows`` : the operands broadcast to the output, so that a tail may be counted along a row.
    """
    policy = call.policy
    if policy.tail is not None and policy.tail.along == "row" and not rows:
        raise SchemeError(
            call.where("tail.along must be 'channel' or 'flat' here: no rows of operands meet")
        )
    scale_a, _ = call.per_tensor(first)
    scale_b = call.quantization(second).scale
    scale_out, zero_point = call.per_tensor(call.output)
    call.check(
        scale_b.size in (1, channels),
        f"{second.describe()} has {scale_b.size} scales for {channels} channels",
    )
    rescale = Rescale.of_scales(
        scale_a, scale_b, scale_out, policy.effective_scale, policy.multiplier
    )
    bounds = activation_bounds(call)

    def make(stages: tuple[Stage, ...]) -> Requantizer:
        return Requantizer(stages, rescale, zero_point=zero_point, bounds=bounds)

    tail = make(policy.tail.requantize) if policy.tail else None
    bias = None
    if call.has("bias") and _added_later(call):
        if call.known("bias") is None:
            call.unsupported("a bias that is computed, and not added in the accumulator")
        bias = bias_steps(call)(call.value("bias")).astype(np.float32)
    return Finish(call, make(policy.requantize), tail, bias)


def accumulated(call: Call, accumulators: tuple[Array, bool], notes: Notes) -> Array:
    """The accumulators of a kernel, noted; OverflowError if the policy makes overflow one."""
    acc, overflowed = accumulators
    if overflowed:
        check_overflow(call)
    notes.add("accumulator", acc)
    return acc


def check_overflow(call: Call) -> None:
    """OverflowError if the policy makes an overflow, which has happened, one."""
    policy = call.policy.accumulator
    if policy.overflow == "error":
        raise OverflowError(f"the accumulator needs more than {policy.bits} bits")


class Finish:
    """Requantizes accumulators, by other stages in the tail where the policy has one.

    ``rescale`` is there for notes; ``bias`` is one that is added in float32.
    """

    def __init__(
        self,
        call: Call,
        body: Requantizer,
        tail: Requantizer | None,
        bias: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.call = call
        self.body = body
        self.tail = tail
        self.bias = bias
        self.dtype = call.output.numpy_dtype

    def __call__(self, accumulators: tuple[Array, bool], notes: Notes) -> Array:
        """Codes of accumulators (..., C) and their overflow flag."""
        if self.bias is not None:
            acc, overflowed = accumulators
            total = acc.astype(np.float32) + self.bias
            least = np.iinfo(acc.dtype).min
            # what the conversion of a processor gives where the type has no such number
            fits = (total >= least) & (total < -float(least))
            accumulators = np.where(fits, total, least).astype(acc.dtype), overflowed
        acc = accumulated(self.call, accumulators, notes)
        if notes.wanted:
            notes.add("multiplier", self.body.rescale.multiplier)
            notes.add("shift", self.body.rescale.shift)
        out = self.body(acc, np.empty(acc.shape, self.dtype))
        if self.tail is not None:
            self._finish_tail(acc, out, self.tail)
        return out

    def _finish_tail(self, acc: Array, out: Array, tail: Requantizer) -> None:
        where = tail_mask(self.call, self.call.policy.tail, acc.shape)
        if where is not None:
            other = tail(acc, np.empty(acc.shape, self.dtype))
            out[where] = other[where]


def order_taps(policy: Any, kernel: tuple[int, int], depth: int) -> Array | None:
    """The taps (kh, kw, ic) in the accumulator's order, None for the nested order."""
    order = policy.accumulator.order
    if order == ("kh", "kw", "ic"):
        return None
    sizes = {"kh": kernel[0], "kw": kernel[1], "ic": depth}
    grid = np.indices([sizes[name] for name in order], np.int32).reshape(3, -1)
    return np.ascontiguousarray(
        np.stack([grid[order.index(name)] for name in ("kh", "kw", "ic")], 1)
    )
