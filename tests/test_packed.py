"""The packed kernels against the plain ones, by every instruction set; oracles of test_kernels (7 s)."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_kernels import (
    DR,
    FLOAT64,
    FP32,
    ISAS,
    Accumulator,
    Parameters,
    corners,
    random_accumulator,
    random_integers,
    run,
)

from qinterp import _kernels as kernels
from qinterp._kernels import Amount, Check, Opcode, Overflow, Rounding

WRAPS = tuple(Accumulator())
SIZES = [1, 2, 3, 4, 5, 8, 15, 16, 17, 24, 31, 32, 33, 40, 48, 49, 63, 64, 65, 96, 144]


def test_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ISAS[-1] == "portable"
    w, zero = np.ones((2, 3), np.int8), np.zeros(2, np.int64)
    for name in ISAS:
        monkeypatch.setenv("QINTERP_ISA", name)
        assert kernels.isa() == name
        assert kernels.PackedMatmul(np.int8, w, None, 0, zero).isa == name
    monkeypatch.setenv("QINTERP_ISA", "sse9")
    with pytest.raises(ValueError, match="'sse9' is not available here; there are .*portable"):
        kernels.PackedMatmul(np.int8, w, None, 0, zero)
    monkeypatch.delenv("QINTERP_ISA")
    assert kernels.isa() == ISAS[0]


class Geometry(NamedTuple):
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: tuple[int, int]
    out_hw: tuple[int, int]


def random_pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high)), int(rng.integers(low, high))


def random_geometry(rng: np.random.Generator, height: int, width: int) -> Geometry:
    if rng.random() < 0.3:
        return Geometry((1, 1), (1, 1), (0, 0), (height, width))
    return Geometry(
        random_pair(rng, 1, 3),
        random_pair(rng, 1, 3),
        random_pair(rng, 0, 3),
        random_pair(rng, 1, 9),
    )


def random_operands(
    rng: np.random.Generator, x_shape: tuple[int, ...], w_shape: tuple[int, ...], channels: int
) -> Any:
    x_type, w_type = (
        rng.choice([np.int8, np.int8, np.uint8, np.int16]),
        rng.choice([np.int8, np.uint8]),
    )
    x, w = random_integers(rng, x_type, x_shape), random_integers(rng, w_type, w_shape)
    x.flags.writeable = False
    w_zero = random_integers(rng, w_type, (channels,)).astype(np.int64) * int(rng.integers(0, 2))
    return (
        x,
        w,
        rng.integers(-1 << 20, 1 << 20, channels),
        int(random_integers(rng, x_type, (1,))[0]),
        w_zero,
    )


def random_requantizer(rng: np.random.Generator, channels: int, reach: int, isa: str) -> Any:
    """DR of per-channel or per-tensor parameters, such that accumulators within ``reach`` mostly stay in range."""
    count = channels if rng.random() < 0.7 else 1
    multiplier = rng.integers(1 << 30, 1 << 31, count)
    shift = 7 - reach.bit_length() + rng.integers(-3, 4, count)
    out_type = rng.choice([np.int8, np.uint8, np.int16])
    info = np.iinfo(out_type)
    lo, hi = sorted(
        rng.choice(
            [info.min, info.max, *rng.integers(info.min, info.max, 2)], 2, replace=False
        ).tolist()
    )
    zero_point = int(rng.integers(lo, hi + 1))
    lanes = [
        Parameters(int(m), int(s), zero_point=zero_point, lo=lo, hi=hi)
        for m, s in zip(multiplier, shift, strict=True)
    ]
    make = lambda name: kernels.Requantizer(
        0, channels, multiplier, shift, None, zero_point, lo, hi, isa=name
    )
    return make(isa), lanes, out_type


def check_packed(packed: Any, x: Any, want: Any, rng: np.random.Generator) -> None:
    """The accumulators, and the requantized outputs, which must equal the composed stages."""
    got, overflowed = packed.accumulate(x)
    assert got.dtype == np.int32
    assert got.tolist() == want.tolist(), (packed.isa, packed.kernel)
    assert not overflowed
    channels = want.shape[-1]
    requantizer, lanes, out_type = random_requantizer(
        rng, channels, int(np.abs(want).max(initial=1)), packed.isa
    )
    composed, _ = run(DR, want.reshape(-1, channels), lanes, out_type)
    out = np.zeros(want.shape, out_type)
    assert packed.requantize_into(x, out, requantizer) is False
    assert out.ravel().tolist() == composed.ravel().tolist(), (packed.isa, packed.kernel)
    again = np.zeros(want.shape, out_type)
    requantizer.into(want, again)
    assert (again == out).all()


def test_packed_convolutions() -> None:
    rng = np.random.default_rng(6)
    kernels_seen = set()
    for trial in range(120):
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        inputs, outputs = (
            int(rng.choice(SIZES[:17])),
            int(rng.choice(SIZES if groups == 1 else SIZES[:12])),
        )
        height, width = random_pair(rng, 1, 9)
        w_shape = (
            groups * outputs,
            *((1, 1) if trial % 3 == 0 else random_pair(rng, 1, 5)),
            inputs,
        )
        x_shape = (int(rng.integers(0, 4)), height, width, groups * inputs)
        x, w, bias, x_zero, w_zero = random_operands(
            rng, x_shape, w_shape, len(range(groups * outputs))
        )
        geometry, transposed = random_geometry(rng, height, width), trial % 5 == 0
        plain = kernels.transpose_conv_2d if transposed else kernels.conv_2d
        want, _ = plain(x, w, bias, x_zero, w_zero, *geometry, groups, WRAPS)
        exact, _ = plain(x, w, bias, x_zero, w_zero, *geometry, groups, tuple(Accumulator(64)))
        for name in ISAS:
            arguments = (x.shape[1:], x.dtype, w, bias, x_zero, w_zero, *geometry, groups)
            packed = kernels.PackedConv(*arguments, transposed=transposed, isa=name)
            check_packed(packed, x, want, rng)
            if exact.size:
                assert (packed.low <= exact.min(axis=(0, 1, 2))).all()
                assert (packed.high >= exact.max(axis=(0, 1, 2))).all()
            wide = kernels.PackedConv(*arguments, transposed=transposed, isa=name, wide=True)
            assert wide.accumulate(x)[0].tolist() == exact.tolist()
            kernels_seen.add((name, packed.kernel))
    assert kernels_seen >= {(name, "words") for name in ISAS}


def test_packed_depthwise() -> None:
    rng = np.random.default_rng(7)
    for trial in range(100):
        channels, multiplier = int(rng.choice(SIZES)), 1 if trial % 4 else int(rng.integers(1, 4))
        height, width = random_pair(rng, 1, 9)
        x_shape = (int(rng.integers(0, 3)), height, width if trial % 10 else 70, channels)
        w_shape = (*random_pair(rng, 1, 4), channels * multiplier)
        x, w, bias, x_zero, w_zero = random_operands(rng, x_shape, w_shape, channels * multiplier)
        geometry = random_geometry(rng, *x_shape[1:3])
        want, _ = kernels.depthwise_conv_2d(x, w, bias, x_zero, w_zero, *geometry, WRAPS)
        for name in ISAS:
            packed = kernels.PackedDepthwise(
                x.shape[1:], x.dtype, w, bias, x_zero, w_zero, *geometry, isa=name
            )
            check_packed(packed, x, want, rng)


def test_packed_matmul() -> None:
    rng = np.random.default_rng(8)
    for rows, depth, columns in itertools.product(
        [0, 1, 2, 5, 6, 7, 13, 100], [0, 1, 3, 64, 256, 1030], [1, 10, 17, 64, 70]
    ):
        if rng.random() < 0.5:
            continue
        x, w, bias, x_zero, w_zero = random_operands(rng, (rows, depth), (columns, depth), columns)
        want, _ = kernels.matmul(x, w, bias, x_zero, w_zero, WRAPS)
        exact, _ = kernels.matmul(x, w, bias, x_zero, w_zero, tuple(Accumulator(64)))
        for name in ISAS:
            packed = kernels.PackedMatmul(x.dtype, w, bias, x_zero, w_zero, isa=name)
            check_packed(packed, x, want, rng)
            wide = kernels.PackedMatmul(x.dtype, w, bias, x_zero, w_zero, isa=name, wide=True)
            assert wide.accumulate(x)[0].tolist() == exact.tolist()


def test_packed_extremes() -> None:
    """The largest products there are, wrapping many times."""
    for x_type, w_type, depth in itertools.product(
        [np.int8, np.uint8, np.int16], [np.int8, np.uint8], [2, 4096]
    ):
        x = np.array([[np.iinfo(x_type).min], [np.iinfo(x_type).max]], x_type).repeat(depth, axis=1)
        w = np.array([[np.iinfo(w_type).min], [np.iinfo(w_type).max]], w_type).repeat(depth, axis=1)
        for x_zero in (np.iinfo(x_type).min, np.iinfo(x_type).max):
            w_zero, bias = np.array([0, 3]), np.array([-(2**31), 2**40 + 7])
            want, _ = kernels.matmul(x, w, bias, x_zero, w_zero, WRAPS)
            for name in ISAS:
                assert (
                    kernels.PackedMatmul(x_type, w, bias, x_zero, w_zero, isa=name).accumulate(x)[0]
                    == want
                ).all()


def test_range_within_x_range() -> None:
    w, bias, zero = np.array([[3, -2, 0]], np.int8), np.array([10]), np.zeros(1, np.int64)
    packed = kernels.PackedMatmul(np.int8, w, bias, -1, zero, x_range=(-1, 5))
    assert (packed.low.tolist(), packed.high.tolist()) == ([10 - 2 * 6], [10 + 3 * 6])


def test_ordered_accumulation() -> None:
    """Every ordered form gives the plain kernel's accumulators and flag; the rest is refused, not computed otherwise."""
    rng = np.random.default_rng(9)
    seen: dict[tuple[str, bool], int] = {}
    for trial in range(500):
        groups, inputs, outputs = (
            int(rng.choice([1, 1, 2])),
            int(rng.choice(SIZES[:11])),
            int(rng.choice(SIZES[:17])),
        )
        x_shape, kernel = (
            (int(rng.integers(1, 3)), *random_pair(rng, 1, 5), groups * inputs),
            random_pair(rng, 1, 4),
        )
        x, w, bias, x_zero, w_zero = random_operands(
            rng, x_shape, (groups * outputs, *kernel, inputs), groups * outputs
        )
        if trial % 2:
            x, w, bias = (x % 4).astype(x.dtype), (w % 4).astype(w.dtype), bias % 64
        if rng.random() < 0.5:
            x_zero, w_zero = x_zero % 16, w_zero * 0
        geometry, transposed = random_geometry(rng, *x_shape[1:3]), trial % 5 == 0
        taps = (
            rng.permutation(np.array(list(np.ndindex(*w.shape[1:])), np.int32))
            if rng.random() < 0.5
            else None
        )
        a = random_accumulator(rng)._replace(
            overflow=int(rng.choice([0, 1, 1, 2])), check=int(rng.random() < 0.8)
        )
        a = a._replace(
            group_size=int(rng.choice([0, 0, 2, 2, 3])),
            group_overflow=int(rng.choice([0, 1, 1, 2])),
        )
        plain = kernels.transpose_conv_2d if transposed else kernels.conv_2d
        want, want_flag = plain(x, w, bias, x_zero, w_zero, *geometry, groups, tuple(a), taps)
        for name in ISAS:
            try:
                packed = kernels.PackedConv(
                    x.shape[1:], x.dtype, w, bias, x_zero, w_zero, *geometry, groups,
                    transposed=transposed, ordered=tuple(a), taps=taps, isa=name,
                )  # fmt: skip
            except ValueError:
                seen["refused", False] = seen.get(("refused", False), 0) + 1
                continue
            got, flag = packed.accumulate(x)
            assert got.tolist() == want.tolist(), (name, packed.kernel, a)
            assert flag == want_flag, (name, packed.kernel, a)
            seen[packed.kernel, flag] = seen.get((packed.kernel, flag), 0) + 1
    for kernel_name, flag in itertools.product(["narrow", "wide", "pairs"], [False, True]):
        assert seen[kernel_name, flag] >= 6, seen


def test_ordered_depthwise() -> None:
    rng = np.random.default_rng(19)
    seen: dict[bool, int] = {False: 0, True: 0}
    for trial in range(300):
        channels, multiplier = int(rng.choice(SIZES)), 1 if trial % 4 else int(rng.integers(1, 4))
        x_shape = (int(rng.integers(1, 3)), *random_pair(rng, 1, 6), channels)
        w_shape = (*random_pair(rng, 1, 4), channels * multiplier)
        x, w, bias, x_zero, w_zero = random_operands(rng, x_shape, w_shape, channels * multiplier)
        if trial % 2:
            x, w, bias = (x % 4).astype(x.dtype), (w % 4).astype(w.dtype), bias % 64
        if rng.random() < 0.5:
            x_zero, w_zero = x_zero % 16, w_zero * 0
        geometry = random_geometry(rng, *x_shape[1:3])
        every = np.array([(*tap, 0) for tap in np.ndindex(*w.shape[:2])], np.int32)
        taps = rng.permutation(every) if rng.random() < 0.5 else None
        a = random_accumulator(rng)._replace(
            overflow=int(rng.choice([0, 1, 1, 2])), check=int(rng.random() < 0.8), group_size=0
        )
        want, want_flag = kernels.depthwise_conv_2d(
            x, w, bias, x_zero, w_zero, *geometry, tuple(a), taps
        )
        for name in ISAS:
            try:
                packed = kernels.PackedDepthwise(
                    x.shape[1:], x.dtype, w, bias, x_zero, w_zero, *geometry,
                    ordered=tuple(a), taps=taps, isa=name,
                )  # fmt: skip
            except ValueError:
                continue
            got, flag = packed.accumulate(x)
            assert got.tolist() == want.tolist(), (name, a)
            assert flag == want_flag, (name, a)
            seen[flag] += 1
    assert min(seen.values()) >= 50, seen


def test_ordered_accumulation_then_requantized() -> None:
    rng = np.random.default_rng(10)
    x, w, zero = (
        random_integers(rng, np.int8, (50, 90)),
        random_integers(rng, np.int8, (40, 90)),
        np.zeros(40, np.int64),
    )
    a = tuple(Accumulator(14, Overflow.SATURATE, Check.EACH_STEP))
    order = rng.permutation(90).astype(np.int32)
    want, want_flag = kernels.matmul(x, w, None, 5, zero, a, order)
    for name in ISAS:
        packed = kernels.PackedMatmul(np.int8, w, None, 5, zero, ordered=a, order=order, isa=name)
        requantizer, lanes, out_type = random_requantizer(rng, 40, 1 << 13, name)
        out = np.zeros(want.shape, out_type)
        assert packed.requantize_into(x, out, requantizer) is want_flag is True
        assert (out == run(DR, want, lanes, out_type)[0]).all()


FUSED = {
    kernels.Fused.DR: DR,
    kernels.Fused.DU: [
        *DR[:2],
        (Opcode.SHIFT_RIGHT, Amount.RIGHT, 0, Rounding.TIES_TOWARD_POSITIVE),
        *DR[3:],
    ],
    kernels.Fused.SR: [
        (Opcode.MULTIPLY, 64, Overflow.ERROR),
        (Opcode.SHIFT_RIGHT, Amount.TOTAL, 31, Rounding.TIES_TOWARD_POSITIVE),
        (Opcode.FIT, 32, Overflow.ERROR),
        *DR[3:],
    ],
    kernels.Fused.FLOAT32: FP32,
    kernels.Fused.FLOAT64: FLOAT64,
}


@pytest.mark.parametrize("kind", kernels.Fused)
@pytest.mark.parametrize("isa", ISAS)
def test_fused_requantization_is_the_composed_one(kind: int, isa: str) -> None:
    """On corners, on a dense range where every small multiplier ties, and on any int32."""
    rng = np.random.default_rng(11)
    column = np.concatenate(
        [corners(32), np.arange(-3000, 3000), rng.integers(-(1 << 31), 1 << 31, 500)]
    ).astype(np.int32)
    ties = 0
    for trial in range(12):
        channels = int(rng.choice([1, 5, 8, 16, 17, 33]))
        x = np.ascontiguousarray(column[:, None].repeat(channels, axis=1))
        multiplier = rng.choice(
            [1 << 30, (1 << 30) + 1, (1 << 31) - 1, 0, 1, 1518500250, 3 << 29], channels
        )
        most = 1 if kind == kernels.Fused.SR else 31
        shift = rng.integers(-12, 0, channels) if trial % 2 else rng.integers(-31, most, channels)
        scale = np.where(
            rng.random(channels) < 0.5,
            2.0 ** -rng.integers(1.0, 12.0, channels),
            rng.random(channels) / 100,
        )
        scale = (
            scale.astype(np.float32).astype(np.float64) if kind == kernels.Fused.FLOAT32 else scale
        )
        out_type = (np.int8, np.uint8, np.int16)[trial % 3]
        info = np.iinfo(out_type)
        zero_point, lo, hi = (
            int(rng.integers(info.min, info.max)),
            info.min + int(rng.integers(0, 9)),
            info.max,
        )
        lanes = [
            Parameters(int(m), int(s), float(v), zero_point=zero_point, lo=lo, hi=hi)
            for m, s, v in zip(multiplier, shift, scale, strict=True)
        ]
        want, error = run(FUSED[kernels.Fused(kind)], x, lanes, out_type)
        assert not error
        got = np.zeros(x.shape, out_type)
        kernels.Requantizer(
            kind, channels, multiplier, shift, scale, zero_point, lo, hi, isa=isa
        ).into(x, got)
        wrong = np.argwhere(got != want)
        assert len(wrong) == 0, (
            lanes[wrong[0][1]],
            x[tuple(wrong[0])],
            got[tuple(wrong[0])],
            want[tuple(wrong[0])],
        )
        ties += len(np.unique(want))
    assert ties > 500


def proven_requantizer(
    rng: np.random.Generator, kind: int, packed: Any, out_type: Any
) -> tuple[Any, list[Parameters]]:
    """With the accumulators' range known, and often such that results tie."""
    channels = len(packed.low)
    reach = int(max(-packed.low.min(), packed.high.max(), 1)).bit_length()
    ties = np.array([1 << 30, 3 << 29, (1 << 30) + 1, (1 << 31) - 1])
    multiplier = np.where(
        rng.random(channels) < 0.5,
        rng.choice(ties, channels),
        rng.integers(1 << 30, 1 << 31, channels),
    )
    shift = np.minimum(7 - reach + rng.integers(0, 5, channels), -1)
    shift[rng.random(channels) < 0.02] = -28  # dead channels
    scale = (multiplier * 2.0 ** (shift - 31)).astype(np.float32).astype(np.float64)
    info = np.iinfo(out_type)
    lo, hi = (
        info.min + int(rng.integers(-8, 9).clip(0)),
        info.max - int(rng.integers(-8, 9).clip(0)),
    )
    zero_point = lo if rng.random() < 0.3 else int(rng.integers(lo, hi + 1))
    ends = (packed.low, packed.high)
    requantizer = kernels.Requantizer(
        kind, channels, multiplier, shift, scale, zero_point, lo, hi, ends, isa=packed.isa
    )
    return requantizer, [
        Parameters(int(m), int(s), float(v), zero_point=zero_point, lo=lo, hi=hi)
        for m, s, v in zip(multiplier, shift, scale, strict=True)
    ]


def small_operands(rng: np.random.Generator, x_shape: Any, w_shape: Any, channels: int) -> Any:
    x = random_integers(rng, rng.choice([np.int8, np.uint8]), x_shape)
    w = rng.integers(-4, 5, w_shape).astype(np.int8)
    bias, zero = rng.integers(-300, 300, channels), np.zeros(channels, np.int64)
    return x, w, bias, int(random_integers(rng, x.dtype, (1,))[0]), zero


@pytest.mark.parametrize("kind", kernels.Fused)
def test_blocks_of_channels_are_requantized_as_the_stages_say(kind: int) -> None:
    """Whole blocks of 64 channels, the rest of them, and rows of every length, fused or not."""
    rng = np.random.default_rng(12)
    seen = set()
    for trial in range(135):
        depthwise = trial % 3
        if depthwise:
            channels, width = int(rng.choice([5, 31, 32, 33, 64, 65, 96, 144, 200])), 3 + trial // 4
            stride, kernel, height = (1, 1), (3, 3), 1 + trial // 3 % 5
            if depthwise == 2:
                stride, kernel = (
                    random_pair(rng, 1, 3),
                    ((5, 5), (2, 4), (3, 3), (3, 7))[trial // 3 % 4],
                )
            padding = random_pair(rng, 0, 3)
            geometry = Geometry(stride, (1, 1), padding, (height, -(-width // stride[1])))
            shape = (2, 4, width, channels)
            x, w, bias, x_zero, zero = small_operands(rng, shape, (*kernel, channels), channels)
            want, _ = kernels.depthwise_conv_2d(x, w, bias, x_zero, zero, *geometry, WRAPS)
            make = partial(
                kernels.PackedDepthwise, x.shape[1:], x.dtype, w, bias, x_zero, zero, *geometry
            )
        else:
            channels, depth = (
                int(rng.choice([7, 16, 24, 32, 40, 64, 65, 90, 128, 144])),
                int(rng.choice([1, 17, 64, 90, 97, 300])),
            )
            shape = (int(rng.choice([1, 3, 4, 49, 107])), depth)
            x, w, bias, x_zero, zero = small_operands(rng, shape, (channels, depth), channels)
            want, _ = kernels.matmul(x, w, bias, x_zero, zero, WRAPS)
            make = partial(kernels.PackedMatmul, x.dtype, w, bias, x_zero, zero)
        out_type = (np.int8, np.int8, np.uint8, np.int16)[trial // 3 % 4]
        for name in ISAS:
            packed = make(isa=name)
            assert (packed.accumulate(x)[0] == want).all()
            requantizer, lanes = proven_requantizer(rng, kind, packed, out_type)
            composed, _ = run(
                FUSED[kernels.Fused(kind)], want.reshape(-1, channels), lanes, out_type
            )
            out = np.zeros(want.shape, out_type)
            assert packed.requantize_into(x, out, requantizer) is False
            wrong = np.argwhere(out.reshape(composed.shape) != composed)
            assert len(wrong) == 0, (name, packed.kernel, want.shape, wrong[0], len(wrong))
            seen.add((name, bool(depthwise), len(np.unique(out)) > 20))
    assert seen >= {(name, depthwise, True) for name in ISAS for depthwise in (False, True)}


def test_single_rounding_needs_proof_for_left_shifts() -> None:
    arguments: Any = (kernels.Fused.SR, 1, [1 << 30], [3], None, 0, -128, 127)
    with pytest.raises(ValueError, match="shift of 3 to the left"):
        kernels.Requantizer(*arguments)
    x = np.arange(-40, 40, dtype=np.int32).reshape(-1, 1)
    for name in ISAS:
        out = np.zeros(x.shape, np.int8)
        kernels.Requantizer(
            *arguments, accumulator_range=(x.min(axis=0), x.max(axis=0)), isa=name
        ).into(x, out)
        assert out.tolist() == (x * 4).clip(-128, 127).tolist()


def test_packed_forms_refuse() -> None:
    x, w, zero = np.zeros((2, 3), np.int8), np.ones((4, 3), np.int8), np.zeros(4, np.int64)
    packed = kernels.PackedMatmul(np.int8, w, None, 0, zero)
    good = kernels.Requantizer(0, 4, [1 << 30], [-3], None, 0, -128, 127)
    for bad in (x.astype(np.uint8), x[:, :2], x.T, np.zeros((3, 2), np.int8).T):
        with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
            packed.accumulate(bad)
    with pytest.raises(TypeError, match="out must be"):
        packed.requantize_into(x, np.zeros((2, 4), np.int32), good)
    for out in (np.zeros((2, 5), np.int8), np.zeros((3, 4), np.int8), np.zeros((2, 4), np.uint8)):
        with pytest.raises(ValueError):  # noqa: PT011 - so do these
            packed.requantize_into(x, out, good)
    with pytest.raises(ValueError, match="4 channels"):
        good.into(np.zeros((2, 5), np.int32), np.zeros((2, 5), np.int8))
    for bad_parameters in ([1 << 31], [-1]):
        with pytest.raises(ValueError, match="multipliers"):
            kernels.Requantizer(0, 4, bad_parameters, [-3], None, 0, -128, 127)
    with pytest.raises(ValueError, match="finite"):
        kernels.Requantizer(3, 4, None, None, [np.inf], 0, -128, 127)
    with pytest.raises(ValueError, match="16 bits"):
        kernels.PackedMatmul(np.int8, np.array([[-32768]], np.int16), None, 0, np.array([1]))
    with pytest.raises(ValueError, match="does not fit 32 bits"):
        kernels.PackedMatmul(
            np.int16, np.full((1, 1), -32768, np.int16), None, 0, np.array([0]), wide=True
        )
    with pytest.raises(ValueError, match="zero point"):
        kernels.PackedMatmul(np.uint8, w, None, -1, zero)


def test_one_packed_form_in_many_threads() -> None:
    rng = np.random.default_rng(12)
    w, zero = random_integers(rng, np.int8, (33, 3, 3, 20)), np.zeros(33, np.int64)
    inputs = [random_integers(rng, np.int8, (2, 9, 9, 20)) for _ in range(24)]
    packed = kernels.PackedConv(
        (9, 9, 20), np.int8, w, None, 3, zero, (1, 1), (1, 1), (1, 1), (9, 9)
    )
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: packed.accumulate(x)[0], inputs * 5))
    wants = [packed.accumulate(x)[0] for x in inputs]
    assert all((result == wants[i % 24]).all() for i, result in enumerate(results))


@pytest.mark.skipif(sys.platform != "linux", reason="needs the GNU allocator's tunables")
def test_nothing_beyond_the_scratch_memory_is_touched() -> None:
    """In a process whose every allocation of a page or more is a mapping of its own."""
    script = """
import numpy as np
from qinterp import _kernels as kernels
rng = np.random.default_rng(0)
for channels in (1, 8, 16, 17, 24, 32, 48, 64, 80, 96, 128):
    for size in (4, 5, 6, 7, 8, 9):
        for depth in (16, 24, 26, 28, 64):
            w = rng.integers(-4, 5, (channels, 3, 3, depth)).astype(np.int8)
            x = rng.integers(-128, 128, (1, size, size, depth)).astype(np.int8)
            for isa in kernels.available_isas():
                packed = kernels.PackedConv(
                    x.shape[1:], np.int8, w, None, 3, np.zeros(channels), (1, 1), (1, 1), (1, 1),
                    (size, size), isa=isa,
                )
                ends = packed.low, packed.high
                made = kernels.Requantizer(
                    0, channels, [1 << 30], [-8], None, 0, -128, 127, ends, isa=isa
                )
                out = np.empty((1, size, size, channels), np.int8)
                packed.requantize_into(x, out, made)
"""
    tunables = "glibc.malloc.mmap_threshold=4096"
    environment = os.environ | {"GLIBC_TUNABLES": tunables, "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_nothing_outside_of_the_arrays_is_touched() -> None:
    """Inputs and outputs lie against pages that may not be read or written: a stray access ends the process."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    rng, regions = np.random.default_rng(13), []

    def between_guards(array: Any, at_end: bool) -> Any:
        pages = -(-array.nbytes // page)
        region = mmap.mmap(-1, (pages + 2) * page)
        whole = np.frombuffer(region, np.uint8)
        for guard in (0, pages + 1):
            assert libc.mprotect(whole.ctypes.data + guard * page, page, 0) == 0
        start = (pages + 1) * page - array.nbytes if at_end else page
        view = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        view[...] = array
        regions.append((region, whole, guard))
        return view

    for channels, outputs, x_type in itertools.product(
        [1, 3, 17, 40], [1, 10, 20, 65], [np.int8, np.uint8, np.int16]
    ):
        x = random_integers(rng, x_type, (1, 5, 6, channels))
        w, zero = (
            random_integers(rng, np.int8, (outputs, 3, 2, channels)),
            np.zeros(outputs, np.int64),
        )
        deep, deep_zero = (
            random_integers(rng, np.int8, (3, 2, channels)),
            np.zeros(channels, np.int64),
        )
        geometry = Geometry((1, 1), (1, 1), (1, 0), (5, 5))
        for name, at_end in itertools.product(ISAS, [False, True]):
            x_view = between_guards(x, at_end)
            for packed in (
                kernels.PackedConv(x.shape[1:], x_type, w, None, 3, zero, *geometry, isa=name),
                kernels.PackedConv(
                    x.shape[1:],
                    x_type,
                    w[:, :1, :1],
                    None,
                    3,
                    zero,
                    (1, 1),
                    (1, 1),
                    (0, 0),
                    (5, 6),
                    isa=name,
                ),
                kernels.PackedDepthwise(
                    x.shape[1:], x_type, deep, None, 3, deep_zero, *geometry, isa=name
                ),
            ):
                want = packed.accumulate(x)[0]
                requantizer = kernels.Requantizer(
                    0, want.shape[3], [1 << 30], [-7], None, 1, -128, 127, isa=name
                )
                out = between_guards(np.zeros(want.shape, np.int8), at_end)
                packed.requantize_into(x_view, out, requantizer)
                again = np.zeros(want.shape, np.int8)
                requantizer.into(between_guards(want, at_end), again)
                assert (out == again).all()
