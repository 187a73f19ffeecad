"""The schemes of LiteRT's optimized kernels and of XNNPACK equal their runtimes, every tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import SEED
from judging import against_runtime, against_twin, differences, session, twin_judges

import qinterp
from qinterp.importers._shipped import samples, shipped_models
from qinterp.runtimes import RUNTIMES
from qinterp.testing.random_models import KINDS, random_model, small_chain
from qinterp.testing.tflite_writer import ModelWriter

BACKENDS = {"tflite-optimized": "litert-optimized", "xnnpack": "litert-xnnpack"}
CASES = int(os.environ.get("QINTERP_CASES", "5"))
SAMPLES = 20

# (scheme, kind, type): why some elements differ, and the seed of a case in which they do. A pair
# that no longer differs there must leave the table.
UNMATCHED: dict[tuple[str, str, str], tuple[str, int]] = {}

PAIRS = [
    (scheme, kind, dtype)
    for scheme in BACKENDS
    for kind, dtypes in KINDS.items()
    for dtype in dtypes
    if dtype != "float32"
]
IDS = ["-".join(pair) for pair in PAIRS]


@pytest.mark.parametrize("scheme", BACKENDS)
def test_the_runtime_is_here(scheme: str) -> None:
    reason = RUNTIMES[BACKENDS[scheme]].unavailable()
    if reason and not os.environ.get("QINTERP_REQUIRE_RUNTIMES"):
        pytest.skip(reason)
    assert reason is None


@pytest.mark.parametrize("name", sorted(n for n in shipped_models() if "float" not in n))
@pytest.mark.parametrize("scheme", BACKENDS)
def test_shipped_model_equals_the_runtime(scheme: str, name: str) -> None:
    graph = qinterp.load(name)
    own = samples(name)
    assert own is not None
    interpreter = qinterp.Interpreter(graph, scheme)
    reference = qinterp.Interpreter(graph, "tflite-reference")
    runtime = session(BACKENDS[scheme]).open(graph.source)
    parted = False
    for row in own.inputs[:SAMPLES]:
        codes = interpreter.input_codes(row[None])
        ours = interpreter.run(codes, capture=True)
        theirs = runtime.run(codes)
        assert set(ours.tensors) <= set(theirs)
        assert differences(theirs, ours.tensors) == []
        parted |= bool(differences(theirs, reference.run(codes, capture=True).tensors))
    # the optimized kernels part at ties alone, which a model may not have in so few samples
    assert parted or scheme == "tflite-optimized", "the reference would have passed too"


@pytest.mark.parametrize(("scheme", "kind", "dtype"), PAIRS, ids=IDS)
def test_random_operator_equals_the_runtime(scheme: str, kind: str, dtype: str) -> None:
    known = UNMATCHED.get((scheme, kind, dtype))
    if known is not None:
        reason, seed = known
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        found = against_runtime(case.model, case.inputs, scheme, BACKENDS[scheme])
        assert found, f"matches by now, and must leave the table: {reason}"
        return
    for seed in range(CASES):
        case = random_model(kind, dtype, np.random.default_rng([SEED, seed]))
        found = against_runtime(case.model, case.inputs, scheme, BACKENDS[scheme])
        assert found == [], f"seed {seed}: {case.description}"


# ---- cases that random models leave out --------------------------------------------------------


class Drawn:
    """One operator with codes, scales and zero points drawn so that ties and overflows occur."""

    def __init__(self, rng: np.random.Generator, dtype: str) -> None:
        self.rng, self.dtype, self.model = rng, dtype, ModelWriter()
        self.inputs: dict[str, np.ndarray] = {}

    def codes(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        limits = np.iinfo(dtype)
        return self.rng.integers(limits.min, limits.max + 1, shape).astype(dtype)

    def grid(self, low: int, high: int) -> dict[str, Any]:
        limits = np.iinfo(self.dtype)
        power = self.rng.integers(low, high) if self.rng.random() < 0.5 else None
        exponent = float(self.rng.uniform(low, high)) if power is None else float(power)
        zero_points = (limits.min, limits.max, int(self.rng.integers(limits.min, limits.max + 1)))
        return {
            "scale": float(np.float32(2.0**exponent)),
            "zero_point": int(self.rng.choice(zero_points)),
        }

    def input(self, name: str, shape: Sequence[int], low: int = -9, high: int = -1) -> str:
        self.inputs[name] = self.codes(shape, self.dtype)
        return self.model.input(name, shape, self.dtype, **self.grid(low, high))

    def output(self, shape: Sequence[int], low: int = -9, high: int = -1) -> str:
        return self.model.tensor("y", shape, self.dtype, **self.grid(low, high))


def mean_of_image(d: Drawn) -> None:
    """LiteRT has a kernel of its own for this mean, with blocks of 16 channels."""
    shape = [2, 3, 5, int(d.rng.choice([7, 16, 33]))]
    axes = d.model.constant("axes", np.array([-2, 1], np.int32))
    d.model.operator(
        "MEAN", [d.input("x", shape), axes], [d.output([2, 1, 1, shape[3]])], keep_dims=True
    )


def _binary(kind: str, d: Drawn) -> None:
    shape, other = [
        ([2, 3, 16, 5], [2, 3, 1, 5]), ([4, 37], [37]), ([3, 50], [3, 1]), ([5, 9], [5, 9]),
    ][int(d.rng.integers(4))]  # fmt: skip
    operands = [d.input("a", shape, -14, 3), d.input("b", other, -14, 3)]
    activation = str(d.rng.choice(["NONE", "RELU", "RELU6"]))
    d.model.operator(
        kind, operands, [d.output(shape, -12, 6)], fused_activation_function=activation
    )


def add(d: Drawn) -> None:
    """Rows and single elements that are broadcast, scale ratios in XNNPACK's range and beyond."""
    _binary("ADD", d)


def sub(d: Drawn) -> None:
    """As for the sum."""
    _binary("SUB", d)


def mul(d: Drawn) -> None:
    """Products beyond 16 bits, in blocks and tails."""
    _binary("MUL", d)


def depthwise(d: Drawn) -> None:
    """Weights with one scale, whose quantized dimension the file names rightly or not."""
    d.inputs["x"] = d.codes([1, 5, 6, 13], d.dtype)
    x = d.model.input("x", [1, 5, 6, 13], d.dtype, scale=0.5, zero_point=17)
    zero_point = 0 if d.dtype == "int8" else int(d.rng.integers(256))
    w = d.model.constant(
        "w", d.codes([1, 2, 3, 13], d.dtype), scale=0.25, zero_point=zero_point,
        axis=int(d.rng.choice([0, 3])),
    )  # fmt: skip
    bias = d.model.constant("b", d.rng.integers(-999, 999, 13).astype(np.int32), scale=0.125)
    d.model.operator(
        "DEPTHWISE_CONV_2D", [x, w, bias], [d.output([1, 4, 4, 13], 2, 5)], padding="VALID",
        stride_h=1, stride_w=1, depth_multiplier=1,
    )  # fmt: skip


def computed_weights(d: Drawn) -> None:
    """XNNPACK declines weights that are not constant."""
    x, w = d.input("x", [3, 12]), d.input("w", [7, 12])
    d.model.operator("FULLY_CONNECTED", [x, w], [d.output([3, 7], -4, 2)])


def quantize(d: Drawn) -> None:
    """Scale ratios in XNNPACK's range and beyond."""
    d.model.operator("QUANTIZE", [d.input("x", [3, 21], -14, 4)], [d.output([3, 21], -12, 6)])


def elu(d: Drawn) -> None:
    """LiteRT's reference resolver does not have it."""
    d.model.operator("ELU", [d.input("x", [256])], [d.output([256])])


SPECIAL = [
    (case, dtype)
    for case in (mean_of_image, add, sub, mul, depthwise, computed_weights, quantize, elu)
    for dtype in ("int8", "uint8")
    if (case, dtype) not in ((elu, "uint8"), (computed_weights, "int8"))
]


@pytest.mark.parametrize(
    ("case", "dtype"), SPECIAL, ids=[f"{case.__name__}-{dtype}" for case, dtype in SPECIAL]
)
@pytest.mark.parametrize("scheme", BACKENDS)
def test_special_case_equals_the_runtime_and_the_twin(
    scheme: str, case: Callable[[Drawn], None], dtype: str
) -> None:
    for seed in range(2 * CASES):
        drawn = Drawn(np.random.default_rng([SEED, seed]), dtype)
        case(drawn)
        model = drawn.model.finish(["y"])
        assert against_runtime(model, drawn.inputs, scheme, BACKENDS[scheme]) == [], seed
        if seed == 0:
            assert against_twin(model, drawn.inputs, scheme) == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scheme", BACKENDS)
def test_random_chain_equals_the_runtime(scheme: str, seed: int) -> None:
    case = small_chain(np.random.default_rng([SEED, seed]))
    found = against_runtime(case.model, case.inputs, scheme, BACKENDS[scheme])
    assert found == [], case.description


@pytest.mark.parametrize(("scheme", "kind", "dtype"), PAIRS, ids=IDS)
def test_fast_equals_twin(scheme: str, kind: str, dtype: str) -> None:
    twin_judges(kind, dtype, scheme)
