"""Operators with state: SVDF and LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from qinterp.testing.random_models.draw import Case, Draw, Quant, generates


def _constant(draw: Draw, name: str, shape: tuple[int, ...], dtype: str, scale: float) -> str:
    if draw.dtype == "float32":
        return draw.writer.constant(name, draw.floats(shape, 0.5))
    return draw.writer.constant(name, draw.codes(shape, dtype), scale=scale)


def _bias(draw: Draw, name: str, size: int, scale: float, spread: float) -> str:
    if draw.dtype == "float32":
        return draw.writer.constant(name, draw.floats((size,), 0.5))
    values = np.rint(draw.rng.normal(0, spread, size))
    kind = np.int64 if draw.dtype == "int16" else np.int32
    return draw.writer.constant(name, values.astype(kind), scale=scale)


def _scale(draw: Draw, size: float) -> float:
    """Return a scale near `size`, a power of two half of the time."""
    if draw.chance(0.5):
        return float(2.0 ** np.round(np.log2(size)))
    return draw.float32(size * draw.log_uniform(0.5, 2.0))


@generates("SVDF", dtypes=("int8", "float32"))
def svdf(draw: Draw) -> Case:
    """SVDF from a state of zeros; int8 with int16 time weights and state."""
    batch, size, units = draw.pick([1, 1, 2, 3]), draw.size(16), draw.channels()
    rank, memory = draw.pick([1, 1, 2, 3]), draw.pick([1, 2, 5, 8])
    filters = units * rank
    integer = draw.dtype == "int8"
    quant = Quant(draw.scale(), draw.zero_point("int8")) if integer else None
    x = draw.input((batch, size), draw.dtype, quant)
    feature_scale, time_scale = _scale(draw, 0.01), _scale(draw, 3e-5)
    input_scale = quant.scale if quant else 1.0
    # The features fill the state, and the state's products the output, to a good part.
    state_scale = _scale(draw, input_scale * feature_scale * np.sqrt(size) * 7000 / 8000)
    output_scale = _scale(draw, state_scale * time_scale * np.sqrt(rank) * 8000 * 16000 / 60)
    state_quant: dict[str, Any] = {"scale": state_scale} if integer else {}
    operands: list[str | None] = [
        x,
        _constant(draw, "weights_feature", (filters, size), "int8", feature_scale),
        _constant(draw, "weights_time", (filters, memory), "int16", time_scale),
        None,
        draw.writer.variable(
            "state", (batch, memory * filters), "int16" if integer else "float32", **state_quant
        ),
    ]
    if draw.chance(0.7):
        operands[3] = _bias(draw, "bias", units, draw.float32(state_scale * time_scale), 1e7)
    output = Quant(draw.float32(output_scale), draw.zero_point("int8")) if integer else None
    y = draw.output((batch, units), draw.dtype, output)
    # The integer kernel knows no other activation than RELU.
    activation = "RELU" if integer else draw.pick(["NONE", "RELU"])
    draw.note(memory=memory, scales=(feature_scale, time_scale, state_scale))
    draw.operator(operands, [y], rank=rank, fused_activation_function=activation)
    return draw.case([y])


@generates("UNIDIRECTIONAL_SEQUENCE_LSTM", dtypes=("int8", "float32"), beyond_reference=("int16",))
def lstm(draw: Draw) -> Case:
    """UNIDIRECTIONAL_SEQUENCE_LSTM over a few steps; int8 or int16 with an int16 cell.

    Some couple the input gate to the forget gate, clip the cell, or project the output.
    """
    batch, steps, size = draw.pick([1, 1, 2]), draw.integer(1, 5), draw.size(16)
    cells = draw.pick([1, 3, 4, 8, 16, 17])
    coupled, projected = draw.chance(0.25), draw.chance(0.25)
    units = draw.pick([1, 2, 5, 8]) if projected else cells
    time_major = draw.chance(0.3)
    integer = draw.dtype != "float32"
    steps_shape = (steps, batch) if time_major else (batch, steps)
    code = 70 << (8 if draw.dtype == "int16" else 0)  # a typical one

    quant = draw.quant(draw.dtype)
    x = draw.input((*steps_shape, size), draw.dtype, quant)
    input_scale = quant.scale if quant else 1.0
    hidden_zero_point = draw.pick([0, 0, draw.zero_point(draw.dtype)])
    hidden = Quant(_scale(draw, 70 / code / 128), hidden_zero_point)
    state = hidden
    if projected:
        state = Quant(_scale(draw, 70 / code / 128), draw.zero_point(draw.dtype))

    def weights(name: str, columns: int, column_scale: float) -> str:
        # Gate inputs of a few units, whatever the operand's scale is.
        gate = draw.log_uniform(0.5, 8.0) / (np.sqrt(columns) * 70 * code * column_scale)
        scales[name] = draw.float32(gate)
        return _constant(draw, name, (cells, columns), "int8", scales[name])

    scales: dict[str, float] = {}
    gates = ["input", "forget", "cell", "output"]
    present = [gate for gate in gates if gate != "input" or not coupled]
    inputs = {g: weights(f"input_to_{g}", size, input_scale) for g in present}
    recurrent = {g: weights(f"recurrent_to_{g}", units, state.scale) for g in present}
    steps_of = {g: draw.float32(input_scale * scales[f"input_to_{g}"]) for g in present}
    biases = {g: _bias(draw, f"{g}_bias", cells, steps_of[g], 130 * code) for g in present}
    projection: list[str | None] = [None, None]
    if projected:
        scale = draw.float32(state.scale * 60 / (np.sqrt(cells) * 70 * 60 * hidden.scale))
        projection[0] = _constant(draw, "projection", (units, cells), "int8", scale)
        if draw.chance(0.5):
            bias_scale = draw.float32(scale * hidden.scale)
            projection[1] = _bias(draw, "projection_bias", units, bias_scale, 3e3)
    cell_scale = 2.0 ** draw.pick([-11, -11, -12, -10, -9])
    variables = [
        _variable(draw, "output_state", (batch, units), draw.dtype, state),
        _variable(draw, "cell_state", (batch, cells), "int16", Quant(cell_scale, 0)),
    ]
    operands = [
        x,
        *(inputs.get(g) for g in gates),
        *(recurrent.get(g) for g in gates),
        *[None] * 3,  # no peepholes
        *(biases.get(g) for g in gates),
        *projection,
        *variables,
        *[None] * draw.pick([4, 4, 0]),  # no layer normalization
    ]
    y = draw.output((*steps_shape, units), draw.dtype, state if integer else None)
    intermediates = []
    if integer:  # only the last one counts without layer normalization
        intermediates = [
            draw.writer.tensor(f"gate{index}", (0,), "int16", scale=2.0**-12) for index in range(4)
        ]
        scale, zero_point = hidden.scale, hidden.zero_point
        intermediates.append(
            draw.writer.tensor("hidden", (0,), draw.dtype, scale=scale, zero_point=zero_point)
        )
    draw.note(hidden=hidden, state=state, cell_scale=cell_scale)
    draw.operator(
        operands,
        [y],
        intermediates=intermediates,
        time_major=time_major,
        fused_activation_function="TANH",
        cell_clip=draw.pick([0.0, 0.0, 1.0, 3.0]),
        proj_clip=draw.pick([0.0, 0.0, 0.5]) if projected else 0.0,
    )
    return draw.case([y])


def _variable(draw: Draw, name: str, shape: tuple[int, ...], dtype: str, quant: Quant) -> str:
    if draw.dtype == "float32":
        return draw.writer.variable(name, shape, "float32")
    return draw.writer.variable(name, shape, dtype, scale=quant.scale, zero_point=quant.zero_point)
