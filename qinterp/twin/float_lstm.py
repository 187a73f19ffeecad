"""Twin of unidirectional_sequence_lstm in float32, remembering the steps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from qinterp.twin._twin import Index, Twin, twin
from qinterp.twin._unary import call_library, f32
from qinterp.twin.logistic import in_pieces


@twin("unidirectional_sequence_lstm", "float32_steps")
def lstm(t: Twin, output: int, index: Index) -> float:
    """The output state after a step."""
    time_major = t.call.attributes["time_major"]
    time, batch = index[:2] if time_major else (index[1], index[0])
    return float(_state(t, time, batch, index[2]))


def _state(t: Twin, time: int, batch: int, cell: int) -> Fraction:
    if time < 0:
        return Fraction(t.at("output_state", (batch, cell)))

    def make() -> Fraction:
        value = call_library(t, "tanh", _cell(t, time, batch, cell))
        return f32(Fraction(value) * _gate(t, "output", time, batch, cell))

    made: Fraction = t.shared(("state", time, batch, cell), make)
    return made


def _cell(t: Twin, time: int, batch: int, cell: int) -> Fraction:
    if time < 0:
        return Fraction(t.at("cell_state", (batch, cell)))

    def make() -> Fraction:
        forget, let_in, update = (
            _gate(t, gate, time, batch, cell) for gate in ("forget", "input", "cell")
        )
        kept = f32(forget * _cell(t, time - 1, batch, cell))
        value = f32(kept + f32(let_in * update))
        clip = f32(Fraction(t.call.attributes["cell_clip"]))
        value = min(max(value, -clip), clip) if clip > 0 else value
        t.say("cell state", value)
        return value

    made: Fraction = t.shared(("cell", time, batch, cell), make)
    return made


def _gate(t: Twin, gate: str, time: int, batch: int, cell: int) -> Fraction:
    def make() -> Fraction:
        size, cells = t.call["input"].shape[2], t.call["cell_state"].shape[1]
        where = (time, batch) if t.call.attributes["time_major"] else (batch, time)
        x = [t.at("input", (*where, i)) for i in range(size)]
        h = [_state(t, time - 1, batch, c) for c in range(cells)]
        w = [t.at(f"input_to_{gate}", (cell, i)) for i in range(size)]
        r = [t.at(f"recurrent_to_{gate}", (cell, c)) for c in range(cells)]
        first = f32(_dot(x, w) + Fraction(t.at(f"{gate}_bias", (cell,))))
        total = f32(first + _dot(h, r))
        if gate != "cell":
            value = in_pieces(t, total)
        elif t.call.attributes["activation"] == "tanh":
            value = Fraction(call_library(t, "tanh", total))
        else:
            value = total
        t.say(f"{gate} gate", value)
        return value

    made: Fraction = t.shared((gate, time, batch, cell), make)
    return made


def _dot(a: Sequence[Any], b: Sequence[Any]) -> Fraction:
    total = Fraction(0)
    for x, y in zip(a, b, strict=True):
        total = f32(total + f32(Fraction(x) * Fraction(y)))
    return total
