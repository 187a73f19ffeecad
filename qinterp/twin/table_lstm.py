"""Twin of unidirectional_sequence_lstm's table functions, remembering the steps."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from qinterp.numerics.stages import AddZeroPoint, Clamp
from qinterp.twin._arithmetic import (
    Factor,
    effective,
    factor,
    fitted,
    float_of,
    run_stages,
    storage,
)
from qinterp.twin._sigmoid import logistic_of, tanh_of
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.unidirectional_sequence_lstm import GATE_UNIT, activated_gate


@twin("unidirectional_sequence_lstm", "table_functions")
def lstm(t: Twin, output: int, index: Index) -> int:
    """The output state after a step."""
    time_major = t.call.attributes["time_major"]
    time, batch = index[:2] if time_major else (index[1], index[0])
    return _state(t, time, batch, index[2])


def _state(t: Twin, time: int, batch: int, cell: int) -> int:
    out = t.call["output_state"]
    if time < 0:
        kept = t.params.states == "kept"
        return int(t.at("output_state", (batch, cell))) if kept else zero_point(out)

    def make() -> int:
        product = _gate(t, "output", time, batch, cell) * _tanh(t, _cell(t, time, batch, cell))
        stages = (*t.params.product, AddZeroPoint(), Clamp())
        by = _factor(t, Fraction(1, 2**30) / scale(out))
        return run_stages(t, stages, product, by, zero_point(out), storage(out))

    made: int = t.shared(("state", time, batch, cell), make)
    return made


def _cell(t: Twin, time: int, batch: int, cell: int) -> int:
    if time < 0:
        return int(t.at("cell_state", (batch, cell))) if t.params.states == "kept" else 0

    def make() -> int:
        old = _cell(t, time - 1, batch, cell)
        forget, let_in, update = (
            _gate(t, gate, time, batch, cell) for gate in ("forget", "input", "cell")
        )
        by = _factor(t, Fraction(1, 2**15))
        kept = fitted(run_stages(t, t.params.product, forget * old, by), 16, "saturate")
        unit = scale(t.call["cell_state"])
        by = _factor(t, Fraction(1, 2**30) / unit)
        added = run_stages(t, t.params.added, let_in * update, by)
        t.say("cell state", kept + added, text=f"{kept} kept, {added} added, not clipped")
        value = fitted(kept + added, 16, "saturate")
        bound = Fraction(t.call.attributes["cell_clip"])
        clip = min(math.trunc(bound / unit), 2**15 - 1)
        clipped = bound > 0 and clip >= t.params.least_clip
        return min(max(value, -clip), clip) if clipped else value

    made: int = t.shared(("cell", time, batch, cell), make)
    return made


def _gate(t: Twin, gate: str, time: int, batch: int, cell: int) -> int:
    def activate(total: int) -> int:
        if gate == "cell" and t.call.attributes["activation"] == "tanh":
            return tanh_of(t, 3 * total)
        if gate == "cell" and t.params.otherwise == "identity":
            return total
        return logistic_of(t, 3 * total)

    def by(weight_scale: Fraction, scale: Fraction) -> Factor:
        whole = effective(t, scale, weight_scale, GATE_UNIT)
        shorter = replace(t.policy.multiplier, reduce_to=t.params.gate_reduce_to)
        return factor(whole.exact, shorter)

    return activated_gate(t, gate, (time, batch, cell), _state, activate, by)


def _tanh(t: Twin, code: int) -> int:
    exponent = round(math.log2(scale(t.call["cell_state"])))
    exact = code * 3 * Fraction(2) ** (exponent + 12)
    return tanh_of(t, math.floor(exact + Fraction(1, 2)))


def _factor(t: Twin, exact: Fraction) -> Factor:
    return factor(float_of(exact, 64), t.policy.multiplier)
