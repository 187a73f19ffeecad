"""Quantization parameters equal those of Glow's and gemmlowp's own functions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from vector_files import FOLDER

import qinterp
from qinterp.errors import QInterpError
from qinterp.numerics.parameters import SCHEMAS
from qinterp.numerics.scales import Multiplier


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "glow" / "parameters.npz") as file:
        return dict(file)


@pytest.mark.parametrize("schema", SCHEMAS[:4])
def test_glow(vectors: dict[str, np.ndarray], schema: str) -> None:
    found, judged = [], 0
    rows = zip(vectors["case"], vectors["scale"], vectors["zero_point"], strict=True)
    for (i, s, k), scale, zero_point in rows:
        if vectors["schemas"][s] != schema:
            continue
        low, high, dtype = vectors["min"][i], vectors["max"][i], str(vectors["dtypes"][k])
        ours = qinterp.choose_qparams(low, high, schema=schema, dtype=dtype)  # type: ignore[arg-type]
        judged += 1
        if (ours.scale, ours.zero_point) != (float(scale), int(zero_point)):
            found.append((low, high, dtype, ours, scale, zero_point))
    assert found == []
    assert judged > 400


def test_gemmlowp(vectors: dict[str, np.ndarray]) -> None:
    judged = 0
    names = ("min", "max", "gemmlowp_scale", "gemmlowp_zero_point")
    for low, high, scale, zero_point in zip(*(vectors[n] for n in names), strict=True):
        if scale == 0 or not np.isfinite(scale):
            continue  # the function divides by it
        ours = qinterp.choose_qparams(low, high, schema="gemmlowp", dtype="uint8")
        assert (ours.scale, ours.zero_point) == (float(scale), int(zero_point)), (low, high)
        judged += 1
    assert judged > 150


def test_pre_post_multiplier(vectors: dict[str, np.ndarray]) -> None:
    form = Multiplier("pre_post_shift", bits=8)
    rows = zip(vectors["factor"], vectors["pre_post_multiplier"], strict=True)
    for factor, (pre, post, mantissa) in rows:
        assert form.pre_post(float(factor)) == (pre, mantissa, post), factor


def test_tensorflow_keeps_the_ends() -> None:
    ours = qinterp.choose_qparams(-0.3, 1.7, schema="tensorflow", dtype="uint8")
    assert ours.scale == float(np.float32((np.float32(1.7) - float(np.float32(-0.3))) / 255))
    ends = [ours.scale * (code - ours.zero_point) for code in (0, 255)]
    assert ends == pytest.approx([-0.3, 1.7], rel=1e-6)
    assert ours.zero_point != round(ours.zero_point)
    # a range without zero keeps its ends, too
    assert qinterp.choose_qparams(2.0, 4.0, schema="tensorflow", dtype="uint8").zero_point < 0


@pytest.mark.parametrize("schema", SCHEMAS)
def test_zero_has_a_code(schema: Any) -> None:
    for low, high in ((-1.0, 1.0), (0.0, 6.0), (-0.1, 12.7), (-5.0, -2.0)):
        zero_point = qinterp.choose_qparams(low, high, schema=schema).zero_point
        if schema != "tensorflow":
            assert isinstance(zero_point, int)
            assert -128 <= zero_point <= 127


# ---- the definitions of clause Q1, in rational numbers ------------------------------------------

CODES = {"int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
RANGES = [
    (-1.0, 1.0), (0.0, 6.0), (-0.1, 12.7), (-5.0, -2.0), (0.5, 3.0), (-127.0, 128.0),
    *((float(np.float32(a)), float(np.float32(a + w))) for a, w in
      np.random.default_rng(SEED).normal(0, 3, (40, 2)) ** [1, 2]),
]  # fmt: skip


def nearest(exact: Fraction, value: float, step: Fraction, slack: Fraction) -> bool:
    """Whether ``value`` is ``exact`` rounded to steps; float64 in between may move it by slack."""
    return abs(Fraction(value) - exact) <= step / 2 + slack


@pytest.mark.parametrize("narrow", [False, True], ids=["full", "narrow"])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("schema", SCHEMAS)
def test_definition(schema: Any, dtype: str, narrow: bool) -> None:
    if schema.startswith("symmetric") and dtype == "uint8":
        with pytest.raises(QInterpError, match="signed type"):
            qinterp.choose_qparams(-1.0, 1.0, schema=schema, dtype=dtype, narrow_range=narrow)
        return
    lo, hi = CODES[dtype][0] + narrow, CODES[dtype][1]
    for ends in RANGES:
        ours = qinterp.choose_qparams(*ends, schema=schema, dtype=dtype, narrow_range=narrow)
        low, high = (Fraction(float(np.float32(end))) for end in ends)
        scale, zero = Fraction(ours.scale), Fraction(ours.zero_point)
        ulp = Fraction(float(np.spacing(np.float32(ours.scale))))
        if schema != "tensorflow":
            low, high = min(low, Fraction(0)), max(high, Fraction(0))
        even = (high - low) / (hi - lo)
        balanced = max(low / lo if lo else Fraction(0), high / hi)
        positive = schema == "symmetric_with_uint8" and low == 0
        if schema == "symmetric_with_power_of_two":
            assert math.frexp(ours.scale)[0] == 0.5
            assert ours.scale / 2 < balanced * (1 + ulp)
            assert balanced * (1 - ulp) <= ours.scale
        else:
            wanted = balanced if schema.startswith("symmetric") and not positive else even
            assert nearest(wanted, ours.scale, ulp, ulp), ends
        if schema == "tensorflow":
            room = (hi - lo) * ulp + Fraction(1, 2**30)
            assert abs(scale * (lo - zero) - low) < Fraction(1, 2**30)
            assert abs(scale * (hi - zero) - high) < room
            continue
        assert ours.zero_point == int(ours.zero_point)
        assert lo <= ours.zero_point <= hi
        if positive:
            assert ours.zero_point == lo
        elif schema.startswith("symmetric"):
            assert ours.zero_point == 0
        elif abs(high + low) > Fraction(1, 10**6):
            exact = min(max(lo - low / even, Fraction(lo)), Fraction(hi))
            assert nearest(exact, ours.zero_point, Fraction(1), Fraction(hi - lo, 2**20)), ends


def test_narrow_range() -> None:
    ours = qinterp.choose_qparams(-1.0, 1.0, schema="symmetric", narrow_range=True)
    assert (ours.scale, ours.zero_point) == (float(np.float32(1 / 127)), 0)
    ours = qinterp.choose_qparams(0.0, 1.0, schema="gemmlowp", dtype="uint8", narrow_range=True)
    assert (ours.scale, ours.zero_point) == (float(np.float32(1 / 254)), 1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1.0, -1.0), {}, "min at most max"),
        ((0.0, float("inf")), {}, "finite"),
        ((0.0, float("nan")), {}, "finite"),
        ((-1.0, 1.0), {"schema": "middle"}, "unknown schema"),
        ((-1.0, 1.0), {"dtype": "float32"}, "no parameters for type"),
        ((-1.0, 1.0), {"schema": "symmetric", "dtype": "uint8"}, "signed type"),
        ((0.0, 0.0), {"schema": "gemmlowp"}, "zero width"),
    ],
)
def test_refusals(arguments: tuple[float, float], options: Any, message: str) -> None:
    with pytest.raises(QInterpError, match=message):
        qinterp.choose_qparams(*arguments, **options)
