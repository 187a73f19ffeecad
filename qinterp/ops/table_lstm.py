"""An LSTM layer of table functions that starts from zeros (clause O-lstm.table_functions).

Source: CMSIS-NN Source/LSTMFunctions/arm_lstm_unidirectional_s8.c, Source/NNSupportFunctions/
arm_nn_lstm_step_s8.c, Source/ActivationFunctions/arm_nn_activation_s16.c; tensorflow/lite/micro/
kernels/cmsis_nn/unidirectional_sequence_lstm.cc, lstm_eval_common.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.stages import AddZeroPoint, Clamp, MultiplyHigh, ShiftLeft, ShiftRight, Stage
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Notes, Run
from qinterp.ops._sigmoid import logistic_of, tanh_of
from qinterp.ops._tables import codes_of
from qinterp.ops.unidirectional_sequence_lstm import (
    GATES,
    LSTM,
    activated_gate,
    cell_log2,
    check_types,
    over_time,
)

_RESCALE = (ShiftLeft(), MultiplyHigh("ties_toward_positive"), ShiftRight("ties_to_away"))


@dataclass(frozen=True)
class TableLstm:
    """8-bit activations and weights, 16-bit gates (Q3.12 in, Q0.15 out) and cell.

    Attributes
    ----------
    gate : stages of each of the two products that a gate is the saturated sum of.
    product : stages of every product of gates and cell.
    """

    gate: tuple[Stage, ...] = _RESCALE
    product: tuple[Stage, ...] = _RESCALE


@LSTM.recipe("table_functions", TableLstm)
def table_functions(call: Call) -> Run:
    """Neither reads nor writes the states; every activation is interpolated in one table."""
    check_types(call)
    if call.get("input_to_input") is None or call.get("projection") is not None:
        call.unsupported("a coupled input gate or a projection")
    log2 = cell_log2(call)
    tables = {"tanh": _table(tanh_of, 0), "sigmoid": _table(logistic_of, 0)}
    of_cell = tables["tanh" if call.attributes["activation"] == "tanh" else "sigmoid"]
    gates = {
        gate: activated_gate(call, gate, of_cell if gate == "cell" else tables["sigmoid"])
        for gate in GATES
    }
    tanh_of_cell = _table(tanh_of, log2 + 12)
    low, high = _cell_bounds(call)
    keep = _product(call, 2.0**-15, (-32768, 32767))
    add = _product(call, 2.0**-30 / call.per_tensor(call["cell_state"])[0])
    unit, zero_point = call.per_tensor(call["output_state"])
    hide = _product(call, 2.0**-30 / unit, (-128, 127), zero_point)

    def step(x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        kept = keep(gates["forget"](x, h) * c)
        c = np.clip(add(gates["input"](x, h) * gates["cell"](x, h)) + kept, low, high)
        hidden = hide(gates["output"](x, h) * tanh_of_cell[c + 32768].astype(np.int64))
        return hidden.astype(np.int8), c

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        states = [values[call.position(name)] for name in ("output_state", "cell_state")]
        h, c = np.full_like(states[0], zero_point), np.zeros(states[1].shape, np.int64)
        return [over_time(call, step, values[0], h, c)[0], *states]

    return run


def _table(function: Callable[[Array], Array], log2: int) -> npt.NDArray[np.int16]:
    """A function of every code + 32768, of a scale of ``2**(log2 - 12)``."""
    left, right = max(log2, 0), max(-log2, 0)
    half = 1 << (right - 1) if right else 0
    codes = np.sort(codes_of("int16"))
    return function((codes * (3 << left) + half) >> right).astype(np.int16)


def _cell_bounds(call: Call) -> tuple[int, int]:
    codes = call.attributes["cell_clip"] / call.per_tensor(call["cell_state"])[0]
    clip = int(min(max(codes, -32768.0), 32767.0))
    return (-clip, clip) if clip > 0 else (-32768, 32767)


def _product(
    call: Call, factor: float, bounds: tuple[int, int] | None = None, zero_point: int = 0
) -> Callable[[Array], Array]:
    """A rescaled product; with bounds, clamped to them after the zero point."""
    stages = call.params.product
    rescale = Rescale.of_factor(factor, call.policy.multiplier)
    if bounds is None:
        requantizer = Requantizer(stages, rescale)
    else:
        stages = (*stages, AddZeroPoint(), Clamp())
        requantizer = Requantizer(stages, rescale, zero_point=zero_point, bounds=bounds)
    return lambda x: apply_stages(requantizer, x)
