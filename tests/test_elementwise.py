"""The elementwise kernels against plain Python integers, by every instruction set (10 s)."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import qinterp
from qinterp import _kernels as kernels
from qinterp._kernels import Combination, Folding, Fused, Opcode, Overflow, Rounding
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier, ratio_arrays
from qinterp.numerics.stages import (
    NAMED_STAGES,
    AddZeroPoint,
    Clamp,
    MultiplyHigh,
    Saturate,
    ScaleExact,
    ShiftLeft,
    ShiftRight,
    Stage,
    Wrap,
)
from qinterp.ops._fused import fuse
from qinterp.testing.tflite_writer import ModelWriter

ISAS = kernels.available_isas()
CODES: list[Any] = [np.int8, np.uint8, np.int16]
LENGTHS = [*range(71), 2047, 2048, 2049, 5000]


def draw(rng: np.random.Generator, dtype: Any, shape: Any, offset: int = 1) -> Any:
    """Codes with both ends among them, read-only, not aligned."""
    info, size = np.iinfo(dtype), int(np.prod(shape))
    codes = rng.integers(info.min, info.max + 1, size)
    codes[: min(size, 2)] = [info.min, info.max][: min(size, 2)]
    memory = np.zeros(size * info.bits // 8 + offset, np.uint8)
    memory[offset:] = rng.permutation(codes).astype(dtype).view(np.uint8)
    memory.flags.writeable = False
    return memory[offset:].view(dtype).reshape(shape)


def one_for_all(isa: str, kind: int = Fused.DR, bounds: tuple[int, int] = (-128, 127)) -> Any:
    scale = [0.0013] if kind in (Fused.FLOAT32, Fused.FLOAT64) else None
    fixed = (None, None) if scale else ([1518500250], [-9])
    return kernels.Requantizer(kind, 1, *fixed, scale, 3, *bounds, isa=isa)


FUNCTIONS = {
    Combination.COMBINE_ADD: lambda a, b: a + b,
    Combination.COMBINE_SUBTRACT: lambda a, b: a - b,
    Combination.COMBINE_MULTIPLY: lambda a, b: a * b,
    Combination.COMBINE_MAX: max,
    Combination.COMBINE_MIN: min,
}


@pytest.mark.parametrize("combination", Combination)
@pytest.mark.parametrize("dtypes", list(itertools.product(CODES, CODES)))
def test_pairs(combination: Combination, dtypes: tuple[Any, Any]) -> None:
    rng = np.random.default_rng([combination, *(np.iinfo(d).bits for d in dtypes)])
    function = FUNCTIONS[combination]
    for n, isa in itertools.product([0, 1, 2, 15, 16, 17, 63, 65, 2049], ISAS):
        a, b = draw(rng, dtypes[0], n, 1), draw(rng, dtypes[1], n, 3)
        pairs = kernels.Pairs(combination, (dtypes[0], 5), (dtypes[1], -7), isa=isa)
        got = pairs.accumulate(a, b, (n,))
        assert got.dtype == np.int32
        assert got.tolist() == [
            function(x - 5, y + 7) for x, y in zip(a.tolist(), b.tolist(), strict=True)
        ]
        assert all(pairs.low <= v <= pairs.high for v in got.tolist())
        if n > 1:
            assert {pairs.low, pairs.high} <= {
                function(x - 5, y + 7)
                for x in (np.iinfo(dtypes[0]).min, np.iinfo(dtypes[0]).max)
                for y in (np.iinfo(dtypes[1]).min, np.iinfo(dtypes[1]).max)
            }


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("noise", [0, 127, 1 << 29])
def test_pairs_by_tables_at_every_length(isa: str, dtype: Any, noise: int) -> None:
    """Tables are lines but for a little, which some instruction sets make use of, or anything."""
    rng = np.random.default_rng(8)
    codes = np.arange(256, dtype=np.uint8).view(dtype).astype(np.int64)
    tables = np.stack([codes * 2000003 + 77, 5 - codes * 2097151])
    tables += rng.integers(-noise, noise + 1, (2, 256))
    tables[:, 0] += noise > 1000
    for combination in (Combination.COMBINE_ADD, Combination.COMBINE_SUBTRACT):
        pairs = kernels.Pairs(combination, (dtype, tables[0]), (dtype, tables[1]), isa=isa)
        for n in LENGTHS:
            a, b = draw(rng, dtype, n), draw(rng, dtype, n, 2)
            got = pairs.accumulate(a, b, (n,)).tolist()
            assert got == [
                FUNCTIONS[combination](int(tables[0][x & 255]), int(tables[1][y & 255]))
                for x, y in zip(a.tolist(), b.tolist(), strict=True)
            ]


@pytest.mark.parametrize("isa", ISAS)
def test_pairs_by_tables_of_16_bits(isa: str) -> None:
    rng = np.random.default_rng(18)
    tables = rng.integers(-(1 << 30), 1 << 30, (2, 65536))
    pairs = kernels.Pairs(Combination.COMBINE_ADD, *((np.int16, t) for t in tables), isa=isa)
    for n in (1, 17, 5000):
        a, b = draw(rng, np.int16, n), draw(rng, np.int16, n)
        got = pairs.accumulate(a, b, (n,))
        assert (got == tables[0][a.view(np.uint16)] + tables[1][b.view(np.uint16)]).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sizes", [(1, 1), (1, 60), (60, 1), (5, 60), (12, 20), (3000, 9000)])
def test_pairs_that_repeat(isa: str, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(9)
    n = max(60, sizes[1])
    for n_times in (n, 150 * n):
        a, b = draw(rng, np.int8, sizes[0]), draw(rng, np.int16, sizes[1])
        pairs = kernels.Pairs(Combination.COMBINE_MULTIPLY, (np.int8, 1), (np.int16, 0), isa=isa)
        want = (np.resize(a, n_times).astype(int) - 1) * np.resize(b, n_times)
        assert (pairs.accumulate(a, b, (n_times,)) == want).all()
        out = np.empty(n_times, np.int8)
        with pytest.raises(ValueError, match="one channel"):
            pairs.requantize_into(a, b, out, kernels.Requantizer(0, 4, [1], [0], None, 0, 0, 0))


def test_pairs_that_cannot_be() -> None:
    big = np.full(256, 1 << 30)
    add, mul = Combination.COMBINE_ADD, Combination.COMBINE_MULTIPLY
    for error, arguments in (
        (ValueError, (add, (np.int8, big), (np.int8, big))),
        (ValueError, (add, (np.int8, big[:255]), (np.int8, 0))),
        (ValueError, (add, (np.int16, big), (np.int8, 0))),
        (ValueError, (add, (np.int8, big * 4), (np.int8, -big * 4))),
        (ValueError, (mul, (np.int16, 32767), (np.int16, 32767))),
        (ValueError, (9, (np.int8, 0), (np.int8, 0))),
        (TypeError, (add, (np.int32, 0), (np.int8, 0))),
    ):
        with pytest.raises(error):
            kernels.Pairs(*arguments)
    pairs = kernels.Pairs(add, (np.int8, 0), (np.int8, 0))
    codes = np.zeros(4, np.int8)
    with pytest.raises(ValueError, match="6 results of 4 and 4"):
        pairs.accumulate(codes, codes, (6,))
    with pytest.raises(TypeError, match="prepared for int8"):
        pairs.accumulate(codes, codes.view(np.uint8), (4,))


@pytest.mark.parametrize("kind", Fused)
@pytest.mark.parametrize("out_type", CODES)
def test_requantized_pairs_are_requantized_accumulators(kind: Fused, out_type: Any) -> None:
    rng = np.random.default_rng(10)
    for isa, n in itertools.product(ISAS, [*range(1, 71), 2047, 5000]):
        a, b = draw(rng, np.int8, n), draw(rng, np.uint8, n)
        pairs = kernels.Pairs(Combination.COMBINE_MULTIPLY, (np.int8, 1), (np.uint8, 3), isa=isa)
        requantizer = one_for_all(isa, kind, (0, 127))
        memory = np.full(n + 8, 77, out_type)
        pairs.requantize_into(a, b, memory[3 : 3 + n], requantizer)
        assert (memory[:3] == 77).all()
        assert (memory[3 + n :] == 77).all()
        acc = pairs.accumulate(a, b, (n, 1))
        want = np.empty((n, 1), out_type)
        portable = kernels.Requantizer(
            kind, 2, *(([None, None, [0.0013]]) if kind >= Fused.FLOAT32
                       else ([1518500250], [-9], None)), 3, 0, 127, isa="portable"
        )  # fmt: skip
        two = np.empty((n, 2), out_type)
        portable.into(np.repeat(acc, 2, axis=1), two)
        requantizer.into(acc, want)
        assert (memory[3 : 3 + n] == two[:, 0]).all()
        assert (want == two[:, :1]).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    ("slopes", "noise", "multiplier", "shift"),
    [
        ((2000003, -2097151), 0, 1518500249, -22),
        ((2000003, -2097151), 60, 1 << 30, -21),
        ((2000003, -2097151), 127, (1 << 31) - 1, -23),
        ((5, -7), 3, 1 << 30, -3),  # ties are frequent
    ],
)
def test_requantized_sums_of_lines_at_every_length(
    isa: str, dtype: Any, slopes: tuple[int, int], noise: int, multiplier: int, shift: int
) -> None:
    """Sums of tables that are lines but for a little, by every kind, nudged and clamped or not."""
    rng = np.random.default_rng(28)
    codes = np.arange(256, dtype=np.uint8).view(dtype).astype(np.int64)
    tables = np.stack([codes * slopes[0] + 77, 5 + codes * slopes[1]])
    tables += rng.integers(-noise, noise + 1, (2, 256))
    pairs = kernels.Pairs(Combination.COMBINE_ADD, *((dtype, t) for t in tables), isa=isa)
    ends, info = (np.array([pairs.low]), np.array([pairs.high])), np.iinfo(dtype)
    for kind, (low, high), zero_point in itertools.product(
        (Fused.DR, Fused.DU, Fused.SR),
        ((info.min, info.max), (info.min, info.max - 60), (info.min + 20, info.max)),
        (info.min, info.min + 64, info.min + 128),
    ):
        made = [[multiplier], [shift], None, zero_point, low, high]
        pre = [3] if kind == Fused.SR and high < info.max else None
        fused = kernels.Requantizer(kind, 1, *made, accumulator_range=ends, isa=isa, pre=pre)
        plain = kernels.Requantizer(kind, 1, *made, isa="portable", pre=pre)
        for n in (1, 63, 64, 65, 130, 2049):
            a, b = draw(rng, dtype, n), draw(rng, dtype, n, 2)
            memory, want = np.full(n + 8, 77, dtype), np.empty((n, 1), dtype)
            pairs.requantize_into(a, b, memory[3 : 3 + n], fused)
            plain.into(pairs.accumulate(a, b, (n, 1)), want)
            assert (memory[3 : 3 + n] == want[:, 0]).all()
            assert (memory[:3] == 77).all()
            assert (memory[3 + n :] == 77).all()
            assert len(set(want[:, 0].tolist())) > (5 if pre else 20) or n < 2000


# ---- tables ----


@pytest.mark.parametrize("entry", [np.int8, np.int16, np.uint16, np.int32, np.float32, np.bool_])
def test_look_up(entry: Any) -> None:
    rng = np.random.default_rng(11)
    for x_type, n in itertools.product(CODES, LENGTHS):
        count = 1 << np.iinfo(x_type).bits
        table = rng.integers(0, 120, count).astype(entry)
        x = draw(rng, x_type, n)
        want = [table[v % count].item() for v in x.tolist()]
        for isa in ISAS:
            memory = np.full(n + 8, 1, entry)
            got = kernels.look_up(table, x, memory[3 : 3 + n], isa)
            assert (memory[:3] == 1).all()
            assert (memory[3 + n :] == 1).all()
            assert got.tolist() == want
    assert kernels.look_up(table, x).dtype == entry
    assert kernels.look_up(table[:256], np.zeros((2, 0, 3), np.int8)).shape == (2, 0, 3)
    assert kernels.look_up(table[:256], np.full((3, 4), 5, np.int8).T).shape == (4, 3)


@pytest.mark.parametrize("entry", [np.int8, np.int16, np.float32])
def test_look_up_pairs(entry: Any) -> None:
    rng = np.random.default_rng(12)
    table = rng.integers(-100, 100, 65536).astype(entry)
    for n in LENGTHS:
        a, b = draw(rng, np.int8, n), draw(rng, np.uint8, n)
        got = kernels.look_up_pairs(table, a, b)
        assert got.tolist() == [
            table[(x % 256) * 256 + y] for x, y in zip(a.tolist(), b.tolist(), strict=True)
        ]


def test_look_ups_that_cannot_be() -> None:
    codes = np.zeros(4, np.int8)
    for error, arguments in (
        (ValueError, (np.zeros(255, np.int8), codes)),
        (ValueError, (np.zeros(256, np.int8), codes.astype(np.int16))),
        (TypeError, (np.zeros(256, np.int64), codes)),
        (TypeError, (np.zeros(256, np.int8), codes.astype(np.float16))),
    ):
        with pytest.raises(error):
            kernels.look_up(*arguments)
    with pytest.raises(ValueError, match="one shape"):
        kernels.look_up_pairs(np.zeros(65536, np.int8), codes, codes[:3])


# ---- windows ----


def axis(rng: np.random.Generator, size: int) -> list[tuple[int, int]]:
    windows = []
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(0, size))
        windows.append((start, int(rng.integers(1, size - start + 1))))
    return windows


@pytest.mark.parametrize("folding", Folding)
@pytest.mark.parametrize("dtype", CODES)
def test_windows(folding: Folding, dtype: Any) -> None:
    rng = np.random.default_rng([folding, np.iinfo(dtype).bits])
    fold = {Folding.FOLD_SUM: np.sum, Folding.FOLD_MAX: np.max, Folding.FOLD_MIN: np.min}[folding]
    info = np.iinfo(dtype)
    bounds = (info.min + 3, info.max - 5)
    zero_point = 9 if folding == Folding.FOLD_SUM else 0
    for c in [*range(1, 71), 127, 128, 129, 3000]:
        h, w, batch = (int(rng.integers(1, 6)) for _ in range(3))
        rows, columns = axis(rng, h), axis(rng, w)
        x = draw(rng, dtype, (batch, h, w, c))
        wide = x.astype(np.int64) - zero_point
        want = np.array(
            [[[fold(wide[n, r : r + q, k : k + m], axis=(0, 1)) for k, m in columns]
              for r, q in rows] for n in range(batch)]
        )  # fmt: skip
        if folding != Folding.FOLD_SUM:
            want = want.clip(*bounds)
        for isa in ISAS:
            windows = kernels.Windows(
                folding, dtype, (h, w, c), rows, columns, zero_point=zero_point,
                bounds=bounds, isa=isa,
            )  # fmt: skip
            got = windows.fold(x)
            assert got.dtype == (np.int32 if folding == Folding.FOLD_SUM else dtype)
            assert (got == want).all()
            assert (want >= windows.low).all()
            assert (want <= windows.high).all()
            if folding == Folding.FOLD_SUM:
                out = np.empty(got.shape, np.int8)
                windows.requantize_into(x, out, one_for_all(isa))
                alone = np.empty(got.shape, np.int8).reshape(-1, 1)
                one_for_all(isa).into(got.reshape(-1, 1), alone)
                assert (out.reshape(-1, 1) == alone).all()


def test_windows_of_one_channel_along_rows() -> None:
    rng = np.random.default_rng(13)
    for dtype, isa, w in itertools.product(CODES, ISAS, [1, 2, 63, 64, 65, 1000]):
        x = draw(rng, dtype, (1, 5, w, 1))
        for folding, fold in ((0, np.sum), (1, np.max), (2, np.min)):
            windows = kernels.Windows(
                folding, dtype, (5, w, 1), [(i, 1) for i in range(5)], [(0, w)], isa=isa
            )
            assert (windows.fold(x)[..., 0, 0] == fold(x.astype(np.int64), axis=(2, 3))).all()


def test_windows_that_cannot_be() -> None:
    def make(
        *rows: tuple[int, int], dtype: Any = np.int8, shape: Any = (4, 4, 2), **more: Any
    ) -> Any:
        return kernels.Windows(more.pop("folding", 0), dtype, shape, rows, [(0, 1)], **more)

    x = np.zeros((1, 4, 4, 2), np.int8)
    assert make((0, 4)).fold(x).shape == (1, 1, 1, 2)
    assert make((0, 4)).fold(x[:0]).shape == (0, 1, 1, 2)
    for rows in ([], [(0, 0)], [(0, 5)], [(-1, 2)], [(4, 1)]):
        with pytest.raises(ValueError, match="window"):
            make(*rows)
    with pytest.raises(ValueError, match="32 bits"):
        make((0, 70000), dtype=np.int16, shape=(70000, 4, 2))
    with pytest.raises(ValueError, match="bounds"):
        make((0, 1), folding=1, bounds=(-129, 3))
    with pytest.raises(ValueError, match="zero point"):
        make((0, 1), folding=1, zero_point=1)
    with pytest.raises(ValueError, match="prepared for"):
        make((0, 1)).fold(x.astype(np.uint8))
    with pytest.raises(ValueError, match="only sums"):
        make((0, 1), folding=2).requantize_into(
            x, np.empty((1, 1, 1, 2), np.int8), one_for_all("portable")
        )


# ---- floats to codes ----


@pytest.mark.parametrize("to_even", [False, True])
@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_quantizer_is_its_program(to_even: bool, divide: bool, first: bool) -> None:
    rng = np.random.default_rng(14)
    rounding = Rounding.TIES_TO_EVEN if to_even else Rounding.TIES_TO_AWAY
    program = [(Opcode.DIVIDE_SCALE if divide else Opcode.SCALE, 32)]
    moves = (Opcode.ADD_ZERO_POINT, 32, Overflow.WRAP)
    program += [moves] if first else []
    program.append((Opcode.ROUND, rounding, 32, Overflow.INDEFINITE))
    program += [] if first else [moves]
    program.append((Opcode.CLAMP,))
    rows = np.array([[*stage, *[0] * (6 - len(stage))] for stage in program], np.int64)
    one, ratio = np.ones(1, np.int64), np.array([[1, 1, 0]])
    near = [k / 2 + d for k in range(-600, 600) for d in (0, 2.0**-24, -(2.0**-24), 2.0**-10)]
    far = [
        s * v
        for s in (-1, 1)
        for v in (2.0**22 - 0.5, 2.0**22, 2.0**31, 2.0**31 - 128, 1e30, np.inf)
    ]
    for scale, zero_point, dtype in itertools.product((1.0, 0.37), (0, -128, 200), CODES):
        info = np.iinfo(dtype)
        factor = scale if divide else 1 / scale
        x = (np.array(near) * factor).astype(np.float32)
        rough = np.concatenate([x, np.array([*far, np.nan]) * factor]).astype(np.float32)
        bounds = (info.min + 1, info.max)
        for values in (*(x[:n] for n in range(71)), x, rough, rng.permutation(rough)):
            want = np.empty(values.shape, dtype)
            scales = np.array([np.float32(scale)], np.float64)
            kernels.run_stages(
                rows, values[:, None], one, one, scales, ratio, zero_point, *bounds, want[:, None]
            )
            for isa in ISAS:
                quantizer = kernels.Quantizer(
                    rows, scale, zero_point, *bounds, dtype,
                    divide=divide, to_even=to_even, zero_point_first=first, isa=isa,
                )  # fmt: skip
                out = np.empty(values.shape, dtype)
                quantizer.into(values, out)
                assert (out == want).all()


# ---- stage lists that equal fused ones ----

_HIGH = MultiplyHigh("ties_toward_positive")
LISTS: dict[str, tuple[tuple[Stage, ...], bool]] = {
    "no left shift": ((_HIGH, ShiftRight("ties_to_away"), AddZeroPoint(), Clamp()), True),
    "half up": ((_HIGH, ShiftRight("ties_toward_positive"), AddZeroPoint(), Clamp()), True),
    "16 bits": (
        (_HIGH, ShiftRight("ties_to_away"), Wrap(16), AddZeroPoint(16, "wrap"), Clamp()),
        True,
    ),
    "saturated": (
        (_HIGH, ShiftRight("ties_to_away"), Saturate(16), AddZeroPoint(16, "saturate"), Clamp()),
        True,
    ),
    "only a shift": (
        (ShiftRight("ties_toward_positive"), Saturate(16), AddZeroPoint(16, "saturate"), Clamp()),
        True,
    ),
    "a quotient": ((ScaleExact("ties_to_away"), AddZeroPoint(64, "saturate"), Clamp()), True),
    "saturated left": (
        (
            ShiftLeft(overflow="saturate"),
            _HIGH,
            ShiftRight("ties_to_away"),
            AddZeroPoint(),
            Clamp(),
        ),
        True,
    ),
    "shifts around a product": (
        (*NAMED_STAGES["shift_multiply_shift"], AddZeroPoint(), Clamp()),
        True,
    ),
    "single": (NAMED_STAGES["single_rounding"], True),
    "another rounding": ((_HIGH, ShiftRight("ties_to_even"), AddZeroPoint(), Clamp()), False),
    "too narrow": ((_HIGH, ShiftRight("ties_to_away"), Wrap(3), AddZeroPoint(), Clamp()), False),
    "no clamp": ((_HIGH, ShiftRight("ties_to_away"), AddZeroPoint()), False),
    "twice": (
        (_HIGH, ShiftRight("ties_to_away"), AddZeroPoint(), AddZeroPoint(), Clamp()),
        False,
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_fused_equals_its_list(name: str) -> None:
    stages, fuses = LISTS[name]
    rng = np.random.default_rng(15)
    made = 0
    for factor, zero_point, bits in itertools.product(
        (Fraction(1, 49), Fraction(1, 6), Fraction(1, 1 << 9), 0.00123, 0.9, 1.7), (0, -5, 100),
        (12, 20, 31),
    ):  # fmt: skip
        short = Multiplier("pre_post_shift", 8) if "around" in name else Multiplier()
        rescale = Rescale.of_factor(factor, short)
        if name == "a quotient" and isinstance(factor, float):
            rescale = Rescale(
                rescale.scale, rescale.multiplier, rescale.shift, ratio_arrays([Fraction(factor)])
            )
        requantizer = Requantizer(stages, rescale, zero_point=zero_point, bounds=(-128, 120))
        low, high = np.array([-(1 << bits)]), np.array([(1 << bits) - 1])
        ends = np.concatenate([low, high, [0]])
        ties = np.arange(-3000, 3000) if bits < 31 else np.arange(-40, 40)
        x = np.concatenate([ends, ties, rng.integers(low, high, 2000)]).astype(np.int32)
        want = requantizer(x, np.empty(x.shape, np.int8))
        for isa in ISAS:
            fused = fuse(requantizer, low, high, np.int8, isa)
            if fused is not None:
                made += 1
                got = np.empty((*x.shape, 1), np.int8)
                fused.into(x[:, None], got)
                assert (got[:, 0] == want).all(), (factor, zero_point, bits)
    assert (made > 0) == fuses


# ---- softmax ----


def one_over_one_plus(a: int) -> int:
    """gemmlowp's, in Q0.31, from Python integers."""

    def times(p: int, q: int) -> int:
        return min((p * q + (1 << 30)) >> 31, (1 << 31) - 1)

    def bounded(p: int) -> int:
        return min(max(p, -(1 << 31)), (1 << 31) - 1)

    total = a + (1 << 31) - 1
    half = (total + (total >= 0)) >> 1
    x = 1515870810 + times(half, -1010580540)
    for _ in range(3):
        step = bounded(4 * times(x, (1 << 29) - times(half, x)))
        x = (x + step + (1 << 31)) % (1 << 32) - (1 << 31)
    return bounded(2 * x)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("x_type", [np.int8, np.uint8])
@pytest.mark.parametrize("direct", [False, True])
def test_softmax_in_fixed_point(isa: str, x_type: Any, direct: bool) -> None:
    rng = np.random.default_rng(16)
    exponentials = np.sort(rng.integers(0, 1 << 31, 256))[::-1].copy()
    exponentials[0] = (1 << 31) - 1
    program = [
        (Opcode.MULTIPLY_HIGH, 32, Rounding.TIES_TOWARD_POSITIVE, Overflow.SATURATE),
        (Opcode.SHIFT_RIGHT, 2, 0, Rounding.TIES_TO_AWAY if direct else Rounding.TIES_TO_EVEN),
        (Opcode.ADD_ZERO_POINT, 32, Overflow.WRAP),
        (Opcode.CLAMP,),
    ]
    stages = np.array([[*stage, *[0] * (6 - len(stage))] for stage in program], np.int64)
    one, ratio = np.ones(1), np.array([[1, 1, 0]])
    for bits in (8, 12):
        terms = exponentials >> bits
        for out_type, depth in itertools.product(CODES, [*range(1, 40), 255, 256, 257, 700]):
            info = np.iinfo(out_type)
            kernel = kernels.Softmax(
                x_type, out_type, exponentials, stages, info.min, info.min, info.max,
                terms=terms, sum_bits=bits, shift=info.bits - 31, isa=isa,
            )  # fmt: skip
            x = draw(rng, x_type, (2, depth))
            if depth % 2:
                x = (x // 16).astype(x_type)
            out, totals = np.empty(x.shape, out_type), np.empty(2, np.int64)
            kernel.into(x, out, totals)
            for row, codes, total in zip(x.tolist(), out, totals.tolist(), strict=True):
                distances = [max(row) - v for v in row]
                want = sum(int(terms[d]) for d in distances)
                assert total == (want + (1 << 31)) % (1 << 32) - (1 << 31)
                headroom = 32 - max(total, 0).bit_length() if total >= 0 else 0
                a = ((total << headroom) - (1 << 31) + (1 << 31)) % (1 << 32) - (1 << 31)
                factor, shift = one_over_one_plus(a), info.bits - 31 - (bits - headroom)
                values = exponentials[distances].astype(np.int32)[:, None]
                wanted = np.empty(values.shape, out_type)
                kernels.run_stages(
                    stages, values, np.array([factor]), np.array([shift]), one, ratio,
                    info.min, info.min, info.max, wanted,
                )  # fmt: skip
                assert codes.tolist() == wanted[:, 0].tolist()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rounding", [0, 1, 6])
def test_softmax_in_floats(isa: str, rounding: int) -> None:
    rng = np.random.default_rng(17)
    table = np.exp(-0.1 * np.arange(256)).astype(np.float32)
    program = [
        (Opcode.ROUND, rounding, 32, Overflow.INDEFINITE),
        (Opcode.ADD_ZERO_POINT, 32, Overflow.WRAP),
        (Opcode.CLAMP,),
    ]
    stages = np.array([[*stage, *[0] * (6 - len(stage))] for stage in program], np.int64)
    one, ratio = np.ones(1, np.int64), np.array([[1, 1, 0]])
    for depth, offset in itertools.product([1, 2, 10, 64, 256, 257, 1000], (0.0, 0.25)):
        kernel = kernels.Softmax(
            np.int8, np.int8, table, stages, -128, -128, 127, unit=1 / 256, offset=offset, isa=isa
        )
        x = draw(rng, np.int8, (3, depth))
        out = np.empty(x.shape, np.int8)
        kernel.into(x, out)
        for row, codes in zip(x.tolist(), out, strict=True):
            total = np.float32(0)
            for v in row:
                total = total + table[max(row) - v]
            inverse = np.float32(1) / (total * np.float32(1 / 256))
            value = table[[max(row) - v for v in row]] * inverse + np.float32(offset)
            want = np.empty((depth, 1), np.int8)
            kernels.run_stages(
                stages, value[:, None], one, one, np.ones(1), ratio, -128, -128, 127, want
            )
            assert codes.tolist() == want[:, 0].tolist()


# ---- operators that grow faster once they have run often ----


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("SQUARED_DIFFERENCE", "int8"), ("LESS", "int8"), ("DIV", "uint8"), ("ADD", "int16")],
)
@pytest.mark.parametrize("last", [3, 1])
def test_tables_of_all_codes_give_what_they_were_made_by(kind: str, dtype: str, last: int) -> None:
    rng = np.random.default_rng(19)
    writer = ModelWriter()
    shape, zero_point = (30000, 3), 0 if dtype == "int16" else 3
    operands = [
        writer.input(name, (30000, n), dtype, scale=scale, zero_point=zero_point)
        for name, n, scale in (("a", 3, 0.02), ("b", last, 0.03))
    ]
    result = {"scale": 0.1, "zero_point": zero_point} if kind != "LESS" else {}
    out = writer.tensor("y", shape, "bool" if kind == "LESS" else dtype, **result)
    options = {"fused_activation_function": "NONE"} if kind in ("ADD", "DIV") else {}
    writer.operator(kind, operands, [out], **options)
    interpreter = qinterp.Interpreter(qinterp.load(writer.finish([out])))
    a, b = draw(rng, np.dtype(dtype), shape), draw(rng, np.dtype(dtype), (30000, last))
    inputs = {"a": a, "b": np.where(b == zero_point, zero_point + 1, b).astype(dtype)}
    first = interpreter.run(inputs).outputs["y"]
    for _ in range(2):
        assert np.array_equal(interpreter.run(inputs).outputs["y"], first)
    assert len(np.unique(first)) > 1
