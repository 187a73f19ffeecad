"""Average of every window, over the taps that lie in the image (clause O-average_pool_2d).

Source: tflite/kernels/internal/reference/integer_ops/pooling.h, pooling.h AveragePool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier, ratio_arrays
from qinterp.numerics.stages import Clamp, ScaleExact, Stage
from qinterp.ops._accumulate import (
    EXACT_SUM,
    INTEGERS,
    accumulated,
    activation_bounds,
    float_clamp,
)
from qinterp.ops._elementwise import Real, quantize_real
from qinterp.ops._fused import fuse
from qinterp.ops._operator import Notes, Run
from qinterp.ops._pool import Windows, pool

_MOST_PLACES = 1 << 18  # with a factor of their own

AVERAGE_POOL_2D = pool("average_pool_2d", "AVERAGE_POOL_2D")


@dataclass(frozen=True)
class AverageOfCodes:
    """The codes' sum divided by the number of taps; scales and zero points play no part.

    Attributes
    ----------
    stages : from the sum to the output code; the factor is one over the number of taps.
    """

    stages: tuple[Stage, ...] = (ScaleExact("ties_to_away"), Clamp())


@AVERAGE_POOL_2D.recipe("average_of_codes", AverageOfCodes, family="tflite")
def average_of_codes(call: Call) -> Run:
    """``out = sum(x) / count``, rounded and clamped."""
    call.types(input=INTEGERS, output=(call["input"].dtype,))
    windows = Windows.of(call)
    params: AverageOfCodes = call.params
    total = windows.sums(call, 0, call.policy.accumulator.codes)
    counts = windows.counts
    uniform = counts.size == 0 or int(counts.min()) == int(counts.max())
    factors = [Fraction(1, int(n)) for n in counts.reshape(-1)[: 1 if uniform else None]]
    multiplier, bounds = call.policy.multiplier, activation_bounds(call)
    rescale = _rescale(factors or [Fraction(1)], multiplier)
    stages = Requantizer(params.stages, rescale, bounds=bounds)
    if uniform:
        return total.finished(stages)
    kind, dtype, (n, h, w, c) = call["input"].int_type, call.output.numpy_dtype, call.output.shape
    # the factor depends on the place
    fused = None
    if h * w * c <= _MOST_PLACES:
        per_place = Requantizer(params.stages, _rescale(factors, multiplier, c), bounds=bounds)
        taps = np.repeat(counts.reshape(-1), c)
        fused = fuse(per_place, taps * kind.min, taps * kind.max, dtype)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        acc = accumulated(call, total(values[0]), notes)
        if fused is not None and acc.dtype == np.int32:
            out = np.empty(call.output.shape, dtype)
            fused.into(acc.reshape(n, h * w * c), out.reshape(n, h * w * c))
            return [out]
        flat = np.ascontiguousarray(acc.transpose(0, 3, 1, 2))
        codes = stages(flat.reshape(-1, h * w), np.empty((n * c, h * w), dtype))
        return [np.ascontiguousarray(codes.reshape(n, c, h, w).transpose(0, 2, 3, 1))]

    return run


def _rescale(factors: list[Fraction], multiplier: Multiplier, times: int = 1) -> Rescale:
    """One factor after the other, each so many times."""
    mantissa, shift = multiplier.arrays(factors)
    scale = np.array([float(f) for f in factors])
    parts = (scale, mantissa, shift, ratio_arrays(factors))
    return Rescale(*(np.repeat(part, times, axis=0) for part in parts))


@AVERAGE_POOL_2D.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """The real average, rounded once."""
    call.types(input=INTEGERS, output=INTEGERS)
    windows = Windows.of(call)
    scale, zero_point = call.per_tensor(call["input"])
    ratio = Fraction(scale) / Fraction(call.per_tensor(call.output)[0])
    counts = np.broadcast_to(windows.counts[:, :, None], call.output.shape)
    bounds = activation_bounds(call)
    sums = windows.sums(call, zero_point, EXACT_SUM)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        total, _ = sums(values[0])
        notes.add("accumulator", total)

        def exact(i: int, digits: int) -> Fraction:
            return Fraction(int(total.flat[i]), int(counts.flat[i])) * ratio

        return [quantize_real(call, total / counts * float(ratio), exact, bounds)]

    return run


@AVERAGE_POOL_2D.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Taps added one after the other in float32, then one division."""
    call.types(input=("float32",), output=("float32",))
    windows = Windows.of(call)
    counts = windows.counts.astype(np.float32)[:, :, None]
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [clamp(windows.float_sums(values[0]) / counts)]

    return run
