"""Reductions to the greatest or the least element.

Source: tflite/kernels/reduce.cc EvalType, ReduceAllDims; tflite/kernels/internal/reference/reduce.h
ReduceGeneric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.ops._elementwise import Real, real_rescale
from qinterp.ops._folds import extrema
from qinterp.ops._movement import check_same_parameters
from qinterp.ops._operator import ANY_FAMILY, KernelRun, Notes, Operator, Run
from qinterp.ops._reduce import gatherer, reduced_axes, reduced_fold, reduction

TYPES = ("int8", "uint8", "int16", "int32", "int64")


def extremum(kind: str, builtin: str, choose: np.ufunc, choose_number: np.ufunc) -> Operator:
    """Declare a reduction by ``choose``; of floats by ``choose_number``, which passes over NaN."""
    operator = reduction(kind, builtin)
    greatest = choose is np.maximum

    def codes(call: Call) -> Callable[[Array], Array]:
        call.types(input=TYPES, output=TYPES)
        limits = np.iinfo(call["input"].numpy_dtype)
        worst = limits.min if greatest else limits.max
        rows, shape = gatherer(call), call.output.shape
        fast = extrema(call, reduced_fold(call), greatest, (limits.min, limits.max))
        if fast is not None:
            return fast

        def reduce(x: Array) -> Array:
            result: Array = choose.reduce(rows(x), axis=1, initial=worst).reshape(shape)
            return result

        return reduce

    @operator.recipe("code", family=ANY_FAMILY)
    def code(call: Call) -> Run:
        """One of the codes; input and output have the same parameters."""
        call.types(output=(call["input"].dtype,))
        check_same_parameters(call, [call["input"], call.output])
        reduce = codes(call)
        task = getattr(reduce, "task", None)
        return KernelRun(lambda values, notes: [reduce(values[0])], task)

    @operator.recipe("real", Real, family="real")
    def real(call: Call) -> Run:
        """One of the real numbers, rounded once to the output's grid."""
        reduce = codes(call)
        if call["input"].quantization is None:
            return code(call)
        rescale = real_rescale(call, call["input"])
        return lambda values, notes: [rescale(reduce(values[0]))]

    @operator.recipe("float32", floats=True)
    def float32(call: Call) -> Run:
        """NaN is passed over, except as the first element where everything is reduced.

        The search begins with the last finite number, or, where everything is reduced, with the
        first element.
        """
        call.types(input=("float32",), output=("float32",))
        finite = np.finfo(np.float32)
        worst = finite.min if greatest else finite.max
        rows, shape = gatherer(call), call.output.shape
        whole = len(reduced_axes(call)) == len(call["input"].shape)

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            x = rows(values[0])
            if whole and x.size:
                best = np.float32(np.nan) if np.isnan(x[0, 0]) else choose_number.reduce(x, axis=1)
                return [np.full(shape, best, np.float32)]
            return [choose_number.reduce(x, axis=1, initial=worst).reshape(shape)]

        return run

    return operator
