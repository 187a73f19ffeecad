"""Twin of unidirectional_sequence_lstm's table functions, remembering the steps."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.numerics.stages import AddZeroPoint, Clamp
from qinterp.twin._arithmetic import factor, fitted, float_of, run_stages
from qinterp.twin._sigmoid import logistic_of, tanh_of
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin.unidirectional_sequence_lstm import activated_gate, cell_log2


@twin("unidirectional_sequence_lstm", "table_functions")
def lstm(t: Twin, output: int, index: Index) -> int:
    """The output state after a step."""
    time_major = t.call.attributes["time_major"]
    time, batch = index[:2] if time_major else (index[1], index[0])
    return _state(t, time, batch, index[2])


def _state(t: Twin, time: int, batch: int, cell: int) -> int:
    if time < 0:
        return zero_point(t.call["output_state"])

    def make() -> int:
        product = _gate(t, "output", time, batch, cell) * _tanh(t, _cell(t, time, batch, cell))
        out = t.call["output_state"]
        return _rescaled(t, product, Fraction(1, 2**30) / scale(out), zero_point(out), (-128, 127))

    made: int = t.shared(("state", time, batch, cell), make)
    return made


def _cell(t: Twin, time: int, batch: int, cell: int) -> int:
    if time < 0:
        return 0

    def make() -> int:
        old = _cell(t, time - 1, batch, cell)
        forget, let_in, update = (
            _gate(t, gate, time, batch, cell) for gate in ("forget", "input", "cell")
        )
        kept = fitted(_rescaled(t, forget * old, Fraction(1, 2**15)), 16, "saturate")
        unit = scale(t.call["cell_state"])
        added = _rescaled(t, let_in * update, Fraction(1, 2**30) / unit)
        t.say("cell state", kept + added, text=f"{kept} kept, {added} added, not clipped")
        clip = math.trunc(Fraction(t.call.attributes["cell_clip"]) / unit)
        value = fitted(kept + added, 16, "saturate")
        return min(max(value, -clip), clip) if clip > 0 else value

    made: int = t.shared(("cell", time, batch, cell), make)
    return made


def _gate(t: Twin, gate: str, time: int, batch: int, cell: int) -> int:
    smooth = gate == "cell" and t.call.attributes["activation"] == "tanh"

    def activate(total: int) -> int:
        return tanh_of(t, 3 * total) if smooth else logistic_of(t, 3 * total)

    return activated_gate(t, gate, (time, batch, cell), _state, activate)


def _tanh(t: Twin, code: int) -> int:
    exact = code * 3 * Fraction(2) ** (cell_log2(t) + 12)
    return tanh_of(t, math.floor(exact + Fraction(1, 2)))


def _rescaled(
    t: Twin,
    product: int,
    exact: Fraction,
    zero: int = 0,
    bounds: tuple[int, int] | None = None,
) -> int:
    by = factor(float_of(exact, 64), t.policy.multiplier)
    if bounds is None:
        return run_stages(t, t.params.product, product, by)
    return run_stages(t, (*t.params.product, AddZeroPoint(), Clamp()), product, by, zero, bounds)
