"""Fast equals twin under schemes that no backend has: every field away from the shipped values."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import against_twin

import qinterp
from qinterp import Scheme, load_scheme
from qinterp.errors import QInterpError
from qinterp.testing.tflite_writer import ModelWriter
from qinterp.twin import compute, judge_of

FUZZ = os.environ.get("QINTERP_FUZZ") == "1"
EXAMPLES = 1000 if FUZZ else 40  # a scheme
drawn = settings(max_examples=EXAMPLES, derandomize=not FUZZ, database=None)


def mantissa(bits: int, rounding: str) -> dict[str, Any]:
    """One product, one shift, with a mantissa of ``bits`` bits."""
    return {
        "multiplier.bits": bits,
        "multiplier.reduce_to": None,
        "requantize": [
            {"stage": "multiply", "bits": 64, "overflow": "wrap"},
            {"stage": "shift_right", "rounding": rounding, "amount": "total", "by": bits},
            {"stage": "saturate", "bits": 32},
            {"stage": "add_zero_point", "bits": 32, "overflow": "saturate"},
            {"stage": "clamp"},
        ],
        "add.recipe.input_stages": [
            {"stage": "multiply", "bits": 64, "overflow": "wrap"},
            {"stage": "shift_right", "rounding": rounding, "amount": "total", "by": bits},
        ],
    }


def accumulator(bits: int, overflow: str, check: str, **more: Any) -> dict[str, Any]:
    return {"accumulator": {"bits": bits, "overflow": overflow, "check": check, **more}}


def rescaling(first: str, second: str) -> dict[str, Any]:
    """The two roundings of gemmlowp's stages, wherever they are."""
    stages = [
        {"stage": "shift_left", "bits": 32, "overflow": "saturate"},
        {"stage": "multiply_high", "bits": 32, "rounding": first},
        {"stage": "shift_right", "rounding": second},
    ]
    end = [{"stage": "add_zero_point", "bits": 16, "overflow": "saturate"}, {"stage": "clamp"}]
    return {
        "requantize": stages + end,
        "add.recipe.input_stages": stages,
        "add.recipe.output_stages": stages + end,
        "activation_bounds.rounding": second,
    }


FLOAT32 = [
    {"stage": "to_float", "precision": "float32"},
    {"stage": "scale", "precision": "float32"},
    {"stage": "add_zero_point"},
    {"stage": "round", "rounding": "ties_to_even", "overflow": "saturate"},
    {"stage": "clamp"},
]
CHANGES: dict[str, dict[str, Any]] = {
    "ties toward zero and negative": rescaling("ties_toward_zero", "ties_toward_negative"),
    "ties to even twice": rescaling("ties_to_even", "ties_to_even"),
    "floor and ceiling": rescaling("toward_negative", "toward_positive"),
    "away from zero, then cut off": rescaling("away_from_zero", "toward_zero"),
    "16 bits, wrapping each step": accumulator(16, "wrap", "each_step"),
    "16 bits, wrapping at the end": accumulator(16, "wrap", "at_end"),
    "16 bits, saturating each step": accumulator(16, "saturate", "each_step"),
    "16 bits, saturating at the end": accumulator(16, "saturate", "at_end"),
    "channels first, saturating": accumulator(
        14, "saturate", "each_step", order=["ic", "kw", "kh"], bias="first"
    ),
    "raw operands": accumulator(17, "saturate", "each_step", operands="raw", padding="zero_point"),
    "raw operands, padded with 0": accumulator(
        18, "wrap", "at_end", operands="raw", padding="zero", order=["kw", "kh", "ic"]
    ),
    "pairs": accumulator(
        32, "wrap", "each_step", operands="raw", group={"size": 2, "bits": 16}, padding="zero_point"
    ),
    "groups of four that wrap": accumulator(
        20, "saturate", "each_step", group={"size": 4, "bits": 16, "overflow": "wrap"}
    ),
    "float32 scales": {"requantize": FLOAT32, "effective_scale.precision": "float32"},
    "float64 scales, transposed": {
        "requantize": "float64_ties_to_away",
        "effective_scale.form": "divide_then_product",
        "activation_bounds.zero_point": "before_rounding",
        "requantize.round.rounding": "toward_zero",
    },
    "single rounding": {"requantize": "single_rounding", "add.recipe.left_shift": 12},
    "mantissas of 8 bits": mantissa(8, "ties_to_even"),
    "mantissas of 15 bits, floor": mantissa(15, "toward_negative"),
    "exact": {
        "requantize": "exact_ties_to_even",
        "effective_scale.precision": "exact",
        "multiplier.form": "none",
        "requantize.scale_exact.rounding": "ties_toward_zero",
    },
}
TOUCHES_ADD = [
    name for name, changes in CHANGES.items() if any(path.startswith("add.") for path in changes)
]
SCHEMES: dict[str, Scheme] = {
    name: load_scheme("tflite-reference").with_(changes) for name, changes in CHANGES.items()
}


# ---- models ---------------------------------------------------------------------------------

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
POWERS = st.integers(-9, 0).map(lambda e: 2.0**e)
SCALES = POWERS | st.floats(2.0**-7, 1.0, width=32)
sizes = st.integers(1, 4)


class Model:
    """A model being drawn: codes at the corners, or small ones that make ties."""

    def __init__(self, draw: Any, kind: str) -> None:
        self.draw = draw
        self.kind = kind
        # additions of int16 need power-of-two scales that go together
        wide = ["int16"] * (kind != "ADD")
        self.dtype: str = draw(st.sampled_from(["int8", "int8", "uint8", *wide]))
        self.small = draw(st.booleans())
        self.writer = ModelWriter()
        self.inputs: dict[str, np.ndarray] = {}
        self.unit = np.float32(1.0)  # the product of the operands' scales
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def zero_point(self) -> int:
        low, high = LIMITS[self.dtype]
        if self.dtype == "int16":
            return 0
        return int(self.draw(st.sampled_from([low, high, (low + high + 1) // 2, low + 3])))

    def codes(self, shape: tuple[int, ...], dtype: str, zero: int) -> np.ndarray:
        low, high = LIMITS[dtype]
        low += dtype != "uint8"
        if self.small:
            return np.clip(zero + self.rng.integers(-4, 5, shape), low, high).astype(dtype)
        corners = self.rng.choice([low, high, zero, low + 1], shape)
        anything = self.rng.integers(low, high, shape, endpoint=True)
        return np.where(self.rng.random(shape) < 0.4, corners, anything).astype(dtype)

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        scale, zero = self.draw(SCALES), self.zero_point()
        self.inputs[name] = self.codes(shape, self.dtype, zero)
        self.unit = np.float32(self.unit * scale)
        return self.writer.input(name, shape, self.dtype, scale=scale, zero_point=zero)

    def output(self, shape: tuple[int, ...], terms: int) -> str:
        """Codes over most of the range, one time in two in steps that make ties."""
        size, wanted = (3, 6) if self.small else (100, 60)
        typical = 2 * np.log2(size) + np.log2(terms) / 2 - np.log2(wanted) if terms else 0.0
        exponent = np.rint(typical) + self.draw(st.integers(-1, 2))
        factor = self.draw(st.just(1.0) | st.floats(0.75, 1.5, width=32))
        scale = float(self.unit) * 2.0**exponent * factor
        return self.writer.tensor("y", shape, self.dtype, scale=scale, zero_point=self.zero_point())

    def weights(self, shape: tuple[int, ...], axis: int) -> str:
        dtype = "uint8" if self.dtype == "uint8" else "int8"
        many = dtype == "int8" and self.draw(st.booleans())
        scales = [self.draw(SCALES) for _ in range(shape[axis] if many else 1)]
        self.unit = np.float32(self.unit * scales[0])
        zero = self.draw(st.integers(0, 255)) if dtype == "uint8" else 0
        return self.writer.constant(
            "w", self.codes(shape, dtype, zero), scale=scales, zero_point=zero, axis=axis
        )

    def bias(self, channels: int) -> str | None:
        if not self.draw(st.integers(0, 3)):
            return None
        wide = self.dtype == "int16" and self.draw(st.booleans())
        reach = self.draw(st.sampled_from([9, 2**9, 2**14, 2**31 - 1]))
        values = self.rng.integers(-reach, reach, channels, endpoint=True)
        return self.writer.constant("b", values.astype("int64" if wide else "int32"), scale=0.1)

    def activation(self) -> dict[str, str]:
        options = ["NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"]
        return {"fused_activation_function": self.draw(st.sampled_from(options))}

    def window(self) -> tuple[dict[str, Any], tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Options, and the sizes of image, kernel and output."""
        draw = self.draw
        same = draw(st.booleans())
        image, kernel, size, options = [], [], [], {"padding": "SAME" if same else "VALID"}
        for axis in "hw":
            k, stride, dilation = (draw(st.integers(1, most)) for most in (3, 2, 2))
            reach = (k - 1) * dilation + 1
            n = draw(st.integers(1 if same else reach, reach + 3))
            options |= {f"stride_{axis}": stride, f"dilation_{axis}_factor": dilation}
            image.append(n)
            kernel.append(k)
            size.append(-(-(n if same else n - reach + 1) // stride))
        return options, (image[0], image[1]), (kernel[0], kernel[1]), (size[0], size[1])

    def finish(
        self, operands: list[str | None], shape: tuple[int, ...], terms: int, **options: Any
    ) -> Model:
        y = self.output(shape, terms)
        self.writer.operator(self.kind, operands, [y], **options, **self.activation())
        self.data = self.writer.finish([y])
        return self


def conv_2d(draw: Any) -> Model:
    model = Model(draw, "CONV_2D")
    options, image, kernel, size = model.window()
    groups, depth, units = draw(st.sampled_from([1, 1, 2])), draw(sizes), draw(sizes)
    x = model.input("x", (draw(st.integers(1, 2)), *image, groups * depth))
    w = model.weights((groups * units, *kernel, depth), 0)
    shape = (len(model.inputs["x"]), *size, groups * units)
    return model.finish(
        [x, w, model.bias(groups * units)], shape, depth * kernel[0] * kernel[1], **options
    )


def depthwise_conv_2d(draw: Any) -> Model:
    model = Model(draw, "DEPTHWISE_CONV_2D")
    options, image, kernel, size = model.window()
    depth, times = draw(sizes), draw(st.integers(1, 3))
    x = model.input("x", (draw(st.integers(1, 2)), *image, depth))
    w = model.weights((1, *kernel, depth * times), 3)
    shape = (len(model.inputs["x"]), *size, depth * times)
    options["depth_multiplier"] = times
    return model.finish([x, w, model.bias(depth * times)], shape, kernel[0] * kernel[1], **options)


def fully_connected(draw: Any) -> Model:
    model = Model(draw, "FULLY_CONNECTED")
    rows, length, units = draw(sizes), draw(st.integers(1, 40)), draw(sizes)
    x = model.input("x", (rows, length))
    w = model.weights((units, length), 0)
    return model.finish([x, w, model.bias(units)], (rows, units), length)


def add(draw: Any) -> Model:
    model = Model(draw, "ADD")
    shape = tuple(draw(st.lists(sizes, min_size=1, max_size=3)))
    other = tuple(1 if draw(st.booleans()) else n for n in shape)
    second = model.input("x2", other)
    model.unit = np.float32(1.0)
    first = model.input("x1", shape)
    return model.finish([first, second], shape, 0)


# ---- the tests ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
def test_fast_equals_twin(name: str) -> None:
    scheme = SCHEMES[name]
    builds = [conv_2d, depthwise_conv_2d, fully_connected, *[add] * (name in TOUCHES_ADD)]
    other = []  # whether the scheme is not the reference in disguise

    @drawn
    @given(st.one_of([st.composite(build)() for build in builds]))
    def compare(model: Model) -> None:
        assert against_twin(model.data, model.inputs, scheme) == []
        graph = qinterp.load(model.data)
        ours = qinterp.run(graph, model.inputs, scheme).outputs["y"]
        other.append(not np.array_equal(ours, qinterp.run(graph, model.inputs).outputs["y"]))

    compare()
    assert len(other) >= EXAMPLES
    assert any(other)


@pytest.mark.parametrize("check", ["each_step", "at_end"])
def test_an_overflow_that_is_an_error_is_one_in_both(check: str) -> None:
    scheme = load_scheme("tflite-reference").with_(accumulator(16, "error", check))
    raised = []

    @drawn
    @given(st.composite(fully_connected)())
    def compare(model: Model) -> None:
        interpreter = qinterp.Interpreter(qinterp.load(model.data), scheme)
        step = interpreter._steps[0]
        judge = judge_of(step.node.kind, step.recipe)
        assert judge is not None
        assert step.call is not None
        tensors = interpreter.graph.tensors
        operands = [model.inputs.get(n, tensors[n].data) for n in step.node.inputs]
        try:
            ours = interpreter.run(model.inputs).outputs["y"]
        except QInterpError:
            with pytest.raises(OverflowError, match="more than 16 bits"):
                compute(judge, step.call, operands)
            raised.append(True)
        else:
            assert np.array_equal(compute(judge, step.call, operands)[0], ours)
            raised.append(False)

    compare()
    assert any(raised)
    assert not all(raised)
