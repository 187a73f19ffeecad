"""What data movements share: axes, paddings or crops as pairs, equal parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array


def axis_of(call: Call, axis: int, rank: int) -> int:
    """``axis`` counted from the front; ModelFormatError unless it lies in -rank..rank - 1."""
    call.check(-rank <= axis < rank, f"axis {axis} is not one of {rank} dimensions")
    return axis % rank


def one_integer(call: Call, operand: str) -> int:
    """The value of an operand that holds one integer."""
    values = call.integers(operand)
    call.check(len(values) == 1, f"operand {call[operand].describe()} must be one integer")
    return values[0]


def one_per_dimension(call: Call, operand: str) -> list[int]:
    """The value of an operand that holds one integer for every dimension of the input."""
    values = call.integers(operand)
    rank = len(call["input"].shape)
    call.check(len(values) == rank, f"operand {call[operand].describe()} must have {rank} elements")
    return values


def pairs(call: Call, operand: str, count: int) -> list[tuple[int, int]]:
    """The value of an operand of shape (count, 2), nothing of it negative."""
    given = call[operand]
    call.check(
        given.shape == (count, 2),
        f"operand {operand!r} must have shape [{count}, 2], got {given.describe()}",
    )
    values = call.integers(operand)
    call.check(min(values, default=0) >= 0, f"operand {operand!r} has negative values: {values}")
    return list(zip(values[::2], values[1::2], strict=True))


def check_same_type(call: Call, tensors: Sequence[Tensor | None]) -> None:
    """UnsupportedOperatorError unless inputs and outputs have one type."""
    dtypes = {t.dtype for t in tensors if t is not None}
    if len(dtypes) > 1:
        listed = ", ".join(sorted(dtypes))
        call.unsupported(f"operands and outputs must have one type, got {listed}")


def check_same_parameters(call: Call, tensors: Sequence[Tensor | None]) -> None:
    """UnsupportedOperatorError unless types, scales and zero points are all the same."""
    check_same_type(call, tensors)
    first, *rest = (t for t in tensors if t is not None)
    for other in rest:
        a, b = first.quantization, other.quantization
        if a is not b and (a is None or b is None or not a.same_as(b)):
            call.unsupported(
                f"{first.describe()} ({a}) and {other.describe()} ({b}) must have the same "
                "scale and zero point"
            )


def check_indices(call: Call, operand: str, size: int) -> Callable[[Array], None]:
    """A check that indices lie in 0..size - 1; those of a constant are checked at once.

    It raises an InputError, for a constant a ModelFormatError.
    """

    def outside(indices: Array) -> str | None:
        low, high = indices.min(initial=0), indices.max(initial=-1)
        if low >= 0 and high < size:
            return None
        wrong = low if low < 0 else high
        return f"{call[operand].describe()} has index {wrong}, not in 0..{size - 1}"

    if call[operand].is_constant:
        wrong = outside(call.value(operand))
        call.check(wrong is None, wrong or "")
        return lambda indices: None

    def check(indices: Array) -> None:
        wrong = outside(indices)
        if wrong is not None:
            call.bad_input(wrong)

    return check


def block_shape(call: Call) -> list[int]:
    """The blocks of a batch and space operator, one for every spatial dimension."""
    blocks = call.integers("block_shape")
    call.check(min(blocks, default=1) > 0, f"blocks {blocks} must be positive")
    shape = call["input"].shape
    call.check(
        len(call["block_shape"].shape) == 1 and len(shape) > len(blocks),
        f"{call['input'].describe()} has no {len(blocks)} dimensions after the batch",
    )
    return blocks
