"""Tensors and their quantization parameters.

Clause T1 (docs/numerics.md): ``real = scale * (code - zero_point)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.integers import INT_TYPES, IntType

Array = npt.NDArray[Any]

# int4 is stored one code a byte once it is unpacked.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32",
        "float64", "bool",
    )
} | {"int4": np.dtype(np.int8)}  # fmt: skip

MAX_ELEMENTS = 1 << 31
MAX_COMPUTED = 1 << 28  # of one computed tensor: a few bytes must not ask for gigabytes


@dataclass(frozen=True, eq=False)
class Quantization:
    """How codes stand for real numbers, per tensor or per channel.

    Attributes
    ----------
    scale : float32 array, shape (1,) per tensor or (C,) per channel, finite and positive.
    zero_point : int64 array of the same shape.
    axis : the dimension that has C entries, None per tensor.
    dimension : what the file says of the axis even where there is one scale; some backends look.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None = None
    dimension: int = 0

    @property
    def per_channel(self) -> bool:
        """Whether there is one scale a channel."""
        return self.axis is not None

    def same_as(self, other: Quantization) -> bool:
        """Whether both give every code the same real value."""
        return (
            self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def __str__(self) -> str:
        if self.per_channel:
            low, high = float(self.scale.min()), float(self.scale.max())
            return f"scale {low:.6g}..{high:.6g} on axis {self.axis} ({self.scale.size} channels)"
        return f"scale {float(self.scale[0]):.9g} zero point {int(self.zero_point[0])}"


@dataclass(frozen=True, eq=False)
class Tensor:
    """What is known of a tensor before anything runs.

    Attributes
    ----------
    name : the file's own name, with ``#index`` appended where that is empty or repeated.
    shape : dimensions as the file gives them.
    dtype : storage type, one of ``NUMPY_TYPES`` ("int8", "int4", "float32", ...).
    quantization : None for a real-valued, index or boolean tensor.
    data : the value of a constant, as ``numpy_dtype``, else None.
    index : the file's own number for it.
    variable : state that lives from one call of its operator to the next (LSTM, SVDF).
    dynamic : dimensions that the file leaves open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: Array | None = None
    index: int = -1
    variable: bool = False
    dynamic: tuple[int, ...] = ()

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The type of the arrays that hold this tensor."""
        return NUMPY_TYPES[self.dtype]

    @property
    def is_constant(self) -> bool:
        """Whether the file holds the value."""
        return self.data is not None

    @property
    def is_float(self) -> bool:
        """Whether elements are real numbers themselves."""
        return self.dtype.startswith("float")

    @property
    def int_type(self) -> IntType:
        """Range of the storage type; KeyError for a type without codes."""
        return INT_TYPES[self.dtype]

    @property
    def scale(self) -> float:
        """The per-tensor scale (a float32 value, widened)."""
        return float(self._one().scale[0])

    @property
    def zero_point(self) -> int:
        """The per-tensor zero point."""
        return int(self._one().zero_point[0])

    def _one(self) -> Quantization:
        if self.quantization is None:
            raise ValueError(f"tensor {self.name!r} ({self.dtype}) is not quantized")
        return self.quantization

    def initial(self) -> Array:
        """What a variable holds when a run starts: codes that stand for zero (clause T4)."""
        zero_point = self.zero_point if self.quantization else 0
        return np.full(self.shape, zero_point, self.numpy_dtype)

    def dequantize(self, codes: Array) -> npt.NDArray[np.float32]:
        """``scale * (code - zero_point)`` in float32, for an array of this tensor's shape (T1)."""
        assert self.quantization is not None
        q = self.quantization
        along = [1] * codes.ndim
        if q.axis is not None:
            along[q.axis] = q.scale.size
        scale, zero_point = q.scale.reshape(along), q.zero_point.reshape(along)
        if not q.per_channel:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        return scale * (codes.astype(np.int64) - zero_point).astype(np.float32)

    def with_shape(self, shape: tuple[int, ...]) -> Tensor:
        """The same tensor with other dimensions."""
        return self if shape == self.shape else replace(self, shape=shape)

    def describe(self) -> str:
        """Name, type and shape in one phrase, for messages."""
        return f"{self.name!r} {self.dtype}{list(self.shape)}"
