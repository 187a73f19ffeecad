"""An LSTM layer in float32, one operation after the other (clause O-lstm.float32_steps).

Source: tensorflow/lite/micro/kernels/lstm_eval.cc, lstm_eval.h; tensorflow/lite/kernels/internal/
reference/fully_connected.h, logistic.h, tanh.h, mul.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.libm import Function
from qinterp.ops._operator import Notes, Run
from qinterp.ops._tables import Libm, functions
from qinterp.ops.logistic import in_pieces
from qinterp.ops.table_lstm import check_plain
from qinterp.ops.unidirectional_sequence_lstm import GATES, LSTM, check_types, over_time

_LARGEST = np.finfo(np.float32).max


@LSTM.recipe("float32_steps", Libm)
def float32_steps(call: Call) -> Run:
    """Products are finite; a cell gate that is not to be tanh has no function."""
    check_types(call, "float32")
    check_plain(call)
    library = functions(call.params)
    gates = {gate: _gate(call, gate, _function(call, gate, library)) for gate in GATES}
    clip = np.float32(call.attributes["cell_clip"])

    def step(x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        kept = _finite(gates["forget"](x, h) * c)
        c = kept + _finite(gates["input"](x, h) * gates["cell"](x, h))
        c = np.clip(c, -clip, clip) if clip > 0 else c
        return _finite(library["tanh"](c) * gates["output"](x, h)), c

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        h, c = (values[call.position(name)] for name in ("output_state", "cell_state"))
        with np.errstate(all="ignore"):
            return list(over_time(call, step, values[0], h, c))

    return run


def _function(call: Call, gate: str, library: Mapping[str, Function]) -> Callable[[Array], Array]:
    if gate != "cell":
        return lambda x: in_pieces(x, library)
    return library["tanh"] if call.attributes["activation"] == "tanh" else lambda x: x


def _gate(
    call: Call, gate: str, function: Callable[[Array], Array]
) -> Callable[[Array, Array], Array]:
    from_input = call.value(f"input_to_{gate}")
    from_state = call.value(f"recurrent_to_{gate}")
    bias = call.value(f"{gate}_bias")

    def activation(x: Array, h: Array) -> Array:
        first = _finite(_kernels.matmul_float32(x, from_input, bias))
        return function(first + _finite(_kernels.matmul_float32(h, from_state, None)))

    return activation


def _finite(x: Array) -> Array:
    """Infinities become the last finite number; NaN stays."""
    result: Array = np.where(x < -_LARGEST, -_LARGEST, np.where(x > _LARGEST, _LARGEST, x))
    return result
