"""Quantized networks with random weights, in the shapes of well-known ones, as .tflite bytes.

Scales are chosen layer by layer so that every tensor uses its range: codes neither all saturate nor
all vanish, as in a trained network, so that nothing is faster or slower here than there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qinterp.testing.tflite_writer import ModelWriter

SPREAD = 40.0
"""Root mean square, in codes, of what every layer is to give before its activation."""
REAL = 2.5
"""The same in reals, so that RELU6 clamps a few."""
WEIGHTS = 73.3
"""Root mean square of the codes of weights."""


@dataclass(frozen=True)
class Value:
    """A tensor of the network being written.

    Attributes
    ----------
    shape : NHWC.
    rms : the root mean square that its real values should have.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    rms: float


class Network:
    """Writes int8 layers one after the other, with weights per output channel."""

    def __init__(self, description: str) -> None:
        self._writer = ModelWriter(description)
        self._random = np.random.default_rng(1)
        self._count = 0
        self.multiply_adds = 0

    def input(self, height: int, width: int, channels: int) -> Value:
        """Add the input."""
        shape = (1, height, width, channels)
        scale = REAL / SPREAD
        return Value(self._writer.input("image", shape, "int8", scale=scale), shape, scale, 0, REAL)

    def conv(
        self, x: Value, channels: int, size: int = 3, stride: int = 1, *, activation: str = "NONE"
    ) -> Value:
        """Convolve with SAME padding."""
        weights = self._random.integers(-127, 128, (channels, size, size, x.shape[3]))
        return self._sum("CONV_2D", x, weights, stride, activation, axis=0)

    def depthwise(self, x: Value, stride: int = 1, *, activation: str = "NONE") -> Value:
        """Convolve each channel with its own 3x3 filter, with SAME padding."""
        weights = self._random.integers(-127, 128, (1, 3, 3, x.shape[3]))
        return self._sum("DEPTHWISE_CONV_2D", x, weights, stride, activation, axis=3)

    def add(self, a: Value, b: Value, *, activation: str = "NONE") -> Value:
        """Add two tensors of one shape."""
        y = self._value(a.shape, math.hypot(a.rms, b.rms), activation)
        options = {"fused_activation_function": activation}
        self._writer.operator("ADD", [a.name, b.name], [y.name], **options)
        return y

    def max_pool(self, x: Value) -> Value:
        """Take the maximum of 3x3 windows at every second pixel."""
        n, height, width, channels = x.shape
        shape = (n, -(-height // 2), -(-width // 2), channels)
        y = self._named(shape, x.scale, x.zero_point, x.rms)
        windows = {"filter_height": 3, "filter_width": 3, "stride_h": 2, "stride_w": 2}
        self._writer.operator("MAX_POOL_2D", [x.name], [y.name], padding="SAME", **windows)
        return y

    def average(self, x: Value) -> Value:
        """Average each channel over its plane."""
        n, *_, channels = x.shape
        y = self._named((n, channels), x.scale / 2, -128, x.rms / 2)
        axes = self._writer.constant(f"{y.name}_axes", np.array([1, 2], np.int32))
        self._writer.operator("MEAN", [x.name, axes], [y.name], keep_dims=False)
        return y

    def classify(self, x: Value, classes: int) -> bytes:
        """Fully connect, take the softmax, and return the file."""
        weights = self._random.integers(-127, 128, (classes, x.shape[1]))
        logits = self._sum("FULLY_CONNECTED", x, weights, 1, "NONE", axis=0)
        y = self._writer.tensor(
            "probabilities", (1, classes), "int8", scale=1 / 256, zero_point=-128
        )
        self._writer.operator("SOFTMAX", [logits.name], [y], beta=1.0)
        return self._writer.finish([y])

    def _sum(
        self,
        kind: str,
        x: Value,
        weights: np.ndarray,
        stride: int,
        activation: str,
        *,
        axis: int,
    ) -> Value:
        products = weights.size // weights.shape[axis]
        channels = weights.shape[axis]
        typical = REAL / (WEIGHTS * products**0.5 * x.rms)
        weight_scale = self._random.uniform(0.5, 1.5, channels) * typical
        if kind == "FULLY_CONNECTED":
            shape: tuple[int, ...] = (1, channels)
        else:
            n, height, width, _ = x.shape
            shape = (n, -(-height // stride), -(-width // stride), channels)
        self.multiply_adds += products * int(np.prod(shape))
        y = self._value(shape, REAL, activation)
        quantized = {"scale": weight_scale.tolist(), "axis": axis}
        bias = self._random.integers(-2000, 2000, channels)
        operands = [
            x.name,
            self._writer.constant(f"{y.name}_weights", weights.astype(np.int8), **quantized),
            self._writer.constant(
                f"{y.name}_bias",
                bias.astype(np.int32),
                scale=(x.scale * weight_scale).tolist(),
            ),
        ]
        options: dict[str, object] = {"fused_activation_function": activation}
        if kind != "FULLY_CONNECTED":
            options |= {"padding": "SAME", "stride_h": stride, "stride_w": stride}
        if kind == "DEPTHWISE_CONV_2D":
            options["depth_multiplier"] = 1
        self._writer.operator(kind, operands, [y.name], **options)
        return y

    def _value(self, shape: Sequence[int], rms: float, activation: str) -> Value:
        if activation == "NONE":
            return self._named(shape, rms / SPREAD, 0, rms)
        return self._named(shape, rms / SPREAD, -128, rms / 2**0.5)

    def _named(self, shape: Sequence[int], scale: float, zero_point: int, rms: float) -> Value:
        self._count += 1
        name = f"layer_{self._count}"
        self._writer.tensor(name, shape, "int8", scale=scale, zero_point=zero_point)
        return Value(name, tuple(shape), scale, zero_point, rms)


def mobilenet_v2(size: int = 224) -> tuple[bytes, int]:
    """MobileNetV2 1.0: 53 weighted layers, 300 M multiply-adds at 224x224."""
    net = Network("MobileNetV2, random weights")
    x = net.conv(net.input(size, size, 3), 32, 3, 2, activation="RELU6")
    blocks = [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]  # fmt: skip
    for expansion, channels, repeats, first_stride in blocks:
        for number in range(repeats):
            stride = first_stride if number == 0 else 1
            inner = x
            if expansion != 1:
                inner = net.conv(x, x.shape[3] * expansion, 1, activation="RELU6")
            inner = net.conv(net.depthwise(inner, stride, activation="RELU6"), channels, 1)
            x = net.add(x, inner) if stride == 1 and x.shape == inner.shape else inner
    x = net.average(net.conv(x, 1280, 1, activation="RELU6"))
    return net.classify(x, 1000), net.multiply_adds


def resnet_50(size: int = 224) -> tuple[bytes, int]:
    """ResNet-50 v1.5: 4.1 G multiply-adds at 224x224."""
    net = Network("ResNet-50, random weights")
    x = net.max_pool(net.conv(net.input(size, size, 3), 64, 7, 2, activation="RELU"))
    for stage, (channels, repeats) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for number in range(repeats):
            stride = 2 if number == 0 and stage else 1
            inner = net.conv(x, channels, 1, activation="RELU")
            inner = net.conv(inner, channels, 3, stride, activation="RELU")
            inner = net.conv(inner, channels * 4, 1)
            short = net.conv(x, channels * 4, 1, stride) if number == 0 else x
            x = net.add(inner, short, activation="RELU")
    return net.classify(net.average(x), 1000), net.multiply_adds


def resnet_8() -> tuple[bytes, int]:
    """MLPerf-Tiny's ResNet-8 for 32x32 images: 12.5 M multiply-adds."""
    net = Network("ResNet-8, random weights")
    x = net.conv(net.input(32, 32, 3), 16, activation="RELU")
    for channels in (16, 32, 64):
        stride = 1 if channels == 16 else 2
        inner = net.conv(x, channels, 3, stride, activation="RELU")
        inner = net.conv(inner, channels)
        short = x if channels == 16 else net.conv(x, channels, 1, stride)
        x = net.add(inner, short, activation="RELU")
    return net.classify(net.average(x), 10), net.multiply_adds


NETWORKS: dict[str, Callable[[], tuple[bytes, int]]] = {
    "mobilenet_v2_224": mobilenet_v2,
    "resnet_50": resnet_50,
    "resnet_8": resnet_8,
}
