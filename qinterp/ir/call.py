"""One node with everything that is known before it runs: what an operator is prepared from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from qinterp.errors import (
    InputError,
    ModelFormatError,
    QInterpError,
    UnsupportedOperatorError,
)
from qinterp.ir.graph import Node
from qinterp.ir.tensor import Array, Quantization, Tensor

Shape = tuple[int, ...]


class UnknownValue(Exception):  # noqa: N818  # a signal to the interpreter, never shown
    """An operand's value decides a shape, but is known only when the graph runs."""


def broadcast_form(first: Shape, second: Shape) -> tuple[str, int]:
    """How two shapes meet, and how many elements one inner loop over them goes through.

    ``none``: they are the same. ``rows``: trailing dimensions are the same, and rows of them meet;
    ``scalar``: one element meets a run of the other's; both with at most five alternations of
    dimensions that are broadcast and that are not. ``general``: anything else
    (tflite/kernels/internal/reference/process_broadcast_shapes.h).
    """
    rank = max(len(first), len(second))
    a, b = ((1,) * (rank - len(shape)) + tuple(shape) for shape in (first, second))
    if a == b:
        return "none", math.prod(a)
    differing = [i for i in range(rank) if a[i] != b[i]]
    if b[differing[-1]] == 1:
        a, b = b, a
    rest = rank

    def while_(condition: Callable[[int], bool]) -> int:
        nonlocal rest
        size = 1
        while rest > 0 and condition(rest - 1):
            rest -= 1
            size *= max(a[rest], b[rest])
        return size

    def shared(i: int) -> bool:
        return a[i] == b[i]

    inner = while_(shared)
    repeated = while_(lambda i: a[i] == 1)
    while_(shared)
    while_(lambda i: b[i] == 1)
    while_(shared)
    if rest:
        return "general", 1
    return ("rows", inner) if inner > 1 else ("scalar", repeated)


def _is_uint8(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype == "uint8" and tensor.quantization is not None


def flip_sign(tensor: Tensor | None, value: Array) -> Array:
    """Codes of uint8 as those of int8, 128 less, and the other way round; other arrays as they are.

    ``tensor`` is the one of uint8.
    """
    if not _is_uint8(tensor):
        return value
    other = np.int8 if value.dtype == np.uint8 else np.uint8
    return (value.view(np.uint8) ^ 0x80).view(other)


class Call:
    """A node, its operands by name, and the policy it runs under.

    Attributes
    ----------
    node : the graph's node; ``attributes`` are its own.
    inputs : a Tensor or None per operand, in order, with the shapes of this preparation.
    outputs : the output tensors; their shapes are the file's until they have been inferred.
    policy : the resolved ``qinterp.scheme.Policy``; None while shapes are inferred.
    params : the parameters of the chosen recipe.
    """

    def __init__(
        self,
        node: Node,
        operands: Sequence[str],
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        known: Mapping[str, Array],
        policy: Any = None,
        params: Any = None,
    ) -> None:
        self.node = node
        self.attributes = node.attributes
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.policy = policy
        self.params = params
        self._known = known
        self._position = {name: i for i, name in enumerate(operands)}

    # ---- operands -----------------------------------------------------------------------

    def get(self, operand: str) -> Tensor | None:
        """The tensor of an operand, None if it is absent."""
        position = self._position[operand]
        return self.inputs[position] if position < len(self.inputs) else None

    def has(self, operand: str) -> bool:
        """Whether the operator has such an operand, and the node gives it."""
        return operand in self._position and self.get(operand) is not None

    def __getitem__(self, operand: str) -> Tensor:
        tensor = self.get(operand)
        if tensor is None:
            self.malformed(f"operand {operand!r} is missing")
        return tensor

    def position(self, operand: str) -> int:
        """Where the operand stands among the inputs."""
        return self._position[operand]

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    def known(self, operand: str) -> Array | None:
        """The operand's value if it is a constant or already computed, else None."""
        tensor = self.get(operand)
        return None if tensor is None else self._known.get(tensor.name)

    def value(self, operand: str) -> Array:
        """The operand's value.

        Raises
        ------
        UnknownValue : it is computed while the graph runs.
        """
        self[operand]
        value = self.known(operand)
        if value is None:
            raise UnknownValue(operand)
        return value

    def integers(self, operand: str) -> list[int]:
        """The value of an index or shape operand as a flat list."""
        tensor = self[operand]
        if tensor.dtype not in ("int32", "int64", "int16", "uint32", "uint8", "int8"):
            self.malformed(f"operand {operand!r} must be integers, got {tensor.describe()}")
        return [int(v) for v in np.ravel(self.value(operand))]

    def quantization(self, tensor: Tensor) -> Quantization:
        """The tensor's quantization; ModelFormatError if it has none."""
        if tensor.quantization is None:
            self.malformed(f"tensor {tensor.describe()} must be quantized")
        return tensor.quantization

    def per_tensor(self, tensor: Tensor) -> tuple[float, int]:
        """The tensor's one scale and zero point; ModelFormatError if there are several."""
        q = self.quantization(tensor)
        if q.per_channel and q.scale.size != 1:
            self.malformed(f"tensor {tensor.describe()} must have one scale, has {q.scale.size}")
        return float(q.scale[0]), int(q.zero_point[0])

    def dequantized(self) -> Call:
        """The same call on real operands: every quantized tensor a float32 one."""

        def real(tensor: Tensor | None) -> Tensor | None:
            if tensor is None or tensor.quantization is None:
                return tensor
            return replace(tensor, dtype="float32", quantization=None, data=None)

        known = {
            t.name: t.dequantize(self._known[t.name]) if t.quantization else self._known[t.name]
            for t in self.inputs
            if t is not None and t.name in self._known
        }
        outputs = [o for t in self.outputs if (o := real(t)) is not None]
        inputs = [real(t) for t in self.inputs]
        return Call(self.node, list(self._position), inputs, outputs, known, self.policy)

    @property
    def is_unsigned(self) -> bool:
        """Whether a tensor has codes of uint8."""
        return any(map(_is_uint8, (*self.inputs, *self.outputs)))

    def as_signed(self) -> Call:
        """The same call with int8 for uint8: codes and zero points are 128 less."""

        def signed(tensor: Tensor) -> Tensor:
            if not _is_uint8(tensor) or tensor.quantization is None:
                return tensor
            q = tensor.quantization
            moved = replace(q, zero_point=q.zero_point - 128)
            return replace(tensor, dtype="int8", quantization=moved, data=None)

        inputs = [None if t is None else signed(t) for t in self.inputs]
        known = {
            t.name: flip_sign(t, self._known[t.name])
            for t in self.inputs
            if t is not None and t.name in self._known
        }
        outputs = [signed(t) for t in self.outputs]
        return Call(
            self.node, list(self._position), inputs, outputs, known, self.policy, self.params
        )

    # ---- checks ---------------------------------------------------------------------------

    def rank(self, operand: str, *ranks: int) -> Shape:
        """The operand's shape; ModelFormatError unless its rank is one of ``ranks``."""
        tensor = self[operand]
        if len(tensor.shape) not in ranks:
            wanted = " or ".join(map(str, ranks))
            self.malformed(f"operand {operand!r} must have rank {wanted}, got {tensor.describe()}")
        return tensor.shape

    def types(self, **allowed: Sequence[str]) -> None:
        """UnsupportedOperatorError unless each operand (or ``output``) has an allowed type."""
        for name, dtypes in allowed.items():
            tensor = self.output if name == "output" else self.get(name)
            if tensor is not None and tensor.dtype not in dtypes:
                self.unsupported(f"{name} must be {' or '.join(dtypes)}, got {tensor.describe()}")

    def check(self, condition: bool, message: str) -> None:
        """ModelFormatError with ``message`` unless ``condition``."""
        if not condition:
            self.malformed(message)

    def malformed(self, message: str) -> NoReturn:
        """Raise a ModelFormatError that names the node."""
        raise ModelFormatError(self.where(message))

    def unsupported(self, message: str) -> NoReturn:
        """Raise an UnsupportedOperatorError that names the node."""
        raise UnsupportedOperatorError(self.where(message))

    def bad_input(self, message: str) -> NoReturn:
        """Raise an InputError that names the node: its values, at run time, cannot be used."""
        raise InputError(self.where(message))

    def failed(self, error: Exception) -> QInterpError:
        """An error met while the node ran, as a QInterpError that names it."""
        return QInterpError(self.where(str(error) or type(error).__name__))

    def where(self, message: str) -> str:
        """``message`` with the node in front."""
        return f"node {self.node.name!r} ({self.node.kind}): {message}"

    # ---- facts ------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What a scheme's rules may ask about this node (``qinterp.scheme.FACTS``)."""
        first = self.subject
        quantized = [t for t in (*self.inputs, *self.outputs) if t and t.quantization]
        facts: dict[str, Any] = {
            "op": self.node.kind,
            "activation": first.dtype if first else "none",
            "weight": self._dtype(1, "filter", "weights"),
            "bias": self._dtype(2, "bias"),
            "output": self.output.dtype,
            "rank": len(first.shape) if first else 0,
            "batch": first.shape[0] if first and first.shape else 1,
            "per_channel": any(q.scale.size > 1 for q in map(self.quantization, quantized)),
            "power_of_two_scale": all(
                bool((np.frexp(t.quantization.scale)[0] == 0.5).all())
                for t in quantized
                if t.quantization
            ),
            "same_parameters": self._same_parameters(),
            "broadcast": self._broadcast(),
            "constant_weights": all(
                self.get(name) is None or self.known(name) is not None
                for name in ("filter", "weights", "bias")
                if name in self._position
            ),
        }
        facts |= self._ratios() | self._places()
        if self.output.quantization is not None:
            facts["output_zero_point"] = self.output.zero_point
        weights = self._weights()
        if weights is not None and weights.quantization is not None:
            facts["weight_dimension"] = weights.quantization.dimension
            facts["symmetric_weights"] = not weights.quantization.zero_point.any()
            bits = weights.int_type.bits * (weights.shape[-1] if weights.shape else 1)
            facts["whole_bytes"] = bits % 8 == 0
        facts |= {k: self.attributes[k] for k in ("groups", "keep_dims") if k in self.attributes}
        if isinstance(self.attributes.get("padding"), str):
            facts["padding"] = self.attributes["padding"]
        if "strides" in self.attributes and self.has("filter"):
            kernel = self["filter"].shape[1:3]
            pairs = zip(self.attributes["strides"], kernel, strict=False)
            facts["gaps"] = any(stride > extent for stride, extent in pairs)
        if "groups" in facts and self.has("filter") and first and first.shape:
            facts["groups"] = first.shape[-1] // max(self["filter"].shape[-1], 1)
        if "axes" in self._position and self.known("axes") is not None and first:
            rank = max(len(first.shape), 1)
            facts["axes"] = sorted({a % rank for a in self.integers("axes")})
        return facts

    @property
    def subject(self) -> Tensor | None:
        """The operand that rules call the activation: ``input``, else the first one."""
        named = self.get("input") if "input" in self._position else None
        return named or (self.inputs[0] if self.inputs else None)

    def _dtype(self, position: int, *names: str) -> str:
        """The type of the operand with one of ``names``, else of the one at ``position``."""
        found = [self._position[name] for name in names if name in self._position]
        position = found[0] if found else position
        tensor = self.inputs[position] if position < len(self.inputs) else None
        return tensor.dtype if tensor else "none"

    def _places(self) -> dict[str, Any]:
        """What constant operands say of the input's axes."""

        def of(name: str) -> Array | None:
            return self.known(name) if name in self._position else None

        facts: dict[str, Any] = {}
        paddings, permutation, begin = (of(n) for n in ("paddings", "permutation", "begin"))
        if paddings is not None:
            facts["padded"] = bool(paddings.any())
        if permutation is not None:
            facts["negative_axes"] = bool((permutation < 0).any())
        if begin is not None and self.subject is not None:
            masks = (self.attributes.get(n, 0) for n in ("ellipsis_mask", "new_axis_mask"))
            facts["index_per_axis"] = begin.size == len(self.subject.shape) and not any(masks)
        return facts

    def _ratios(self) -> dict[str, Any]:
        """Least and greatest of input scale / output scale, and of product / output scale."""
        output = self.output.quantization
        scales = [t.quantization.scale for t in self.inputs[:2] if t and t.quantization]
        if output is None or not scales:
            return {}
        with np.errstate(all="ignore"):
            found = {"scale_ratio": [s / output.scale[0] for s in scales]}
            if len(scales) == 2:
                found["product_ratio"] = [scales[0][0] * scales[1] / output.scale[0]]
            if "alpha" in self.attributes:
                alpha = np.float32(self.attributes["alpha"])
                found["slope_ratio"] = [scales[0] / output.scale[0] * alpha]
        return {
            name: {"least": float(np.min(r)), "most": float(np.max(r))}
            for name, ratios in found.items()
            for r in [np.concatenate(ratios)]
        }

    def _same_parameters(self) -> bool:
        tensors = [self.subject, self.output]
        pair = [t.quantization for t in tensors if t and t.quantization]
        return len(pair) == 2 and pair[0].same_as(pair[1])

    def _broadcast(self) -> str:
        shapes = [t.shape for t in self.inputs[:2] if t]
        return broadcast_form(*shapes)[0] if len(shapes) == 2 else "none"

    def _weights(self) -> Tensor | None:
        """The operand with the weights, else the second one."""
        for name in ("filter", "weights"):
            if name in self._position:
                return self.get(name)
        return self.inputs[1] if len(self.inputs) > 1 else None
