"""Softmax of 16-bit codes by two interpolated tables (clause O-softmax.2).

Source: tflite/kernels/internal/reference/softmax.h SoftmaxInt16; tflite/kernels/activations.cc
SoftmaxPrepare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.elementary import exp64
from qinterp.numerics.libm import LIBRARIES, Library
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import (
    AddZeroPoint,
    MultiplyHigh,
    Saturate,
    ShiftLeft,
    ShiftRight,
    Stage,
)
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._fixed_point import leading_zeros
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import interpolate, interpolated_table
from qinterp.ops.softmax import SOFTMAX
from qinterp.ops.softmax.gemmlowp import check_output

_LONGEST_ROW = 65535  # more terms do not fit the 32-bit sum


@dataclass(frozen=True)
class InterpolatedTables:
    """Of exp on -10 .. 0 and 1 / (1 + x) on 0 .. 1, each by 513 entries.

    Attributes
    ----------
    rescale : stages that bring a difference to the maximum to 16-bit codes of -10 .. 0.
    tables : the type in which the entries are worked out.
    library : whose ``expf`` float32 tables call.
    product : the type of input scale * beta.
    overflow : what becomes of a probability of one, which is the greatest code plus one.
    """

    tables: Literal["float32", "float64"] = "float64"
    library: Library = "glibc_2.28"
    product: Literal["float32", "float64"] = "float32"
    overflow: Literal["saturate", "wrap"] = "saturate"
    rescale: tuple[Stage, ...] = (
        ShiftLeft(),
        MultiplyHigh("ties_toward_positive"),
        ShiftRight("ties_to_away"),
        AddZeroPoint(),
        Saturate(16),
    )


@SOFTMAX.recipe("interpolated_tables", InterpolatedTables)
def interpolated_tables(call: Call) -> Run:
    """``out = exp(x - max) * (1 / sum)``, in Q0.15."""
    call.types(input=("int16",), output=("int16",))
    check_output(call)
    shape = call["input"].shape
    depth = shape[-1]
    scale, zero_point = call.per_tensor(call["input"])
    call.check(zero_point == 0, f"the zero point of {call['input'].describe()} must be 0")
    if depth > _LONGEST_ROW:
        call.unsupported(f"rows of more than {_LONGEST_ROW} elements")
    params: InterpolatedTables = call.params
    kind = np.dtype(params.product).type
    scale_beta = kind(scale) * kind(call.attributes["beta"])
    rescale = Rescale.of_factor(float(scale_beta) / (10.0 / 65535.0), call.policy.multiplier)
    to_code = Requantizer(params.rescale, rescale, zero_point=32767)
    exponential, reciprocal = _tables(params.tables, params.library)
    overflow = OVERFLOW_CODE[params.overflow]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, np.int16)]
        rows = values[0].reshape(-1, depth).astype(np.int32)
        below = rows - rows.max(axis=1, keepdims=True)
        terms = exponential[apply_stages(to_code, below, np.int16).view(np.uint16)]
        terms = terms.astype(np.int64)
        total = terms.sum(axis=1, keepdims=True)
        notes.add("accumulator", total)
        headroom = leading_zeros(total)
        fraction = ((total << (headroom - 1)) + (1 << 13)) >> 14  # 1 .. 2 in Q0.16
        code = np.clip(fraction - 3 * (1 << 15), -32768, 32767)
        factor = reciprocal[code & 0xFFFF].astype(np.int64)
        shift = 31 - headroom
        out = (terms * factor + (1 << (shift - 1))) >> shift
        return [_kernels.fit(out, 16, overflow).astype(np.int16).reshape(shape)]

    return run


@cache
def _tables(precision: str, library: Library) -> tuple[Array, Array]:
    """Of exp and 1 / (1 + x) for every code, in Q0.15."""
    kind = np.dtype(precision).type
    exp = exp64 if precision == "float64" else LIBRARIES[library]["exp"]
    one, codes = kind(1), kind(65535)
    unit = (kind(2) / codes, 0)
    exponential = interpolated_table(exp, (kind(10) / codes, 32767), unit, kind)
    reciprocal = interpolated_table(lambda x: one / (one + x), (one / codes, -32768), unit, kind)
    return interpolate(exponential), interpolate(reciprocal)
