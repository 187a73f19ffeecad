"""An LSTM layer of table functions (clause O-lstm.table_functions).

Source: tensorflow/lite/micro/kernels/lstm_eval.cc, lstm_eval.h, lstm_eval_common.cc; CMSIS-NN
Source/LSTMFunctions/arm_lstm_unidirectional_s8.c, Source/NNSupportFunctions/arm_nn_lstm_step_s8.c,
Source/ActivationFunctions/arm_nn_activation_s16.c; tensorflow/lite/micro/kernels/cmsis_nn/
unidirectional_sequence_lstm.cc.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import NAMED_STAGES, AddZeroPoint, Clamp, Stage
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._sigmoid import logistic_of, tanh_of
from qinterp.ops._tables import codes_of
from qinterp.ops.unidirectional_sequence_lstm import (
    GATE_UNIT,
    GATES,
    LSTM,
    GateFactor,
    activated_gate,
    check_types,
    over_time,
)

_RESCALE = NAMED_STAGES["rescale"]


@dataclass(frozen=True)
class TableLstm:
    """8 or 16-bit activations, 8-bit weights, 16-bit gates (Q3.12 in, Q0.15 out) and cell.

    Attributes
    ----------
    gate : stages of each of the two products that a gate is the saturated sum of; only the first
        of them saturates by itself.
    gate_reduce_to : bits of the mantissa of their factors, see ``Multiplier.reduce_to``.
    product : stages of forget gate times cell, and of output gate times tanh(cell).
    added : stages of input gate times cell gate.
    otherwise : the activation of a cell gate that is not to be tanh.
    least_clip : a bound of the cell that comes to fewer codes is none.
    states : a run starts from the states and leaves new ones, or starts from zeros and leaves the
        states as they are.
    """

    gate: tuple[Stage, ...] = _RESCALE
    gate_reduce_to: int | None = None
    product: tuple[Stage, ...] = _RESCALE
    added: tuple[Stage, ...] = _RESCALE
    otherwise: Literal["logistic", "identity"] = "logistic"
    least_clip: int = 1
    states: Literal["kept", "zeros"] = "zeros"


@LSTM.recipe("table_functions", TableLstm)
def table_functions(call: Call) -> Run:
    """Every activation is interpolated in one table, every product is rescaled on its own."""
    call.types(input=("int8", "int16"))
    check_types(call, call["input"].dtype)
    check_plain(call)
    params: TableLstm = call.params
    unit = call.per_tensor(call["cell_state"])[0]
    log2 = _cell_log2(call, unit)
    tanh, sigmoid = _table(tanh_of, 0), _table(logistic_of, 0)
    functions = dict.fromkeys(GATES, sigmoid)
    if call.attributes["activation"] == "tanh":
        functions["cell"] = tanh
    elif params.otherwise == "identity":
        functions["cell"] = np.arange(-32768, 32768).astype(np.int16)
    gates = {
        gate: activated_gate(call, gate, function, _gate_factor(call))
        for gate, function in functions.items()
    }
    tanh_of_cell = _table(tanh_of, log2 + 12)
    low, high = _cell_bounds(call)
    state = call["output_state"]
    scale, zero_point = call.per_tensor(state)
    kind = state.int_type
    keep = _product(call, params.product, 2.0**-15, (-32768, 32767))
    add = _product(call, params.added, 2.0**-30 / unit)
    hide = _product(call, params.product, 2.0**-30 / scale, (kind.min, kind.max), zero_point)
    dtype = state.numpy_dtype

    def step(x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        kept = keep(gates["forget"](x, h) * c)
        c = np.clip(add(gates["input"](x, h) * gates["cell"](x, h)) + kept, low, high)
        hidden = hide(gates["output"](x, h) * tanh_of_cell[c + 32768].astype(np.int64))
        return hidden.astype(dtype), c

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        old = [values[call.position(name)] for name in ("output_state", "cell_state")]
        h, c = old[0], old[1].astype(np.int64)
        if params.states == "zeros":
            h, c = np.full_like(h, zero_point), np.zeros_like(c)
        out, h, c = over_time(call, step, values[0], h, c)
        return [out, *(old if params.states == "zeros" else (h, c.astype(np.int16)))]

    return run


def check_plain(call: Call) -> None:
    """UnsupportedOperatorError unless all gates are there, and no projection."""
    if call.get("input_to_input") is None or call.get("projection") is not None:
        call.unsupported("a coupled input gate or a projection")


def _gate_factor(call: Call) -> GateFactor:
    policy = call.policy
    multiplier = replace(policy.multiplier, reduce_to=call.params.gate_reduce_to)

    def factor(weight_scale: float, scale: float) -> Rescale:
        return Rescale.of_scales(scale, weight_scale, GATE_UNIT, policy.effective_scale, multiplier)

    return factor


def _table(function: Callable[[Array], Array], log2: int) -> npt.NDArray[np.int16]:
    """A function of every code + 32768, of a scale of ``2**(log2 - 12)``."""
    left, right = max(log2, 0), max(-log2, 0)
    half = 1 << (right - 1) if right else 0
    codes = np.sort(codes_of("int16"))
    return function((codes * (3 << left) + half) >> right).astype(np.int16)


def _cell_log2(call: Call, unit: float) -> int:
    """The power of two nearest to the cell's scale."""
    exponent = round(math.log2(unit))
    call.check(-24 <= exponent <= 0, f"cell_state's scale must be 2**-24 .. 1, is {unit}")
    return exponent


def _cell_bounds(call: Call) -> tuple[int, int]:
    bound = call.attributes["cell_clip"]
    clip = int(min(bound / call.per_tensor(call["cell_state"])[0], 32767.0))
    return (-clip, clip) if bound > 0 and clip >= call.params.least_clip else (-32768, 32767)


def _product(
    call: Call,
    stages: tuple[Stage, ...],
    factor: float,
    bounds: tuple[int, int] | None = None,
    zero_point: int = 0,
) -> Callable[[Array], Array]:
    """A rescaled product; with bounds, clamped to them after the zero point."""
    rescale = Rescale.of_factor(factor, call.policy.multiplier)
    if bounds is None:
        requantizer = Requantizer(stages, rescale)
    else:
        stages = (*stages, AddZeroPoint(), Clamp())
        requantizer = Requantizer(stages, rescale, zero_point=zero_point, bounds=bounds)
    return lambda x: apply_stages(requantizer, x)
