"""Softmax of 8-bit codes in gemmlowp's fixed point (clause O-softmax.1).

Source: tflite/kernels/internal/reference/softmax.h Softmax;
tflite/kernels/internal/quantization_util.cc PreprocessSoftmaxScaling, CalculateInputRadius.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale, program_of
from qinterp.numerics.stages import (
    AddZeroPoint,
    Clamp,
    MultiplyHigh,
    ShiftLeft,
    ShiftRight,
    Stage,
)
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._fixed_point import divide_power, exp_on_negative_values
from qinterp.ops._operator import KernelRun, Notes, Run
from qinterp.ops.softmax import SOFTMAX, task_of

OUTPUTS = {"int8": ("int8", "int16"), "uint8": ("uint8", "int16"), "int16": ("int16",)}


@dataclass(frozen=True)
class Gemmlowp:
    """Differences to the maximum, exponentials, their sum, and its reciprocal.

    Attributes
    ----------
    input_bits, sum_bits : integer bits of the scaled difference and of the sum.
    rescale : stages that bring a difference to ``input_bits``.
    finish : stages of an exponential, by the reciprocal of the sum.
    """

    input_bits: int = 5
    sum_bits: int = 12
    rescale: tuple[Stage, ...] = (ShiftLeft(), MultiplyHigh("ties_toward_positive"))
    finish: tuple[Stage, ...] = (
        MultiplyHigh("ties_toward_positive"),
        ShiftRight("ties_to_away"),
        AddZeroPoint(),
        Clamp(),
    )


@SOFTMAX.recipe("gemmlowp", Gemmlowp, family="tflite")
def gemmlowp(call: Call) -> Run:
    """``out = exp(x - max) / sum(exp(x - max))``."""
    call.types(input=("int8", "uint8"), output=OUTPUTS.get(call["input"].dtype, ()))
    check_output(call)
    params: Gemmlowp = call.params
    exponentials = _exponentials(call, params)
    terms = divide_power(exponentials, params.sum_bits)
    kind = call.output.int_type
    depth, dtype, shape = call["input"].shape[-1], call.output.numpy_dtype, call.output.shape
    kernel = _kernels.Softmax(
        call["input"].numpy_dtype,
        dtype,
        exponentials,
        program_of(params.finish),
        kind.min,
        kind.min,
        kind.max,
        terms=terms,
        sum_bits=params.sum_bits,
        shift=kind.bits - 31,
    )

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        out = np.empty(shape, dtype)
        if out.size:
            rows, codes = values[0].reshape(-1, depth), out.reshape(-1, depth)
            totals = np.empty(len(rows), np.int64) if notes.wanted else None
            if kernel.into(rows, codes, totals):
                raise OverflowError("a stage with overflow = 'error' left its range")
            if totals is not None:
                notes.add("accumulator", totals)
        return [out]

    return KernelRun(run, task_of(kernel, shape))


def _exponentials(call: Call, params: Gemmlowp) -> Array:
    """``exp(-d)`` in Q0.31 for a distance ``d`` of 0 .. 255 codes to the maximum."""
    scale = call.per_tensor(call["input"])[0]
    fraction_bits = 31 - params.input_bits
    factor = min(float(call.attributes["beta"]) * scale * (1 << fraction_bits), (1 << 31) - 1.0)
    call.check(factor > 1.0, f"beta * input scale is {factor / (1 << fraction_bits)}: too small")
    rescale = Rescale.of_factor(factor, call.policy.multiplier)
    shift = int(rescale.shift[0])
    radius = ((1 << params.input_bits) - 1 << fraction_bits) >> shift
    distance = np.arange(256)
    near = np.where(distance <= radius, -distance, 0)
    scaled = apply_stages(Requantizer(params.rescale, rescale), near)
    exponential = exp_on_negative_values(scaled, params.input_bits)
    return np.where(distance <= radius, exponential, 0)


def check_output(call: Call) -> None:
    """ModelFormatError unless the output covers 0 .. 1, as SoftmaxPrepare demands."""
    types = (call["input"].dtype, call.output.dtype)
    wanted = {("int8", "int8"): (-128, 256), ("int16", "int16"): (0, 32768)}.get(types)
    if wanted is None:
        return
    scale, zero_point = call.per_tensor(call.output)
    zero, steps = wanted
    call.check(
        zero_point == zero and abs(scale * steps - 1.0) <= 0.001,
        f"output {call.output.describe()} must have scale 1/{steps} and zero point {zero}, "
        f"has {scale:.9g} and {zero_point}",
    )
