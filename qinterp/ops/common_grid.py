"""Operands brought to one grid, combined there, and brought to the output (clause O-common_grid).

One recipe for the elementwise operators, for joining, and for what only changes grids.

Sources: glow lib/LLVMIRCodeGen/libjit/libjit.cpp (add, sub, max, min, cmp, select, rescale) and
LLVMIRGen.cpp (their scales); glow lib/Backends/Interpreter/InterpreterNodes.cpp fwdElement*Inst,
fwdRescaleQuantizedInst; glow lib/Importer/TFLiteModelLoader.cpp loadConcat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.errors import SchemeError
from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import OVERFLOW_CODE
from qinterp.numerics.stages import DivideScale, Stage, uses
from qinterp.ops import (
    abs as absolute,
)
from qinterp.ops import (
    add,
    concatenation,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    neg,
    not_equal,
    quantize,
    relu,
    rsqrt,
    select,
    sub,
)
from qinterp.ops._accumulate import activation_bounds
from qinterp.ops._binary import codes_by_pattern, combined, pairwise
from qinterp.ops._operator import Notes, Operator, Run
from qinterp.ops._tables import tabled

CODES = ("int8", "uint8")
_WRAP = OVERFLOW_CODE["wrap"]

Combine = Callable[..., Any]
_COMBINATIONS: dict[Combine, int] = {
    np.add: _kernels.Combination.COMBINE_ADD,
    np.subtract: _kernels.Combination.COMBINE_SUBTRACT,
    np.maximum: _kernels.Combination.COMBINE_MAX,
    np.minimum: _kernels.Combination.COMBINE_MIN,
}


@dataclass(frozen=True)
class CommonGrid:
    """Codes less their zero points go to the grid, and from there to the output.

    Factors are quotients of float32 values, rounded to float32. A list that has "divide_scale"
    divides by the inverse quotient.

    Attributes
    ----------
    grid : the scale of the grid: a number, or that of the output, of the first or the second
        operand.
    input_stages : by operand scale / grid.
    output_stages : by grid / output scale; none for comparisons.
    """

    grid: float | Literal["output", "first", "second"]
    input_stages: tuple[Stage, ...]
    output_stages: tuple[Stage, ...] = ()

    def scale(self, call: Call) -> float:
        """The scale of the grid."""
        if not isinstance(self.grid, str):
            return self.grid
        position = {"first": 0, "second": 1}.get(self.grid)
        operands = [tensor for tensor in call.inputs if tensor is not None]
        if position is not None and position >= len(operands):
            raise SchemeError(call.where(f"recipe.grid is {self.grid!r}, of one operand"))
        tensor = call.output if position is None else operands[position]
        return call.per_tensor(tensor)[0]


def _factor(numerator: float, denominator: float, stages: Sequence[Stage]) -> float:
    if uses(stages, DivideScale):
        numerator, denominator = denominator, numerator
    return float(np.float32(numerator) / np.float32(denominator))


def to_grid(call: Call, tensor: Tensor) -> Callable[[Array], Array]:
    """From codes to int64 or float32 on the grid."""
    params: CommonGrid = call.params
    if tensor.dtype not in CODES:
        call.unsupported(f"{tensor.describe()} is not of 8 bits")
    scale, zero_point = call.per_tensor(tensor)
    factor = _factor(scale, params.scale(call), params.input_stages)
    stages = Requantizer(params.input_stages, Rescale.of_factor(factor, call.policy.multiplier))
    gives = next((s.gives for s in reversed(params.input_stages) if s.gives), "integer")
    dtype = np.dtype(np.float32 if gives == "float" else np.int64)

    def convert(codes: Array) -> Array:
        x = codes.astype(np.int64) - zero_point
        return stages(x, np.empty(x.shape, dtype))

    return convert


def _output_stages(call: Call, *, bounded: bool = True) -> Requantizer:
    """From the grid to codes of the output, clamped by its activation only if ``bounded``."""
    params: CommonGrid = call.params
    scale, zero_point = call.per_tensor(call.output)
    factor = _factor(params.scale(call), scale, params.output_stages)
    kind = call.output.int_type
    return Requantizer(
        params.output_stages,
        Rescale.of_factor(factor, call.policy.multiplier),
        zero_point=zero_point,
        bounds=activation_bounds(call) if bounded else (kind.min, kind.max),
    )


def from_grid(call: Call, *, bounded: bool = True) -> Callable[[Array], Array]:
    """The same into a new array."""
    stages = _output_stages(call, bounded=bounded)
    dtype = call.output.numpy_dtype

    def convert(x: Array) -> Array:
        return stages(np.ascontiguousarray(x), np.empty(x.shape, dtype))

    return convert


def _combined(call: Call, combine: Combine) -> Run:
    """``combine`` of all operands on the grid; integers there have 32 bits."""
    ready = [to_grid(call, tensor) for tensor in call.inputs if tensor]
    finish = from_grid(call)

    def evaluate(*values: Any) -> Array:
        *operands, notes = values
        total = combine(*(f(x) for f, x in zip(ready, operands, strict=True)))
        if total.dtype == np.int64:
            total = _kernels.fit(np.ascontiguousarray(total), 32, _WRAP)
        notes.add("accumulator", total)
        return finish(total)

    if len(ready) == 1:
        return tabled(call, lambda values, notes: [evaluate(values[0], notes)])
    return pairwise(call, evaluate, _by_tables(call, combine, ready))


def _by_tables(call: Call, combine: Combine, ready: Sequence[Callable[[Array], Array]]) -> Any:
    """The same for integers of 32 bits on the grid."""
    types = [call[name].numpy_dtype for name in ("input1", "input2")]
    try:
        tables = [f(codes_by_pattern(t)) for f, t in zip(ready, types, strict=True)]
    except ArithmeticError:  # of codes that perhaps do not occur
        return None
    if combine not in _COMBINATIONS or any(table.dtype != np.int64 for table in tables):
        return None
    operands = list(zip(types, tables, strict=True))
    return combined(call, _COMBINATIONS[combine], operands, _output_stages(call))


def _compared(call: Call, compare: Combine) -> Run:
    """``compare`` of both operands on the grid."""
    first, second = (to_grid(call, call[name]) for name in ("input1", "input2"))

    def evaluate(x1: Array, x2: Array, notes: Notes) -> Array:
        return np.asarray(compare(first(x1), second(x2)))

    return pairwise(call, evaluate)


def _inverse_root(x: Array) -> Array:
    with np.errstate(all="ignore"):
        result: Array = 1 / np.sqrt(x)
    return result


def _recipe(operator: Operator, combine: Combine, shape: Callable[[Call, Combine], Run]) -> None:
    operator.recipe("common_grid", CommonGrid)(lambda call: shape(call, combine))


_function: Callable[..., Any]
for _operator, _function in (
    (add.ADD, np.add),
    (sub.SUB, np.subtract),
    (maximum.MAXIMUM, np.maximum),
    (minimum.MINIMUM, np.minimum),
    (quantize.QUANTIZE, np.asarray),
    (relu.RELU, np.asarray),
    (absolute.ABS, np.abs),
    (neg.NEG, np.negative),
    (rsqrt.RSQRT, _inverse_root),
):
    _recipe(_operator, _function, _combined)

for _operator, _function in (
    (equal.EQUAL, np.equal),
    (not_equal.NOT_EQUAL, np.not_equal),
    (less.LESS, np.less),
    (less_equal.LESS_EQUAL, np.less_equal),
    (greater.GREATER, np.greater),
    (greater_equal.GREATER_EQUAL, np.greater_equal),
):
    _recipe(_operator, _function, _compared)


@concatenation.CONCATENATION.recipe("common_grid", CommonGrid)
def joined(call: Call) -> Run:
    """Each operand brought to the output, then all joined."""
    axis = call.attributes["axis"]
    tensors = [tensor for tensor in call.inputs if tensor]
    ready = [to_grid(call, tensor) for tensor in tensors]
    finish = from_grid(call)
    try:
        codes = [codes_by_pattern(tensor.numpy_dtype) for tensor in tensors]
        tables = [finish(f(x)) for f, x in zip(ready, codes, strict=True)]
    except ArithmeticError:  # of codes that perhaps do not occur
        tables = []
    alone = not call.inputs[0].shape if call.inputs[0] else False

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        if tables:
            parts = [_kernels.look_up(t, x) for t, x in zip(tables, values, strict=True)]
        else:
            parts = [finish(f(x)) for f, x in zip(ready, values, strict=True)]
        return [np.stack(parts) if alone else np.concatenate(parts, axis)]

    return run


@select.SELECT.recipe("common_grid", CommonGrid)
def selected(call: Call) -> Run:
    """The chosen operand brought to the output."""
    call.types(condition=("bool",))
    x, y = (to_grid(call, call[name]) for name in ("x", "y"))
    finish = from_grid(call)
    condition, shape = call["condition"].shape, call.output.shape
    along = condition + (1,) * (len(shape) - len(condition)) if condition != shape else shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        chosen = np.where(values[0].reshape(along), x(values[1]), y(values[2]))
        return [finish(chosen)]

    return run
