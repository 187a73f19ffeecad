"""Stage lists that a kernel applies while accumulators are still at hand.

A list that is not fused as it stands often equals one that is, given what accumulators can be: a
saturation that nothing reaches, a left shift by nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from qinterp import _kernels
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer
from qinterp.numerics.rounding import Overflow
from qinterp.numerics.stages import (
    NAMED_STAGES,
    AddZeroPoint,
    Clamp,
    ClampFloat,
    DivideScale,
    Multiply,
    MultiplyHigh,
    Round,
    Saturate,
    Scale,
    ScaleExact,
    ShiftLeft,
    ShiftRight,
    Stage,
    Wrap,
)

_FLOAT32 = NAMED_STAGES["float32_ties_to_even"]
_FUSED = {
    NAMED_STAGES["gemmlowp"]: _kernels.Fused.DR,
    NAMED_STAGES["double_rounding_toward_positive"]: _kernels.Fused.DU,
    NAMED_STAGES["single_rounding"]: _kernels.Fused.SR,
    _FLOAT32: _kernels.Fused.FLOAT32,
    NAMED_STAGES["float32_ties_to_even_avx512"]: _kernels.Fused.FLOAT32,
    NAMED_STAGES["float64_ties_to_away"]: _kernels.Fused.FLOAT64,
}
_HIGH = MultiplyHigh("ties_toward_positive")
_RIGHT, _SHIFT = ShiftRight("ties_to_away"), ShiftRight("ties_toward_positive")
_WITHOUT_LEFT = {(_HIGH, _RIGHT): _kernels.Fused.DR, (_HIGH, _SHIFT): _kernels.Fused.DU}
# what shifts to the left is checked to fit, so that it does not matter what would be if it did not
_WITH_LEFT = {
    (ShiftLeft(overflow=overflow), *body): kind
    for body, kind in _WITHOUT_LEFT.items()
    for overflow in get_args(Overflow)
}
_SINGLE = (Multiply(), ShiftRight("ties_toward_positive", "total", 31))
_PRE_POST = NAMED_STAGES["shift_multiply_shift"]
_QUOTIENT = (ScaleExact("ties_to_away"),)
_SMALL = 4096
_BITS = 24  # hold every number that the fast form of a Quantizer takes
_FLOATS = (_kernels.Fused.FLOAT32, _kernels.Fused.FLOAT64)


def fuse(to_code: Requantizer, low: Array, high: Array, dtype: Any, isa: str | None = None) -> Any:
    """The ``_kernels.Requantizer`` that gives what ``to_code`` does, None if none is known to.

    Parameters
    ----------
    low, high : int64, the least and the greatest accumulator of each channel; one element for a
        kernel that takes one channel for all.
    dtype : of the codes.
    """
    if low.dtype != np.int64 or np.dtype(dtype).itemsize > 2 or not low.size:
        return None
    r = to_code.rescale
    kind = _FUSED.get(to_code.stages)
    multiplier, shift, scale, pre = r.multiplier, r.shift, r.scale, None
    if kind is None:
        found = _equal_to(to_code, low, high)
        if found is None:
            return None
        kind, multiplier, shift, scale, pre = found
    elif kind in _FLOATS and to_code.stages != _FLOAT32:
        # the fused form saturates where the stage list gives x86's indefinite integer
        largest = np.maximum(-low, high) * np.abs(scale)
        if largest.max(initial=0.0) >= 2.0**31 - 1:
            return None
    by_float = kind in _FLOATS
    try:
        return _kernels.Requantizer(
            kind,
            len(low),
            None if by_float else multiplier,
            None if by_float else shift,
            scale if by_float else None,
            to_code.zero_point,
            *to_code.bounds,
            accumulator_range=(low, high),
            isa=isa,
            pre=pre,
        )
    except ValueError:  # a multiplier that the fused form does not take
        return None


def _equal_to(
    to_code: Requantizer, low: Array, high: Array
) -> tuple[Any, Array, Array, Array, Array | None] | None:
    """A kind, its multiplier, shift and scale, and shifts before, where the list equals it.

    That is for these accumulators.
    """
    body, ends = _split(to_code.stages)
    if not body or not ends or not isinstance(ends[-1], Clamp):
        return None
    r = to_code.rescale
    multiplier, shift, scale, pre = r.multiplier, r.shift, r.scale, None
    if int(low.min()) < -1 << 31 or int(high.max()) >= 1 << 31:
        return None
    left = shift.clip(0, 31)
    if (multiplier < 0).any() or (np.maximum(-low, high + 1) << left > 1 << 31).any():
        return None  # the body does not grow with its accumulator
    if body in _WITH_LEFT:
        kind = _WITH_LEFT[body]
    elif body in _WITHOUT_LEFT and (shift <= 0).all():
        kind = _WITHOUT_LEFT[body]
    elif body == _SINGLE:
        kind = _kernels.Fused.SR
    elif body == (_SHIFT,) and (shift <= 0).all():
        # x / 2**n = x * 2**30 / 2**(30 + n)
        kind, multiplier, shift = _kernels.Fused.SR, np.full_like(multiplier, 1 << 30), shift + 1
    elif body == _PRE_POST and r.pre is not None and r.post is not None:
        largest = np.maximum(-(low >> r.pre), high >> r.pre)
        if (np.minimum(r.pre, r.post) < 0).any() or (np.maximum(r.pre, r.post) > 30).any():
            return None
        if (multiplier >= 1 << 31).any() or (
            largest * multiplier + (1 << r.post >> 1) >= 1 << 31
        ).any():
            return None  # the product may wrap
        spare = 30 - np.frexp(np.maximum(multiplier, 1).astype(np.float64))[1] + 1
        kind, pre = _kernels.Fused.SR, r.pre if r.pre.any() else None
        multiplier, shift = multiplier << spare, 31 - r.post - spare
    elif body == _QUOTIENT and (r.ratio[:, 0] == 1).all():
        divisor = r.ratio[:, 1] << (-r.ratio[:, 2]).clip(0, 20)
        if (r.ratio[:, 2] > 0).any() or (r.ratio[:, 2] < -20).any() or (divisor > 1 << 20).any():
            return None
        # of 32 bits and a small divisor: the product with the next double above its reciprocal is
        # not below a tie where the quotient is one, and else too close to it to reach the next one
        kind, scale = _kernels.Fused.FLOAT64, np.nextafter(1.0 / divisor, 2.0)
    else:
        return None
    if not _ends_are_plain(to_code, body, ends, low, high):
        return None
    return kind, multiplier, shift, scale, pre


def _split(stages: Sequence[Stage]) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """The stages that rescale, and those behind them that fit, move and clamp."""
    cut = len(stages)
    while cut and isinstance(stages[cut - 1], (Saturate, Wrap, AddZeroPoint, Clamp)):
        cut -= 1
    return tuple(stages[:cut]), tuple(stages[cut:])


def _ends_are_plain(
    to_code: Requantizer, body: tuple[Stage, ...], ends: tuple[Stage, ...], low: Array, high: Array
) -> bool:
    """Whether the last stages only add the zero point, if there is one, and clamp."""
    zero_point, bounds = to_code.zero_point, to_code.bounds
    values = np.ascontiguousarray(np.stack([low, high]))
    values = Requantizer(body, to_code.rescale)(values, np.empty_like(values))
    least, most = int(values.min()), int(values.max())
    small = abs(zero_point) <= _SMALL and max(map(abs, bounds)) <= _SMALL
    moved = False

    def fits(bits: int) -> bool:
        return -1 << bits - 1 <= least and most < 1 << bits - 1

    for stage in ends[:-1]:
        if isinstance(stage, AddZeroPoint):
            if moved:
                return False
            least, most, moved = least + zero_point, most + zero_point, True
            beyond = stage.overflow == "saturate" and stage.bits > 14 and small
            if not fits(stage.bits) and not (beyond and fits(32)):
                return False
        elif isinstance(stage, Saturate):
            # what saturates there is clamped later, on the same side
            if not fits(stage.bits) and not (stage.bits > 14 and small and fits(32)):
                return False
        elif not isinstance(stage, Wrap) or not fits(stage.bits):
            return False
    return (moved or zero_point == 0) and fits(32)


def fuse_float(to_code: Requantizer, dtype: Any, isa: str | None = None) -> Any:
    """The ``_kernels.Quantizer`` that gives what ``to_code`` does to float32, None if none does."""
    if to_code.rescale.scale.size != 1 or np.dtype(dtype).itemsize > 2:
        return None
    rest = list(to_code.stages)
    scale, divide, first = 1.0, False, False
    if rest and rest[0] in (Scale("float32"), DivideScale("float32")):
        scale, divide = float(to_code.rescale.scale[0]), isinstance(rest.pop(0), DivideScale)
    if rest and isinstance(rest[0], AddZeroPoint):
        first = rest.pop(0) is not None
    if rest and isinstance(rest[0], ClampFloat) and not first:  # to integers, which clamp again
        rest.pop(0)
    if not rest or not isinstance(rest[0], Round):
        return None
    rounding = rest.pop(0)
    assert isinstance(rounding, Round)
    if rounding.bits < _BITS or rounding.overflow == "error":
        return None
    if rounding.rounding not in ("ties_to_even", "ties_to_away") or rest[-1:] != [Clamp()]:
        return None
    zero_point, bounds = to_code.zero_point, to_code.bounds
    if not first:
        *fits, moves = rest[:-1] or [Clamp()]
        if not isinstance(moves, AddZeroPoint) or moves.overflow == "error":
            return None
        small = abs(zero_point) <= _SMALL and max(map(abs, bounds)) <= _SMALL
        # what saturates at 16 bits is clamped later, on the same side
        short = small and fits == [Saturate(16)] and moves == AddZeroPoint(16, "saturate")
        if not short and (fits or moves.bits < _BITS):
            return None
    elif len(rest) > 1:
        return None
    try:
        return _kernels.Quantizer(
            to_code.program, scale, zero_point, *bounds, dtype,
            divide=divide, to_even=rounding.rounding == "ties_to_even", zero_point_first=first,
            isa=isa,
        )  # fmt: skip
    except ValueError:
        return None
