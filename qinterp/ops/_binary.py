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

from qinterp import _kernels
from qinterp.ir import Call, Tensor
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer
from qinterp.numerics.scales import ACTIVATIONS
from qinterp.ops._accumulate import INTEGERS, activation_bounds, check_activation, float_clamp
from qinterp.ops._elementwise import broadcast_shape, quantize_real, real_finish
from qinterp.ops._fused import fuse
from qinterp.ops._operator import NO_NOTES, Notes, Operator, Run
from qinterp.ops._tails import Elementwise
from qinterp.scheme import Policy, RecipeChoice

Codes = npt.NDArray[np.int64]
Function = Callable[[Any, Any], Any]
Into = Callable[[Sequence[Any], Array], None]
"""From both operands to the output, or from parts of them, flat, to its part."""

_PAIRS = 1 << 16
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


def pairwise(
    call: Call,
    evaluate: Callable[[Array, Array, Notes], Array],
    into: Into | None = None,
    later: Callable[[], Into | None] | None = None,
) -> Run:
    """``evaluate(codes of input1, codes of input2, notes)``, by something faster where there is.

    Parameters
    ----------
    into : gives the same where no notes are wanted.
    later : makes that once so many elements have been evaluated that it pays; of operands of 8
        bits a table of all pairs of codes by default.
    """

    def noted(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.asarray(evaluate(values[0], values[1], notes))]

    if into is not None:
        return Elementwise(call, into, noted)
    if all(call[name].numpy_dtype.itemsize == 1 for name in ("input1", "input2")):
        later = later or (lambda: _by_all_pairs(call, evaluate))
    size = math.prod(call.output.shape)
    left = _PAIRS if later is not None and size else -1
    fast: Run | None = None

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        nonlocal fast, left
        if fast is not None and not notes.wanted:
            return fast(values, notes)
        out = noted(values, notes)
        if left > 0:
            left -= size
            if left <= 0 and later is not None:
                made = later()
                fast = None if made is None else Elementwise(call, made)
        return out

    return run


def _by_all_pairs(call: Call, evaluate: Callable[[Array, Array, Notes], Array]) -> Into | None:
    """A table of what ``evaluate`` gives, None if some pair is an error."""
    first, second = (codes_by_pattern(call[name].numpy_dtype) for name in ("input1", "input2"))
    try:
        made = evaluate(first[:, None], second[None, :], NO_NOTES)
    except ArithmeticError:  # of a pair that may never occur
        return None
    table = np.ascontiguousarray(made, call.output.numpy_dtype).reshape(-1)
    shape = call.output.shape

    def into(values: Sequence[Any], out: Array) -> None:
        a, b = (v if v.shape == shape else np.broadcast_to(v, shape) for v in values)
        _kernels.look_up_pairs(table, a, b, out)

    return into


def codes_by_pattern(dtype: Any) -> Array:
    """All codes of a type of 8 or 16 bits in the order of their bits."""
    kind = np.dtype(dtype)
    return np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)


def combined(
    call: Call,
    combination: int,
    operands: Sequence[tuple[Any, Any]],
    to_code: Requantizer,
) -> Into | None:
    """What sums, multiplies or compares both operands and requantizes that, without notes.

    Parameters
    ----------
    combination : of ``_kernels.Combination``.
    operands : the type of each, and its zero point or a table of what its codes stand for.

    Returns
    -------
    None where a result may need more than 32 bits.
    """
    try:
        first, second = operands
        pairs = _kernels.Pairs(combination, first, second)
    except ValueError:
        return None
    return Combined(call, pairs, to_code)


class Combined:
    """Both operands combined and requantized; ``task``: the same for a chain."""

    def __init__(self, call: Call, pairs: _kernels.Pairs, to_code: Requantizer) -> None:
        dtype = call.output.numpy_dtype
        self._pairs, self._to_code = pairs, to_code
        self._fused = fuse(to_code, np.array([pairs.low]), np.array([pairs.high]), dtype)
        self._shape = call.output.shape
        shapes = [call[name].shape for name in ("input1", "input2")]
        self._strange = [_is_strange(shape, self._shape) for shape in shapes]
        a, b, n = (math.prod(shape) for shape in (*shapes, self._shape))
        self.task = None
        if self._fused is not None and n and not any(self._strange):
            self.task = pairs.task((a, b, n), self._fused, dtype)

    def __call__(self, values: Sequence[Any], out: Array) -> None:
        """See :data:`Into`."""
        a, b = values
        if self._strange[0]:
            a = np.broadcast_to(a, self._shape)
        if self._strange[1]:
            b = np.broadcast_to(b, self._shape)
        if self._fused is not None:
            self._pairs.requantize_into(a, b, out, self._fused)
        else:
            self._to_code(self._pairs.accumulate(a, b, out.shape), out)


def _is_strange(shape: Shape, whole: Shape) -> bool:
    """Whether an operand is broadcast otherwise than by repeating all of it."""
    first = next((i for i, d in enumerate(shape) if d != 1), len(shape))
    rest = shape[first:]
    return whole[len(whole) - len(rest) :] != rest


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
