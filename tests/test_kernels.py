"""The kernels against plain Python integers. The oracles below share nothing with the kernels but the codes."""

from __future__ import annotations

import ast
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qinterp import _kernels as kernels
from qinterp._kernels import Amount, BiasOrder, Check, Opcode, Operands, Overflow, Padding, Rounding

ISAS = kernels.available_isas()
seeded = settings(derandomize=True, deadline=None, max_examples=200)


def corners(bits: int) -> list[int]:
    """Every +-2**k +- {0, 1, 2} of a signed width, and its ends."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    near = {sign * (1 << k) + d for k in range(bits) for sign in (-1, 1) for d in (-2, -1, 0, 1, 2)}
    return sorted(v for v in near | {0, low, low + 1, high - 1, high} if low <= v <= high)


# ---- oracles: rounding and fitting ----


def rounded(numerator: int, denominator: int, rounding: int) -> int:
    below, remainder = divmod(numerator, denominator)
    if remainder == 0:
        return below
    above, negative = below + 1, numerator < 0
    towards_zero, away = (above, below) if negative else (below, above)
    if rounding >= Rounding.TOWARD_NEGATIVE:
        return {
            Rounding.TOWARD_NEGATIVE: below,
            Rounding.TOWARD_ZERO: towards_zero,
            Rounding.TOWARD_POSITIVE: above,
            Rounding.AWAY_FROM_ZERO: away,
        }[rounding]  # type: ignore[index]
    if 2 * remainder != denominator:
        return above if 2 * remainder > denominator else below
    return {
        Rounding.TIES_TO_EVEN: below if below % 2 == 0 else above,
        Rounding.TIES_TO_AWAY: away,
        Rounding.TIES_TOWARD_POSITIVE: above,
        Rounding.TIES_TOWARD_NEGATIVE: below,
        Rounding.TIES_TOWARD_ZERO: towards_zero,
    }[rounding]  # type: ignore[index]


def shifted(x: int, amount: int, rounding: int) -> int:
    """Round x / 2**amount."""
    return rounded(x, 1 << amount, rounding) if amount > 0 else x << -amount


def fitted(x: int, bits: int, overflow: int) -> tuple[int, bool]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if low <= x <= high:
        return x, False
    if overflow == Overflow.WRAP:
        return (x - low) % 2**bits + low, True
    if overflow == Overflow.INDEFINITE:
        return low, True
    return (low if x < 0 else high), True


@pytest.mark.parametrize("rounding", Rounding)
def test_round_shift_exhaustive_at_8_bits(rounding: Rounding) -> None:
    x, amount = np.meshgrid(np.arange(-256, 256), np.arange(-2, 70), indexing="ij")
    got = kernels.round_shift(x, amount, rounding)
    want = [shifted(int(v), int(a), rounding) for v, a in zip(x.flat, amount.flat, strict=True)]
    assert got.ravel().tolist() == want


@pytest.mark.parametrize("rounding", Rounding)
def test_round_shift_corners_of_64_bits(rounding: Rounding) -> None:
    x = np.array(corners(64))
    for amount in [
        *range(-66, 67, 6),
        -65,
        -63,
        -1,
        1,
        2,
        31,
        32,
        61,
        62,
        63,
        65,
        127,
        128,
        1000,
        -1000,
    ]:
        got = kernels.round_shift(x, amount, rounding).tolist()
        want = [fitted(shifted(int(v), amount, rounding), 64, Overflow.SATURATE)[0] for v in x]
        assert got == want, amount


@pytest.mark.parametrize("overflow", Overflow)
def test_fit(overflow: Overflow) -> None:
    x = np.array(corners(64))
    for bits in range(1, 65):
        assert kernels.fit(x, bits, overflow).tolist() == [
            fitted(int(v), bits, overflow)[0] for v in x
        ], bits


def test_round_shift_and_fit_of_read_only_empty_and_scalar() -> None:
    x = np.arange(6).reshape(2, 3)
    x.flags.writeable = False
    assert kernels.round_shift(x.T, 1, Rounding.TIES_TO_EVEN).tolist() == [[0, 2], [0, 2], [1, 2]]
    assert kernels.round_shift(np.zeros((0, 3), np.int64), np.zeros(3, np.int64), 0).shape == (0, 3)
    assert kernels.fit(np.int64(200), 8, Overflow.WRAP) == -56
    assert kernels.fit(np.zeros(0), 8, Overflow.WRAP).shape == (0,)
    with pytest.raises(ValueError, match="width"):
        kernels.fit(x, 65, 0)


# ---- oracle: accumulation ----


class Accumulator(NamedTuple):
    bits: int = 32
    overflow: int = Overflow.WRAP
    check: int = Check.AT_END
    operands: int = Operands.ZERO_POINT_SUBTRACTED
    padding: int = Padding.SKIP
    bias: int = BiasOrder.LAST
    group_size: int = 0
    group_bits: int = 0
    group_overflow: int = 0


Tap = tuple[int | None, int]  # the raw x, or None for padding; the raw w


def accumulated(
    taps: list[Tap], bias: int, x_zp: int, w_zp: int, a: Accumulator
) -> tuple[int, bool]:
    flags = []

    def fit(value: int, bits: int, overflow: int) -> int:
        value, left = fitted(value, bits, overflow)
        flags.append(left)
        return value

    def step(value: int) -> int:
        return fit(value, a.bits, a.overflow) if a.check == Check.EACH_STEP else value

    pad = {Padding.SKIP: None, Padding.ZERO_POINT: x_zp, Padding.ZERO: 0}[Padding(a.padding)]
    present = [(pad if x is None else x, w) for x, w in taps]
    if a.operands == Operands.RAW:
        products = [None if x is None else x * w for x, w in present]
    else:
        products = [None if x is None else (x - x_zp) * (w - w_zp) for x, w in present]
    total = step(bias) if a.bias == BiasOrder.FIRST else 0
    if a.group_size == 0:
        for product in products:
            if product is not None:
                total = step(total + product)
    else:
        for start in range(0, len(products), a.group_size):
            group = 0
            for product in products[start : start + a.group_size]:
                if product is not None:
                    group += product
                    if a.check == Check.EACH_STEP and a.group_size > 2:
                        group = fit(group, a.group_bits, a.group_overflow)
            total = step(total + fit(group, a.group_bits, a.group_overflow))
    if a.operands == Operands.RAW:
        counted = [(x, w) for x, w in present if x is not None]
        exact = sum((x - x_zp) * (w - w_zp) for x, w in counted)
        total = step(total + exact - sum(x * w for x, w in counted))
    if a.bias == BiasOrder.LAST:
        total = step(total + bias)
    return fit(total, a.bits, a.overflow), any(flags)


class Case(NamedTuple):
    x: Any
    w: Any  # (OC, KH, KW, C / groups)
    bias: Any
    x_zero_point: int
    w_zero_point: Any
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: tuple[int, int]
    out_hw: tuple[int, int]
    groups: int
    taps: Any
    transposed: bool


def window(case: Case, n: int, oy: int, ox: int, oc: int) -> list[Tap]:
    """The taps of one output, in order."""
    taps = (
        case.taps
        if case.taps is not None
        else list(itertools.product(*map(range, case.w.shape[1:])))
    )
    group = oc // (len(case.w) // case.groups)
    _, height, width, _ = case.x.shape
    found: list[Tap] = []
    for kh, kw, ic in taps:
        if case.transposed:
            iy, ry = divmod(oy + case.padding[0] - kh * case.dilations[0], case.strides[0])
            ix, rx = divmod(ox + case.padding[1] - kw * case.dilations[1], case.strides[1])
            inside = ry == 0 and rx == 0 and 0 <= iy < height and 0 <= ix < width
        else:
            iy = oy * case.strides[0] - case.padding[0] + kh * case.dilations[0]
            ix = ox * case.strides[1] - case.padding[1] + kw * case.dilations[1]
            inside = 0 <= iy < height and 0 <= ix < width
        value = int(case.x[n, iy, ix, group * case.w.shape[3] + ic]) if inside else None
        found.append((value, int(case.w[oc, kh, kw, ic])))
    return found


def accumulators(case: Case, a: Accumulator) -> tuple[Any, bool]:
    out = np.zeros((len(case.x), *case.out_hw, len(case.w)), object)
    overflowed = False
    for n, oy, ox, oc in np.ndindex(out.shape):
        bias = 0 if case.bias is None else int(case.bias[oc])
        taps = window(case, n, oy, ox, oc)
        out[n, oy, ox, oc], left = accumulated(
            taps, bias, case.x_zero_point, int(case.w_zero_point[oc]), a
        )
        overflowed |= left
    return out, overflowed


def random_integers(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> Any:
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return np.where(
        rng.random(shape) < 0.2, rng.choice([info.min, info.max], shape), values
    ).astype(dtype)


def random_accumulator(rng: np.random.Generator) -> Accumulator:
    return Accumulator(
        bits=int(rng.choice([2, 9, 14, 16, 17, 18, 20, 24, 31, 32, 33, 40, 64])),
        overflow=int(rng.integers(0, 3)),
        check=int(rng.integers(0, 2)),
        operands=int(rng.integers(0, 2)),
        padding=int(rng.integers(0, 3)),
        bias=int(rng.integers(0, 2)),
        group_size=int(rng.choice([0, 0, 1, 2, 3, 5])),
        group_bits=int(rng.choice([8, 15, 16, 17, 32, 64])),
        group_overflow=int(rng.integers(0, 3)),
    )


def random_case(
    rng: np.random.Generator, depthwise: bool = False, transposed: bool = False
) -> Case:
    x_type, w_type = rng.choice([np.int8, np.uint8, np.int16], 2)
    groups = int(rng.integers(1, 4))
    inputs, outputs = (1 if depthwise else int(rng.integers(1, 4))), int(rng.integers(1, 4))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    x = random_integers(
        rng,
        x_type,
        (
            int(rng.integers(1, 3)),
            int(rng.integers(1, 6)),
            int(rng.integers(1, 6)),
            groups * inputs,
        ),
    )
    w = random_integers(rng, w_type, (groups * outputs, *kernel, inputs))
    bias = rng.integers(-1 << 18, 1 << 18, len(w)) if rng.random() < 0.8 else None
    x_zero, w_zero = (
        int(random_integers(rng, x_type, (1,))[0]),
        random_integers(rng, w_type, (len(w),)).astype(np.int64),
    )
    taps = None
    if rng.random() < 0.5:
        taps = rng.permutation(np.array(list(np.ndindex(*w.shape[1:])), np.int32))
    for array in (x, w, w_zero):
        array.flags.writeable = False
    return Case(
        x=x,
        w=w,
        bias=bias,
        x_zero_point=x_zero,
        w_zero_point=w_zero,
        strides=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        dilations=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        padding=(int(rng.integers(0, 3)), int(rng.integers(0, 3))),
        out_hw=(int(rng.integers(1, 5)), int(rng.integers(1, 5))),
        groups=groups,
        taps=taps,
        transposed=transposed,
    )


def check_case(case: Case, a: Accumulator, depthwise: bool = False) -> bool:
    w = case.w[..., 0].transpose(1, 2, 0) if depthwise else case.w
    function = (
        kernels.depthwise_conv_2d
        if depthwise
        else kernels.transpose_conv_2d
        if case.transposed
        else kernels.conv_2d
    )
    geometry = [
        case.strides,
        case.dilations,
        case.padding,
        case.out_hw,
        *([] if depthwise else [case.groups]),
    ]
    got, got_flag = function(
        case.x, w, case.bias, case.x_zero_point, case.w_zero_point, *geometry, tuple(a), case.taps
    )
    want, want_flag = accumulators(case, a._replace(padding=Padding.SKIP) if case.transposed else a)
    assert got.dtype == (np.int32 if a.bits <= 32 else np.int64)
    assert got.tolist() == want.tolist(), (a, case)
    assert got_flag == want_flag, (a, case)
    return got_flag


@pytest.mark.parametrize("kind", ["conv_2d", "depthwise_conv_2d", "transpose_conv_2d"])
def test_accumulation_of_windows(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    flags = [
        check_case(
            random_case(rng, kind == "depthwise_conv_2d", kind == "transpose_conv_2d"),
            random_accumulator(rng),
            kind == "depthwise_conv_2d",
        )
        for _ in range(150)
    ]
    assert 20 < sum(flags) < 130  # neither always nor never overflowing


def test_every_accumulator_field_shows() -> None:
    """On this one case, changing any field from this base changes the result: no field is ignored."""
    rng = np.random.default_rng(1)
    case = Case(
        x=random_integers(rng, np.int8, (1, 4, 4, 6)),
        w=random_integers(rng, np.int8, (4, 3, 3, 3)),
        bias=np.array([4000, -9000, 500, 12000]),
        x_zero_point=-77,
        w_zero_point=np.array([5, -20, 0, 3]),
        strides=(1, 2),
        dilations=(1, 1),
        padding=(2, 2),
        out_hw=(5, 3),
        groups=2,
        taps=None,
        transposed=False,
    )
    base = Accumulator(
        16,
        Overflow.SATURATE,
        Check.EACH_STEP,
        Operands.RAW,
        Padding.ZERO,
        BiasOrder.FIRST,
        3,
        14,
        1,
    )
    changes = [
        ("bits", 15),
        ("overflow", 0),
        ("check", 0),
        ("operands", 0),
        ("padding", 1),
        ("bias", 1 - base.bias),
    ]
    changes += [
        ("padding", 0),
        ("group_size", 0),
        ("group_size", 2),
        ("group_bits", 16),
        ("group_overflow", 0),
    ]
    results = [
        accumulators(case, base._replace(**{field: value}))[0].tolist() for field, value in changes
    ]
    assert all(result != accumulators(case, base)[0].tolist() for result in results)
    for field, value in changes:
        check_case(case, base._replace(**{field: value}))


def test_groups_with_bias() -> None:
    rng = np.random.default_rng(2)
    for bias_order in BiasOrder:
        case = random_case(rng)
        while case.groups == 1 or case.bias is None:
            case = random_case(rng)
        check_case(case, Accumulator(bits=40, bias=bias_order))


def test_transpose_conv_2d_is_the_scatter() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        case = random_case(rng, transposed=True)
        want = np.zeros((len(case.x), *case.out_hw, len(case.w)), np.int64)
        shape = (*case.x.shape[:3], *case.w.shape[:3])
        for n, iy, ix, oc, kh, kw in np.ndindex(*shape):
            oy = iy * case.strides[0] - case.padding[0] + kh * case.dilations[0]
            ox = ix * case.strides[1] - case.padding[1] + kw * case.dilations[1]
            if 0 <= oy < case.out_hw[0] and 0 <= ox < case.out_hw[1]:
                group, size = oc // (len(case.w) // case.groups), case.w.shape[3]
                x = (
                    case.x[n, iy, ix, group * size : (group + 1) * size].astype(np.int64)
                    - case.x_zero_point
                )
                want[n, oy, ox, oc] += int(
                    x @ (case.w[oc, kh, kw].astype(np.int64) - case.w_zero_point[oc])
                )
        got, _ = kernels.transpose_conv_2d(
            *case[:3], case.x_zero_point, *case[4:10], tuple(Accumulator(64)), case.taps
        )
        assert (got == want + (0 if case.bias is None else case.bias)).all()


@seeded
@given(st.data())
def test_matmul(data: st.DataObject) -> None:
    rows, columns, depth = data.draw(
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 9))
    )
    types = st.sampled_from([np.int8, np.uint8, np.int16])
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    x, w = (
        random_integers(rng, data.draw(types), (rows, depth)),
        random_integers(rng, data.draw(types), (columns, depth)),
    )
    bias = (
        rng.integers(-(1 << data.draw(st.integers(1, 62))), 1 << 40, columns)
        if data.draw(st.booleans())
        else None
    )
    x_zp, w_zp = data.draw(st.integers(-32768, 32767)), rng.integers(-300, 300, columns)
    order = rng.permutation(depth).astype(np.int32) if data.draw(st.booleans()) else None
    a = random_accumulator(rng)
    got, got_flag = kernels.matmul(x, w, bias, x_zp, w_zp, tuple(a), order)
    flag = False
    assert got.shape == (rows, columns)
    for m, n in np.ndindex(rows, columns):
        taps: list[Tap] = [
            (int(x[m, k]), int(w[n, k])) for k in (range(depth) if order is None else order)
        ]
        want, left = accumulated(taps, 0 if bias is None else int(bias[n]), x_zp, int(w_zp[n]), a)
        assert got[m, n] == want, (a, m, n)
        flag |= left
    assert got_flag == flag


def test_pairs_are_one_step() -> None:
    """vpmaddubsw: 255 * 255 alone does not fit 16 bits, but 255 * 255 - 255 * 250 does."""
    x, w = np.array([[255, 255]], np.uint8), np.array([[255, -250]], np.int16)
    a = Accumulator(
        32,
        Overflow.WRAP,
        Check.EACH_STEP,
        group_size=2,
        group_bits=16,
        group_overflow=Overflow.SATURATE,
    )
    got, flag = kernels.matmul(x, w, None, 0, np.zeros(1, np.int64), tuple(a))
    assert (got.tolist(), flag) == ([[255 * 5]], False)
    got, flag = kernels.matmul(
        x, w, None, 0, np.zeros(1, np.int64), tuple(a._replace(group_size=3))
    )
    assert (got.tolist(), flag) == ([[-30983]], True)


def test_64_bit_accumulators() -> None:
    x, w = np.array([[-32768, -32768]], np.int16), np.array([[-32768, 1]], np.int16)
    zero = np.zeros(1, np.int64)
    for bias, overflow, check in itertools.product([2**63 - 1, -(2**63), 0], (0, 1), (0, 1)):
        a = Accumulator(64, overflow, check, bias=BiasOrder.FIRST)
        got, flag = kernels.matmul(x, w, np.array([bias]), 0, zero, tuple(a))
        want, want_flag = accumulated([(-32768, -32768), (-32768, 1)], bias, 0, 0, a)
        if check == Check.AT_END:  # documented: modular in 64 bits until the one fit
            want, want_flag = (
                fitted(want if not want_flag else bias + 2**30 - 2**15, 64, Overflow.WRAP)[0],
                False,
            )
        assert (int(got[0, 0]), flag) == (want, want_flag)


def test_accumulation_refuses_what_would_read_outside() -> None:
    x, w, zero = (
        np.zeros((1, 3, 3, 4), np.int8),
        np.zeros((2, 3, 3, 4), np.int8),
        np.zeros(2, np.int64),
    )
    good: dict[str, Any] = dict(
        x=x, w=w, bias=None, x_zero_point=0, w_zero_point=zero, strides=(1, 1), dilations=(1, 1), padding=(0, 0),
        out_hw=(9, 9), groups=1, accumulator=tuple(Accumulator()),
    )  # fmt: skip
    assert kernels.conv_2d(**good)[0].shape == (1, 9, 9, 2)
    assert kernels.conv_2d(**good | {"out_hw": (0, 9)})[0].shape == (1, 0, 9, 2)
    for bad in (
        {"groups": 2}, {"bias": np.zeros(3, np.int64)}, {"w_zero_point": np.zeros(1, np.int64)}, {"strides": (0, 1)},
        {"taps": np.array([[0, 0, 4]], np.int32)}, {"taps": np.array([[-1, 0, 0]], np.int32)}, {"x_zero_point": 1 << 20},
        {"accumulator": tuple(Accumulator(bits=65))}, {"accumulator": tuple(Accumulator(overflow=3))},
    ):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
            kernels.conv_2d(**good | bad)
    with pytest.raises(TypeError, match="x must be"):
        kernels.conv_2d(**good | {"x": x.astype(np.int32)})


# ---- float32 accumulation ----


def test_float32_accumulation_is_sequential() -> None:
    rng = np.random.default_rng(4)
    reordered = 0
    for i in range(60):
        kind = ("conv_2d", "depthwise_conv_2d", "transpose_conv_2d")[i % 3]
        case = random_case(rng, kind == "depthwise_conv_2d", kind == "transpose_conv_2d")
        x = (rng.standard_normal(case.x.shape) * 10.0 ** rng.integers(-3, 4, case.x.shape)).astype(
            np.float32
        )
        w = rng.standard_normal(case.w.shape).astype(np.float32)
        bias = rng.standard_normal(len(w)).astype(np.float32) if case.bias is not None else None
        geometry = [case.strides, case.dilations, case.padding, case.out_hw]
        if kind == "depthwise_conv_2d":
            got = kernels.depthwise_conv_2d_float32(
                x, w[..., 0].transpose(1, 2, 0), bias, *geometry, case.taps
            )
        else:
            got = getattr(kernels, f"{kind}_float32")(x, w, bias, *geometry, case.groups, case.taps)
        order = case.taps
        if case.transposed and order is None:  # the scatter meets kh and kw downwards
            order = [(kh, kw, ic) for kh, kw, ic in np.ndindex(*w.shape[1:])]
            order.sort(key=lambda tap: (-tap[0], -tap[1], tap[2]))
        numbered = case._replace(
            x=np.arange(x.size).reshape(x.shape), w=np.arange(w.size).reshape(w.shape), taps=order
        )
        for n, oy, ox, oc in np.ndindex(got.shape):
            terms = [
                x.flat[i] * w.flat[j] for i, j in window(numbered, n, oy, ox, oc) if i is not None
            ]
            total, backwards = np.float32(0), np.float32(0)
            for term in terms:
                total += term
            for term in terms[::-1]:
                backwards += term
            reordered += total != backwards
            assert got[n, oy, ox, oc] == total + (np.float32(0) if bias is None else bias[oc])
    assert reordered > 100  # the order matters in this data


def test_matmul_float32() -> None:
    rng = np.random.default_rng(5)
    x, w, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((3, 50), (4, 50), (4,))
    )
    x.flags.writeable = False
    for order in (None, rng.permutation(50).astype(np.int32)):
        total = np.zeros((3, 4), np.float32)
        for k in range(50) if order is None else order:
            total += x[:, k, None] * w[:, k]
        assert (kernels.matmul_float32(x, w, bias, order) == total + bias).all()
    assert kernels.matmul_float32(x[:0], w, bias).shape == (0, 4)
    assert (kernels.matmul_float32(x[:, :0], w[:, :0], bias) == bias).all()
    with pytest.raises(TypeError, match="float32"):
        kernels.matmul_float32(x.astype(np.float64), w, bias)


# ---- stage programs ----


class Parameters(NamedTuple):
    multiplier: int = 1 << 30
    shift: int = 0
    scale: float = 1.0
    ratio: tuple[int, int, int] = (1, 1, 0)
    zero_point: int = 0
    lo: int = -128
    hi: int = 127
    pre: int = 0
    post: int = 0


Program = list[tuple[int, ...]]


def amount_of(source: int, literal: int, p: Parameters) -> int:
    return (literal, max(p.shift, 0), max(-p.shift, 0), literal - p.shift, p.pre, p.post)[source]


def as_float(x: Any, precision: int) -> Any:
    with np.errstate(over="ignore"):
        return np.float32(x) if precision == 32 else np.float64(x)


def staged(program: Program, x: Any, p: Parameters) -> tuple[Any, bool]:
    """One lane, in Python integers and numpy floats."""
    error = False

    def fit(value: int, bits: int, overflow: int) -> int:
        nonlocal error
        value, left = fitted(value, bits, overflow)
        error |= left and overflow == Overflow.ERROR
        return value

    v: Any = int(x) if isinstance(x, int | np.integer) else x
    for opcode, *rest in program:
        if opcode == Opcode.SHIFT_LEFT:
            amount = amount_of(rest[0], rest[1], p)
            v = fit(v << amount if amount >= 0 else v >> -amount, *rest[2:])
        elif opcode == Opcode.MULTIPLY:
            v = fit(v * p.multiplier, *rest)
        elif opcode == Opcode.MULTIPLY_HIGH:
            v = fit(shifted(v * p.multiplier, rest[0] - 1, rest[1]), rest[0], rest[2])
        elif opcode == Opcode.SHIFT_RIGHT:
            v = fitted(shifted(v, amount_of(rest[0], rest[1], p), rest[2]), 64, 1)[0]
        elif opcode == Opcode.TO_FLOAT:
            # numpy converts through the C compiler; integers decide which neighbour is right
            v = as_float(v, rest[0]) if not isinstance(v, int) else nearest(v, rest[0])
        elif opcode == Opcode.SCALE:
            v = as_float(v, rest[0]) * as_float(p.scale, rest[0])
        elif opcode == Opcode.DIVIDE_SCALE:
            v = as_float(v, rest[0]) / as_float(p.scale, rest[0])
        elif opcode == Opcode.SCALE_RATIO:
            numerator, denominator, exponent = p.ratio
            exact = v * numerator << max(exponent, 0), denominator << max(-exponent, 0)
            v = fitted(rounded(*exact, rest[0]), 64, Overflow.SATURATE)[0]
        elif opcode == Opcode.ROUND:
            if not math.isfinite(v):
                low, high = -(2 ** (rest[1] - 1)), 2 ** (rest[1] - 1) - 1
                error |= rest[2] == Overflow.ERROR
                wrapped = 0 if math.isnan(v) or rest[2] == Overflow.WRAP else low if v < 0 else high
                v = low if rest[2] == Overflow.INDEFINITE else wrapped
            else:
                v = fit(rounded(*float(v).as_integer_ratio(), rest[0]), *rest[1:])
        elif opcode in (Opcode.ADD_ZERO_POINT, Opcode.SUBTRACT_ZERO_POINT):
            term = p.zero_point if opcode == Opcode.ADD_ZERO_POINT else -p.zero_point
            v = fit(v + term, *rest) if isinstance(v, int) else v + type(v)(term)
        elif opcode == Opcode.FIT:
            v = fit(v, *rest)
        elif opcode == Opcode.CLAMP:
            v = min(max(v, p.lo), p.hi)
        else:
            low, high = type(v)(p.lo - p.zero_point), type(v)(p.hi - p.zero_point)
            v = low if rest[0] and v < low else v
            v = high if rest[1] and v > high else v
    return v, error


def nearest(x: int, precision: int) -> Any:
    """The integer as a float, ties to even, from its digits."""
    digits = 24 if precision == 32 else 53
    excess = max(abs(x).bit_length() - digits, 0)
    return as_float(float(shifted(x, excess, Rounding.TIES_TO_EVEN) << excess), precision)


def run(program: Program, x: Any, lanes: list[Parameters], out_type: Any) -> tuple[Any, bool]:
    """One or one a channel of ``lanes`` on x (rows, channels), alike by every instruction set.

    All have the zero point and bounds of the first lane.
    """
    rows = [[*stage, *[0] * (6 - len(stage))] for stage in program]
    p = lanes[0]
    parameters = (
        np.array(rows, np.int64).reshape(-1, 6),
        x,
        np.array([lane.multiplier for lane in lanes], np.int64),
        np.array([lane.shift for lane in lanes], np.int64),
        np.array([lane.scale for lane in lanes], np.float64),
        np.array([lane.ratio for lane in lanes], np.int64),
        p.zero_point,
        p.lo,
        p.hi,
    )
    pre = np.array([lane.pre for lane in lanes], np.int64)
    post = np.array([lane.post for lane in lanes], np.int64)
    outs = [np.zeros(x.shape, out_type) for _ in ISAS]
    flags = [
        kernels.run_stages(*parameters, out, pre, post, isa=name)
        for name, out in zip(ISAS, outs, strict=True)
    ]
    assert all(out.tobytes() == outs[0].tobytes() for out in outs)
    assert len(set(flags)) == 1
    return outs[0], flags[0]


def check_program(
    program: Program, x: Any, lanes: list[Parameters], out_type: Any = np.int64
) -> Any:
    got, got_flag = run(program, x, lanes, out_type)
    flag = False
    with np.errstate(all="ignore"):
        for index, value in np.ndenumerate(x):
            lane = lanes[index[1] if len(lanes) > 1 else 0]
            want, error = staged(program, value, lane)
            flag |= error
            if isinstance(want, int) and np.dtype(out_type).kind != "f":
                assert int(got[index]) == want, (program, lane, value)
            else:
                assert np.array_equal(
                    got[index], np.asarray(want).astype(out_type), equal_nan=True
                ), (program, lane, value)
    assert got_flag == flag
    return got


DR = [
    (Opcode.SHIFT_LEFT, Amount.LEFT, 0, 32, Overflow.WRAP),
    (Opcode.MULTIPLY_HIGH, 32, Rounding.TIES_TOWARD_POSITIVE, Overflow.SATURATE),
    (Opcode.SHIFT_RIGHT, Amount.RIGHT, 0, Rounding.TIES_TO_AWAY),
    (Opcode.ADD_ZERO_POINT, 32, Overflow.WRAP),
    (Opcode.CLAMP,),
]
FP32 = [
    (Opcode.TO_FLOAT, 32),
    (Opcode.SCALE, 32),
    (Opcode.CLAMP_FLOAT, 0, 1),
    (Opcode.ROUND, Rounding.TIES_TO_EVEN, 32, Overflow.INDEFINITE),
    (Opcode.ADD_ZERO_POINT, 16, Overflow.SATURATE),
    (Opcode.CLAMP,),
]
FLOAT64 = [
    (Opcode.TO_FLOAT, 64),
    (Opcode.SCALE, 64),
    (Opcode.ROUND, Rounding.TIES_TO_AWAY, 32, Overflow.SATURATE),
    (Opcode.ADD_ZERO_POINT, 32, Overflow.WRAP),
    (Opcode.CLAMP,),
]
M64 = [
    (Opcode.MULTIPLY, 64, Overflow.WRAP),
    (Opcode.SHIFT_RIGHT, Amount.TOTAL, 15, Rounding.TIES_TOWARD_POSITIVE),
    (Opcode.FIT, 32, Overflow.WRAP),
]


@pytest.mark.parametrize("program", [DR, FP32, FLOAT64, M64], ids=["DR", "FP32", "FLOAT64", "M64"])
@pytest.mark.parametrize("x_type", [np.int32, np.int64])
def test_known_programs_on_corners(program: Program, x_type: Any) -> None:
    x = np.array(corners(32 if x_type is np.int32 else 40), x_type).reshape(-1, 1)
    for multiplier, shift in itertools.product(
        [1 << 30, (1 << 31) - 1, 0, -(1 << 31), 1518500250], [-31, -9, -1, 0, 3]
    ):
        lane = Parameters(
            multiplier,
            shift,
            scale=float(np.float32(multiplier * 2.0 ** (shift - 31))),
            zero_point=-3,
        )
        check_program(program, x, [lane], np.int64)


def test_int_min_times_int_min() -> None:
    for bits in (8, 16, 32, 64):
        low = -(1 << (bits - 1))
        x = np.array([[low, low + 1, -1, 0, 1, -low - 1]], np.int64)
        for rounding, overflow in itertools.product(Rounding, Overflow):
            check_program([(Opcode.MULTIPLY_HIGH, bits, rounding, overflow)], x, [Parameters(low)])
            check_program([(Opcode.MULTIPLY, bits, overflow)], x, [Parameters(low)])
    srdhm = [(Opcode.MULTIPLY_HIGH, 32, Rounding.TIES_TOWARD_POSITIVE, Overflow.SATURATE)]
    assert (
        run(srdhm, np.array([[-(1 << 31)]], np.int32), [Parameters(-(1 << 31))], np.int32)[0]
        == (1 << 31) - 1
    )


@pytest.mark.parametrize("rounding", Rounding)
def test_multiply_high_exhaustive_at_8_bits(rounding: Rounding) -> None:
    x = np.arange(-128, 128, dtype=np.int32).reshape(-1, 1).repeat(256, axis=1)
    lanes = [Parameters(m) for m in range(-128, 128)]
    got, _ = run([(Opcode.MULTIPLY_HIGH, 8, rounding, Overflow.SATURATE)], x, lanes, np.int64)
    want = [
        [fitted(shifted(v * m, 7, rounding), 8, 1)[0] for m in range(-128, 128)]
        for v in range(-128, 128)
    ]
    assert got.tolist() == want


@pytest.mark.parametrize("rounding", Rounding)
def test_roundings_of_floats(rounding: Rounding) -> None:
    near = [k / 2 for k in range(-21, 22)] + [
        sign * 2.0**k + d for k in range(48, 66) for sign in (-1, 1) for d in (-0.5, 0, 0.5)
    ]
    x = np.array(
        [
            *near,
            *np.nextafter(near, math.inf),
            *np.nextafter(near, -math.inf),
            5e-324,
            -5e-324,
            1e300,
            -1e300,
        ]
    )
    x = np.concatenate([x, [math.nan, math.inf, -math.inf, 2.0**70 * 3, -0.0]]).reshape(1, -1)
    for bits, overflow in itertools.product((1, 8, 32, 53, 64), Overflow):
        check_program([(Opcode.ROUND, rounding, bits, overflow)], x, [Parameters()])
        check_program(
            [(Opcode.ROUND, rounding, bits, overflow)], x[:, :30], [Parameters()]
        )  # none is huge


def test_shifts_at_every_amount() -> None:
    values = [v for v in corners(64) if abs(v) < 4 or abs(v) > 2**62 or v % 3 == 0]
    x = np.array(values[:: len(values) // 40 or 1]).reshape(-1, 1)
    for amount, overflow in itertools.product(
        [*range(-3, 4), 31, 32, 62, 63, 64, 65, 66, 200, -63, -64, -65], Overflow
    ):
        for bits in (8, 32, 64):
            check_program(
                [(Opcode.SHIFT_LEFT, Amount.LITERAL, amount, bits, overflow)], x, [Parameters()]
            )
    for amount, rounding in itertools.product(
        [*range(-3, 4), 31, 62, 63, 64, 65, 66, 200, -63, -64, -65], Rounding
    ):
        check_program([(Opcode.SHIFT_RIGHT, Amount.LITERAL, amount, rounding)], x, [Parameters()])


@pytest.mark.parametrize("rounding", Rounding)
def test_scale_ratio(rounding: Rounding) -> None:
    x = np.array([[0, 1, -1, 2, 3, -3, 5, 2**62, -(2**63), 2**63 - 1, -(2**62) - 1]])
    ends = [1, -1, 3, 2**31 + 1, 2**63 - 1, -(2**63)]
    for numerator, denominator in itertools.product(ends, [1, 2, 6, 2**40, 2**63 - 1]):
        for exponent in [0, 1, -1, 3, 60, -62, -63, -64, -65, 64, 65, 200, -126, -127, -128, -200]:
            check_program(
                [(Opcode.SCALE_RATIO, rounding)],
                x,
                [Parameters(ratio=(numerator, denominator, exponent))],
            )


INTEGER = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-300, 300), st.sampled_from(corners(64))
)
BITS = st.one_of(st.integers(1, 64), st.sampled_from([8, 16, 32, 64]))
OVERFLOW, ROUNDING = st.sampled_from(list(Overflow)), st.sampled_from(list(Rounding))
AMOUNT, PRECISION, FLAG = (
    st.sampled_from(list(Amount)),
    st.sampled_from([32, 64]),
    st.integers(0, 1),
)
INTEGER_STAGES = [
    st.tuples(st.just(Opcode.SHIFT_LEFT), AMOUNT, st.integers(-70, 70), BITS, OVERFLOW),
    st.tuples(st.just(Opcode.MULTIPLY), BITS, OVERFLOW),
    st.tuples(st.just(Opcode.MULTIPLY_HIGH), BITS, ROUNDING, OVERFLOW),
    st.tuples(st.just(Opcode.SHIFT_RIGHT), AMOUNT, st.integers(-70, 70), ROUNDING),
    st.tuples(st.just(Opcode.SCALE_RATIO), ROUNDING),
    st.tuples(st.just(Opcode.ADD_ZERO_POINT), BITS, OVERFLOW),
    st.tuples(st.just(Opcode.SUBTRACT_ZERO_POINT), BITS, OVERFLOW),
    st.tuples(st.just(Opcode.FIT), BITS, OVERFLOW),
    st.tuples(st.just(Opcode.CLAMP)),
    st.tuples(st.just(Opcode.TO_FLOAT), PRECISION),
]
FLOAT_STAGES = [
    st.tuples(st.just(Opcode.TO_FLOAT), PRECISION),
    st.tuples(st.just(Opcode.SCALE), PRECISION),
    st.tuples(st.just(Opcode.DIVIDE_SCALE), PRECISION),
    st.tuples(st.just(Opcode.ADD_ZERO_POINT)),
    st.tuples(st.just(Opcode.SUBTRACT_ZERO_POINT)),
    st.tuples(st.just(Opcode.CLAMP_FLOAT), FLAG, FLAG),
    st.tuples(st.just(Opcode.ROUND), ROUNDING, BITS, OVERFLOW),
]


@st.composite
def programs(draw: st.DrawFn, is_float: bool) -> tuple[Program, bool]:
    program = []
    for _ in range(draw(st.integers(0, 5))):
        stage = draw(st.one_of(FLOAT_STAGES if is_float else INTEGER_STAGES))
        is_float = (
            is_float
            if stage[0] not in (Opcode.TO_FLOAT, Opcode.ROUND)
            else stage[0] == Opcode.TO_FLOAT
        )
        program.append(stage)
    return program, is_float


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.data())
def test_any_program(data: st.DataObject) -> None:
    types = [np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]
    x_type = data.draw(st.sampled_from(types))
    program, is_float = data.draw(programs(x_type in (np.float32, np.float64)))
    channels = data.draw(st.sampled_from([1, 2, 3, 5]))
    small, shift = st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-70, 70)
    zero_point, lo, hi = data.draw(small), data.draw(small), data.draw(small)
    lane = st.builds(
        Parameters,
        multiplier=st.one_of(INTEGER, small),
        shift=shift,
        scale=st.floats(allow_nan=False, allow_infinity=False).filter(bool),
        ratio=st.tuples(INTEGER, st.integers(1, (1 << 63) - 1), shift),
        zero_point=st.just(zero_point),
        lo=st.just(min(lo, hi)),
        hi=st.just(max(lo, hi)),
        pre=shift,
        post=shift,
    )
    lanes = data.draw(
        st.lists(lane, min_size=channels, max_size=channels)
        | st.lists(lane, min_size=1, max_size=1)
    )
    values = data.draw(st.lists(INTEGER, min_size=2 * channels, max_size=2 * channels))
    if x_type in (np.float32, np.float64):
        x = (np.array(values, np.float64) / 1024).astype(x_type)
    else:
        x = np.array(
            [fitted(v, np.iinfo(x_type).bits, Overflow.WRAP)[0] for v in values], np.int64
        ).astype(x_type)
    check_program(program, x.reshape(2, channels), lanes, np.float64 if is_float else np.int64)


@pytest.mark.parametrize("channels", [1, 2, 3, 63, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize("per_channel", [False, True])
def test_blocks_of_lanes(channels: int, per_channel: bool) -> None:
    """Each lane gets its own channel's parameters, at every block size and remainder."""
    rng = np.random.default_rng(channels)
    for rows in (0, 1, 2, 7, 130 // channels + 1):
        x = rng.integers(-(1 << 31), 1 << 31, (rows, channels)).astype(np.int32)
        x.flags.writeable = False
        count = channels if per_channel else 1
        lanes = [
            Parameters(
                int(rng.integers(1 << 30, 1 << 31)),
                int(rng.integers(-30, 3)),
                zero_point=7,
                lo=-100,
                hi=90,
            )
            for _ in range(count)
        ]
        check_program(DR, x, lanes, np.int8)


@pytest.mark.parametrize(
    "out_type", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]
)
def test_stores(out_type: Any) -> None:
    x = np.array([[0, 1, -1, 127, 128, -129, 40000, 2**33 + 5]])
    got, _ = run([], x, [Parameters()], out_type)
    assert got.dtype == out_type
    assert got.tolist() == x.astype(out_type).tolist()


def test_programs_that_cannot_be() -> None:
    x = np.zeros((1, 2), np.int32)
    for program in (
        [(Opcode.SCALE, 32)], [(Opcode.TO_FLOAT, 16)], [(Opcode.TO_FLOAT, 32), (Opcode.CLAMP,)], [(99,)],
        [(Opcode.TO_FLOAT, 32)], [(Opcode.FIT, 0, 0)], [(Opcode.FIT, 65, 0)], [(Opcode.ROUND, 0, 32, 0)],
        [(Opcode.SHIFT_RIGHT, 6, 0, 0)], [(Opcode.SHIFT_RIGHT, 0, 0, 9)], [(Opcode.CLAMP,)] * 65,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="program"):
            run(program, x, [Parameters()], np.int32)
    with pytest.raises(ValueError, match="3 values for 2 channels"):
        run(DR, x, [Parameters()] * 3, np.int32)
    with pytest.raises(ValueError, match="denominator"):
        run(DR, x, [Parameters(ratio=(1, 0, 0))], np.int32)


def test_codes_are_those_of_the_stub() -> None:
    stub = ast.parse((Path(__file__).parents[1] / "qinterp" / "_kernels.pyi").read_text())
    classes = [
        node
        for node in stub.body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base) == "IntEnum" for base in node.bases)
    ]
    assert len(classes) == 11
    for node in classes:
        members = {
            ast.unparse(item.targets[0]): ast.literal_eval(item.value)
            for item in node.body
            if isinstance(item, ast.Assign)
        }
        assert members == {member.name: member.value for member in getattr(kernels, node.name)}
