"""Operands rescaled to a common scale: sums, differences, comparisons (clause O-add).

Source: tflite/kernels/add.cc, sub.cc, comparisons.cc (Prepare and PrepareGeneralSubOp);
tflite/kernels/internal/reference/add.h, sub.h, comparisons.h; tflite/kernels/internal/common.h
MultiplyByQuantizedMultiplierSmallerThanOneExp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import (
    AddZeroPoint,
    Clamp,
    MultiplyHigh,
    ShiftLeft,
    ShiftRight,
    Stage,
    uses,
)
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._binary import Into, codes_by_pattern, combined, one_type, pairwise
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tails import with_tail

BELOW_ONE: tuple[Stage, ...] = (MultiplyHigh("ties_toward_positive"), ShiftRight("ties_to_away"))
AboveOne = Literal["refused", "sign"]

_WRAP = OVERFLOW_CODE["wrap"]
_BITS = {"int8": 8, "uint8": 8, "int16": 16}


@dataclass(frozen=True)
class RescaledTail:
    """What the remainder of a vectorized loop does otherwise than its full blocks.

    Attributes
    ----------
    block, along : see :class:`qinterp.scheme.Tail`.
    input_stages, output_stages : the rescalings of its elements.
    """

    block: int
    along: Literal["flat", "row"] = "row"
    input_stages: tuple[Stage, ...] = BELOW_ONE
    output_stages: tuple[Stage, ...] = (*BELOW_ONE, AddZeroPoint(), Clamp())

    def __post_init__(self) -> None:
        if self.block < 2:
            raise ValueError(f"block must be at least 2, got {self.block}")


@dataclass(frozen=True)
class RescaledSum:
    """Both inputs shifted left and put on twice the larger scale, added, rescaled to the output.

    Attributes
    ----------
    left_shift : fraction bits of the common scale; None: 20 for 8-bit codes, 15 for 16-bit ones.
    precision : of the three quotients of scales.
    input_stages, output_stages : the three rescalings.
    above_one : what an output factor of one or more does in stages that do not shift left: it is
        refused, or the right shift by a negative amount gives 1, or -1 below zero, as on x86.
    power_of_two : a node that asks for the arithmetic for scales that are powers of two gets it.
    aligned_stages : of an int16 input in that arithmetic.
    tail : the rescalings in the remainder of a vectorized loop; None: there is no such loop.
    """

    left_shift: int | None = None
    precision: Literal["float32", "float64"] = "float64"
    input_stages: tuple[Stage, ...] = BELOW_ONE
    output_stages: tuple[Stage, ...] = (*BELOW_ONE, AddZeroPoint(), Clamp())
    above_one: AboveOne = "refused"
    power_of_two: bool = True
    aligned_stages: tuple[Stage, ...] = (ShiftRight("ties_to_away"),)
    tail: RescaledTail | None = None

    def shift_for(self, dtype: str) -> int:
        """The left shift for a storage type."""
        if self.left_shift is not None:
            return self.left_shift
        return 15 if dtype == "int16" else 20


def rescaled_sum(call: Call, sign: int) -> Run:
    """``out = zo + r(r1((x1 - z1) << n) + sign * r2((x2 - z2) << n))``."""
    one_type(call, *INTEGERS)
    params: RescaledSum = call.params
    exponents = power_of_two_exponents(call) if params.power_of_two else None
    if exponents is not None:
        return _aligned_sum(call, sign, exponents)
    body = _general_sum(call, sign, params.input_stages, params.output_stages)
    tail = params.tail
    if tail is None:
        return body
    rest = _general_sum(call, sign, tail.input_stages, tail.output_stages)
    return with_tail(call, body, rest, tail)


def _general_sum(
    call: Call, sign: int, input_stages: Sequence[Stage], output_stages: Sequence[Stage]
) -> Run:
    """The sum by one set of rescalings."""
    params: RescaledSum = call.params
    left = params.shift_for(call.output.dtype)
    first, second, twice = on_common_scale(call, left, input_stages)
    scale_out, zero_point = call.per_tensor(call.output)
    dtype = call.output.numpy_dtype
    last = Rescaling(
        call,
        output_stages,
        quotient(twice, 2.0**left * scale_out, params.precision),
        left + _BITS[call.output.dtype],
        above_one=params.above_one,
        zero_point=zero_point,
        bounds=activation_bounds(call),
    )

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        total = _kernels.fit(first(x1) + sign * second(x2), 32, _WRAP)
        notes.add("accumulator", total)
        return last(total, dtype)

    def fast() -> Into | None:
        return _by_tables(call, sign, first, second, last)

    if dtype.itemsize == 1:
        return pairwise(call, evaluate, fast())
    return pairwise(call, evaluate, later=fast)


def _by_tables(
    call: Call,
    sign: int,
    first: Callable[[Array], Array],
    second: Callable[[Array], Array],
    last: Rescaling,
) -> Into | None:
    """The same by what stands for each code, where the sum fits 32 bits."""
    kind = call.output.numpy_dtype
    if last.only is None:
        return None
    codes = codes_by_pattern(kind)
    try:
        tables = first(codes), sign * second(codes)
    except ArithmeticError:  # of codes that may never occur
        return None
    operands = [(kind, table) for table in tables]
    return combined(call, _kernels.Combination.COMBINE_ADD, operands, last.only)


def on_common_scale(
    call: Call, left: int, input_stages: Sequence[Stage] | None = None
) -> tuple[Callable[[Array], Array], Callable[[Array], Array], float]:
    """What brings codes of each input to twice the larger scale, and that scale.

    ``call.params`` has ``precision`` and ``input_stages``, which an argument may replace.
    """
    params = call.params
    stages = params.input_stages if input_stages is None else input_stages
    inputs = [call.per_tensor(call[name]) for name in ("input1", "input2")]
    twice = 2.0 * max(scale for scale, _ in inputs)
    bits = left + _BITS[call["input1"].dtype]
    first, second = (
        shifted(
            Rescaling(call, stages, quotient(scale, twice, params.precision), bits),
            zero_point,
            left,
        )
        for scale, zero_point in inputs
    )
    return first, second, twice


def shifted(rescaling: Rescaling, zero_point: int, left: int) -> Callable[[Array], Array]:
    """From codes to ``rescaling`` of ``(code - zero_point) << left``."""
    return lambda codes: rescaling((codes.astype(np.int64) - zero_point) << left)


def quotient(a: float, b: float, precision: str) -> float:
    """``a / b`` rounded to ``precision``; both are float32 values."""
    kind = np.dtype(precision).type
    return float(kind(a) / kind(b))


class Rescaling:
    """Stages for a factor that LiteRT takes to be below one.

    Parameters
    ----------
    bits : the integers have no more, with their sign.
    above_one : see :class:`RescaledSum`.
    """

    def __init__(
        self,
        call: Call,
        stages: Sequence[Stage],
        factor: float,
        bits: int,
        *,
        above_one: AboveOne = "refused",
        zero_point: int = 0,
        bounds: tuple[int, int] = (0, 0),
    ) -> None:
        rescale = Rescale.of_factor(factor, call.policy.multiplier)

        def make(part: Sequence[Stage]) -> Requantizer:
            return Requantizer(part, rescale, zero_point=zero_point, bounds=bounds)

        shift = int(rescale.shift[0])
        self._head: Requantizer | None = None
        if shift > 0 and not uses(stages, ShiftLeft):
            right = [i for i, stage in enumerate(stages) if isinstance(stage, ShiftRight)]
            # x86 takes the amount modulo 32: the sign alone is left of no more than 32 - shift bits
            if above_one != "sign" or factor <= 1 or bits + shift > 32 or not right:
                call.unsupported(
                    f"a factor of {factor:.9g} between scales, which must be below one"
                )
            self._head = make(stages[: right[0]])
            stages = stages[right[0] + 1 :]
        self._stages = make(stages)

    @property
    def only(self) -> Requantizer | None:
        """The stages where there is nothing else to do."""
        return self._stages if self._head is None else None

    def __call__(self, x: Array, dtype: Any = np.int64) -> Array:
        """The stages on integers, into a new array."""
        if self._head is not None:
            x = np.where(apply_stages(self._head, x) < 0, -1, 1)
        return apply_stages(self._stages, x, dtype)


def power_of_two_exponents(call: Call) -> tuple[int, int] | None:
    """By how much each input is finer than the output, where all scales are powers of two.

    None where the node does not ask for that arithmetic, or a scale is no power of two
    (tflite/kernels/internal/quantization_util.cc CheckedLog2: to a thousandth).
    """
    if call.output.dtype != "int16":
        return None
    tensors = [call["input1"], call["input2"], call.output]
    if any(call.per_tensor(tensor)[1] != 0 for tensor in tensors):
        call.unsupported("int16 tensors must have zero points of 0")
    if not call.attributes["power_of_two_int16"]:
        return None
    logarithms = [math.log2(call.per_tensor(tensor)[0]) for tensor in tensors]
    exponents = [round(value) for value in logarithms]
    if any(abs(v - e) >= 1e-3 for v, e in zip(logarithms, exponents, strict=True)):
        return None
    first, second = (exponents[2] - e for e in exponents[:2])
    if min(first, second) != 0 or max(first, second) > 31:
        call.unsupported(
            "with scales of powers of two one input must have the output's, and the other a "
            f"finer one; they are finer by 2**{first} and 2**{second}"
        )
    return first, second


def _aligned_sum(call: Call, sign: int, exponents: tuple[int, int]) -> Run:
    """The finer input shifted right, added, clamped."""
    if sign > 0 and call["input1"].shape != call["input2"].shape:
        call.unsupported("int16 inputs with scales of powers of two are not broadcast")
    low, high = activation_bounds(call)
    first, second = (_aligned(call, exponent) for exponent in exponents)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        total = first(values[0].astype(np.int64)) + sign * second(values[1].astype(np.int64))
        notes.add("accumulator", total)
        return [np.clip(total, low, high).astype(np.int16)]

    return run


def _aligned(call: Call, exponent: int) -> Callable[[Array], Array]:
    """Rounded right by ``exponent``; 16 and more leave 1, or -1 below zero."""
    if exponent >= 16:
        return lambda x: np.where(x < 0, -1, 1)
    rescale = Rescale(np.array([2.0**-exponent]), np.array([1]), np.array([-exponent]))
    stages = Requantizer(call.params.aligned_stages, rescale)
    return lambda x: apply_stages(stages, x)
