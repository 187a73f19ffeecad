"""A long short-term memory layer over a sequence (clause O-unidirectional_sequence_lstm).

Source: tflite/kernels/unidirectional_sequence_lstm.cc PopulateQuantizedLstmParams8x8_16;
tflite/kernels/lstm_eval.cc LstmStepInteger8x8_16; tflite/kernels/internal/reference/
portable_tensor_utils.cc.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.call import Shape
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import ROUNDING_CODE, Rounding
from qinterp.numerics.stages import NAMED_STAGES, Stage
from qinterp.ops._accumulate import check_overflow, weight_zero_points
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._fixed_point_16 import logistic_table, tanh_table
from qinterp.ops._operator import Notes, Operator, Run

GATE_UNIT = 2.0**-12  # of what a gate activates: Q3.12
GATES = ("input", "forget", "cell", "output")
_PEEPHOLES = ("cell_to_input", "cell_to_forget", "cell_to_output")
_NORMS = tuple(f"{gate}_layer_norm" for gate in GATES)

LSTM = Operator(
    "unidirectional_sequence_lstm",
    (
        "input",
        "input_to_input?", "input_to_forget", "input_to_cell", "input_to_output",
        "recurrent_to_input?", "recurrent_to_forget", "recurrent_to_cell", "recurrent_to_output",
        *(f"{name}?" for name in _PEEPHOLES),
        "input_bias?", "forget_bias", "cell_bias", "output_bias",
        "projection?", "projection_bias?",
        "output_state", "cell_state",
        *(f"{name}?" for name in _NORMS),
    ),
    {
        "activation": "tanh", "cell_clip": 0.0, "projection_clip": 0.0, "time_major": False,
        "intermediates": (),
    },
    state=("output_state", "cell_state"),
)  # fmt: skip


@dataclass(frozen=True)
class Integer8x8x16:
    """8-bit activations and weights, 16-bit gates (Q3.12 in, Q0.15 out) and cell.

    Attributes
    ----------
    gate : stages of each of the two products that a gate is the saturated sum of.
    product : rounding of the products of gates and cell, divided by a power of two.
    hidden : stages of output gate times tanh(cell).
    projection : stages of the projected hidden state.
    """

    gate: tuple[Stage, ...] = NAMED_STAGES["rescale"]
    product: Rounding = "ties_to_away"
    hidden: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]
    projection: tuple[Stage, ...] = NAMED_STAGES["gemmlowp"]


@LSTM.reads_tflite("UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions")
def from_tflite(options: Any) -> Mapping[str, Any]:
    """Attributes of a UNIDIRECTIONAL_SEQUENCE_LSTM."""
    return {
        "activation": options.enum("fused_activation_function"),
        "cell_clip": float(options.cell_clip),
        "projection_clip": float(options.proj_clip),
        "time_major": bool(options.time_major),
    }


@LSTM.infers
def shapes(call: Call) -> list[Shape]:
    """Input (batch, time, size), or (time, batch, size) if time major; output likewise."""
    *outer, size = call.rank("input", 3)
    cells, columns = call.rank("input_to_output", 2)
    _, units = call.rank("recurrent_to_output", 2)
    call.check(columns == size, f"input_to_output must have {size} columns, has {columns}")
    present = [g for g in GATES if g != "input" or call.get("input_to_input") is not None]
    for gate in present:
        for operand, width in ((f"input_to_{gate}", size), (f"recurrent_to_{gate}", units)):
            shape = call.rank(operand, 2)
            call.check(
                shape == (cells, width), f"{operand} must be {[cells, width]}, is {list(shape)}"
            )
        call.check(
            call[f"{gate}_bias"].shape == (cells,), f"{gate}_bias must have {cells} elements"
        )
    batch = outer[1] if call.attributes["time_major"] else outer[0]
    if call.get("projection") is not None:
        call.check(
            call["projection"].shape == (units, cells), f"projection must be {[units, cells]}"
        )
    else:
        call.check(units == cells, f"{units} units need a projection from {cells} cells")
    for operand, width in (("output_state", units), ("cell_state", cells)):
        call.check(call[operand].shape == (batch, width), f"{operand} must be {[batch, width]}")
    return [(*outer, units)]


@LSTM.recipe("integer_8x8_16", Integer8x8x16, family="tflite")
def integer_8x8_16(call: Call) -> Run:
    """Gates, cell and hidden state step by step; every product is rescaled on its own."""
    check_types(call, "int8")
    call.check(
        len(call.attributes["intermediates"]) == 5
        and call.attributes["intermediates"][4] is not None,
        "an integer LSTM needs five intermediates, the last with the hidden state's scale",
    )
    params: Integer8x8x16 = call.params
    coupled = call.get("input_to_input") is None
    sigmoid, tanh = logistic_table(3), tanh_table(3)

    def factor(weight_scale: float, scale: float) -> Rescale:
        return _float32_factor(call, weight_scale, scale, GATE_UNIT)

    gates = {
        gate: activated_gate(call, gate, tanh if gate == "cell" else sigmoid, factor)
        for gate in GATES
        if gate != "input" or not coupled
    }
    log2 = _cell_log2(call)
    tanh_of_cell = tanh_table(15 + log2)
    clip = _clip(call, "cell_clip", "cell_state", 32768.0, 32767.0)
    hide = _hidden(call, params)
    rounding = ROUNDING_CODE[params.product]

    def step(x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        forget, update = gates["forget"](x, h), gates["cell"](x, h)
        let_in = 32767 - forget if coupled else gates["input"](x, h)
        kept = _int16(_kernels.round_shift(forget * c, 15, rounding))
        added = _int16(_kernels.round_shift(let_in * update, 30 + log2, rounding))
        c = np.clip(kept + added, -32768, 32767)
        if clip > 0:
            c = np.clip(c, -clip, clip)
        return hide(gates["output"](x, h) * tanh_of_cell[c + 32768].astype(np.int64)), c

    def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        h = values[call.position("output_state")]
        c = values[call.position("cell_state")].astype(np.int64)
        out, h, c = over_time(call, step, values[0], h, c)
        return [out, h, c.astype(np.int16)]

    return run


Step = Callable[[Array, Array, Array], tuple[Array, Array]]


def over_time(call: Call, step: Step, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """All output states, the last of them and the last cell."""
    axis = 0 if call.attributes["time_major"] else 1
    shape = call.output.shape
    outputs = []
    for at in np.moveaxis(x, axis, 0):
        h, c = step(np.ascontiguousarray(at), h, c)
        outputs.append(h)
    out = np.stack(outputs, axis) if outputs else np.empty(shape, h.dtype)
    return np.ascontiguousarray(out).reshape(shape), h, c


def check_types(call: Call, kind: str) -> None:
    """Raise unless the operands are those of an LSTM whose activations are of type ``kind``."""
    weights, bias, cell = {
        "int8": ("int8", "int32", "int16"),
        "int16": ("int8", "int64", "int16"),
        "float32": ("float32", "float32", "float32"),
    }[kind]
    present = dict.fromkeys(_weights(call), (weights,)) | {f"{g}_bias": (bias,) for g in GATES}
    call.types(
        input=(kind,), **present, projection=(weights,), projection_bias=(bias,),
        output_state=(kind,), cell_state=(cell,), output=(kind,),
    )  # fmt: skip
    for name in (*_PEEPHOLES, *_NORMS):
        if call.get(name) is not None:
            call.unsupported(f"operand {name!r} (peephole or layer normalization)")


def _weights(call: Call) -> list[str]:
    return [
        f"{side}_to_{gate}"
        for side in ("input", "recurrent")
        for gate in GATES
        if call.get(f"{side}_to_{gate}") is not None
    ]


def _cell_log2(call: Call) -> int:
    """The cell's scale as a power of two."""
    scale = call.per_tensor(call["cell_state"])[0]
    exponent = round(math.log2(scale))
    call.check(
        abs(math.log2(scale) - exponent) < 1e-3, f"cell_state's scale {scale} is no power of two"
    )
    call.check(-15 <= exponent <= -9, f"cell_state's scale must be 2**-15 .. 2**-9, is {scale}")
    return exponent


def _clip(call: Call, attribute: str, operand: str, low: float, high: float) -> int:
    """A real bound in codes of an operand, truncated; 0 for none."""
    bound = np.float32(call.attributes[attribute])
    if bound <= 0:
        return 0
    codes = bound / np.float32(call.per_tensor(call[operand])[0])
    return int(min(max(float(codes), -low), high))


def _float32_factor(call: Call, *steps: float) -> Rescale:
    """``steps[0] * steps[1] / steps[2]``, every operation in float32."""
    a, b, c = (np.float32(s) for s in steps)
    return Rescale.of_factor(float(a * b / c), call.policy.multiplier)


Product = Callable[[Array], npt.NDArray[np.int64]]
GateFactor = Callable[[float, float], Rescale]
"""From the scales of a gate's weights and of their operand to the factor of their product."""
Gate = Callable[[Array, Array], npt.NDArray[np.int64]]


def _product(
    call: Call, operand: str, weights: str, bias: str | None, factor: GateFactor
) -> Product:
    """A gate's rescaled product of codes of ``operand``, not saturated."""
    scale, zero_point = call.per_tensor(call[operand])
    w = call.value(weights)
    added = None if bias is None else np.ascontiguousarray(call.value(bias), np.int64)
    w_zero_point = weight_zero_points(call, call[weights], len(w))
    stages = Requantizer(call.params.gate, factor(call.per_tensor(call[weights])[0], scale))
    accumulator = call.policy.accumulator.codes

    def product(x: Array) -> npt.NDArray[np.int64]:
        acc, overflowed = _kernels.matmul(x, w, added, zero_point, w_zero_point, accumulator)
        if overflowed:
            check_overflow(call)
        return apply_stages(stages, acc)

    return product


def activated_gate(
    call: Call, gate: str, function: npt.NDArray[np.int16], factor: GateFactor
) -> Gate:
    """A gate's activation in Q0.15; the sum saturates after each of its two terms."""
    from_input = _product(call, "input", f"input_to_{gate}", f"{gate}_bias", factor)
    from_state = _product(call, "output_state", f"recurrent_to_{gate}", None, factor)

    def activation(x: Array, h: Array) -> npt.NDArray[np.int64]:
        first = np.clip(from_input(x), -32768, 32767)
        total = np.clip(from_state(h) + first, -32768, 32767)
        activated: npt.NDArray[np.int64] = function[total + 32768].astype(np.int64)
        return activated

    return activation


def _hidden(call: Call, params: Integer8x8x16) -> Callable[[Array], Array]:
    """From output gate times tanh(cell) to the output state."""
    hidden_scale, hidden_zero_point = call.attributes["intermediates"][4]
    projected = call.get("projection") is not None
    factor = float(np.float32(2.0**-15 / hidden_scale * 2.0**-15))
    hide = Requantizer(
        params.hidden,
        Rescale.of_factor(factor, call.policy.multiplier),
        # the projection takes the hidden state with the opposite zero point
        zero_point=-hidden_zero_point if projected else hidden_zero_point,
        bounds=(-128, 127),
    )
    if not projected:
        return lambda product: apply_stages(hide, product, np.int8)
    w = call.value("projection")
    scale, zero_point = call.per_tensor(call["output_state"])
    project = Requantizer(
        params.projection,
        _float32_factor(call, call.per_tensor(call["projection"])[0], hidden_scale, scale),
        zero_point=zero_point,
        bounds=(-128, 127),
    )
    bias = call.known("projection_bias")
    added = None if bias is None else np.ascontiguousarray(bias, np.int64)
    clip = _clip(call, "projection_clip", "output_state", 128.0, 127.0)
    no_zero_point = np.zeros(len(w), np.int64)
    accumulator = call.policy.accumulator.codes

    def through_projection(product: Array) -> Array:
        hidden = apply_stages(hide, product, np.int8)
        acc, overflowed = _kernels.matmul(
            hidden, w, added, -hidden_zero_point, no_zero_point, accumulator
        )
        if overflowed:
            check_overflow(call)
        codes = apply_stages(project, acc, np.int8)
        return np.clip(codes, -clip, clip).astype(np.int8) if clip > 0 else codes

    return through_projection


def _int16(x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A cast to int16, which wraps."""
    return x.astype(np.int16).astype(np.int64)
