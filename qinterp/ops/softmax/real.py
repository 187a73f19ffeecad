"""Softmax as the real function (clause O-softmax.4)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.elementary import exp
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._elementwise import Real, quantize_real
from qinterp.ops._operator import Notes, Run
from qinterp.ops.softmax import SOFTMAX

_GUARD = 12  # digits before the decimal point of a code, and some to spare


@SOFTMAX.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real softmax of the dequantized row, rounded once."""
    call.types(input=INTEGERS, output=INTEGERS)
    shape = call["input"].shape
    step = Fraction(call.per_tensor(call["input"])[0]) * Fraction(call.attributes["beta"])
    unit = Fraction(call.per_tensor(call.output)[0])
    bounds = activation_bounds(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if not values[0].size:
            return [np.empty(shape, call.output.numpy_dtype)]
        x = values[0].astype(np.int64)
        below = x - x.max(axis=-1, keepdims=True)
        terms = np.exp(below * float(step))
        approx = terms / terms.sum(axis=-1, keepdims=True) / float(unit)
        rows = below.reshape(-1, shape[-1])

        def exact(i: int, digits: int) -> Fraction:
            row, column = divmod(i, shape[-1])
            distances, counts = np.unique(rows[row] - rows[row, column], return_counts=True)
            total = sum(
                int(n) * exp(int(d) * step, digits + _GUARD)
                for d, n in zip(distances, counts, strict=True)
            )
            return 1 / (total * unit)

        return [quantize_real(call, approx, exact, bounds)]

    return run
