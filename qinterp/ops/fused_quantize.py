"""Real numbers to codes by one fused multiplication and addition (clause O-quantize.4).

Source: glow lib/LLVMIRCodeGen/libjit/libjit.cpp libjit_element_quantize_kernel_i8 as its default
build compiles it (-ffast-math): the division becomes a product with the reciprocal of the scale,
and the zero point is added before that is rounded, on processors that can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import Clamp, Round, Stage
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops.quantize import QUANTIZE


@dataclass(frozen=True)
class FusedFromFloat:
    """A float as a code.

    Attributes
    ----------
    stages : from ``x * (1 / so) + zo``, rounded once to float32, to the code.
    """

    stages: tuple[Stage, ...] = (Round("ties_to_even", 32, "indefinite"), Clamp())


@QUANTIZE.recipe("fused_from_float", FusedFromFloat)
def fused_from_float(call: Call) -> Run:
    """``out = round(x * (1 / so) + zo)``, the reciprocal rounded to float32."""
    call.types(input=("float32",), output=("int8", "uint8"))
    params: FusedFromFloat = call.params
    scale, zero_point = call.per_tensor(call.output)
    inverse = np.float32(1) / np.float32(scale)
    kind, dtype = call.output.int_type, call.output.numpy_dtype
    to_code = Requantizer(
        params.stages,
        Rescale.of_factor(1.0, Multiplier("none")),
        bounds=(kind.min, kind.max),
    )

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            steps = multiply_add(values[0], inverse, np.float32(zero_point))
        return [apply_stages(to_code, steps, dtype)]

    return run


def multiply_add(x: Any, factor: Any, term: Any) -> npt.NDArray[np.float32]:
    """``x * factor + term`` of float32 values, rounded once to float32.

    Products of two float32 are exact in float64. Their sum is rounded to odd there, from where the
    second rounding gives what one would (S. Boldo, G. Melquiond, "Emulation of FMA and correctly
    rounded sums: proved algorithms using rounding to odd", 2008).
    """
    product = np.asarray(x, np.float64) * np.asarray(factor, np.float64)
    addend = np.asarray(term, np.float64)
    total = product + addend
    rest = total - product
    error = (product - (total - rest)) + (addend - rest)
    even = (total.view(np.int64) & 1) == 0
    inexact = np.isfinite(total) & (error != 0) & even
    odd = np.where(inexact, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)
    return odd.astype(np.float32)
