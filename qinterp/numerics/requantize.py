"""A stage list made ready for one tensor: program, multipliers, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.numerics.scales import EffectiveScale, Multiplier, ratio_arrays
from qinterp.numerics.stages import MultiplyHigh, ScaleExact, Stage

Array = npt.NDArray[Any]
_NO_RATIO = np.array([[1, 1, 0]], np.int64)


@dataclass(frozen=True, eq=False)
class Rescale:
    """A real factor in every form a stage may ask for.

    Attributes
    ----------
    scale : float64, (1,) or (C,).
    multiplier, shift : int64 of the same length.
    ratio : int64 (1 or C, 3), the exact rational, only for exact stages.
    pre, post : int64 of the same length, only with a multiplier of that form.
    """

    scale: npt.NDArray[np.float64]
    multiplier: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]
    ratio: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_RATIO)
    pre: npt.NDArray[np.int64] | None = None
    post: npt.NDArray[np.int64] | None = None

    @classmethod
    def of_scales(
        cls,
        a: npt.ArrayLike,
        b: npt.ArrayLike,
        out: npt.ArrayLike,
        effective: EffectiveScale,
        multiplier: Multiplier,
    ) -> Rescale:
        """From the factor ``a * b / out`` of float32 scales."""
        scale, exact = effective.of(a, b, out)
        ratio = ratio_arrays(exact) if exact else _NO_RATIO
        return cls._of(scale, exact or scale, ratio, multiplier)

    @classmethod
    def of_factor(cls, factor: float | Fraction, multiplier: Multiplier) -> Rescale:
        """From one factor, a float64 value or an exact rational."""
        exact = ratio_arrays([factor]) if isinstance(factor, Fraction) else _NO_RATIO
        return cls._of(np.array([float(factor)]), [Fraction(factor)], exact, multiplier)

    @classmethod
    def _of(
        cls,
        scale: npt.NDArray[np.float64],
        values: npt.NDArray[np.float64] | list[Fraction],
        ratio: npt.NDArray[np.int64],
        multiplier: Multiplier,
    ) -> Rescale:
        if multiplier.form != "pre_post_shift":
            return cls(scale, *multiplier.arrays(values), ratio)
        pre, mantissa, post = multiplier.pre_post_arrays(values)
        return cls(scale, mantissa, -(pre + post), ratio, pre, post)


def program_of(stages: Sequence[Stage]) -> npt.NDArray[np.int64]:
    """The stages as kernels take them, (stages, 6)."""
    program = np.zeros((len(stages), 6), np.int64)
    for i, stage in enumerate(stages):
        row = stage.row()
        program[i, : len(row)] = row
    return program


class Requantizer:
    """Applies a stage list to accumulators."""

    def __init__(
        self,
        stages: Sequence[Stage],
        rescale: Rescale,
        *,
        zero_point: int = 0,
        bounds: tuple[int, int] = (0, 0),
    ) -> None:
        self.program = program_of(stages)
        self.stages = tuple(stages)
        self.rescale = rescale
        self.zero_point = zero_point
        self.bounds = bounds
        r = rescale
        self._channels = max(r.scale.size, 1)
        self._kernel = _kernels.Stages(
            self.program,
            r.multiplier,
            r.shift,
            r.scale,
            r.ratio,
            zero_point,
            *bounds,
            r.pre,
            r.post,
        )

    def __call__(self, x: Array, out: Array) -> Array:
        """Run the stages on ``x`` into ``out``, both (..., C) or anything where C is 1.

        Raises
        ------
        OverflowError : a stage whose overflow is "error" left its range.
        """
        if self._channels == 1:
            overflowed = self._kernel.into(x, out)
        else:
            rows = x.reshape(-1, self._channels), out.reshape(-1, self._channels)
            overflowed = self._kernel.into(*rows)
        if overflowed:
            raise OverflowError("a stage with overflow = 'error' left its range")
        return out


def check_exact(stages: Sequence[Stage], effective: EffectiveScale) -> str | None:
    """What is wrong with this pair, or None: an exact stage needs an exact effective scale."""
    wants = any(isinstance(stage, ScaleExact) for stage in stages)
    if wants and effective.precision != "exact":
        return "stage 'scale_exact' needs effective_scale.precision = 'exact'"
    return None


def needs_multiplier(stages: Sequence[Stage]) -> bool:
    """Whether a stage multiplies by an integer mantissa."""
    from qinterp.numerics.stages import Multiply

    return any(isinstance(stage, (Multiply, MultiplyHigh)) for stage in stages)
