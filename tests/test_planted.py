"""Every value that a scheme with a runtime writes down is pinned: another value, other bits.

The corpus is fixed: layers whose input is the zero point, so that the accumulators are the biases,
chosen where roundings, widths and multipliers decide (ties, one unit of the mantissa, both ends of
the accumulator, left shifts), and windows over extreme codes. It equals the runtime; and it changes
with every field that is changed, but for those that cannot matter: see ``REASONS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from judging import differences, session
from planting import Example, Flip, notices, planted

import qinterp
from qinterp import Graph, load_scheme, scheme_names
from qinterp.errors import QInterpError
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import (
    AddZeroPoint,
    ClampFloat,
    Multiply,
    MultiplyHigh,
    Saturate,
    Scale,
)
from qinterp.runtimes import RUNTIMES
from qinterp.testing.tflite_writer import ModelWriter

PARTS = ("effective_scale", "multiplier", "accumulator", "requantize", "tail", "activation_bounds")
# from the least to the most rules: a scheme comes after the one it extends
SCHEMES = sorted(
    (name for name in scheme_names() if load_scheme(name).evidence.get("runtime") in RUNTIMES),
    key=lambda name: len(load_scheme(name).to_table().get("rule", [])),
)

# ---- the corpus -----------------------------------------------------------------------------

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
CLASSES = [
    (kind, dtype, bias)
    for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    for dtype, bias in (
        ("int8", "int32"),
        ("uint8", "int32"),
        ("int16", "int64"),
        ("int16", "int32"),
    )
    if (kind, bias, dtype) != ("DEPTHWISE_CONV_2D", "int32", "int16")  # LiteRT has no such kernel
]


@dataclass(frozen=True)
class Layer:
    """Scales and zero point of a layer, and the effective scales that its channels are to have."""

    s_in: float
    s_out: float
    zero_point: int
    scales: tuple[float, ...]  # of weights
    activation: str = "NONE"
    extra: tuple[int, ...] = ()  # accumulators for every channel
    counts: int = 5  # drawn accumulators a scale


def hexes(*mantissas: int, exponent: int) -> tuple[float, ...]:
    return tuple(m * 2.0**exponent for m in mantissas)


def spread(low: int, high: int, count: int) -> tuple[float, ...]:
    """Weight scales, uniform in their logarithm between two powers of two."""
    rng = np.random.default_rng([SEED, low + 100, high + 100])
    return tuple(float(np.float32(2.0**e)) for e in rng.uniform(low, high, count))


# 9207404, 11957369: product_then_divide in float64, its transposition and the exact quotient give
# three doubles, between which the rounding of the mantissa lies. 11394582 and 13084258: the two
# orders give doubles between which the accumulators named have a tie. 8544670, 8781465, 8747219:
# the rounding of the mantissa to 31 bits decides that to 16 bits.
PINNED = (float.fromhex("0x1.58b642p-1"), float.fromhex("0x1.8a217cp+0"))
ODD = tuple(range(65537 - 2 * 12, 65538, 2))  # times 65535: 32 bits, ties of the mantissa
LAYERS = [
    Layer(
        *PINNED,
        5,
        hexes(9207404, 11957369, 8544670, 8781465, 8747219, exponent=-47) + spread(-24, -2, 24),
    ),
    Layer(*PINNED, -5, hexes(9207404, 11957369, exponent=-46) + spread(-6, 2, 8)),
    Layer(*PINNED, 3, hexes(11394582, 13084258, exponent=-47), extra=(2047686377, 1783252083)),
    Layer(*PINNED, 0, tuple(float(np.float32(2.0 ** (-26.1 - i / 2))) for i in range(16))),
    Layer(2.0**-3, 1.0, 3, tuple(2.0**e for e in range(-22, 6))),  # ties
    # 65535 * 65537 = 2**32 - 1: a tie of the mantissa that rounds up to a power of two
    Layer(65535 * 2.0**-17, 1.0, -7, hexes(*ODD, exponent=-38) + hexes(65537, exponent=-16)),
    # 32767 * 32769 = 2**30 - 1: just below one, without a left shift
    Layer(32767 * 2.0**-16, 1.0, -9, hexes(32769, 32771, exponent=-14)),
    Layer(0.5, 1.0, 9, (2.0 - 2.0**-23, 1.0)),
]
CLAMPED = [
    Layer(0.25, float(np.float32(s_out)), zero_point, spread(-12, -2, 4), activation)
    for activation, bound in (("RELU6", 6), ("RELU_N1_TO_1", 1))
    for s_out, zero_point in zip(
        (2 * bound, bound / 1.2, bound / 20.5, bound / 7.5, bound / 33.5), (4, -4) * 3, strict=False
    )
]


@cache
def accumulators(layer: Layer, scale: float, width: int) -> list[int]:
    """Accumulators that decide, for one effective scale."""
    rng = np.random.default_rng([SEED, int(scale * 2**60) % 2**32])
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    found = list(layer.extra)
    codes = rng.permutation(np.arange(-110, 111))
    exact = layer.s_in * scale / layer.s_out
    single = float(np.float32(layer.s_in * scale)) / layer.s_out
    for effective in sorted({exact, single}):
        ties = (codes + 0.5) / effective
        near = np.add.outer(np.trunc(ties[np.abs(ties) < high - 4]), np.arange(-2, 3))
        near = near.astype(np.int64).ravel()
        for rescaled in (twice, once, in_float32):
            # one unit of the multiplier decides: below the rounded multiplier, and above it
            results = [rescaled(near, effective, unit) for unit in (-1, 0, 1)]
            for other in (results[0], results[2]):
                found += near[other != results[1]][:1].tolist()
    # next to a tie of the result, and on it
    found += [int((n + 0.5) / exact) + int(rng.integers(-1, 2)) for n in codes[: layer.counts]]
    found += [low, low + 1, high, high - 2, int(rng.integers(-300, 300)), 0]
    powers = [1 << int(rng.integers(width - 1)) for _ in range(2)]
    found += [int(rng.choice([-1, 1])) * power + int(rng.integers(-2, 3)) for power in powers]
    found = [min(max(a, low), high) for a in found]
    # products with a 16-bit mantissa that do not fit 63 bits, and 64 bits
    return found + [1 << 48, -(1 << 48), 3 << 47, -(3 << 47)] * (width == 48)


Codes = np.ndarray[Any, np.dtype[np.int64]]


def twice(acc: Codes, effective: float, unit: int) -> Codes:
    """Rounded after the multiplication and after the shift, as gemmlowp does it."""
    mantissa, shift = Multiplier().of(effective)
    acc = np.clip(acc, -(2**31), 2**31 - 1) << max(shift, 0)
    high = (acc * (mantissa + unit) + (1 << 30)) >> 31
    right = max(-shift, 0)
    return (high + (1 << right >> 1) - (high < 0)) >> right if right else high


def once(acc: Codes, effective: float, unit: int) -> Codes:
    """Rounded once, with a mantissa of 16 bits."""
    mantissa, shift = Multiplier().of(effective)
    total = 15 - shift
    return (acc * ((mantissa + (1 << 15) >> 16) + unit) + (1 << total - 1)) >> total


def in_float32(acc: Codes, effective: float, unit: int) -> Codes:
    """The product with a float32 scale."""
    scale = np.float32(effective) * np.float32(1 + unit * 2.0**-23)
    return np.rint(acc.astype(np.float32) * scale).astype(np.int64)


def biased(kind: str, dtype: str, bias: str, layer: Layer) -> Iterator[bytes]:
    """Layers whose weights meet the zero point, of one scale where they have one zero point."""
    pairs = [(s, accumulators(layer, s, 32 if bias == "int32" else 48)) for s in layer.scales]
    if dtype == "uint8":
        for scale, biases in pairs[:2]:
            yield one_layer(kind, dtype, bias, layer, scale, biases)
        return
    flat = [(s, a) for s, accs in pairs for a in accs]
    yield one_layer(kind, dtype, bias, layer, [s for s, _ in flat], [a for _, a in flat])
    if (kind, dtype) == ("DEPTHWISE_CONV_2D", "int8"):  # whose last channels may have other stages
        for start in range(0, len(flat), 15 if len(flat) > 60 else 7):
            some = [flat[i % len(flat)] for i in range(start, start + 15)]
            yield one_layer(kind, dtype, bias, layer, [s for s, _ in some], [a for _, a in some], 2)


def one_layer(
    kind: str,
    dtype: str,
    bias: str,
    layer: Layer,
    scale: Any,
    biases: Sequence[int],
    side: int = 1,
) -> bytes:
    """A layer of one pixel, or of ``side`` by ``side``."""
    units = len(biases)
    writer = ModelWriter()
    connected = kind == "FULLY_CONNECTED"
    depth = units if kind == "DEPTHWISE_CONV_2D" else 1
    image = (1, 1) if connected else (1, side, side, depth)
    x = writer.input("zero_points", image, dtype, scale=layer.s_in, zero_point=input_zero(dtype))
    shape, axis = {
        "CONV_2D": ((units, 1, 1, 1), 0),
        "DEPTHWISE_CONV_2D": ((1, 1, 1, units), 3),
        "FULLY_CONNECTED": ((units, 1), 0),
    }[kind]
    zero = 77 if dtype == "uint8" else 0
    codes = np.full(shape, 100, "uint8" if dtype == "uint8" else "int8")
    w = writer.constant("w", codes, scale=scale, zero_point=zero, axis=axis)
    step = np.float32(layer.s_in) * np.float32(scale)
    b = writer.constant("b", np.array(biases, bias), scale=step)
    zero_point = {"int8": layer.zero_point, "uint8": layer.zero_point + 128, "int16": 0}[dtype]
    y = writer.tensor(
        "y",
        (1, units) if connected else (1, side, side, units),
        dtype,
        scale=layer.s_out,
        zero_point=zero_point,
    )
    options: dict[str, Any] = (
        {} if connected else {"stride_h": 1, "stride_w": 1, "padding": "VALID"}
    )
    if kind == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = 1
    elif dtype == "int16":
        options["quantized_bias_type"] = bias.upper()
    writer.operator(kind, [x, w, b], [y], fused_activation_function=layer.activation, **options)
    return writer.finish([y])


def input_zero(dtype: str) -> int:
    return {"int8": -11, "uint8": 130, "int16": 0}[dtype]


def windows(kind: str, dtype: str, bias: str, weight_zero: int, scales: int) -> bytes:
    """Sums of large products on biases near the ends, and windows that leave the image."""
    rng = np.random.default_rng([SEED, 99])
    units = 23
    writer = ModelWriter()
    connected = kind == "FULLY_CONNECTED"
    depth = units if kind == "DEPTHWISE_CONV_2D" else 4
    shape, axis = {
        "CONV_2D": ((units, 3, 3, depth), 0),
        "DEPTHWISE_CONV_2D": ((1, 3, 3, units), 3),
        "FULLY_CONNECTED": ((units, 36), 0),
    }[kind]
    image = (2, 36) if connected else (1, 3, 4, depth)
    x = writer.input("x", image, dtype, scale=0.5, zero_point=input_zero(dtype))
    unsigned = dtype == "uint8"
    codes = rng.choice([0, 255, 254, 1] if unsigned else [-127, 127, 126, -5], shape)
    w = writer.constant(
        "w",
        codes.astype("uint8" if unsigned else "int8"),
        scale=[0.5] * (units if scales > 1 else 1),
        zero_point=weight_zero,
        axis=axis,
    )
    top = (1 << (31 if bias == "int32" else 63)) - 1
    biases = np.resize([0, top, 0, -top - 1, 0, top - 40000, 0, 40000 - top], units)
    b = writer.constant("b", biases.astype(bias), scale=[0.25] * (units if scales > 1 else 1))
    out = (2, units) if connected else (1, 3, 4, units)
    y = writer.tensor(
        "y",
        out,
        dtype,
        scale=2048.0 if dtype == "int16" else 512.0,
        zero_point={"int8": 9, "uint8": 137, "int16": 0}[dtype],
    )
    options: dict[str, Any] = {} if connected else {"stride_h": 1, "stride_w": 1, "padding": "SAME"}
    if kind == "DEPTHWISE_CONV_2D":
        options["depth_multiplier"] = 1
    elif dtype == "int16":
        options["quantized_bias_type"] = bias.upper()
    writer.operator(kind, [x, w, b], [y], **options)
    return writer.finish([y])


def inputs_of(graph: Graph) -> dict[str, np.ndarray]:
    """The zero point, or codes at both ends."""
    tensor = graph.tensors[graph.inputs[0]]
    if tensor.name == "zero_points":
        return {tensor.name: np.full(tensor.shape, tensor.zero_point, tensor.dtype)}
    rng = np.random.default_rng([SEED, 98])
    low, high = LIMITS[tensor.dtype]
    return {tensor.name: rng.choice([low, high, low + 1, 3], tensor.shape).astype(tensor.dtype)}


@cache
def corpus(kind: str, dtype: str, bias: str) -> list[tuple[Graph, dict[str, np.ndarray]]]:
    layers = LAYERS + CLAMPED * ((kind, dtype) == ("CONV_2D", "int8"))
    models = [model for layer in layers for model in biased(kind, dtype, bias, layer)]
    models += [windows(kind, dtype, bias, zero, n) for zero in (0, 3) for n in (1, 2)]
    graphs = [qinterp.load(model) for model in models]
    return [(graph, inputs_of(graph)) for graph in graphs]


@cache
def examples(name: str) -> tuple[list[Example], list[str]]:
    """The corpus under a scheme, as far as its runtime runs it; and where they differ."""
    scheme = load_scheme(name)
    runtime = session(scheme.evidence["runtime"])
    found, differing = [], []
    for one in CLASSES:
        for graph, inputs in corpus(*one):
            try:
                theirs = runtime.run(graph.source, inputs)
            except QInterpError:
                continue
            interpreter = qinterp.Interpreter(graph, scheme)
            try:
                ours = interpreter.run(inputs, capture=True).tensors
            except QInterpError as error:
                differing.append(f"{'/'.join(one)}: {error}")
                continue
            differing += [f"{'/'.join(one)}: {text}" for text in differences(theirs, ours)]
            found.append(Example.of("/".join(one), graph, inputs, dict(ours), scheme))
    return found, differing


# ---- what cannot matter ---------------------------------------------------------------------

SAME_ON_POSITIVES = [
    ("ties_to_away", "ties_toward_positive"),
    ("ties_toward_zero", "ties_toward_negative"),
    ("toward_zero", "toward_negative"),
    ("away_from_zero", "toward_positive"),
]


def multiplies(example: Example) -> bool:
    """Whether the integer multiplier is read."""
    return any(isinstance(stage, Multiply | MultiplyHigh) for stage in example.policy.requantize)


def scaled_in(example: Example) -> str | None:
    """The precision of the factor, where it is a float."""
    scales = [stage.precision for stage in example.policy.requantize if isinstance(stage, Scale)]
    return scales[0] if scales else None


REASONS: dict[str, Callable[[Flip], bool]] = {
    "nothing reads the multiplier": lambda f: (
        f.part == "multiplier" and not any(map(multiplies, f.examples))
    ),
    "only the form 'pre_post_shift' reads it": lambda f: f.field == "post_limit",
    "only the amounts 'literal' and 'total' read it": lambda f: (
        f.field == "by" and f.stages[f.at].amount not in ("literal", "total")  # type: ignore[attr-defined]
    ),
    "scales are positive: what is above them is away from zero": lambda f: (
        f.path == "multiplier.rounding" and any(f.between(*pair) for pair in SAME_ON_POSITIVES)
    ),
    "a mantissa that is shortened changes only at even ones, to which both round": lambda f: (
        f.path == "multiplier.rounding"
        and f.between("ties_to_away", "ties_to_even")
        and f.examples[0].policy.multiplier.reduce_to is not None
    ),
    "the product is in the precision of the quotient anyway": lambda f: (
        f.field == "product_precision"
        and f.between(None, f.examples[0].policy.effective_scale.precision)
    ),
    "a product or quotient of float32 is the same by way of float64": lambda f: (
        f.part == "effective_scale"
        and (f.old, f.new) == ("float32", "float64")
        and f.everywhere(lambda e: scaled_in(e) == "float32")
    ),
    "the product of two float32 is exact in float64, so that one rounding is left": lambda f: (
        f.path == "effective_scale.precision"
        and (f.old, f.new) == ("float64", "exact")
        and f.examples[0].policy.effective_scale.product_precision is None
        and f.everywhere(lambda e: scaled_in(e) == "float64")
    ),
    "a scale below 2**-32 times 32 bits is below one half": lambda f: (
        f.field == "flush_below"
        and f.new < f.old <= -31
        and f.everywhere(lambda e: e.policy.accumulator.bits <= 32 or not multiplies(e))
    ),
    "sums modulo 2**n come out the same in every order and grouping": lambda f: (
        f.part == "accumulator"
        and f.field in ("check", "order", "operands", "bias")
        and f.everywhere(lambda e: e.policy.accumulator.overflow == "wrap")
    ),
    "a code that is the zero point adds nothing": lambda f: (
        f.path == "accumulator.padding"
        and (
            "zero" not in (f.old, f.new) or f.everywhere(lambda e: e.facts["activation"] == "int16")
        )
    ),
    "a 32-bit number times a mantissa below 2**31, over 2**31, fits": lambda f: (
        f.field == "overflow" and f.on_stage("multiply_high")
    ),
    "the next stage is in float32": lambda f: (
        f.on_stage("to_float") and f.stages[f.at + 1] == Scale("float32") and f.new == "float64"
    ),
    "after the clamp from above only the low end is left, and both give the least": lambda f: (
        f.on_stage("round")
        and ClampFloat(low=False) in f.stages[: f.at]
        and f.between("indefinite", "saturate")
    ),
    "after the clamp from above, what leaves 14 bits is far below the least code": lambda f: (
        (
            "requantize" in f.path
            and ClampFloat(low=False) in f.stages
            and Saturate(16) in f.stages[f.at :]
            and (f.field in ("bits", "low") or (f.on_stage("saturate") and f.old == "whole"))
        )
        or (
            f.on_stage("add_zero_point")
            and Saturate(16) in f.stages[: f.at]
            and ClampFloat(low=False) in f.stages
            and (f.field == "bits" or f.new == "indefinite")
        )
    ),
    "16-bit codes have the zero point 0": lambda f: (
        f.on_stage("add_zero_point")
        and f.everywhere(lambda e: e.facts["output"] == "int16")
        and not (f.field == "bits" and f.new < f.old)
    ),
    "the next stage wraps to 32 bits as well": lambda f: (
        f.on_stage("wrap") and f.stages[f.at + 1] == AddZeroPoint() and f.new != 31
    ),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_the_corpus_equals_the_runtime(name: str) -> None:
    found, differing = examples(name)
    assert differing == []
    assert len(found) > 100
    assert sum(v.size for e in found for v in e.wanted.values()) > 10_000


def groups(name: str) -> dict[tuple[str, Any], list[Example]]:
    """Every distinct part of the policies that the corpus meets, and the examples that have it."""
    found: dict[tuple[str, Any], list[Example]] = {}
    for example in examples(name)[0]:
        for part in PARTS:
            value = getattr(example.policy, part)
            narrow = example.wanted["y"].shape[1:3] == (2, 2)  # made for tails
            if value is not None and narrow == (part == "tail"):
                found.setdefault((part, value), []).append(example)
    return found


def all_flips(name: str) -> Iterator[Flip]:
    """Every other value of what no scheme before this one has."""
    before = {key for other in SCHEMES[: SCHEMES.index(name)] for key in groups(other)}
    for (part, value), found in groups(name).items():
        if (part, value) not in before:
            found.sort(key=lambda e: -sum(v.size for v in e.wanted.values()))
            yield from planted(part, value, found)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_value_of_the_scheme_is_pinned(name: str) -> None:
    vain, needless, tried = [], [], 0
    for flip in all_flips(name):
        reasons = [reason for reason, holds in REASONS.items() if holds(flip)]
        # a few will do where the reason says that none can
        seen = notices(flip, 8 if reasons else None)
        if seen is None:
            continue
        tried += 1
        what = f"{flip.path}: {flip.old} -> {flip.new} {reasons}"
        if seen and reasons:
            needless.append(what)
        elif not seen and not reasons:
            vain.append(what)
    assert tried > (100 if name == SCHEMES[0] else 0)
    assert needless == [], "these have an effect, and a reason for having none"
    assert vain == [], "no output changes with these"
