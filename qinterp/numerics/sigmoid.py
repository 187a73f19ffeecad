"""The 256 entries by which 16-bit logistic and tanh are interpolated (clause L2): values, as data.

Source: tflite/kernels/internal/common.h sigmoid_table_uint16.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from qinterp.numerics.elementary import logistic
from qinterp.numerics.scales import round_fraction

# The entries that are one more than the nearest integer to 65536 / (1 + exp(-i / 24)).
_RAISED = frozenset(
    (4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41,
     43, 44, 45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255)
)  # fmt: skip


@cache
def sigmoid_table() -> tuple[int, ...]:
    """``sigmoid(i / 24)`` in Q0.16, i up to 255."""
    nearest = (65536 * logistic(Fraction(i, 24), 20) for i in range(256))
    return tuple(
        round_fraction(value, "ties_to_even") + (i in _RAISED) for i, value in enumerate(nearest)
    )
