"""The dimensions of a tensor (clause O-shape).

Source: tflite/kernels/shape.cc ExtractShape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.ops._operator import ANY_FAMILY, Notes, Operator, Run

SHAPE = Operator("shape", ("input",), reads_shapes_only=True)


@SHAPE.reads_tflite("SHAPE", "ShapeOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """The output's type says it all."""
    return {}


@SHAPE.infers
def shapes(call: Call) -> list[Shape]:
    """One element for every dimension."""
    return [(len(call["input"].shape),)]


@SHAPE.recipe("dimensions", family=ANY_FAMILY)
def dimensions(call: Call) -> Run:
    """The sizes, known before anything runs."""
    call.types(output=("int32", "int64"))
    shape, dtype = call["input"].shape, call.output.numpy_dtype

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        return [np.array(shape, dtype)]

    return run
