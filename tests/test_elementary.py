"""Elementary functions against ``decimal``, bit for bit, and what C libraries make of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from conftest import SEED

from qinterp.numerics import elementary
from qinterp.numerics.libm import LIBRARIES

PRECISION = 150
Function = Callable[[Decimal], Decimal]


def _pi() -> Decimal:
    """Machin's formula."""

    def arctan_of_inverse(n: int) -> Decimal:
        power = total = Decimal(1) / n
        k = 1
        while abs(power) > Decimal(10) ** -(PRECISION + 5):
            power /= -n * n
            k += 2
            total += power / k
        return total

    return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


def _erf(x: Decimal) -> Decimal:
    """The alternating series, which only needs enough digits."""
    term = total = x
    n = 0
    while abs(term) > Decimal(10) ** -(PRECISION + 5):
        n += 1
        term *= -x * x / n
        total += term / (2 * n + 1)
    return 2 * total / _pi().sqrt()


JUDGES: dict[str, Function] = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.exp() - 1,
    "log": lambda x: x.ln(),
    "tanh": lambda x: ((2 * x).exp() - 1) / ((2 * x).exp() + 1),
    "logistic": lambda x: 1 / (1 + (-x).exp()),
    "erf": _erf,
    "erfc": lambda x: 1 - _erf(x),
    "sqrt": lambda x: x.sqrt(),
    "rsqrt": lambda x: 1 / x.sqrt(),
}
POSITIVE = ("log", "sqrt", "rsqrt")
LARGEST = {"erf": 6.0, "erfc": 11.0}  # the judge's series needs a digit for every digit it cancels
FLOAT32 = {
    "exp": elementary.exp32,
    "expm1": elementary.expm132,
    "log": elementary.log32,
    "tanh": elementary.tanh32,
    "logistic": elementary.logistic32,
    "erf": elementary.erf32,
    "erfc": elementary.erfc32,
}


def judged(name: str, x: float) -> Fraction:
    """The function to 60 digits and more, of its own size."""
    with localcontext() as context:
        context.prec = PRECISION + 250
        context.Emin, context.Emax = -(10**9), 10**9
        return Fraction(JUDGES[name](Decimal(x)))


def arguments(name: str, count: int) -> np.ndarray:
    """float32 corners, then random ones of all sizes."""
    rng = np.random.default_rng([SEED, sum(map(ord, name))])
    powers = np.ldexp(np.float32(1), np.arange(-30, 7))
    corners = np.concatenate([powers, [1 / 3, 0.1, 10, 22, 88, 1e-40, 1e-45]]).astype(np.float32)
    corners = np.concatenate([np.nextafter(corners, np.float32(0)), corners])
    random = rng.normal(size=count) * 10.0 ** rng.uniform(-4, 1.5, count)
    values = np.concatenate([corners, -corners, random.astype(np.float32)])
    if name in POSITIVE:
        values = np.abs(values)
    within = np.abs(values) <= LARGEST.get(name, 1e30)
    return values[within & (values != 0)]


@pytest.mark.parametrize("name", JUDGES)
def test_fractions_have_the_digits_asked_for(name: str) -> None:
    function = getattr(elementary, name)
    some = arguments(name, 60)[::5]
    for x in some:
        exact = judged(name, float(x))
        for digits in (3, 20, 50):
            value = function(Fraction(float(x)), digits)
            assert abs(value - exact) <= abs(exact) / 10**digits, (x, digits)
    assert len(some) > 20


def test_pi_has_the_digits_asked_for() -> None:
    with localcontext() as context:
        context.prec = PRECISION + 20
        exact = Fraction(_pi())
    for digits in (5, 50, 120):
        assert abs(elementary.pi(digits) / exact - 1) < Fraction(1, 10**digits)


@pytest.mark.parametrize("name", FLOAT32)
def test_float32_results_are_the_nearest(name: str) -> None:
    x = arguments(name, 200)
    y = FLOAT32[name](x)
    assert y.dtype == np.float32
    for argument, value in zip(x, y, strict=True):
        exact = judged(name, float(argument))
        assert float(value) == float(_nearest32(exact)), argument


def _nearest32(exact: Fraction) -> np.float32:
    """By comparing neighbours; infinity stands for the number after the largest one."""
    guess = np.float32(min(max(float(exact), -3.5e38), 3.5e38)) if abs(exact) < 2**130 else None
    if guess is None or np.isinf(guess):
        limit = Fraction(2) ** 128 - Fraction(2) ** 103
        signed = np.float32(np.inf) if exact > 0 else np.float32(-np.inf)
        return signed if abs(exact) >= limit else np.nextafter(signed, np.float32(0))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess]
    around.append(np.nextafter(guess, np.float32(np.inf)))
    finite = [v for v in around if np.isfinite(v)]
    return min(finite, key=lambda v: abs(Fraction(float(v)) - exact))


@pytest.mark.filterwarnings("ignore:overflow")
def test_overflow_and_underflow() -> None:
    f = np.float32
    least, most = np.nextafter(f(0), f(1)), np.finfo(f).max
    x = np.array([88.72283, 88.72284, 104, 1e30, np.inf, -103.97, -103.98, -1e30, -np.inf], f)
    y = elementary.exp32(x)
    assert y.tolist() == [y[0], *[math.inf] * 4, least, 0, 0, 0]
    assert 0.99 * float(most) < y[0] <= most
    assert elementary.erfc32(np.array([10.05, 10.1, 30, np.inf, -9, -np.inf], f)).tolist() == [
        elementary.nearest_float(elementary.erfc(Fraction(float(f(10.05))), 30)), 0, 0, 0, 2, 2
    ]  # fmt: skip
    assert elementary.expm132(np.array([-200, -np.inf, np.inf], f)).tolist() == [-1, -1, math.inf]
    assert elementary.log32(np.array([0, np.inf, 1], f)).tolist() == [-math.inf, math.inf, 0]
    for function in (elementary.tanh32, elementary.erf32):
        assert function(np.array([50, np.inf, -50, -np.inf], f)).tolist() == [1, 1, -1, -1]


@pytest.mark.parametrize("name", FLOAT32)
def test_special_arguments(name: str) -> None:
    function = FLOAT32[name]
    assert np.isnan(function(np.array([np.nan], np.float32))).all()
    assert function(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert function(np.float32(0.5).reshape(())).shape == ()
    zeros = function(np.array([0.0, -0.0], np.float32))
    if name in ("tanh", "erf", "expm1"):
        assert np.signbit(zeros).tolist() == [False, True]
        assert (zeros == 0).all()
    with pytest.raises(TypeError, match="expected float32, got float64"):
        function(np.zeros(1))


def test_fractions_out_of_range() -> None:
    with pytest.raises(OverflowError, match="1000000"):
        elementary.exp(Fraction(10**7), 10)
    with pytest.raises(ValueError, match="logarithm of 0"):
        elementary.log(Fraction(0), 10)
    with pytest.raises(ValueError, match="square root of -1"):
        elementary.sqrt(Fraction(-1), 10)
    assert 1 - elementary.tanh(Fraction(10**9), 30) < Fraction(1, 10**30)
    assert elementary.logistic(Fraction(10**9), 30) < 1
    for zero in (elementary.expm1, elementary.tanh, elementary.erf, elementary.sqrt):
        assert zero(Fraction(0), 30) == 0


def test_an_approximation_with_errors_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The float64 library decides nothing: an error far above any library's changes no bit."""
    rng = np.random.default_rng(SEED)
    x = (rng.normal(size=40_000) * 8).astype(np.float32)
    exact_exp = np.exp
    expected = elementary.exp32(x)
    calls = []

    def counted(x: Fraction, digits: int) -> Fraction:
        calls.append(x)
        return elementary.exp(x, digits)

    for error in (2.0**-45, -(2.0**-45)):

        def off(v: np.ndarray, error: float = error) -> np.ndarray:
            return exact_exp(v) * (1 + error)

        assert np.array_equal(elementary._rounded32(x, off, counted), expected)
    # a margin so wide that many elements are close calls
    monkeypatch.setattr(elementary, "_MARGIN", 2.0**-31)
    found = elementary._rounded32(x[:4000], np.exp, counted)
    assert np.array_equal(found, expected[:4000])
    assert len(calls) > 20


def test_float64_exponential_is_the_nearest() -> None:
    rng = np.random.default_rng(SEED)
    x = np.concatenate([[0.0, 1.0, -10.0, 700.0, -745.0, 1e-300], rng.normal(size=60) * 20])
    for argument, value in zip(x, elementary.exp64(x), strict=True):
        assert value == float(judged("exp", float(argument)))
    ends = elementary.exp64(np.array([np.inf, -np.inf, 1e9, -1e9]))
    assert ends.tolist() == [math.inf, 0, math.inf, 0]
    assert np.isnan(elementary.exp64(np.array([np.nan]))).all()


def test_nearest_float() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(300):
        value = Fraction(int(rng.integers(1, 2**62)), int(rng.integers(1, 2**62)))
        value *= Fraction(2) ** int(rng.integers(-1080, 1020))
        try:
            expected = float(value)
        except OverflowError:
            expected = math.inf
        assert elementary.nearest_float(value, 64) == expected
        assert elementary.nearest_float(-value, 64) == -expected
    ulp = Fraction(1, 2**23)
    for value, expected in (
        (1 + ulp / 2, 1), (1 + ulp * 3 / 2, 1 + 2 * ulp), (Fraction(2) ** -150, 0),
        (Fraction(2) ** -150 * Fraction(5, 4), Fraction(2) ** -149), (Fraction(0), 0),
    ):  # fmt: skip
        assert elementary.nearest_float(value) == expected
    assert elementary.nearest_float(Fraction(2) ** 128 - Fraction(2) ** 103) == math.inf


# What glibc 2.36 gives where it is not the nearest float, as bits of argument and value.
GLIBC = {
    "exp": "417a1657 4abb6673 c1465db0 368a7dbe c17d3d97 340f93fc 4189f467 4beb4b38",
    "log": "3f78fbff bce3a252 3f817e0c 3c3deb1f 3f990f14 3e371565 3f83006b 3cbde2fc",
    "expm1": "bfbdb509 bf45d8a4 3eebebbd 3f15d72e 3f72027e 3fc96f82 c00edd10 bf6488ce",
    "tanh": "3f2766ea 3f130542 bf4c7a33 bf29d018 be3e2f7b be3c0746 bd062423 bd0617de",
    "erfc": "401a1669 3a2d8487 3fdbb80e 3c790a1b 3fc8bebd 3cd99201 bf3c56c2 3fd9d6a0",
}


@pytest.mark.parametrize("name", GLIBC)
def test_glibc_is_followed_where_it_is_not_the_nearest(name: str) -> None:
    bits = np.array([int(word, 16) for word in GLIBC[name].split()], np.uint32)
    x, theirs = bits.view(np.float32).reshape(-1, 2).T.copy()
    assert np.array_equal(LIBRARIES["glibc_2.28"][name](x), theirs)
    assert (LIBRARIES["correctly_rounded"][name](x) != theirs).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_are_close_to_the_nearest(library: str) -> None:
    rng = np.random.default_rng(SEED)
    x = np.concatenate([rng.normal(size=5000) * s for s in (0.01, 0.5, 3, 30)]).astype(np.float32)
    for name, function in LIBRARIES[library].items():
        values = np.abs(x) if name == "log" else x
        y = function(values)
        assert y.dtype == np.float32
        nearest = FLOAT32[name.removesuffix("_scalar")](values)
        normal = (np.abs(nearest) > 1e-37) & np.isfinite(nearest)
        off = np.abs(y[normal].view(np.int32) - nearest[normal].view(np.int32))
        assert off.max() <= (16 if library == "eigen" else 4), name
        assert np.isnan(function(np.array([np.nan], np.float32))).all()
