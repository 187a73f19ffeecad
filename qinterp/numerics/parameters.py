"""Scale and zero point from the real range of a tensor, as converters choose them (clause Q1).

Sources: glow lib/Quantization/Base/Base.cpp chooseQuantizationParams and getQuantizedRange;
gemmlowp doc/quantization_example.cc ChooseQuantizationParams; tensorflow core/ops/array_ops.cc
QuantizeV2 (mode MIN_COMBINED).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from qinterp.errors import QInterpError
from qinterp.integers import INT_TYPES, IntType
from qinterp.numerics.scales import round_fraction

Schema = Literal[
    "asymmetric",
    "symmetric",
    "symmetric_with_uint8",
    "symmetric_with_power_of_two",
    "gemmlowp",
    "tensorflow",
]
"""The first four are Glow's.

* ``asymmetric``: the range widened to hold zero, then zero moved to the nearest code.
* ``symmetric``: the shorter side stretched until zero is code 0.
* ``symmetric_with_uint8``: a range without negatives keeps all codes, its zero is the least one;
  any other is ``symmetric``.
* ``symmetric_with_power_of_two``: ``symmetric`` with the scale raised to a power of two.
* ``gemmlowp``: as ``asymmetric``, but worked out in float32 from the lower end only.
* ``tensorflow``: least and greatest code stand for ``min`` and ``max`` themselves, so that zero
  need not have a code.
"""

SCHEMAS: tuple[Schema, ...] = get_args(Schema)
DTYPES = ("int4", "int8", "uint8", "int16", "uint16", "int32")


@dataclass(frozen=True)
class QuantizationParameters:
    """How codes stand for real numbers: ``real = scale * (code - zero_point)``.

    Attributes
    ----------
    scale : a float32 value.
    zero_point : an integer; with the schema "tensorflow" any real number.
    """

    scale: float
    zero_point: int | float


def choose_qparams(
    min: float,
    max: float,
    *,
    schema: Schema = "asymmetric",
    dtype: str = "int8",
    narrow_range: bool = False,
) -> QuantizationParameters:
    """Parameters for a tensor whose values lie between ``min`` and ``max``.

    Parameters
    ----------
    min, max : taken as float32, as every source takes them.
    schema : see :data:`Schema`.
    dtype : int4, int8, uint8, int16, uint16 or int32; of int32 Glow uses 30 bits.
    narrow_range : leave out the least code, as symmetric weights do (-127..127, 1..255).

    Raises
    ------
    QInterpError : an unknown schema or type, an empty or infinite range, or a symmetric schema for
        an unsigned type.
    """
    low, high = float(np.float32(min)), float(np.float32(max))
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise QInterpError(f"the range {min}..{max} must be finite, and min at most max")
    if schema not in SCHEMAS:
        raise QInterpError(f"unknown schema {schema!r}; known: {', '.join(SCHEMAS)}")
    if dtype not in DTYPES:
        raise QInterpError(f"no parameters for type {dtype!r}; known: {', '.join(DTYPES)}")
    codes = _codes(INT_TYPES[dtype], schema, narrow_range)
    if schema == "tensorflow":
        return _min_max(low, high, *codes)
    low, high = (low if low < 0 else 0.0), (high if high > 0 else 0.0)
    if schema == "gemmlowp":
        return _gemmlowp(low, high, *codes)
    if schema == "symmetric_with_uint8":
        schema = "asymmetric" if low == 0 else "symmetric"
    if schema != "asymmetric" and codes[0] >= 0:
        raise QInterpError(f"schema {schema!r} needs a signed type, not {dtype}")
    return _glow(low, high, *codes, schema)


def _codes(kind: IntType, schema: Schema, narrow_range: bool) -> tuple[int, int]:
    low, high = kind.min, kind.max
    if kind.bits == 32 and schema not in ("gemmlowp", "tensorflow"):
        low, high = low >> 2, high >> 2  # room for the bias less its zero point
    return low + narrow_range, high


def _glow(
    low: float, high: float, least: int, greatest: int, schema: Schema
) -> QuantizationParameters:
    """In float64, but for the stretched end and the test of a symmetric range."""
    if schema != "asymmetric":
        below, above = low / least, high / greatest
        if below > above:
            high = _stretched(below * greatest)
        else:
            low = _stretched(above * least)
    scale = (high - low) / (greatest - least) or 0.1
    from_low, from_high = least - low / scale, greatest - high / scale
    nearer_low = abs(least) + abs(low / scale) < abs(greatest) + abs(high / scale)
    zero_point = from_low if nearer_low else from_high
    if abs(np.float32(high) + np.float32(low)) <= np.finfo(np.float32).eps:
        zero_point = 0.0
    if schema == "symmetric_with_power_of_two":
        scale = 2.0 ** math.ceil(math.log2(scale))
    return QuantizationParameters(float(np.float32(scale)), _nudged(zero_point, least, greatest))


def _stretched(end: float) -> float:
    """As float32, kept finite."""
    greatest = float(np.finfo(np.float32).max)
    with np.errstate(over="ignore"):
        return float(np.clip(np.float32(end), -greatest, greatest))


def _gemmlowp(low: float, high: float, least: int, greatest: int) -> QuantizationParameters:
    with np.errstate(over="ignore"):
        width = np.float32(high) - np.float32(low)
        scale = float(width / np.float32(greatest - least))
    if scale == 0:
        raise QInterpError("gemmlowp has no parameters for a range of zero width")
    return QuantizationParameters(scale, _nudged(least - low / scale, least, greatest))


def _min_max(low: float, high: float, least: int, greatest: int) -> QuantizationParameters:
    scale = float(np.float32((high - low) / (greatest - least)))
    if scale == 0:
        raise QInterpError("TensorFlow has no parameters for a range of zero width")
    return QuantizationParameters(scale, least - low / scale)


def _nudged(zero_point: float, least: int, greatest: int) -> int:
    clamped = min(max(zero_point, float(least)), float(greatest))
    return round_fraction(Fraction(clamped), "ties_to_away")
