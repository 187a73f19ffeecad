"""Softmax of 8-bit codes by a table of exponentials in Q1.31 (clause O-softmax.5).

Sources: glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_softmax_i8, LLVMIRGen.cpp SoftMaxInst;
glow include/glow/Quantization/Base/Base.h FixedPointUInt32; glow lib/Graph/Graph.cpp
createSoftMax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import ActivationBounds
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import Libm, functions, round_away
from qinterp.ops.softmax import SOFTMAX

CODES = ("int8", "uint8")
_LONGEST_ROW = 1 << 16


@dataclass(frozen=True)
class ExponentialTable(Libm):
    """Terms in Q1.31, their sum in 16 significant bits, one division a row.

    The last shift cuts the fraction off: the source rounds with ``1 << (point - 1)`` of a 32-bit
    integer, whose amount x86 takes modulo 32.
    """


@SOFTMAX.recipe("exponential_table", ExponentialTable)
def exponential_table(call: Call) -> Run:
    """``out = zo + exp(x - max) * (1 / so) / sum``."""
    kind = call["input"].dtype
    call.types(input=CODES, output=(kind,))
    scale, _ = call.per_tensor(call["input"])
    scale_out, zero_point = call.per_tensor(call.output)
    shape = call["input"].shape
    depth = shape[-1]
    if not 1 < depth <= _LONGEST_ROW:  # of one element the source's rounding is undefined
        call.unsupported(f"rows of {depth} elements, which must be 2 to {_LONGEST_ROW}")
    terms = _terms(call, scale)
    whole_bits = (depth - 1).bit_length() + ((depth & (depth - 1)) == 0)
    inverse, inverse_bits = _fixed_point(np.float32(1) / np.float32(scale_out))
    weigh = _weigh(call)
    limits = call.output.int_type

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, call.output.numpy_dtype)]
        rows = weigh(values[0]).reshape(-1, depth)
        below = rows.max(axis=1, keepdims=True) - rows
        total = (terms[below] >> (whole_bits - 1)).sum(axis=1, keepdims=True) & 0xFFFFFFFF
        notes.add("accumulator", total)
        digits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
        total = total << (32 - digits) >> 16
        factor = ((inverse + total // 2) & 0xFFFFFFFF) // total
        point = 31 + 16 - inverse_bits + whole_bits - (32 - digits)
        rounding = _shifted_constant(point - 1)
        product = factor.astype(np.uint64) * terms[below].astype(np.uint64) + rounding
        steps = (product >> point.astype(np.uint64)).astype(np.uint32).astype(np.int32)
        codes = np.clip(steps.astype(np.int64) + zero_point, limits.min, limits.max)
        return [codes.astype(call.output.numpy_dtype).reshape(shape)]

    return run


def _terms(call: Call, scale: float) -> Array:
    """``exp(-scale * d)`` in Q1.31 for a distance ``d`` of 0 .. 255 codes to the maximum."""
    exponent = np.float32(scale) * -np.arange(256, dtype=np.float32)
    value = functions(call.params)["exp"](exponent)
    result: Array = round_away(value.astype(np.float64) * 2.0**31).astype(np.int64)
    return result


def _fixed_point(value: np.float32) -> tuple[int, int]:
    """In 32 bits, with as few before the point as hold the integer part."""
    whole = int(value).bit_length()
    return int(round_away(np.array([float(value) * 2.0 ** (32 - whole)]))[0]), whole


def _shifted_constant(amount: Array) -> Array:
    """``1 << amount`` of a 32-bit integer on x86, widened to 64 bits with its sign."""
    constant = np.int64(1) << (amount & 31)
    return np.where(constant >= 1 << 31, constant - (1 << 32), constant).astype(np.uint64)


def _weigh(call: Call) -> Any:
    """The input times beta, which is a code of the input's own grid, on that grid."""
    beta = call.attributes["beta"]
    if beta == 1.0:
        return lambda x: x.astype(np.int64)
    policy = call.policy
    tensor = call["input"]
    scale, zero_point = call.per_tensor(tensor)
    kind = tensor.int_type
    rule = ActivationBounds("float32", "ties_to_even", "before_rounding")
    code = min(max(rule.code(beta, scale, zero_point), kind.min), kind.max)
    rescale = Rescale.of_scales(scale, scale, scale, policy.effective_scale, policy.multiplier)
    stages = Requantizer(
        policy.requantize, rescale, zero_point=zero_point, bounds=(kind.min, kind.max)
    )
    return lambda x: apply_stages(stages, (x.astype(np.int64) - zero_point) * (code - zero_point))
