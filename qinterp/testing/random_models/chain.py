"""Small random networks of several int8 operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.testing.random_models.draw import Case, Draw, Quant

_CODE_SPREAD = 60.0  # typical distance of a code from its zero point, within a network


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    quant: Quant


class _Network:
    """A network being drawn: the tensors so far, and those that nothing consumes yet."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.tensors: list[_Tensor] = []
        self.loose: list[_Tensor] = []
        self.operators = 0

    def start(self) -> None:
        draw = self.draw
        shape = (1, draw.integer(4, 9), draw.integer(4, 9), draw.pick([1, 3, 4, 8]))
        quant = self.quant()
        self._keep(_Tensor(draw.input(shape, "int8", quant), shape, quant))

    def finish(self) -> Case:
        return self.draw.case([tensor.name for tensor in self.loose])

    def quant(self) -> Quant:
        """Return the parameters of an activation."""
        draw = self.draw
        scale = draw.pick([2.0**-4, 2.0**-5, 2.0**-6, 6 / 255, draw.log_uniform(0.01, 0.1)])
        return Quant(draw.float32(scale), draw.pick([-128, 0, draw.integer(-100, 60)]))

    def image(self) -> _Tensor | None:
        """Return a tensor of rank four, most often the newest."""
        images = [tensor for tensor in self.tensors if len(tensor.shape) == 4]
        if not images:
            return None
        return images[-1] if self.draw.chance(0.8) else self.draw.pick(images)

    def apply(
        self,
        kind: str,
        sources: list[_Tensor],
        shape: tuple[int, ...],
        quant: Quant,
        constants: tuple[str, ...] = (),
        **options: Any,
    ) -> _Tensor:
        """Add an operator and its output."""
        name = f"{kind.lower()}_{self.operators}"
        self.operators += 1
        self.draw.output(shape, "int8", quant, name=name)
        operands = [source.name for source in sources]
        self.draw.writer.operator(kind, [*operands, *constants], [name], **options)
        self.loose = [tensor for tensor in self.loose if tensor not in sources]
        return self._keep(_Tensor(name, shape, quant))

    def weighted(
        self,
        kind: str,
        source: _Tensor,
        shape: tuple[int, ...],
        filter_shape: tuple[int, ...],
        **options: Any,
    ) -> _Tensor:
        """Add an operator with weights and a bias, per-channel quantized half of the time."""
        draw, units = self.draw, shape[-1]
        axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
        terms = int(np.prod(filter_shape)) // units
        # Scales as in real networks: activations of the order of one, whatever the weights are.
        steps = 2.0 ** np.round(np.log2(np.sqrt(terms) * _CODE_SPREAD * 73.0 / 50))
        quant = self.quant()
        base = draw.float32(quant.scale / (source.quant.scale * steps) * draw.pick([1.0, 1.0, 0.8]))
        ratios = draw.rng.choice([1.0, 0.5, 2.0, 0.7], units) if draw.chance(0.5) else np.ones(1)
        scales = (base * ratios).astype(np.float32)
        codes = draw.rng.integers(-127, 128, filter_shape, dtype=np.int8)
        w = draw.writer.constant(f"w_{self.operators}", codes, scale=scales, axis=axis)
        spread = np.sqrt(terms) * _CODE_SPREAD * 73.0
        bias = np.rint(draw.rng.normal(0, spread / 2, units)).astype(np.int32)
        product_scales = (source.quant.scale * scales.astype(np.float64)).astype(np.float32)
        b = draw.writer.constant(f"b_{self.operators}", bias, scale=product_scales)
        return self.apply(
            kind,
            [source],
            shape,
            quant,
            (w, b),
            fused_activation_function=draw.pick(["NONE", draw.activation(quant, "int8")]),
            **options,
        )

    def constant(self, label: str, values: Any) -> str:
        """Add an int32 constant."""
        return self.draw.writer.constant(
            f"{label}_{self.operators}", np.asarray(values, dtype=np.int32)
        )

    def _keep(self, tensor: _Tensor) -> _Tensor:
        self.tensors.append(tensor)
        self.loose.append(tensor)
        return tensor


def small_chain(rng: np.random.Generator) -> Case:
    """Draw a chain or small graph of three to about eight int8 operators.

    They are CONV_2D, DEPTHWISE_CONV_2D, ADD, AVERAGE_POOL_2D, MAX_POOL_2D, PAD, MEAN, RESHAPE,
    FULLY_CONNECTED and SOFTMAX. Every tensor that no operator consumes is an output.
    """
    network = _Network(Draw("small_chain", "int8", rng))
    draw = network.draw
    network.start()
    steps = [_convolution, _convolution, _depthwise, _residual, _pooling, _padding]
    for _ in range(draw.integer(1, 4)):
        draw.pick(steps)(network)
    head = draw.pick([_mean_head, _reshape_head, None])
    if head is not None:
        head(network)
    while network.operators < 3:
        _convolution(network)
    return network.finish()


def _window(size: int, kernel: int, stride: int, padding: str) -> int:
    covered = size if padding == "SAME" else size - kernel + 1
    return -(-covered // stride)


def _sliding(draw: Draw, source: _Tensor) -> tuple[int, tuple[int, int], dict[str, Any]]:
    """Return a kernel size, the output's image size and the options of a sliding window."""
    kernel, stride = draw.pick([1, 2, 3]), draw.pick([1, 1, 2])
    padding = draw.pick(["SAME", "VALID"]) if min(source.shape[1:3]) >= kernel else "SAME"
    height, width = (_window(size, kernel, stride, padding) for size in source.shape[1:3])
    return kernel, (height, width), {"padding": padding, "stride_h": stride, "stride_w": stride}


def _convolution(network: _Network) -> None:
    source = network.image()
    if source is None:
        return _dense(network)
    kernel, image, options = _sliding(network.draw, source)
    units = network.draw.pick([1, 4, 8, 9, 16])
    filter_shape = (units, kernel, kernel, source.shape[3])
    network.weighted("CONV_2D", source, (1, *image, units), filter_shape, **options)
    return None


def _depthwise(network: _Network) -> None:
    source = network.image()
    if source is None:
        return _dense(network)
    kernel, image, options = _sliding(network.draw, source)
    multiplier = network.draw.pick([1, 1, 2])
    units = source.shape[3] * multiplier
    network.weighted(
        "DEPTHWISE_CONV_2D",
        source,
        (1, *image, units),
        (1, kernel, kernel, units),
        depth_multiplier=multiplier,
        **options,
    )
    return None


def _residual(network: _Network) -> None:
    """Add a convolution that keeps the shape, and the sum of its input and its output."""
    source = network.image()
    if source is None:
        return _dense(network)
    draw = network.draw
    depth = source.shape[3]
    options = {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    branch = network.weighted("CONV_2D", source, source.shape, (depth, 3, 3, depth), **options)
    larger = max(source.quant.scale, branch.quant.scale)
    quant = Quant(draw.float32(larger * draw.pick([1.0, 2.0, 1.4])), network.quant().zero_point)
    pair = [source, branch] if draw.chance(0.5) else [branch, source]
    network.apply(
        "ADD", pair, source.shape, quant, fused_activation_function=draw.pick(["NONE", "RELU"])
    )
    return None


def _pooling(network: _Network) -> None:
    source = network.image()
    if source is None:
        return _dense(network)
    kernel, image, options = _sliding(network.draw, source)
    network.apply(
        network.draw.pick(["AVERAGE_POOL_2D", "MAX_POOL_2D"]),
        [source],
        (1, *image, source.shape[3]),
        source.quant,
        filter_height=kernel,
        filter_width=kernel,
        **options,
    )
    return None


def _padding(network: _Network) -> None:
    source = network.image()
    if source is None:
        return _dense(network)
    margins = [[network.draw.integer(0, 1), network.draw.integer(0, 2)] for _ in range(2)]
    height, width = (
        size + sum(margin) for size, margin in zip(source.shape[1:3], margins, strict=True)
    )
    amounts = network.constant("paddings", [[0, 0], *margins, [0, 0]])
    shape = (1, height, width, source.shape[3])
    network.apply("PAD", [source], shape, source.quant, (amounts,))
    return None


def _mean_head(network: _Network) -> None:
    source = network.tensors[-1]
    draw = network.draw
    keep = draw.chance(0.4)
    shape = (1, 1, 1, source.shape[3]) if keep else (1, source.shape[3])
    quant = source.quant
    if draw.chance(0.7):
        ratio = draw.pick([0.5, 0.25, 0.6])
        quant = Quant(draw.float32(quant.scale * ratio), quant.zero_point)
    axes = network.constant("axes", [1, 2])
    network.apply("MEAN", [source], shape, quant, (axes,), keep_dims=keep)
    if keep:
        _flatten(network)
    _classify(network)


def _reshape_head(network: _Network) -> None:
    _flatten(network)
    _classify(network)


def _flatten(network: _Network) -> None:
    source = network.tensors[-1]
    shape = (1, int(np.prod(source.shape)))
    target = network.constant("shape", [1, -1] if network.draw.chance(0.5) else shape)
    network.apply("RESHAPE", [source], shape, source.quant, (target,))


def _classify(network: _Network) -> None:
    _dense(network)
    if network.draw.chance(0.6):
        source = network.tensors[-1]
        network.apply("SOFTMAX", [source], source.shape, Quant(1 / 256, -128), beta=1.0)


def _dense(network: _Network) -> None:
    source = network.tensors[-1]
    units = network.draw.pick([2, 5, 10, 16])
    network.weighted("FULLY_CONNECTED", source, (1, units), (units, source.shape[-1]))
