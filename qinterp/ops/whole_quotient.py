"""Quotients of two codes, without a fixed-point reciprocal (clause O-whole_quotient).

Sources: glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_element_div_kernel_i8, LLVMIRGen.cpp
ElementDivInst; glow lib/Backends/Interpreter/InterpreterNodes.cpp fwdElementDivInst.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@DIV.recipe("whole_quotient")
def whole_quotient(call: Call) -> Run:
    """The quotient of the codes, its fraction cut off, by the policy's requantization."""
    one_type(call, *CODES)
    policy = call.policy
    scale1, scale2 = (call.per_tensor(call[name])[0] for name in ("input1", "input2"))
    scale, zero_point = call.per_tensor(call.output)
    factor = np.float32(scale1) / (np.float32(scale2) * np.float32(scale))
    to_code = Requantizer(
        policy.requantize,
        Rescale.of_factor(float(factor), policy.multiplier),
        zero_point=zero_point,
        bounds=activation_bounds(call),
    )
    subtract = subtract_zero_points(call)
    dtype = call.output.numpy_dtype

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = np.broadcast_arrays(*subtract(x1, x2))
        b = np.where(b == 0, 1, b)  # of a table's pair that does not occur
        quotient = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
        notes.add("accumulator", quotient)
        return apply_stages(to_code, quotient, dtype)

    return without_zeros(call, pairwise(call, evaluate))


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
    """``s1 * x1 / (s2 * so * x2)``, every operation rounded to float32; x2 may be zero."""
    one_type(call, *CODES)
    params: RealQuotient = call.params
    scale1, scale2 = (np.float32(call.per_tensor(call[n])[0]) for n in ("input1", "input2"))
    scale, zero_point = call.per_tensor(call.output)
    divisor_step = scale2 * np.float32(scale)
    to_code = Requantizer(
        params.stages,
        Rescale.of_factor(1.0, call.policy.multiplier),
        zero_point=zero_point,
        bounds=activation_bounds(call),
    )
    subtract = subtract_zero_points(call)
    dtype = call.output.numpy_dtype

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = (v.astype(np.float32) for v in subtract(x1, x2))
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = (scale1 * a) / (divisor_step * b)
        return apply_stages(to_code, quotient, dtype)

    return pairwise(call, evaluate)
