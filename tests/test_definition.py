"""The schemes ``exact`` and ``float`` are their definitions, written out; a change shows."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from planting import PARTS, Example, Flip, detected, planted

import qinterp
from qinterp.testing.tflite_writer import ModelWriter

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
ENDS = {"NONE": (None, None), "RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}


FIRST_CLAMPED = 100
# activation, output scale, zero point: the code of an end is a tie between an odd and an even
# code, or next to one
CLAMPED = [
    (activation, step, zero)
    for activation, step in (
        ("RELU6", 4.0), ("RELU6", 12.0), ("RELU_N1_TO_1", 2.0),
        *(("RELU6", 6 / (n + 0.5)) for n in range(3, 40)),
    )
    for zero in ((3, 4, 7, 8) if step in (2.0, 4.0, 12.0) else (5,))
]  # fmt: skip


class Layer:
    """A fully connected layer, or a sum of two tensors, in numbers that decide."""

    def __init__(self, seed: int, kind: str) -> None:
        rng = np.random.default_rng([SEED, seed])
        self.kind, self.dtype = (
            kind,
            ("int8", "uint8", "int16")[seed // 2 % 3 if seed < FIRST_CLAMPED else 0],
        )
        low, high = LIMITS[self.dtype]
        power = seed % 2 == 0  # of two: ties
        self.rows, self.size, self.units = 3, int(rng.integers(1, 30)), int(rng.integers(1, 9))

        def scale() -> float:
            exact = 2.0 ** int(rng.integers(-6, 0))
            return exact if power else float(np.float32(exact * rng.uniform(1, 2)))

        def zero() -> int:
            some = [low, high, (low + high + 1) // 2, low + 5, low + 101]
            return 0 if self.dtype == "int16" else int(rng.choice(some))

        second = (self.units, self.size) if kind == "FULLY_CONNECTED" else (self.rows, self.size)
        self.x = rng.integers(low, high + 1, (self.rows, self.size)).astype(self.dtype)
        self.w = rng.integers(-127, 128, second)
        self.scales, self.zeros = [scale(), scale()], [zero(), 0]
        self.bias = rng.integers(-5000, 5000, self.units) if kind == "FULLY_CONNECTED" else None
        wide = kind == "FULLY_CONNECTED" and self.dtype == "int16"
        if wide and seed % 5 == 0 and not power:
            self.bias = self.bias + 2**62 + 2**40  # type: ignore[operator]
        if kind != "FULLY_CONNECTED":
            self.w = rng.integers(low, high + 1, second)
            self.zeros[1] = zero()
        if power:  # small numbers, so that many results are exact ties
            near = rng.integers(-9, 10, self.x.shape) + self.zeros[0]
            self.x = np.clip(near, low, high).astype(self.dtype)
            if kind == "FULLY_CONNECTED":
                self.w = self.w % 7 - 3
                self.bias = self.bias % 2**13 // 64  # type: ignore[operator]
            else:
                self.w = np.clip(self.w % 19 - 9 + self.zeros[1], low, high)
        self.activation = str(rng.choice(list(ENDS))) if seed % 4 > 1 else "NONE"
        spread = float(np.median([abs(float(real)) for _, real in self.reals()])) or 1.0
        step = spread / (8 if power else 6000 if self.dtype == "int16" else 50)
        self.out = (2.0 ** round(np.log2(step)) if power else float(np.float32(step)), zero())
        if seed >= FIRST_CLAMPED:
            self.activation, step, zero_point = CLAMPED[seed - FIRST_CLAMPED]
            self.scales = [float(np.float32(0.75 * step))] * 2
            self.out = (float(np.float32(step)), zero_point)

    @property
    def weight_dtype(self) -> str:
        """Of the second operand."""
        return self.dtype if self.kind != "FULLY_CONNECTED" or self.dtype == "uint8" else "int8"

    def model(self) -> bytes:
        """As a .tflite."""
        writer = ModelWriter()
        (s1, s2), (z1, z2) = self.scales, self.zeros
        x = writer.input("x", self.x.shape, self.dtype, scale=s1, zero_point=z1)
        if self.kind == "FULLY_CONNECTED":
            z2 = 128 if self.weight_dtype == "uint8" else 0
            codes = (self.w + z2).astype(self.weight_dtype)
            assert self.bias is not None
            bias = self.bias.astype("int64" if self.dtype == "int16" else "int32")
            second = writer.constant("w", codes, scale=s2, zero_point=z2)
            operands: list[str | None] = [x, second, writer.constant("b", bias, scale=s1 * s2)]
            shape = (self.rows, self.units)
        else:
            operands = [
                x, writer.constant("w", self.w.astype(self.dtype), scale=s2, zero_point=z2)
            ]  # fmt: skip
            shape = self.x.shape
        y = writer.tensor("y", shape, self.dtype, scale=self.out[0], zero_point=self.out[1])
        writer.operator(self.kind, operands, [y], fused_activation_function=self.activation)
        return writer.finish([y])

    def reals(self) -> Iterator[tuple[tuple[int, int], Fraction]]:
        """The real result of every element: rational numbers, nothing rounded."""
        s1, s2 = map(Fraction, self.scales)
        x = self.x.astype(object) - self.zeros[0]
        w = self.w.astype(object) - (self.zeros[1] if self.kind != "FULLY_CONNECTED" else 0)
        if self.kind == "FULLY_CONNECTED":
            total = x @ w.T + self.bias
            yield from ((i, int(total[i]) * s1 * s2) for i in np.ndindex(*total.shape))
        elif self.kind == "ADD":
            yield from ((i, int(x[i]) * s1 + int(w[i]) * s2) for i in np.ndindex(*x.shape))
        else:
            yield from ((i, int(x[i]) * s1 * int(w[i]) * s2) for i in np.ndindex(*x.shape))

    def exact(self) -> np.ndarray:
        """The nearest code, ties to even; clamped to the nearest codes of the activation's ends."""
        scale, zero = Fraction(self.out[0]), self.out[1]
        low, high = LIMITS[self.dtype]
        least, most = ENDS[self.activation]
        if least is not None:
            low = max(low, round(least / scale) + zero)
        if most is not None:
            high = min(high, round(most / scale) + zero)
        shape = (self.rows, self.units) if self.kind == "FULLY_CONNECTED" else self.x.shape
        out = np.empty(shape, self.dtype)
        for index, real in self.reals():
            out[index] = min(max(round(real / scale) + zero, low), high)
        return out

    def floats(self) -> np.ndarray:
        """Operands as float32, every operation rounded to float32, the result quantized."""
        f32 = np.float32
        x = f32(self.scales[0]) * (self.x.astype(np.int64) - self.zeros[0]).astype(f32)
        zero = self.zeros[1] if self.kind != "FULLY_CONNECTED" else 0
        w = f32(self.scales[1]) * (self.w - zero).astype(f32)
        if self.kind == "FULLY_CONNECTED":
            assert self.bias is not None
            total = np.zeros((self.rows, self.units), f32)
            for k in range(self.size):
                total = total + x[:, k, None] * w[None, :, k]
            total = total + self.bias.astype(f32) * (f32(self.scales[0] * self.scales[1]))
        else:
            total = x + w if self.kind == "ADD" else x * w
        least, most = ENDS[self.activation]
        total = total if least is None else np.maximum(total, f32(least))
        total = total if most is None else np.minimum(total, f32(most))
        codes = np.rint(total / f32(self.out[0])).astype(np.int64) + self.out[1]
        return np.clip(codes, *LIMITS[self.dtype]).astype(self.dtype)


JUDGES = {"exact": Layer.exact, "float": Layer.floats}
LAYERS = [(seed, kind) for kind in ("FULLY_CONNECTED", "ADD", "MUL") for seed in range(24)]
LAYERS += [(FIRST_CLAMPED + i, "ADD") for i in range(len(CLAMPED))]


@cache
def examples(name: str) -> list[Example]:
    """The layers, and what the definition of the scheme makes of them."""
    found = []
    for seed, kind in LAYERS:
        layer = Layer(seed, kind)
        if name == "float" and layer.bias is not None and abs(layer.bias).max() > 2**24:
            continue  # codes beyond what the conversion to int64 holds
        graph = qinterp.load(layer.model())
        wanted = {"y": JUDGES[name](layer)}
        found.append(Example.of(f"{kind} {seed}", graph, {"x": layer.x}, wanted, name))
    return found


@pytest.mark.parametrize("name", JUDGES)
def test_the_scheme_is_its_definition(name: str) -> None:
    wrong = [e.about for e in examples(name) if detected(e, "recipes", e.policy.recipes)]
    assert wrong == []
    wanted = [e.wanted["y"] for e in examples(name)]
    assert sum(len(np.unique(codes)) > 3 for codes in wanted) > len(wanted) // 2


def cannot_matter(flip: Flip) -> bool:
    """What no input can tell, of the little that these two schemes write down."""
    if flip.part == "multiplier":
        return True  # no stage multiplies
    if flip.part == "effective_scale":
        # exact numbers in another order; a product that is exact, or is made so before it is used
        return flip.field in ("form", "product_precision")
    if flip.path == "activation_bounds.precision":
        # a quotient of two numbers of 24 bits is a tie, or more than 2**-48 off
        return flip.new == "float64"
    if flip.part == "accumulator":
        # nothing overflows, so that no order, grouping or width matters
        return flip.new not in (63,)
    if flip.on_stage("add_zero_point") or (flip.on_stage("round") and flip.field != "rounding"):
        return flip.old != "whole"  # beyond 31 bits all are far outside the bounds that clamp next
    return flip.on_stage("divide_scale") and flip.new == "float64"  # see the test below


@pytest.mark.parametrize("name", JUDGES)
def test_every_value_of_the_definition_is_pinned(name: str) -> None:
    groups: dict[tuple[str, Any], list[Example]] = {}
    for example in examples(name):
        for part in PARTS:
            value = getattr(example.policy, part)
            if value is not None and part in example.reads and part != "unsigned":
                groups.setdefault((part, value), []).append(example)
        if example.params is not None:
            key = ("recipe", (example.recipe, example.params))
            groups.setdefault(key, []).append(example)
    vain, tried = [], 0
    for (part, value), found in groups.items():
        for flip in planted(part, value[1] if part == "recipe" else value, found):
            seen = [detected(e, flip.path, flip.new) for e in flip.examples]
            if None in seen:
                continue
            tried += 1
            if not any(seen) and not cannot_matter(flip):
                vain.append(f"{flip.path}: {flip.old} -> {flip.new}")
    assert tried > 20
    assert vain == []
