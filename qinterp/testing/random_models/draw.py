"""Parameter drawing shared by all families of random models.

Parameters are drawn where kernels go wrong: sizes of one and odd sizes, zero points at the ends,
power-of-two scales (exact ties), effective scales far below and above one, operands at their
corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qinterp.errors import QInterpError
from qinterp.testing.tflite_writer import ModelWriter

T = TypeVar("T")

FUSED_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
LIMITS = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
QUANTIZED = ("int8", "uint8", "int16")


@dataclass(frozen=True)
class Case:
    """A model with inputs for it.

    Parameters
    ----------
    model : bytes
        A .tflite file.
    inputs : dict of str to ndarray
        By input tensor name.
    kind, dtype : str
        What it was drawn for: an operator, and a label of its types.
    description : str
        The drawn parameters, for failure messages.
    """

    model: bytes
    inputs: dict[str, NDArray[Any]]
    kind: str
    dtype: str
    description: str


@dataclass(frozen=True)
class Quant:
    """Scale and zero point of a tensor."""

    scale: float
    zero_point: int

    def __str__(self) -> str:
        return f"({self.scale:.6g}, {self.zero_point})"


@dataclass
class Draw:
    """One case being drawn: the random generator, and the model so far."""

    kind: str
    dtype: str
    rng: np.random.Generator
    writer: ModelWriter = field(default_factory=ModelWriter)
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, **values: object) -> None:
        """Add drawn values to the description."""
        self.notes.extend(f"{name}={value}" for name, value in values.items())

    # --- plain draws -----------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of `options`; repeat an option to make it likelier."""
        return options[int(self.rng.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def log_uniform(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`, uniform in its logarithm."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def size(self, high: int = 9) -> int:
        """Return a dimension: often 1, odd, or just around a vector width."""
        return min(high, self.pick([1, 2, 3, 4, 5, 7, 8, 9, self.integer(1, high)]))

    def channels(self) -> int:
        """Return a channel count on either side of the vector widths 8 and 16, or any."""
        return self.pick([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, self.integer(1, 40)])

    def shape(self, low_rank: int = 1, high_rank: int = 4, elements: int = 3000) -> tuple[int, ...]:
        """Return a shape of at most `elements` elements; the last dimension is the largest."""
        rank = self.integer(low_rank, high_rank)
        if rank == 0:
            return ()
        shape = [*(self.size(7) for _ in range(rank - 1)), self.channels()]
        while int(np.prod(shape)) > elements:
            shape[int(np.argmax(shape[:-1]))] = 1
        return tuple(shape)

    # --- quantization ----------------------------------------------------------------------------

    def scale(self) -> float:
        """Return a scale: half of them powers of two, a few far from one."""
        style = self.rng.random()
        if style < 0.5:
            return 2.0 ** -self.integer(1, 10)
        if style < 0.9:
            return self.float32(self.log_uniform(1e-3, 1.0))
        return self.float32(self.log_uniform(1e-6, 1e3))

    def float32(self, value: float) -> float:
        """Return `value` rounded to what the file stores."""
        return float(np.float32(value))

    def zero_point(self, dtype: str) -> int:
        """Return a zero point: an end, the middle or anything; 0 for int16, which is symmetric."""
        if dtype not in ("int8", "uint8"):
            return 0
        low, high = LIMITS[dtype]
        return self.pick([low, high, (low + high + 1) // 2, self.integer(low, high)])

    def quant(self, dtype: str) -> Quant | None:
        """Return parameters for an activation, None for a type that is not quantized."""
        if dtype not in QUANTIZED:
            return None
        return Quant(self.scale(), self.zero_point(dtype))

    def near(self, quant: Quant | None, dtype: str) -> Quant | None:
        """Return parameters by which most values of `quant` stay in range, exact ties likely."""
        if quant is None:
            return None
        ratio = self.pick([1.0, 1.0, 2.0, 0.5, 4.0, 0.25, 3.0, self.log_uniform(0.1, 10.0)])
        low, high = LIMITS[dtype]
        kept = low <= quant.zero_point <= high and self.chance(0.6)
        zero_point = quant.zero_point if kept else self.zero_point(dtype)
        return Quant(self.float32(quant.scale * ratio), zero_point)

    def activation(self, quant: Quant | None, dtype: str) -> str:
        """Return a fused activation, seldom one that leaves `quant` few codes."""
        if quant is None:
            return self.pick(FUSED_ACTIVATIONS)
        low, high = LIMITS[dtype]
        bounds = {"NONE": (-np.inf, np.inf), "RELU": (0.0, np.inf)}
        bounds |= {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
        roomy = [
            name
            for name, (least, most) in bounds.items()
            if min(most / quant.scale, high - quant.zero_point)
            - max(least / quant.scale, low - quant.zero_point)
            >= 10
        ]
        return self.pick(FUSED_ACTIVATIONS if self.chance(0.15) else roomy)

    def output_scale(self, product_scale: float, spread: float) -> float:
        """Return the output scale of an accumulation.

        Parameters
        ----------
        product_scale : float
            The real value of one accumulator step.
        spread : float
            The typical size of the accumulator in steps.
        """
        fitting = float(
            2.0 ** np.round(np.log2(max(spread, 1.0) / 50.0))
        )  # to some 50 output steps
        style = self.rng.random()
        if style < 0.35:  # a power of two: every other accumulator is a tie, or a multiple of one
            steps = fitting
        elif style < 0.7:
            steps = fitting * self.log_uniform(0.4, 2.5)
        elif style < 0.8:  # saturates nearly everywhere
            steps = fitting / self.pick([8.0, 16.0, 50.0])
        elif style < 0.9:  # nearly everything rounds to the zero point or next to it
            steps = fitting * self.pick([16.0, 64.0, 1000.0])
        else:  # effective scale of one or above
            steps = self.pick([1.0, 0.5, 1 / 3, self.log_uniform(0.05, 1.0)])
        return self.float32(product_scale * steps)

    # --- values ----------------------------------------------------------------------------------

    def codes(self, shape: Sequence[int], dtype: str, zero_point: int = 0) -> NDArray[Any]:
        """Return stored values of `shape` and `dtype`, corners among them."""
        if dtype == "float32":
            return self.floats(shape)
        if dtype == "bool":
            return self.rng.random(tuple(shape)) < 0.5
        low, high = LIMITS[dtype]
        storage = "int8" if dtype == "int4" else dtype
        style = self.rng.random()
        corners = np.array([low, high, zero_point, low + 1, high - 1], dtype=storage)
        if style < 0.15:
            return self.rng.choice(corners, tuple(shape))
        if style < 0.2:
            return np.full(tuple(shape), self.pick(corners.tolist()), dtype=storage)
        values = self.rng.integers(low, high, tuple(shape), dtype=storage, endpoint=True)
        if style < 0.35:  # small: the low bits matter
            values = np.clip(zero_point + values.astype(np.int64) // 16, low, high).astype(storage)
        mask = self.rng.random(tuple(shape)) < 0.1
        result: NDArray[Any] = np.where(mask, self.rng.choice(corners, tuple(shape)), values)
        return result

    def floats(self, shape: Sequence[int], size: float = 4.0) -> NDArray[np.float32]:
        """Return float32 values of the order of `size`, with zeros, halves and equal values."""
        values = self.rng.normal(0.0, size, tuple(shape))
        corners = self.rng.choice(np.array([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 6.0]), tuple(shape))
        mask = self.rng.random(tuple(shape)) < 0.15
        result: NDArray[np.float32] = np.where(mask, corners, values).astype(np.float32)
        return result

    # --- the model -------------------------------------------------------------------------------

    def input(
        self,
        shape: Sequence[int],
        dtype: str,
        quant: Quant | None = None,
        *,
        name: str = "x",
        values: NDArray[Any] | None = None,
    ) -> str:
        """Add a model input with `values` for it, by default `codes`; return its name."""
        zero_point = quant.zero_point if quant else 0
        self.inputs[name] = self.codes(shape, dtype, zero_point) if values is None else values
        self.note(**{name: f"{dtype}{list(shape)}{quant or ''}"})
        scale = quant.scale if quant else None
        return self.writer.input(name, shape, dtype, scale=scale, zero_point=zero_point)

    def operand(
        self,
        shape: Sequence[int],
        dtype: str,
        quant: Quant | None = None,
        *,
        name: str,
        values: NDArray[Any] | None = None,
    ) -> str:
        """Add an input or, one time in three, a constant; return its name."""
        if not self.chance(0.33):
            return self.input(shape, dtype, quant, name=name, values=values)
        zero_point = quant.zero_point if quant else 0
        values = self.codes(shape, dtype, zero_point) if values is None else values
        self.note(**{name: f"constant {dtype}{list(shape)}{quant or ''}"})
        scale = quant.scale if quant else None
        return self.writer.constant(name, values, scale=scale, zero_point=zero_point)

    def integers(self, name: str, values: ArrayLike, dtype: str = "int32") -> str:
        """Add a constant of plain integers (axes, shapes, paddings); return its name."""
        array = np.asarray(values, dtype=dtype)
        self.note(**{name: array.tolist()})
        return self.writer.constant(name, array)

    def output(
        self, shape: Sequence[int], dtype: str, quant: Quant | None = None, *, name: str = "y"
    ) -> str:
        """Add the operator's output; return its name."""
        self.note(**{name: f"{dtype}{list(shape)}{quant or ''}"})
        scale = quant.scale if quant else None
        zero_point = quant.zero_point if quant else 0
        return self.writer.tensor(name, shape, dtype, scale=scale, zero_point=zero_point)

    def operator(
        self, inputs: Sequence[str | None], outputs: Sequence[str], **options: Any
    ) -> None:
        """Add the operator under test."""
        self.note(**options)
        self.writer.operator(self.kind, inputs, outputs, **options)

    def case(self, outputs: Sequence[str]) -> Case:
        """Finish the model."""
        description = f"{self.kind} {self.dtype}: {' '.join(self.notes)}"
        return Case(self.writer.finish(outputs), self.inputs, self.kind, self.dtype, description)


Generator = Callable[[Draw], Case]


@dataclass(frozen=True)
class Family:
    """What one kind is drawn by, and for which labels of its types."""

    generator: Generator
    dtypes: tuple[str, ...]
    beyond_reference: tuple[str, ...]


FAMILIES: dict[str, Family] = {}


def generates(
    *kinds: str, dtypes: Sequence[str], beyond_reference: Sequence[str] = ()
) -> Callable[[Generator], Generator]:
    """Register the decorated function for operator kinds.

    Parameters
    ----------
    dtypes : sequence of str
        The labels that LiteRT's reference kernels run.
    beyond_reference : sequence of str
        Those that only its other kernels, or another runtime, run.
    """

    def register(function: Generator) -> Generator:
        for kind in kinds:
            if kind in FAMILIES:
                raise QInterpError(f"two generators for {kind}")
            FAMILIES[kind] = Family(function, tuple(dtypes), tuple(beyond_reference))
        return function

    return register
