"""Quotients of two codes, without a fixed-point reciprocal (clause O-whole_quotient).

Sources: glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_element_div_kernel_i8, LLVMIRGen.cpp
ElementDivInst; glow lib/Backends/Interpreter/InterpreterNodes.cpp fwdElementDivInst.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import AddZeroPoint, Clamp, Round, Stage
from qinterp.ops._accumulate import activation_bounds
from qinterp.ops._binary import one_type, pairwise, subtract_zero_points
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops.div import DIV, without_zeros

CODES = ("int8", "uint8")


Quotient = Callable[[Array, Array], Array]


def whole_steps(scale1: float, scale2: float, scale: float) -> tuple[Quotient, float]:
    """The quotient of codes less zero points, its fraction cut off, and its step in the output."""

    def quotient(a: Array, b: Array) -> Array:
        result: Array = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
        return result

    return quotient, float(np.float32(scale1) / (np.float32(scale2) * np.float32(scale)))


def real_steps(scale1: float, scale2: float, scale: float) -> tuple[Quotient, float]:
    """The quotient in steps of the output, every operation rounded to float32, and 1."""
    step, divisor_step = np.float32(scale1), np.float32(scale2) * np.float32(scale)

    def quotient(a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Array = (step * a.astype(np.float32)) / (divisor_step * b.astype(np.float32))
        return result

    return quotient, 1.0


@DIV.recipe("whole_quotient")
def whole_quotient(call: Call) -> Run:
    """Of the codes, by the policy's requantization."""
    quotient, to_code = _prepared(call, whole_steps, call.policy.requantize)

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = np.broadcast_arrays(x1, x2)
        total = quotient(a, np.where(b == 0, 1, b))  # a table has pairs that do not occur
        notes.add("accumulator", total)
        return to_code(total)

    return without_zeros(call, _pairwise(call, evaluate))


@dataclass(frozen=True)
class RealQuotient:
    """Both operands as float32, their quotient in steps of the output.

    Attributes
    ----------
    stages : from the float32 quotient to a code.
    """

    stages: tuple[Stage, ...] = (
        AddZeroPoint(),
        Round("ties_to_away", 32, "indefinite"),
        Clamp(),
    )


@DIV.recipe("real_quotient", RealQuotient)
def real_quotient(call: Call) -> Run:
    """``s1 * x1 / (s2 * so * x2)``; x2 may be zero."""
    quotient, to_code = _prepared(call, real_steps, call.params.stages)
    return _pairwise(call, lambda a, b, notes: to_code(quotient(a, b)))


def _prepared(
    call: Call, steps: Callable[[float, float, float], tuple[Quotient, float]], stages: Any
) -> tuple[Quotient, Callable[[Array], Array]]:
    one_type(call, *CODES)
    scales = [call.per_tensor(t)[0] for t in (call["input1"], call["input2"], call.output)]
    quotient, factor = steps(*scales)
    to_code = Requantizer(
        stages,
        Rescale.of_factor(factor, call.policy.multiplier),
        zero_point=call.per_tensor(call.output)[1],
        bounds=activation_bounds(call),
    )
    dtype = call.output.numpy_dtype
    return quotient, lambda x: apply_stages(to_code, x, dtype)


def _pairwise(call: Call, evaluate: Callable[[Array, Array, Notes], Array]) -> Run:
    subtract = subtract_zero_points(call)
    return pairwise(call, lambda x1, x2, notes: evaluate(*subtract(x1, x2), notes))
