"""Multiplication with broadcasting (clause O-mul).

Source: tflite/kernels/mul.cc; tflite/kernels/internal/reference/mul.h, integer_ops/mul.h,
reference_ops.h (16-bit inputs, 8-bit output).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import AddZeroPoint, Clamp, Saturate, ShiftRight, Stage
from qinterp.ops._accumulate import INTEGERS, activation_bounds, requantizer
from qinterp.ops._binary import (
    Binary,
    Into,
    combined,
    floats,
    integers,
    pairwise,
    shapes,
    subtract_zero_points,
)
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import ANY_FAMILY, Notes, Run
from qinterp.ops._tails import Elementwise, with_tail

MUL = Binary("mul", {"activation": "none"})
MUL.infers(shapes)

_EVERY_PRODUCT = 34  # bits that hold any product of 16-bit codes less their zero points


@dataclass(frozen=True)
class FractionProduct:
    """Codes of 16 bits as fractions of one, multiplied to an output of 8 bits.

    The scales play no part.

    Attributes
    ----------
    stages : from the 32-bit product to a code.
    """

    stages: tuple[Stage, ...] = (
        ShiftRight("ties_toward_positive", "literal", 15),
        Saturate(16),
        ShiftRight("ties_to_away", "literal", 8),
        AddZeroPoint(),
        Clamp(),
    )


@MUL.reads_tflite("MUL", "MulOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a MUL."""
    return {"activation": options.enum("fused_activation_function")}


@MUL.recipe("accumulate", family=ANY_FAMILY)
def accumulate(call: Call) -> Run:
    """One product in the policy's accumulator, then its requantization."""
    call.types(input1=INTEGERS, input2=INTEGERS, output=INTEGERS)
    subtract = subtract_zero_points(call)
    finish = requantizer(call, call["input1"], call["input2"], 1, rows=True)
    accumulator = call.policy.accumulator
    overflow = OVERFLOW_CODE[accumulator.overflow]

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        product, overflowed = a * b, False
        if accumulator.bits < _EVERY_PRODUCT:
            exact, product = product, _kernels.fit(product, accumulator.bits, overflow)
            overflowed = bool((product != exact).any())
        return finish((product, overflowed), notes)

    def noted(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [evaluate(values[0], values[1], notes)]

    tail = call.policy.tail
    body = _fast(call, finish.body)
    if tail is None:
        return pairwise(call, evaluate, body)
    # what an element becomes depends on where it stands
    rest = None if finish.tail is None else _fast(call, finish.tail)
    if body is None or rest is None:
        return noted
    return with_tail(
        call, Elementwise(call, body, noted), Elementwise(call, rest, noted), tail, noted
    )


def _fast(call: Call, to_code: Requantizer) -> Into | None:
    """The product requantized, where every product fits the accumulator."""
    tensors = [call["input1"], call["input2"]]
    operands = [(t.numpy_dtype, call.per_tensor(t)[1]) for t in tensors]
    bits = min(call.policy.accumulator.bits, 32)
    most = max(
        abs(code - z)
        for t, (_, z) in zip(tensors, operands, strict=True)
        for code in (t.int_type.min, t.int_type.max)
    )
    if most**2 >= 1 << bits - 1:
        return None
    return combined(call, _kernels.Combination.COMBINE_MULTIPLY, operands, to_code)


@MUL.recipe("fraction_product", FractionProduct)
def fraction_product(call: Call) -> Run:
    """``sat16(x1 * x2 / 2**15) / 2**8``, zero point added, clamped."""
    call.types(input1=("int16",), input2=("int16",), output=("int8", "uint8"))
    if call["input1"].shape != call["input2"].shape:
        call.unsupported("16-bit inputs are not broadcast to an 8-bit output")
    params: FractionProduct = call.params
    stages = Requantizer(
        params.stages,
        Rescale.of_factor(1.0, call.policy.multiplier),
        zero_point=call.per_tensor(call.output)[1],
        bounds=activation_bounds(call),
    )
    dtype = call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        product = values[0].astype(np.int64) * values[1]
        notes.add("accumulator", product)
        return [apply_stages(stages, product, dtype)]

    return run


@MUL.recipe("integers")
def plain(call: Call) -> Run:
    """The product modulo the width of the type."""
    return integers(call, np.multiply, "int16", "int32", "uint32", "int64")


@MUL.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 multiplication, then the activation."""
    return floats(call, np.multiply)
