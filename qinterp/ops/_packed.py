"""How accumulators are computed: packed in any order where that is proven, else in order.

Clause A8; the proof is made per output channel when the node is prepared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.accumulators import Proof, prove
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.ops._accumulate import Finish, all_constant, check_overflow, known_bias
from qinterp.ops._fused import fuse
from qinterp.ops._operator import Notes

_WRAP = OVERFLOW_CODE["wrap"]

Plain = Callable[[Sequence[Any]], tuple[Array, bool]]
"""From the operand arrays to accumulators and their overflow flag, in the accumulator's order."""
Pack = Callable[..., Any]
"""Makes a packed form, with the options of ``_kernels.PackedConv``."""


def identity(x: Array) -> Array:
    """The input as the kernel takes it."""
    return x


class AccumulateRun:
    """A prepared sum of products with its requantization.

    Attributes
    ----------
    proof : which orders give the backend's bits; ``kernel`` and ``isa`` say what computes them.
    task : the same for a chain, None where it takes more than a call of a kernel.
    """

    def __init__(
        self,
        call: Call,
        finish: Finish,
        plain: Plain,
        proof: Proof,
        packed: Any = None,
        arrange: Callable[[Array], Array] = identity,
        *,
        wide: bool = False,
    ) -> None:
        self._call = call
        self._finish = finish
        self._plain = plain
        self._arrange = arrange
        self._packed = packed
        self._shape = call.output.shape
        self._dtype = call.output.numpy_dtype
        accumulator = call.policy.accumulator
        self._bits = accumulator.bits
        self._channels = 0 if packed is None else len(packed.low)
        self._wraps = accumulator.overflow == "wrap" and proof.headroom < 0 and self._bits < 32
        self._fused = None
        # 64-bit accumulators have no fused form
        whole = finish.tail is None and finish.bias is None and not wide
        if packed is not None and whole and not self._wraps:
            self._fused = fuse(finish.body, packed.low, packed.high, self._dtype, packed.isa)
        self.task: _kernels.Task | None = None
        if self._fused is not None and accumulator.overflow != "error":
            batch = math.prod(self._shape) // math.prod(packed.out_shape)
            self.task = packed.task(batch, self._fused, self._dtype)
        kernel = "step by step" if packed is None else f"{packed.kernel} {packed.isa}"
        fused = ", fused" if self._fused else ""
        self.proof = Proof(proof.any_order, f"{kernel}{fused}: {proof.reason}", proof.headroom)

    def __call__(self, values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        """Codes of the output."""
        if self._packed is None:
            return [self._finish(self._plain(values), notes).reshape(self._shape)]
        x = self._arrange(values[0])
        if self._fused is not None and not notes.wanted:
            out = np.empty(self._shape, self._dtype)
            rows = out.reshape(len(x), self._channels) if x.ndim == 2 else out
            overflowed = self._packed.requantize_into(x, rows, self._fused)
            if overflowed:
                check_overflow(self._call)
            return [out]
        acc, overflowed = self._packed.accumulate(x)
        if self._wraps:
            acc = _kernels.fit(acc, self._bits, _WRAP).astype(np.int32)
        elif self._bits > 32:
            acc = acc.astype(np.int64, copy=False)
        return [self._finish((acc, overflowed), notes).reshape(self._shape)]


def prepare_run(
    call: Call,
    finish: Finish,
    plain: Plain,
    pack: Pack,
    x: Tensor,
    weights: tuple[str, Callable[[Array], Array]],
    weight_zero_point: npt.NDArray[np.int64],
    *,
    taps: Array | None = None,
    arrange: Callable[[Array], Array] = identity,
) -> AccumulateRun:
    """The fastest way to the policy's accumulators.

    Parameters
    ----------
    plain : the step-by-step kernel.
    pack : makes the packed form; a ValueError means that there is none for these operands.
    weights : their operand, and what turns its codes into (output channels, products).
    arrange : the input as the packed form takes it.
    """
    accumulator = call.policy.accumulator
    operand, as_rows = weights
    if not all_constant(call, operand, "bias"):
        proof = Proof(False, "the weights are computed", 0)
        return AccumulateRun(call, finish, plain, proof)
    kind = x.int_type
    proof = prove(
        accumulator,
        as_rows(call.value(operand)),
        weight_zero_point,
        (kind.min, kind.max),
        x.zero_point,
        known_bias(call),
    )
    fits_32 = accumulator.bits - proof.headroom <= 32
    options: dict[str, Any]
    if accumulator.padding == "zero":  # the packed forms skip padding taps in any order
        proof = Proof(False, "padding taps have code 0", proof.headroom)
    if not proof.any_order:
        options = {"ordered": accumulator.codes, "taps": taps}
    elif fits_32 or (accumulator.overflow == "wrap" and accumulator.bits <= 32):
        options = {}
    elif accumulator.bits - proof.headroom <= 64:
        options = {"wide": True}
    else:
        return AccumulateRun(call, finish, plain, proof)
    if accumulator.check == "at_end" and accumulator.overflow != "wrap" and proof.headroom < 0:
        return AccumulateRun(call, finish, plain, proof)
    try:
        packed = pack(**options)
    except (ValueError, TypeError, OverflowError):  # no packed form for these
        packed = None
    wide = "wide" in options
    return AccumulateRun(call, finish, plain, proof, packed, arrange, wide=wide)
