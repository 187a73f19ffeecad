"""Preparation: multipliers of arrays are those of their scales; proofs say what a bound leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qinterp.numerics.accumulators import Accumulator, Group, prove
from qinterp.numerics.rounding import ROUNDINGS
from qinterp.numerics.scales import Multiplier

FORMS = st.builds(
    Multiplier,
    bits=st.integers(9, 62),
    rounding=st.sampled_from(ROUNDINGS),
    reduce_to=st.sampled_from([None, 7, 8]),
    flush_below=st.sampled_from([-31, -5, -2000]),
    renormalize=st.booleans(),
)
CORNERS = [0.0, 0.5, 1.0, 1 - 2**-53, 1 - 2**-31, 1 - 2**-32, 2.0**-32, 2.0**-1074, 3e300]


@settings(max_examples=300, derandomize=True, database=None)
@given(FORMS, st.lists(st.floats(0, 4) | st.floats(0, allow_infinity=False), max_size=8))
def test_multipliers_of_arrays(form: Multiplier, more: list[float]) -> None:
    scales = np.array([*CORNERS, *more, *(-x for x in more)])
    mantissa, shift = form.arrays(scales)
    assert list(zip(mantissa.tolist(), shift.tolist(), strict=True)) == [
        form.of(x) for x in scales.tolist()
    ]


def test_an_infinite_scale_has_no_multiplier() -> None:
    with pytest.raises(OverflowError, match="inf"):
        Multiplier().arrays(np.array([0.5, np.inf]))


def bound_of(w: Any, zero: Any, x_range: tuple[int, int], x_zero: int, bias: Any, raw: bool) -> int:
    """The bound of clause A8, in plain integers."""
    bound = 0
    for row, z, b in zip(w.tolist(), zero.tolist(), bias.tolist(), strict=True):
        if raw:
            largest = max(map(abs, x_range))
            terms = [abs(v) * (largest + abs(x_zero)) for v in row]
            terms += [(largest + abs(x_zero)) * abs(z)] * len(row)
        else:
            largest = max(abs(x - x_zero) for x in x_range)
            terms = [abs(v - z) * largest for v in row]
        bound = max(bound, sum(terms) + abs(b))
    return bound


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (5, 7), (2, 140_000)])
def test_headroom_is_what_the_bound_leaves(
    shape: tuple[int, int], zero_points: bool, raw: bool
) -> None:
    random = np.random.default_rng(1)
    w = random.integers(-128, 128, shape).astype(np.int8)
    zero = random.integers(-128, 128, shape[0]) * zero_points
    bias = random.integers(-(2**40), 2**40, shape[0])
    accumulator = Accumulator(bits=48, operands="raw" if raw else "zero_point_subtracted")
    proof = prove(accumulator, w, zero, (-128, 127), 5, bias)
    bound = bound_of(w, zero, (-128, 127), 5, bias, raw)
    assert proof.headroom == 47 - bound.bit_length()


@pytest.mark.parametrize(("last", "fits"), [(64, False), (63, True)])
def test_a_group_is_looked_for_in_every_channel(last: int, fits: bool) -> None:
    w = np.full((3, 100_000), 1, np.int8)
    w[2, -2:] = last  # pairs: 2 * 64 * 256 leaves 16 bits, 2 * 63 * 256 does not
    group = Group(2, 16)
    proof = prove(Accumulator(group=group), w, np.zeros(3, np.int64), (-256, 256), 0, None)
    assert ("groups" in proof.reason) is not fits
