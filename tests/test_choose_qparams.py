"""Quantization parameters equal those of Glow's and gemmlowp's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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
