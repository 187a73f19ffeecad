"""Twin of unidirectional_sequence_lstm: one cell of one step at a time, remembering the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from qinterp.twin._accumulate import accumulate, weight_zero_point
from qinterp.twin._arithmetic import Factor, factor, fitted, float_of, rounded, run_stages
from qinterp.twin._fixed_point_16 import ONE, logistic, tanh
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point

GATE_UNIT = Fraction(1, 2**12)
_SMALL = Fraction(1, 2**15)


@twin("unidirectional_sequence_lstm", "integer_8x8_16")
def lstm(t: Twin, output: int, index: Index) -> int:
    """The output state after a step."""
    time_major = t.call.attributes["time_major"]
    time, batch = index[:2] if time_major else (index[1], index[0])
    return _state(t, time, batch, index[2])


def _state(t: Twin, time: int, batch: int, unit: int) -> int:
    """Output state after step ``time``; before the first one, the variable's value."""
    if time < 0:
        return int(t.at("output_state", (batch, unit)))
    made: int = t.shared(("state", time, batch, unit), lambda: _new_state(t, time, batch, unit))
    return made


def _new_state(t: Twin, time: int, batch: int, unit: int) -> int:
    hidden_zero = t.call.attributes["intermediates"][4][1]
    if t.call.get("projection") is None:
        code = _hidden(t, time, batch, unit, hidden_zero)
        t.say("output state", code)
        return code
    cells = t.call["projection"].shape[1]
    taps = [
        (_hidden(t, time, batch, c, -hidden_zero), t.at("projection", (unit, c)))
        for c in range(cells)
    ]
    bias = t.at("projection_bias", (unit,)) if t.call.get("projection_bias") else None
    acc = accumulate(t, taps, -hidden_zero, 0, bias)
    out = t.call["output_state"]
    by = _factor32(t, scale(t.call["projection"]), _hidden_scale(t), scale(out))
    code = run_stages(t, t.params.projection, acc, by, zero_point(out), (-128, 127))
    clip = _clip(t, "projection_clip", "output_state", 127)
    return min(max(code, -clip), clip) if clip else code


def _hidden(t: Twin, time: int, batch: int, cell: int, zero: int) -> int:
    gate = _gate(t, "output", time, batch, cell)
    value = tanh(_cell(t, time, batch, cell), 15 + cell_log2(t))
    t.say("output gate * tanh(cell)", gate * value)
    exact = float_of(_SMALL / _hidden_scale(t), 64)
    by = factor(float_of(float_of(exact * _SMALL, 64), 32), t.policy.multiplier)
    return run_stages(t, t.params.hidden, gate * value, by, zero, (-128, 127))


def _cell(t: Twin, time: int, batch: int, cell: int) -> int:
    if time < 0:
        return int(t.at("cell_state", (batch, cell)))
    made: int = t.shared(("cell", time, batch, cell), lambda: _new_cell(t, time, batch, cell))
    return made


def _new_cell(t: Twin, time: int, batch: int, cell: int) -> int:
    forget = _gate(t, "forget", time, batch, cell)
    update = _gate(t, "cell", time, batch, cell)
    coupled = t.call.get("input_to_input") is None
    let_in = ONE - forget if coupled else _gate(t, "input", time, batch, cell)
    old = _cell(t, time - 1, batch, cell)
    kept = fitted(rounded(Fraction(forget * old, 2**15), t.params.product), 16, "wrap")
    share = Fraction(let_in * update, 2 ** (30 + cell_log2(t)))
    added = fitted(rounded(share, t.params.product), 16, "wrap")
    value = fitted(kept + added, 16, "saturate")
    clip = _clip(t, "cell_clip", "cell_state", 32767)
    value = min(max(value, -clip), clip) if clip else value
    t.say("cell state", value, text=f"{kept} kept, {added} added")
    return value


def _gate(t: Twin, gate: str, time: int, batch: int, cell: int) -> int:
    def activate(total: int) -> int:
        return tanh(total, 3) if gate == "cell" else logistic(total, 3)

    def by(weight_scale: Fraction, scale: Fraction) -> Factor:
        return _factor32(t, weight_scale, scale, GATE_UNIT)

    return activated_gate(t, gate, (time, batch, cell), _state, activate, by)


def activated_gate(
    t: Twin,
    gate: str,
    at: tuple[int, int, int],
    state: Callable[[Twin, int, int, int], int],
    activate: Callable[[int], int],
    factor_of: Callable[[Fraction, Fraction], Factor],
) -> int:
    """A gate at (time, batch, cell), given the output states before."""
    time, batch, cell = at

    def make() -> int:
        size = t.call["input"].shape[2]
        units = t.call["output_state"].shape[1]
        where = (time, batch) if t.call.attributes["time_major"] else (batch, time)
        x = [t.at("input", (*where, i)) for i in range(size)]
        h = [state(t, time - 1, batch, u) for u in range(units)]
        bias = t.at(f"{gate}_bias", (cell,))
        total = 0
        for operand, weights, codes, added in (
            ("input", f"input_to_{gate}", x, bias),
            ("output_state", f"recurrent_to_{gate}", h, None),
        ):
            taps = [(v, t.at(weights, (cell, i))) for i, v in enumerate(codes)]
            zero = zero_point(t.call[operand])
            acc = accumulate(t, taps, zero, weight_zero_point(t, weights, cell), added)
            by = factor_of(scale(t.call[weights]), scale(t.call[operand]))
            total = fitted(total + run_stages(t, t.params.gate, acc, by), 16, "saturate")
        value = activate(total)
        t.say(f"{gate} gate", value, text=f"of {total}")
        return value

    made: int = t.shared((gate, time, batch, cell), make)
    return made


def _factor32(t: Twin, a: Fraction, b: Fraction, out: Fraction) -> Factor:
    return factor(float_of(float_of(a * b, 32) / out, 32), t.policy.multiplier)


def _hidden_scale(t: Twin) -> Fraction:
    return Fraction(t.call.attributes["intermediates"][4][0])


def cell_log2(t: Twin) -> int:
    """The cell's scale as a power of two."""
    return round(math.log2(scale(t.call["cell_state"])))


def _clip(t: Twin, attribute: str, operand: str, most: int) -> int:
    bound: Any = float_of(Fraction(t.call.attributes[attribute]), 32)
    if bound <= 0:
        return 0
    return min(math.floor(float_of(bound / scale(t.call[operand]), 32)), most)
