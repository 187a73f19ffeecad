"""float32 functions as libraries compute them, the same on every machine (clause X3).

A runtime that calls ``tanhf`` gets what its C library makes of it, and Eigen brings its own. That
is data here: a recipe names a library, and the library's own sequence of operations is carried
out, each rounded as written.

``glibc_2.28``: glibc 2.28 to 2.40 (and musl, bionic, newlib in these functions): expf and logf of
Arm's optimized-routines, in float64 with a table; expm1f, tanhf and erfcf of Sun's fdlibm, in
float32. glibc's own choice of fused instructions where the processor has them changes 2 of all
2**32 values of expf, and is not followed.
``correctly_rounded``: :mod:`qinterp.numerics.elementary`; glibc from 2.41 on in expm1f, tanhf and
erfcf.

``eigen``: Eigen's functions of arrays (of early 2025, ``EIGEN_FAST_MATH``, without fused
instructions), in float32. What does not fill a packet of ``EIGEN_PACKET`` goes through scalar
functions, which call the C library's ``exp``.

Sources: Arm optimized-routines math/expf.c, exp2f_data.c, logf.c, logf_data.c; fdlibm s_expm1.c,
s_tanh.c, s_erf.c in the float form of Ian Lance Taylor; Eigen Core/arch/Default/
GenericPacketMathFunctions.h (pexp_float, ptanh_float), unsupported SpecialFunctionsImpl.h
(generic_fast_erfc).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qinterp.numerics import elementary

Floats = npt.NDArray[Any]
Function = Callable[[Floats], Floats]
Library = Literal["glibc_2.28", "correctly_rounded", "eigen"]

EIGEN_PACKET = 4  # floats of an SSE register

_f = np.float32


def expf(x: Floats) -> Floats:
    """``exp``: a table of ``2**(i / 32)`` and a cubic polynomial, in float64."""
    c0, c1, c2 = (
        float.fromhex(c) / 32.0**n
        for c, n in (("0x1.c6af84b912394p-5", 3), ("0x1.ebfce50fac4f3p-3", 2),
                     ("0x1.62e42ff0c52d6p-1", 1))
    )  # fmt: skip
    low, high = float.fromhex("-0x1.9fe368p6"), float.fromhex("0x1.62e42ep6")
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        scaled = float.fromhex("0x1.71547652b82fep+0") * 32.0 * wide
        whole = np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), -8192.0, 8192.0))
        r = scaled - whole
        k = whole.astype(np.int64)
        power = np.ldexp(_powers()[k & 31], k >> 5)
        y = ((c0 * r + c1) * (r * r) + (c2 * r + 1.0)) * power
        y = np.where(wide < low, 0.0, np.where(wide > high, np.inf, y))
        return np.where(np.isnan(x), x, y.astype(np.float32))


@cache
def _powers() -> Floats:
    half = elementary.log(Fraction(2), 40) / 32
    return np.array([elementary.nearest_float(elementary.exp(i * half, 30), 64) for i in range(32)])


_LOG_TABLE = (
    ("0x1.661ec79f8f3bep+0", "-0x1.57bf7808caadep-2"),
    ("0x1.571ed4aaf883dp+0", "-0x1.2bef0a7c06ddbp-2"),
    ("0x1.49539f0f010bp+0", "-0x1.01eae7f513a67p-2"),
    ("0x1.3c995b0b80385p+0", "-0x1.b31d8a68224e9p-3"),
    ("0x1.30d190c8864a5p+0", "-0x1.6574f0ac07758p-3"),
    ("0x1.25e227b0b8eap+0", "-0x1.1aa2bc79c81p-3"),
    ("0x1.1bb4a4a1a343fp+0", "-0x1.a4e76ce8c0e5ep-4"),
    ("0x1.12358f08ae5bap+0", "-0x1.1973c5a611cccp-4"),
    ("0x1.0953f419900a7p+0", "-0x1.252f438e10c1ep-5"),
    ("0x1p+0", "0x0p+0"),
    ("0x1.e608cfd9a47acp-1", "0x1.aa5aa5df25984p-5"),
    ("0x1.ca4b31f026aap-1", "0x1.c5e53aa362eb4p-4"),
    ("0x1.b2036576afce6p-1", "0x1.526e57720db08p-3"),
    ("0x1.9c2d163a1aa2dp-1", "0x1.bc2860d22477p-3"),
    ("0x1.886e6037841edp-1", "0x1.1058bc8a07ee1p-2"),
    ("0x1.767dcf5534862p-1", "0x1.4043057b6ee09p-2"),
)


def logf(x: Floats) -> Floats:
    """``log``: a table of 16 reciprocals with their logarithms and a cubic, in float64."""
    table = np.array([[float.fromhex(v) for v in row] for row in _LOG_TABLE])
    a0, a1, a2 = (
        float.fromhex(v)
        for v in ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")
    )
    with np.errstate(all="ignore"):
        ordinary = np.isfinite(x) & (x > 0)
        fraction, exponent = np.frexp(np.where(ordinary, x, _f(1)).astype(np.float64))
        bits = (fraction * 2.0).astype(np.float32).view(np.int32)  # of 1 .. 2
        offset = bits - 0x3F330000
        index = (offset >> 19) & 15
        k = (offset >> 23) + exponent - 1
        z = (fraction * 2.0) * np.ldexp(1.0, -(offset >> 23))
        inverse, logarithm = table[index, 0], table[index, 1]
        r = z * inverse - 1.0
        y0 = logarithm + k * float.fromhex("0x1.62e42fefa39efp-1")
        square = r * r
        y = (a0 * square + (a1 * r + a2)) * square + (y0 + r)
        special = np.where(x == 0, -np.inf, np.where(x > 0, x, np.nan)).astype(np.float32)
        return np.where(ordinary, y.astype(np.float32), special)


def expm1f(x: Floats) -> Floats:
    """``exp(x) - 1``: reduced by multiples of log(2), a rational function, in float32."""
    ln2_hi, ln2_lo, invln2 = _f(6.9313812256e-01), _f(9.0580006145e-06), _f(1.4426950216e00)
    q = _constants("bd088889 3ad00d01 b8a670cd 36867e54 b457edbb")
    size = np.abs(x)
    with np.errstate(all="ignore"):
        argument = np.where(np.isfinite(x), np.clip(x, _f(-40), _f(89)), _f(0))
        negative = argument < 0
        far = np.trunc(invln2 * argument + np.where(negative, _f(-0.5), _f(0.5)))
        near = np.where(negative, _f(-1), _f(1))
        k = np.where(_bits(size) < 0x3F851592, near, far)
        k = np.where(_bits(size) > 0x3EB17218, k, _f(0)).astype(np.float32)
        hi, lo = argument - k * ln2_hi, k * ln2_lo
        r = hi - lo
        c = (hi - r) - lo
        half = _f(0.5) * r
        hxs = r * half
        r1 = _f(1) + hxs * _horner(hxs, q)
        t = _f(3) - r1 * half
        e = hxs * ((r1 - t) / (_f(6) - r * t))
        plain = r - (r * e - hxs)
        e = r * (e - c) - c - hxs
        shift = k.astype(np.int32)
        one = np.where(r < _f(-0.25), _f(-2) * (e - (r + _f(0.5))), _f(1) + _f(2) * (r - e))
        outer = np.ldexp(_f(1) - (e - r), shift) - _f(1)
        below_23 = np.ldexp((_f(1) - np.ldexp(_f(1), -shift)) - (e - r), shift)
        above_23 = np.ldexp((r - (e + np.ldexp(_f(1), -shift))) + _f(1), shift)
        y = np.where(shift < 23, below_23, above_23)
        y = np.where((shift <= -2) | (shift > 56), outer, y)
        y = np.where(shift == 1, one, y)
        y = np.where(shift == -1, _f(0.5) * (r - e) - _f(0.5), y)
        y = np.where(shift == 0, plain, y)
        y = np.where(_bits(size) < 0x33000000, x, y)
        y = np.where((_bits(size) >= 0x4195B844) & (x < 0), _f(-1), y)
        y = np.where(x > _f(8.8721679688e01), _f(np.inf), y)
        return np.where(np.isnan(x), x, y).astype(np.float32)


def tanhf(x: Floats) -> Floats:
    """``tanh`` by :func:`expm1f`, in float32."""
    size = np.abs(x)
    two = _f(2)
    with np.errstate(all="ignore"):
        t = expm1f(np.where(size >= 1, two, -two) * size)
        y = np.where(size >= 1, _f(1) - two / (t + two), -t / (t + two))
        y = np.where(size >= 22, _f(1), y)
        y = np.where(_bits(size) < 0x24000000, size, y)
        return np.where(np.isnan(x), x, np.copysign(y, x)).astype(np.float32)


_ERF = {
    "pp": "3e0375d4 bea66beb bce9528f bbbd1489 b7c756b1",
    "qq": "3f800000 3ecbbbce 3d852a63 3ba68116 390aee49 b684e21a",
    "pa": "bb1acdc6 3ed46805 bebe9208 3ea2fe54 bde31cc2 3d1151b3 bb0df9c0",
    "qa": "3f800000 3dd9f331 3f0a5785 3d931ae7 3e013307 3c5f6e13 3c445aa3",
    "ra": "bc21a093 bf31a0b7 c128f022 c2798057 c322658c c3389ae7 c2a2932b c11d077e",
    "sa": "3f800000 419d35ce 4309a863 43d9486f 442158c9 43d6810b 42d9451f 40d23f7c bd777f97",
    "rb": "bc21a092 bf4c9dd4 c18e104b c320a2ea c41f6441 c480230b c3f1c275",
    "sb": "3f800000 41f2b459 43a2e571 44c01759 4547fdbb 451f90ce 43ed43a7 c1b38712",
}


def erfcf(x: Floats) -> Floats:
    """``1 - erf(x)``: rational functions on four intervals, in float32."""
    c = {name: _constants(text) for name, text in _ERF.items()}
    one, half, two, erx = _f(1), _f(0.5), _f(2), _f(8.4506291151e-01)
    size = np.abs(x)
    with np.errstate(all="ignore"):
        z = x * x
        y: Floats = _horner(z, c["pp"]) / _horner(z, c["qq"])
        first = np.where(x < _f(0.25), one - (x + x * y), half - (x * y + (x - half)))
        first = np.where(_bits(size) < 0x32800000, one - x, first)

        s = size - one
        center = _horner(s, c["pa"]) / _horner(s, c["qa"])
        second = np.where(x >= 0, (one - erx) - center, one + (erx + center))

        inverse = one / (size * size)
        middle = _bits(size) < 0x4036DB6D
        ratio: Floats = np.where(
            middle, _horner(inverse, c["ra"]) / _horner(inverse, c["sa"]),
            _horner(inverse, c["rb"]) / _horner(inverse, c["sb"]),
        )  # fmt: skip
        cut = (_bits(size) & ~0x1FFF).view(np.float32)
        r = expf(-cut * cut - _f(0.5625)) * expf((cut - size) * (cut + size) + ratio)
        third = np.where(x > 0, r / size, two - r / size)
        third = np.where((x < 0) & (size >= 6), two, third)

        y = np.where(size < _f(0.84375), first, np.where(size < _f(1.25), second, third))
        y = np.where(size < 28, y, np.where(x > 0, _f(0), two))
        return np.where(np.isnan(x), x, y).astype(np.float32)


def eigen_exp(x: Floats) -> Floats:
    """``exp``: reduced by multiples of log(2), a polynomial of the sixth degree."""
    p = [_f(v) for v in (1, 1, 0.49999988079071044921875, 0.16666518151760101318359375,
                         4.166965186595916748046875e-2, 8.36894474923610687255859375e-3,
                         1.37449637986719608306884765625e-3)]  # fmt: skip
    with np.errstate(all="ignore"):
        argument = np.where(np.isnan(x), _f(0), np.clip(x, _f(-110), _f(88.723)))
        m = np.floor(argument * _f(1.44269504088896341) + _f(0.5))
        r = m * _f(-0.693359375) + argument
        r = m * _f(2.12194440e-4) + r
        square = r * r
        even = square * (square * p[6] + p[4]) + p[2]
        odd = square * p[5] + p[3]
        y = square * (r * odd + even) + (r + p[0])
        y = np.maximum(np.ldexp(y, m.astype(np.int32)), x)
        return np.where(x < _f(-104), _f(0), y).astype(np.float32)


def eigen_tanh(x: Floats) -> Floats:
    """``tanh``: a rational function of degrees 9 and 8, clamped where it reaches 1."""
    clamp = _f(7.90738964080810547)
    above = [_f(v) for v in (1.340216100e-1, 3.520756727e-3, 2.102733560e-5, 1.394553628e-8)]
    below = [_f(v) for v in (1, 4.673548340e-1, 2.597254514e-2, 3.326951409e-4, 8.015776984e-7)]
    argument = np.clip(x, -clamp, clamp)
    square = argument * argument
    numerator = (square * argument) * _horner(square, above) + argument
    result: Floats = numerator / _horner(square, below)
    return result


def eigen_erfc(x: Floats, exp: Function = eigen_exp) -> Floats:
    """``1 - erf(x)``: a polynomial up to 1, exp(-x**2) times a rational function beyond."""
    inner = [_f(v) for v in (-1.1283791065216064453125, 3.761229515075683593750e-01,
                             -1.12800106406211853027343750e-01, 2.67075151205062866210937500e-02,
                             -4.91381669417023658752441406250e-03,
                             5.61802298761904239654541015625e-04)]  # fmt: skip
    above = [
        _f(v)
        for v in (
            5.3971976041793823242187500e-02,
            3.2379078865051269531250000e-01,
            4.2920666933059692382812500e-01,
            1.0208116471767425537109375e-01,
        )
    ]
    below = [
        _f(v)
        for v in (
            9.5662862062454223632812500e-02,
            6.2173241376876831054687500e-01,
            1,
            3.9137163758277893066406250e-01,
            1.7251677811145782470703125e-02,
        )
    ]
    with np.errstate(all="ignore"):
        argument = np.clip(x, _f(-11), _f(11))
        square = argument * argument
        near = argument * _horner(square, inner) + _f(1)
        wide = argument.astype(np.float64)
        lost = (wide * wide - square).astype(np.float32)  # of the square, by its rounding
        e = exp(-square)
        e = e - e * lost
        inverse = _f(1) / square
        ratio = _horner(inverse, above) / (argument * _horner(inverse, below))
        far = e * ratio + np.where(argument < 0, _f(2), _f(0))
        return np.where(square > 1, far, near).astype(np.float32)


def _bits(x: Floats) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(x).view(np.int32).reshape(x.shape)


@cache
def _constants(text: str) -> tuple[np.float32, ...]:
    return tuple(np.frombuffer(bytes.fromhex(word), ">f4")[0].astype(_f) for word in text.split())


def _horner(x: Floats, coefficients: Sequence[np.float32]) -> Floats:
    """``c[0] + x * (c[1] + x * (..))``."""
    y = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = c + x * y
    return y


LIBRARIES: Mapping[str, Mapping[str, Function]] = MappingProxyType(
    {
        "glibc_2.28": {"exp": expf, "log": logf, "expm1": expm1f, "tanh": tanhf, "erfc": erfcf},
        "correctly_rounded": {
            "exp": elementary.exp32,
            "log": elementary.log32,
            "expm1": elementary.expm132,
            "tanh": elementary.tanh32,
            "erfc": elementary.erfc32,
        },
        "eigen": {
            "exp": eigen_exp,
            "tanh": eigen_tanh,
            "erfc": eigen_erfc,
            "erfc_scalar": partial(eigen_erfc, exp=expf),
        },
    }
)
