"""What elementwise operators share: broadcasting and inputs on a common scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.ir import Call, Tensor
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.real import Exact, round_real
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import Rounding
from qinterp.numerics.stages import AddZeroPoint, Clamp, ScaleExact
from qinterp.ops._accumulate import activation_bounds


def broadcast_shape(call: Call, *operands: str) -> Shape:
    """The shape that the operands broadcast to; ModelFormatError if they do not."""
    shapes = [call[name].shape for name in operands]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(call[name].describe() for name in operands)
        call.malformed(f"{listed} do not broadcast")


def apply_stages(stages: Requantizer, x: Array, dtype: Any = np.int64) -> Array:
    """Run a stage list on ``x`` of any shape, into a new array of ``dtype``."""
    return stages(np.asarray(x, order="C"), np.empty(x.shape, dtype))


@dataclass(frozen=True)
class Real:
    """Real arithmetic on the dequantized operands, rounded once to the output's grid."""

    rounding: Rounding = "ties_to_even"


def quantize_real(
    call: Call, approx: Array, exact: Exact, bounds: tuple[int, int], error: float = 2.0**-36
) -> Array:
    """Codes of real values given in steps of the output's scale (the zero point not yet added).

    ``call.params`` is a :class:`Real`; see :func:`qinterp.numerics.real.round_real`.
    """
    zero_point = call.per_tensor(call.output)[1]
    limits = (bounds[0] - zero_point, bounds[1] - zero_point)
    params: Real = call.params
    codes = round_real(approx, exact, rounding=params.rounding, error=error, bounds=limits)
    result: Array = (codes + zero_point).astype(call.output.numpy_dtype)
    return result


def real_rescale(call: Call, tensor: Tensor) -> Callable[[Array], Array]:
    """From codes of an operand to codes of the output that stand for the same real numbers.

    ``call.params`` is a :class:`Real`.
    """
    scale, zero_point = call.per_tensor(tensor)
    finish = real_finish(call, Fraction(scale))
    return lambda x: finish(x.astype(np.int64) - zero_point)


def real_finish(call: Call, factor: Fraction) -> Callable[[Array], Array]:
    """From integers that count multiples of the real ``factor`` to codes of the output.

    ``call.params`` is a :class:`Real`.
    """
    scale, zero_point = call.per_tensor(call.output)
    params: Real = call.params
    stages = Requantizer(
        (ScaleExact(params.rounding), AddZeroPoint(64, "saturate"), Clamp()),
        Rescale.of_factor(factor / Fraction(scale), call.policy.multiplier),
        zero_point=zero_point,
        bounds=activation_bounds(call),
    )
    dtype = call.output.numpy_dtype
    return lambda x: apply_stages(stages, x, dtype)
