"""Softmax of 8-bit codes by a table of float exponentials (clause O-softmax.6).

Source: tflite/kernels/internal/optimized/optimized_ops.h PopulateSoftmaxLookupTable, Softmax,
QuantizeSoftmaxOutput.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.libm import LIBRARIES, Library
from qinterp.numerics.requantize import program_of
from qinterp.numerics.stages import AddZeroPoint, Clamp, Round, Stage
from qinterp.ops._operator import KernelRun, Notes, Run
from qinterp.ops.softmax import SOFTMAX, task_of
from qinterp.ops.softmax.gemmlowp import OUTPUTS, check_output


@dataclass(frozen=True)
class FloatTable:
    """Exponentials of the distance to the maximum, their sum, and its reciprocal, in float32.

    Attributes
    ----------
    library : whose ``expf`` it is.
    offset : added to the quotient in float32.
    stages : from that to the output code.
    """

    library: Library = "glibc_2.28"
    offset: float = 0.0
    stages: tuple[Stage, ...] = (Round("ties_to_away"), AddZeroPoint(), Clamp())


@SOFTMAX.recipe("float_table", FloatTable)
def float_table(call: Call) -> Run:
    """``out = exp(x - max) * (1 / (sum * scale))``; the terms are added one after the other."""
    call.types(input=("int8", "uint8"), output=OUTPUTS.get(call["input"].dtype, ()))
    check_output(call)
    params: FloatTable = call.params
    scale = call.per_tensor(call["input"])[0]
    unit, zero_point = call.per_tensor(call.output)
    step = -np.float32(scale) * np.float32(call.attributes["beta"])
    with np.errstate(all="ignore"):
        table = LIBRARIES[params.library]["exp"](step * np.arange(256, dtype=np.float32))
    kind = call.output.int_type
    depth, dtype, shape = call["input"].shape[-1], call.output.numpy_dtype, call.output.shape
    kernel = _kernels.Softmax(
        call["input"].numpy_dtype,
        dtype,
        table,
        program_of(params.stages),
        zero_point,
        kind.min,
        kind.max,
        unit=unit,
        offset=params.offset,
    )

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        out = np.empty(shape, dtype)
        if out.size and kernel.into(values[0].reshape(-1, depth), out.reshape(-1, depth)):
            raise OverflowError("a stage with overflow = 'error' left its range")
        return [out]

    return KernelRun(run, task_of(kernel, shape))
