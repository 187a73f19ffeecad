"""Tensors one after the other along an axis (clause O-concatenation).

Source: tflite/kernels/concatenation.cc Prepare;
tflite/kernels/internal/reference/concatenation.h Concatenation, ConcatenationWithScaling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call, Tensor
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import AddZeroPoint, Clamp, Round, Stage
from qinterp.ops._copies import copies
from qinterp.ops._elementwise import Real, apply_stages, real_rescale
from qinterp.ops._movement import axis_of, check_same_parameters, check_same_type
from qinterp.ops._operator import KernelRun, Notes, Operator, Run

CONCATENATION = Operator("concatenation", ("values*",), {"axis": 0, "activation": "none"})

Convert = Callable[[Array], Array]


@dataclass(frozen=True)
class FloatRescale:
    """Codes of uint8 operands go through float32 where their parameters are not the output's.

    They become ``code * ratio - zero_point * ratio`` with ``ratio = scale * (1 / output scale)``,
    every operation rounded to float32. Codes of int8 must have the output's parameters; those of
    other types are copied whatever theirs are.

    Attributes
    ----------
    stages : from that float to a code.
    """

    stages: tuple[Stage, ...] = (Round("ties_to_away"), AddZeroPoint(), Clamp())


@CONCATENATION.reads_tflite("CONCATENATION", "ConcatenationOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a CONCATENATION."""
    return {"axis": options.axis, "activation": options.enum("fused_activation_function")}


@CONCATENATION.infers
def shapes(call: Call) -> list[Shape]:
    """All dimensions but the axis are the same; scalars become a vector."""
    call.check(bool(call.inputs), "takes at least one operand")
    tensors = [t for t in call.inputs if t]
    if call.attributes["activation"] != "none":
        call.unsupported(f"fused activation {call.attributes['activation']!r} is not supported")
    first = tensors[0].shape or (1,)
    axis = axis_of(call, call.attributes["axis"], len(first))
    total = 0
    for tensor in tensors:
        shape = tensor.shape or (1,)
        call.check(
            len(tensor.shape) == len(tensors[0].shape)
            and (*shape[:axis], *shape[axis + 1 :]) == (*first[:axis], *first[axis + 1 :]),
            f"{tensors[0].describe()} and {tensor.describe()} differ beside axis {axis}",
        )
        total += shape[axis]
    return [(*first[:axis], total, *first[axis + 1 :])]


@CONCATENATION.recipe("float_rescale", FloatRescale, family="tflite")
def float_rescale(call: Call) -> Run:
    """Copied, or uint8 codes rescaled in float32."""

    def convert(tensor: Tensor) -> Convert | None:
        if tensor.dtype == "int8":
            check_same_parameters(call, [tensor, call.output])
        if tensor.dtype != "uint8" or _same(tensor, call.output):
            return None
        return _through_float32(call, tensor)

    return _joined(call, convert)


@CONCATENATION.recipe("real", Real, family="real")
def real(call: Call) -> Run:
    """Copied, or the real values rounded once."""

    def convert(tensor: Tensor) -> Convert | None:
        return None if _same(tensor, call.output) else real_rescale(call, tensor)

    return _joined(call, convert)


@CONCATENATION.recipe("float32", floats=True)
def float32(call: Call) -> Run:
    """Copied."""
    return _joined(call, lambda tensor: None)


def _joined(call: Call, convert: Callable[[Tensor], Convert | None]) -> Run:
    """Operands put one after the other, each converted first where ``convert`` gives how."""
    tensors = [t for t in call.inputs if t]
    check_same_type(call, [*tensors, call.output])
    axis = call.attributes["axis"]
    converts = [convert(t) for t in tensors]
    scalars = not tensors[0].shape

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        parts = [f(x) if f else x for f, x in zip(converts, values, strict=True)]
        return [np.stack(parts) if scalars else np.concatenate(parts, axis)]

    whole = not scalars and not any(converts)
    task = copies(call, lambda grids, fill: [np.concatenate(grids, axis)]) if whole else None
    return KernelRun(run, task)


def _same(tensor: Tensor, output: Tensor) -> bool:
    a, b = tensor.quantization, output.quantization
    return a is b or (a is not None and b is not None and a.same_as(b))


def _through_float32(call: Call, tensor: Tensor) -> Convert:
    """A table of all codes."""
    params: FloatRescale = call.params
    scale, zero_point = call.per_tensor(tensor)
    out_scale, out_zero_point = call.per_tensor(call.output)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        ratio = np.float32(scale) * (np.float32(1) / np.float32(out_scale))
        steps = np.arange(256, dtype=np.float32) * ratio + np.float32(-zero_point) * ratio
    stages = Requantizer(
        params.stages,
        Rescale.of_factor(1.0, call.policy.multiplier),
        zero_point=out_zero_point,
        bounds=(0, 255),
    )
    table = apply_stages(stages, steps, np.uint8)
    return lambda x: _kernels.look_up(table, x)
