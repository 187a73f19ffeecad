"""From float scales to what a backend multiplies by (clauses S1 to S5).

Sources: tflite/kernels/kernel_util.cc PopulateConvolutionQuantizationParams and
GetQuantizedConvolutionMultipler; tflite/kernels/internal/quantization_util.cc QuantizeMultiplier;
glow lib/Quantization/Base/Base.cpp quantizeScaleOffset32To8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.numerics.rounding import ROUNDING_CODE, Rounding

Precision = Literal["float32", "float64", "exact"]


@dataclass(frozen=True)
class EffectiveScale:
    """How ``input_scale * weight_scale / output_scale`` is worked out.

    Attributes
    ----------
    form : order of the two operations.
    precision : type of the result and of each operation.
    product_precision : type of the product when it differs (LiteRT's per-tensor fully connected
        rounds it to float32 and divides in float64).
    """

    form: Literal["product_then_divide", "divide_then_product"] = "product_then_divide"
    precision: Precision = "float64"
    product_precision: Precision | None = None

    def __post_init__(self) -> None:
        if self.product_precision == "exact" and self.precision != "exact":
            raise ValueError("product_precision 'exact' needs precision 'exact'")

    def of(
        self, a: npt.ArrayLike, b: npt.ArrayLike, out: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], list[Fraction]]:
        """``a * b / out`` for float32 scales of shape (), (1,) or (C,).

        Returns
        -------
        The values as float64 (each exactly the float32 it was rounded to, where precision says
        so), shape (C,) or (1,), and, for precision "exact", the exact rationals (else empty).
        """
        a, b, out = (np.atleast_1d(np.asarray(v, np.float32)) for v in (a, b, out))
        if self.precision == "exact":
            size = max(a.size, b.size, out.size)
            exact = [
                Fraction(float(x)) * Fraction(float(y)) / Fraction(float(z))
                for x, y, z in zip(*(np.broadcast_to(v, size) for v in (a, b, out)), strict=True)
            ]
            return np.array([float(f) for f in exact]), exact
        final = np.dtype(self.precision)
        first = np.dtype(self.product_precision or self.precision)
        with np.errstate(over="ignore", under="ignore"):
            if self.form == "product_then_divide":
                product = (a.astype(first) * b.astype(first)).astype(final)
                value = product / out.astype(final)
            else:
                value = (a.astype(first) / out.astype(first)).astype(final) * b.astype(final)
        return value.astype(np.float64), []


@dataclass(frozen=True)
class Multiplier:
    """What a scale becomes before it meets an accumulator.

    Attributes
    ----------
    form : an integer mantissa with a shift; a short one between a shift of the accumulator and a
        shift of the product; the scale in fixed point, without a shift; or nothing (float and
        exact pipelines).
    bits : magnitude bits of the mantissa: 31 gives 2**30 .. 2**31 - 1. With pre_post_shift 8 gives
        255 .. 512 as far as the shifts reach, and powers of two give 1. With fixed_point the
        fraction bits.
    rounding : of the mantissa.
    reduce_to : bits of a second, shorter mantissa rounded from the first by ties toward positive
        (16-bit activations with a 64-bit accumulator: 15).
    flush_below : exponents below this give a multiplier of zero.
    renormalize : a mantissa rounded up to 2**bits is halved and the exponent raised.
    post_limit : the shift of the product that pre_post_shift goes up to where the scale allows; the
        shift of the accumulator goes up to half of it.
    """

    form: Literal["mantissa_shift", "pre_post_shift", "fixed_point", "none"] = "mantissa_shift"
    bits: int = 31
    rounding: Rounding = "ties_to_away"
    reduce_to: int | None = None
    flush_below: int = -31
    renormalize: bool = True
    post_limit: int = 15

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 62:
            raise ValueError(f"bits must be in 2..62, got {self.bits}")
        if self.reduce_to is not None and not 2 <= self.reduce_to < self.bits:
            raise ValueError(f"reduce_to must be in 2..{self.bits - 1}, got {self.reduce_to}")
        if not 0 <= self.post_limit <= 62:
            raise ValueError(f"post_limit must be in 0..62, got {self.post_limit}")

    def of(self, scale: float | Fraction) -> tuple[int, int]:
        """``(mantissa, shift)`` with ``scale ~ mantissa * 2**(shift - bits)``."""
        exact = Fraction(scale)
        if exact == 0:
            return 0, 0
        if self.form == "fixed_point":
            return round_fraction(exact * 2**self.bits, self.rounding), 0
        shift = _exponent(exact)
        mantissa = round_fraction(exact * Fraction(2) ** (self.bits - shift), self.rounding)
        if abs(mantissa) == 1 << self.bits and self.renormalize:
            mantissa //= 2
            shift += 1
        if shift < self.flush_below:
            return 0, 0
        if self.reduce_to is not None:
            drop = self.bits - self.reduce_to
            top = (1 << self.reduce_to) - 1
            mantissa = min((mantissa + (1 << (drop - 1))) >> drop, top)
        return mantissa, shift

    def pre_post(self, scale: float | Fraction) -> tuple[int, int, int]:
        """``(pre, mantissa, post)`` with ``scale ~ mantissa / 2**(pre + post)``."""
        rest = Fraction(scale)
        if rest <= 0:
            raise ValueError(f"pre_post_shift needs a positive scale, got {float(rest)}")
        exponent = _exponent(rest) - 1
        if rest == Fraction(2) ** exponent:
            return 0, 1 << max(exponent, 0), max(-exponent, 0)
        pre = post = 0
        # in integers: there is one for each channel, and a Fraction takes ten times as long
        above, below = rest.numerator, rest.denominator
        # half, and not one, since the mantissa is rounded; the limits are those of the source
        while 2 * above < below or (above < below << self.bits and post < self.post_limit):
            above *= 2
            post += 1
        while above < below * ((1 << self.bits) - 1) and pre < post // 2:
            above *= 2
            pre += 1
        return pre, round_fraction(Fraction(above, below), self.rounding), post

    @property
    def fraction_bits(self) -> int:
        """Bits of the mantissa that stand after the binary point."""
        return self.reduce_to or self.bits

    def arrays(
        self, scales: npt.NDArray[np.float64] | list[Fraction]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Mantissas and shifts of every channel, each int64 of the scales' length."""
        if self.form == "none":
            zero = np.zeros(len(scales), np.int64)
            return zero, zero
        if self.form == "pre_post_shift":
            pre, mantissa, post = self.pre_post_arrays(scales)
            return mantissa, -(pre + post)
        if isinstance(scales, np.ndarray) and self.form == "mantissa_shift":
            return self._mantissas(scales)
        pairs = [self.of(s if isinstance(s, Fraction) else float(s)) for s in scales]
        mantissas, shifts = zip(*pairs, strict=True)
        return np.array(mantissas, np.int64), np.array(shifts, np.int64)

    def _mantissas(
        self, scales: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """:meth:`of` every scale at once: a float64 is an integer of 53 bits, shifted."""
        if not np.isfinite(scales).all():
            raise OverflowError(f"an effective scale is {scales[~np.isfinite(scales)][0]}")
        fraction, exponent = np.frexp(scales)
        digits = (fraction * 2.0**53).astype(np.int64)
        mantissa = _kernels.round_shift(digits, 53 - self.bits, ROUNDING_CODE[self.rounding])
        shift = exponent.astype(np.int64)
        if self.renormalize:
            carried = np.abs(mantissa) == 1 << self.bits
            mantissa = np.where(carried, mantissa // 2, mantissa)
            shift += carried
        if self.reduce_to is not None:
            drop = self.bits - self.reduce_to
            top = (1 << self.reduce_to) - 1
            mantissa = np.minimum((mantissa + (1 << (drop - 1))) >> drop, top)
        flushed = (shift < self.flush_below) | (digits == 0)
        mantissa[flushed], shift[flushed] = 0, 0
        return mantissa, shift

    def pre_post_arrays(
        self, scales: npt.NDArray[np.float64] | list[Fraction]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """:meth:`pre_post` of every channel."""
        triples = [self.pre_post(s if isinstance(s, Fraction) else float(s)) for s in scales]
        pre, mantissa, post = np.array(triples, np.int64).reshape(-1, 3).T.copy()
        return pre, mantissa, post


def _exponent(value: Fraction) -> int:
    """The frexp exponent: ``abs(value)`` is in [0.5, 1) times 2**exponent."""
    numerator, denominator = abs(value.numerator), value.denominator
    exponent = numerator.bit_length() - denominator.bit_length()
    if Fraction(numerator, denominator) >= Fraction(2) ** exponent:
        exponent += 1
    return exponent


def round_fraction(value: Fraction, rounding: Rounding) -> int:
    """``value`` rounded to an integer."""
    floor = value.numerator // value.denominator
    rest = value - floor
    if rest == 0:
        return floor
    directed = {
        "toward_negative": 0,
        "toward_positive": 1,
        "toward_zero": int(value < 0),
        "away_from_zero": int(value > 0),
    }
    if rounding in directed:
        return floor + directed[rounding]
    if rest != Fraction(1, 2):
        return floor + int(rest > Fraction(1, 2))
    ties = {
        "ties_to_even": floor & 1,
        "ties_to_away": int(value > 0),
        "ties_toward_positive": 1,
        "ties_toward_negative": 0,
        "ties_toward_zero": int(value < 0),
    }
    return floor + ties[rounding]


def ratio_arrays(exact: list[Fraction]) -> npt.NDArray[np.int64]:
    """Exact rationals as (numerator, denominator, exponent) rows for the kernels.

    Products and quotients of float32 values have odd parts below 2**48 and 2**24.
    """
    rows = []
    for value in exact:
        numerator, denominator, exponent = value.numerator, value.denominator, 0
        while numerator and numerator % 2 == 0:
            numerator //= 2
            exponent += 1
        while denominator % 2 == 0:
            denominator //= 2
            exponent -= 1
        if numerator.bit_length() > 62 or denominator.bit_length() > 62:
            raise ValueError(f"{value} has more digits than a quotient of float32 scales")
        rows.append((numerator, denominator, exponent))
    return np.array(rows, np.int64).reshape(-1, 3)


@dataclass(frozen=True)
class ActivationBounds:
    """Where a fused activation clamps, in codes of the output.

    Source: tflite/kernels/kernel_util.cc CalculateActivationRangeQuantized.

    Attributes
    ----------
    precision : type of ``bound / scale``.
    rounding : of that quotient.
    zero_point : added to the rounded integer, or to the quotient in its own type.
    """

    precision: Precision = "float32"
    rounding: Rounding = "ties_to_away"
    zero_point: Literal["after_rounding", "before_rounding"] = "after_rounding"

    def code(self, bound: float, scale: float, zero_point: int) -> int:
        """The code that stands for the real ``bound``."""
        kind: Any = Fraction if self.precision == "exact" else np.dtype(self.precision).type
        quotient = kind(bound) / kind(scale)
        if self.zero_point == "after_rounding":
            return round_fraction(_exactly(quotient), self.rounding) + zero_point
        return round_fraction(_exactly(quotient + kind(zero_point)), self.rounding)


def _exactly(value: Any) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(float(value))


ACTIVATIONS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
    "relu_0_to_1": (0.0, 1.0),
}


def is_power_of_two(scale: float) -> bool:
    """Whether ``scale`` is an integer power of two."""
    return math.frexp(scale)[0] == 0.5
