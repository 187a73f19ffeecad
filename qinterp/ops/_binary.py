"""What elementwise operators of two operands share.

Source of the integer arithmetic: tflite/kernels/kernel_util.h CalculateActivationRange;
tflite/kernels/internal/common.h ActivationFunctionWithMinMax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call, Tensor
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.scales import ACTIVATIONS
from qinterp.ops._accumulate import INTEGERS, activation_bounds, check_activation, float_clamp
from qinterp.ops._elementwise import broadcast_shape, quantize_real, real_finish
from qinterp.ops._operator import NO_NOTES, Notes, Operator, Run
from qinterp.scheme import Policy, RecipeChoice

Codes = npt.NDArray[np.int64]
Function = Callable[[Any, Any], Any]

_PAIRS_FROM = 1 << 15
_EXACT_BITS = 62


class Binary(Operator):
    """An elementwise operator of two operands, which may also be integers without a scale.

    Those have the recipe "integers" in every scheme.
    """

    def __init__(self, kind: str, attributes: Mapping[str, Any] | None = None) -> None:
        super().__init__(kind, ("input1", "input2"), attributes)

    def choice(self, call: Call, policy: Policy) -> RecipeChoice | None:
        """See :meth:`Operator.choice`."""
        if not is_plain(call["input1"]):
            return super().choice(call, policy)
        named = policy.recipe
        return named if named and named.name == "integers" else RecipeChoice("integers")


def is_plain(tensor: Tensor) -> bool:
    """Whether elements are integers, or truth values, that stand for themselves."""
    if tensor.dtype in ("int32", "int64"):
        return True
    return tensor.quantization is None and not tensor.is_float


def shapes(call: Call) -> list[Shape]:
    """The operands broadcast to each other."""
    if "activation" in call.attributes:
        check_activation(call)
    return [broadcast_shape(call, "input1", "input2")]


def one_type(call: Call, *dtypes: str) -> None:
    """UnsupportedOperatorError unless operands and output have one type of ``dtypes``."""
    first = call["input1"].dtype
    call.types(input1=dtypes, input2=(first,), output=(first,))


def integers(call: Call, function: Function, *dtypes: str, activated: bool = True) -> Run:
    """``function`` modulo the width of the type, then the activation.

    Parameters
    ----------
    dtypes : what LiteRT has it for.
    activated : the activation is read.
    """
    one_type(call, *dtypes)
    low, high = ACTIVATIONS[call.attributes.get("activation", "none") if activated else "none"]

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(over="ignore"):
            out = function(values[0], values[1])
        if low is not None:
            out = np.clip(out, int(low), None if high is None else int(high))
        return [np.asarray(out)]

    return run


def floats(call: Call, function: Function) -> Run:
    """``function`` in float32, then the activation."""
    one_type(call, "float32")
    clamp = float_clamp(call)

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        with np.errstate(all="ignore"):
            return [np.asarray(clamp(function(values[0], values[1])))]

    return run


def pairwise(call: Call, evaluate: Callable[[Array, Array, Notes], Array]) -> Run:
    """``evaluate(codes of input1, codes of input2, notes)``, by a table where that is faster.

    Two operands of 8 bits have 65536 pairs of codes; a larger output looks its elements up.
    """
    tensors = (call["input1"], call["input2"])
    table: Array | None = None
    if (
        all(t.numpy_dtype.itemsize == 1 for t in tensors)
        and math.prod(call.output.shape) >= _PAIRS_FROM
    ):
        patterns = np.arange(256, dtype=np.uint8)
        first, second = (patterns.view(t.numpy_dtype) for t in tensors)
        try:
            table = evaluate(first[:, None], second[None, :], NO_NOTES).reshape(-1)
        except ArithmeticError:  # of a pair that may never occur
            table = None

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if table is None or notes.wanted:
            return [np.asarray(evaluate(values[0], values[1], notes))]
        high = values[0].view(np.uint8).astype(np.uint16) << 8
        return [table[high | values[1].view(np.uint8)]]

    return run


# ---- real arithmetic ------------------------------------------------------------------------


def real_types(call: Call) -> None:
    """UnsupportedOperatorError unless all tensors are quantized codes."""
    call.types(input1=INTEGERS, input2=INTEGERS, output=INTEGERS)


def operand_scales(call: Call) -> tuple[Fraction, Fraction]:
    """The operands' scales as exact rationals."""
    first, second = (call.per_tensor(call[name])[0] for name in ("input1", "input2"))
    return Fraction(first), Fraction(second)


def subtract_zero_points(call: Call) -> Callable[[Array, Array], tuple[Codes, Codes]]:
    """From codes to codes less their zero points, as int64."""
    first, second = (call.per_tensor(call[name])[1] for name in ("input1", "input2"))

    def subtract(a: Array, b: Array) -> tuple[Codes, Codes]:
        return a.astype(np.int64) - first, b.astype(np.int64) - second

    return subtract


def common_unit(call: Call) -> tuple[int, int, Fraction, bool]:
    """The scales as multiples of one real number.

    Returns
    -------
    Both multiples, that number, and whether codes times multiples stay within 62 bits.
    """
    first, second = operand_scales(call)
    unit = Fraction(
        math.gcd(first.numerator * second.denominator, second.numerator * first.denominator),
        first.denominator * second.denominator,
    )
    multiples = int(first / unit), int(second / unit)
    fits = max(multiples).bit_length() + 18 <= _EXACT_BITS
    return *multiples, unit, fits


def real_sum(call: Call, sign: int) -> Run:
    """``input1 + sign * input2`` as real numbers, rounded once."""
    real_types(call)
    subtract = subtract_zero_points(call)
    m1, m2, unit, fits = common_unit(call)
    finish = real_finish(call, unit)
    ratio = unit / Fraction(call.per_tensor(call.output)[0])
    r1, r2 = float(m1 * ratio), float(sign * m2 * ratio)
    bounds = activation_bounds(call)

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        a, b = subtract(x1, x2)
        if fits:
            return finish(a * m1 + b * (sign * m2))
        a, b = np.broadcast_arrays(a, b)

        def exact(i: int, digits: int) -> Fraction:
            return (int(a.flat[i]) * m1 + sign * int(b.flat[i]) * m2) * ratio

        # terms may cancel, so that the error is relative to the larger of them
        largest = max(abs(r1), abs(r2)) * 2.0**17
        return quantize_real(
            call, a * r1 + b * r2, exact, bounds, max(2.0**-36, largest * 2.0**-51)
        )

    return pairwise(call, evaluate)
