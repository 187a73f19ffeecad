"""Any operator as fake quantization simulates it: dequantize, compute in float32, quantize.

Source of the arithmetic: PyTorch aten/src/ATen/native/quantized/FakeQuantPerTensorAffine.cpp (the
idea); every rounding is a parameter here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.ir import Call, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import AddZeroPoint, Clamp, DivideScale, Round, Stage
from qinterp.ops._operator import Notes, Prepare, Run

_NO_MULTIPLIER = Multiplier("none")


@dataclass(frozen=True)
class Dequantized:
    """Operands as ``scale * (code - zero_point)`` in float32, the operator's own float arithmetic.

    Attributes
    ----------
    quantize : from a float result to a code of the output.
    """

    quantize: tuple[Stage, ...] = (
        DivideScale("float32"),
        Round("ties_to_even", 32, "saturate"),
        AddZeroPoint(32, "saturate"),
        Clamp(),
    )


def dequantized(prepare: Prepare, state: Sequence[str] = ()) -> Prepare:
    """The recipe that wraps the float recipe ``prepare`` of an operator that rewrites ``state``."""

    def prepare_wrapped(call: Call) -> Run:
        real = call.dequantized()
        readers = [None if t is None else _reader(t) for t in call.inputs]
        writers = [_writer(call, t) for t in (*call.outputs, *(call[name] for name in state))]
        run_float = prepare(real)

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            reals = [
                v if read is None else read(v) for read, v in zip(readers, values, strict=False)
            ]
            outputs = run_float(reals, notes)
            return [write(v) for write, v in zip(writers, outputs, strict=True)]

        return run

    return prepare_wrapped


def _reader(tensor: Tensor) -> Callable[[Array], Array] | None:
    if tensor.quantization is None:
        return None
    return lambda codes: tensor.dequantize(codes)


def _writer(call: Call, tensor: Tensor) -> Callable[[Array], Array]:
    if tensor.quantization is None:
        return lambda value: value
    scale, zero_point = call.per_tensor(tensor)
    kind = tensor.int_type
    stages = Requantizer(
        call.params.quantize,
        Rescale.of_factor(scale, _NO_MULTIPLIER),
        zero_point=zero_point,
        bounds=(kind.min, kind.max),
    )
    return lambda value: stages(
        np.asarray(value, order="C"), np.empty(value.shape, tensor.numpy_dtype)
    )
