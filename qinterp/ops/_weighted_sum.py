"""Sums of two operands by integer weights on the output's own grid (clause O-add.5).

Source: XNNPACK src/microparams-init.c xnn_init_qs8_add_minmax_scalar_params and its uint8 form,
src/qs8-vadd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import Rounding
from qinterp.numerics.scales import round_fraction
from qinterp.numerics.stages import AddZeroPoint, Clamp, Saturate, ShiftRight, Stage
from qinterp.ops._accumulate import activation_bounds
from qinterp.ops._binary import (
    codes_by_pattern,
    combined,
    one_type,
    pairwise,
    subtract_zero_points,
)
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run


@dataclass(frozen=True)
class WeightedSum:
    """Both inputs times a weight of their own, one shift for the sum.

    Attributes
    ----------
    bits : the larger weight lies in 2**bits .. 2**(bits + 1).
    precision : of input scale over output scale.
    rounding : of the weights.
    stages : from the weighted sum to the output code; the factor is a shift.
    """

    bits: int = 20
    precision: Literal["float32", "float64"] = "float32"
    rounding: Rounding = "ties_to_even"
    stages: tuple[Stage, ...] = (
        ShiftRight("ties_toward_positive"),
        Saturate(16),
        AddZeroPoint(16, "saturate"),
        Clamp(),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 22:
            raise ValueError(f"bits must be in 1..22, got {self.bits}")


def weighted_sum(call: Call, sign: int) -> Run:
    """``out = zo + r((x1 - z1) * w1 + sign * (x2 - z2) * w2)``."""
    one_type(call, "int8", "uint8")
    params: WeightedSum = call.params
    first, second, shift = weights(call, params)
    subtract = subtract_zero_points(call)
    rescale = Rescale(np.array([2.0**-shift]), np.array([1]), np.array([-shift]))
    stages = Requantizer(
        params.stages,
        rescale,
        zero_point=call.per_tensor(call.output)[1],
        bounds=activation_bounds(call),
    )
    dtype = call.output.numpy_dtype

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        total = a * first + b * (sign * second)
        notes.add("accumulator", total)
        return apply_stages(stages, total, dtype)

    codes = codes_by_pattern(dtype)
    terms = (
        x * weight for x, weight in zip(subtract(codes, codes), (first, sign * second), strict=True)
    )
    operands = [(dtype, table) for table in terms]
    into = combined(call, _kernels.Combination.COMBINE_ADD, operands, stages)
    return pairwise(call, evaluate, into)


def weights(call: Call, params: WeightedSum) -> tuple[int, int, int]:
    """Both weights, and the bits of them that stand after the binary point."""
    kind = np.dtype(params.precision).type
    unit = kind(call.per_tensor(call.output)[0])
    ratios = [
        Fraction(float(kind(call.per_tensor(call[name])[0]) / unit))
        for name in ("input1", "input2")
    ]
    shift = params.bits + 1 - math.frexp(max(ratios))[1]
    if not 0 <= shift <= 62:
        call.unsupported(f"input scales of {float(max(ratios)):.9g} output scales")
    first, second = (round_fraction(r * 2**shift, params.rounding) for r in ratios)
    return first, second, shift
