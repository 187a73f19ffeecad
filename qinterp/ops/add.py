"""Addition with broadcasting (clause O-add).

Source: tflite/kernels/add.cc; tflite/kernels/internal/reference/add.h, integer_ops/add.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import AddZeroPoint, Clamp, MultiplyHigh, ShiftRight, Stage
from qinterp.ops._accumulate import INTEGERS, activation_bounds, check_activation, float_clamp
from qinterp.ops._elementwise import Real, apply_stages, broadcast_shape, quantize_real
from qinterp.ops._operator import Notes, Operator, Run

ADD = Operator("add", ("input1", "input2"), {"activation": "none"})

_SMALLER_THAN_ONE = (MultiplyHigh("ties_toward_positive"), ShiftRight("ties_to_away"))


@dataclass(frozen=True)
class RescaledSum:
    """Both inputs shifted left and put on twice the larger scale, added, rescaled to the output.

    Attributes
    ----------
    left_shift : fraction bits of the common scale; None: 20 for 8-bit codes, 15 for 16-bit ones.
    input_stages, output_stages : the three rescalings.
    """

    left_shift: int | None = None
    input_stages: tuple[Stage, ...] = _SMALLER_THAN_ONE
    output_stages: tuple[Stage, ...] = (*_SMALLER_THAN_ONE, AddZeroPoint(), Clamp())

    def shift_for(self, dtype: str) -> int:
        """The left shift for a storage type."""
        if self.left_shift is not None:
            return self.left_shift
        return 15 if dtype == "int16" else 20


@ADD.reads_tflite("ADD", "AddOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of an ADD."""
    return {"activation": options.enum("fused_activation_function")}


@ADD.infers
def shapes(call: Call) -> list[Shape]:
    """The inputs broadcast to each other."""
    check_activation(call)
    return [broadcast_shape(call, "input1", "input2")]


@ADD.recipe("rescaled_sum", RescaledSum, family="tflite")
def rescaled_sum(call: Call) -> Run:
    """``out = zo + r(r1((x1 - z1) << n) + r2((x2 - z2) << n))``."""
    call.types(input1=INTEGERS, input2=(call["input1"].dtype,), output=(call["input1"].dtype,))
    params: RescaledSum = call.params
    (s1, z1), (s2, z2) = call.per_tensor(call["input1"]), call.per_tensor(call["input2"])
    s_out, z_out = call.per_tensor(call.output)
    left = params.shift_for(call.output.dtype)
    twice = 2.0 * max(s1, s2)
    multiplier = call.policy.multiplier
    first, second = (
        Requantizer(params.input_stages, Rescale.of_factor(s / twice, multiplier))
        for s in (s1, s2)
    )
    last = Requantizer(
        params.output_stages,
        Rescale.of_factor(twice / (2.0**left * s_out), multiplier),
        zero_point=z_out,
        bounds=activation_bounds(call),
    )
    dtype = call.output.numpy_dtype
    wrap = OVERFLOW_CODE["wrap"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        a = apply_stages(first, (values[0].astype(np.int64) - z1) << left)
        b = apply_stages(second, (values[1].astype(np.int64) - z2) << left)
        total = _kernels.fit(a + b, 32, wrap)
        notes.add("accumulator", total)
        return [apply_stages(last, total, dtype)]

    return run


@ADD.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real sum, rounded once."""
    call.types(input1=INTEGERS, input2=INTEGERS, output=INTEGERS)
    (s1, z1), (s2, z2) = call.per_tensor(call["input1"]), call.per_tensor(call["input2"])
    s_out, _ = call.per_tensor(call.output)
    r1, r2 = Fraction(s1) / Fraction(s_out), Fraction(s2) / Fraction(s_out)
    bounds = activation_bounds(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        a, b = np.broadcast_arrays(values[0].astype(np.int64) - z1, values[1].astype(np.int64) - z2)

        def exact(i: int, digits: int) -> Fraction:
            return int(a.flat[i]) * r1 + int(b.flat[i]) * r2

        return [quantize_real(call, a * float(r1) + b * float(r2), exact, bounds)]

    return run


@ADD.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """One float32 addition, then the activation."""
    call.types(input1=("float32",), input2=("float32",), output=("float32",))
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [clamp(values[0] + values[1])]

    return run
