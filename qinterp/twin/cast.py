"""Twin of cast."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Number, Twin, twin


@twin("cast", "cast")
def cast(t: Twin, output: int, index: Index) -> Number:
    """One number of another type."""
    x = t.at("input", index)
    target = t.call.output
    if target.dtype == "bool":
        return bool(x != 0)
    if target.is_float:
        return _float(x, target.dtype)
    kind = target.int_type
    if isinstance(x, float):
        if math.isnan(x):
            return kind.max
        return kind.saturate(2**100 if x == math.inf else -(2**100) if x == -math.inf else int(x))
    return kind.wrap(int(x))


def _float(x: Number, dtype: str) -> float:
    if isinstance(x, float) and not math.isfinite(x):
        return x
    value = Fraction(x)
    if dtype == "float64":
        return float(value)
    value = float_of(value, 32)
    if dtype == "float16":
        # 11 digits down to 2**-24
        with np.errstate(over="ignore"):
            return float(np.float32(float(value)).astype(np.float16))
    return float(value)
