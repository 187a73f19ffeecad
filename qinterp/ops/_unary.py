"""What operators of one operand and the same shape share: declaration, tables, requantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import Stage
from qinterp.ops._accumulate import INTEGERS, activation_bounds
from qinterp.ops._elementwise import quantize_real
from qinterp.ops._operator import NO_NOTES, Notes, Operator, Run
from qinterp.ops._tables import codes_of, lookup
from qinterp.ops._tails import Elementwise, with_tail

_GUARD = 12  # digits before the decimal point of a code, and some to spare


def unary(
    kind: str,
    builtin: str,
    options: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    read: Callable[[Any], Mapping[str, Any]] | None = None,
) -> Operator:
    """Declare an operator of one operand whose output has the same shape.

    Parameters
    ----------
    builtin, options : TFLite's names of the operator and its option table.
    attributes : with their defaults.
    read : from TFLite's options to attributes; None: the file says nothing of them.
    """
    operator = Operator(kind, ("input",), attributes)

    @operator.reads_tflite(builtin, options)
    def from_tflite(table: Any) -> Mapping[str, Any]:
        return read(table) if read else {}

    @operator.infers
    def shapes(call: Call) -> list[Shape]:
        return [call["input"].shape]

    return operator


def pointwise(call: Call, function: Callable[[Array], Array]) -> Run:
    """A run that looks up what ``function`` gives for every code of the input, as int64."""
    zero_point = call.per_tensor(call["input"])[1]
    dtype = call.output.numpy_dtype

    def evaluate(values: Sequence[Any], out: Array) -> None:
        out[...] = function(values[0].astype(np.int64)).astype(dtype)

    try:
        into = lookup(call, function(codes_of(call["input"].dtype))).into
    except OverflowError:  # of codes that perhaps do not occur
        into = evaluate

    def noted(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        notes.add("accumulator", values[0].astype(np.int64) - zero_point)
        return plain(values, NO_NOTES)

    plain = Elementwise(call, into)
    return Elementwise(call, into, noted)


Make = Callable[[tuple[Stage, ...]], Run]
"""From stages of a requantization to a run."""


def by_policy(call: Call, make: Make) -> Run:
    """The run by the policy's stages, and by those of its tail where it has one."""
    body, tail = make(call.policy.requantize), call.policy.tail
    return body if tail is None else with_tail(call, body, make(tail.requantize), tail)


def requantizer(call: Call, stages: tuple[Stage, ...], factor: float = 1.0) -> Requantizer:
    """From ``code - zero_point``, times ``factor``, to codes of the output, by ``stages``."""
    policy = call.policy
    scale, _ = call.per_tensor(call["input"])
    scale_out, zero_point = call.per_tensor(call.output)
    rescale = Rescale.of_scales(scale, factor, scale_out, policy.effective_scale, policy.multiplier)
    return Requantizer(stages, rescale, zero_point=zero_point, bounds=activation_bounds(call))


def real_table(
    call: Call,
    approximate: Callable[[Array], Array],
    exact: Callable[[Fraction, int], Fraction],
) -> Run:
    """The real function of the dequantized operand, rounded once, for every code.

    Parameters
    ----------
    approximate : on float64 arrays; where it gives an infinity the code saturates.
    exact : argument and digits to a value with a relative error below ``10**-digits``.
    """
    call.types(input=INTEGERS, output=INTEGERS)
    scale, zero_point = call.per_tensor(call["input"])
    unit = call.per_tensor(call.output)[0]
    steps = codes_of(call["input"].dtype) - zero_point
    with np.errstate(all="ignore"):
        approx = approximate(steps * scale) / unit

    def value(i: int, digits: int) -> Fraction:
        return exact(int(steps[i]) * Fraction(scale), digits + _GUARD) / Fraction(unit)

    return lookup(call, quantize_real(call, approx, value, activation_bounds(call)))
