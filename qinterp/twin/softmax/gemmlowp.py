"""Twin of the 8-bit softmax."""

from __future__ import annotations

import math
from fractions import Fraction

from qinterp.twin._arithmetic import Factor, factor, fitted, float_of, run_stages, storage
from qinterp.twin._fixed_point import exponential, power, reciprocal
from qinterp.twin._twin import Index, Twin, scale, twin


def row(t: Twin, index: Index) -> list[int]:
    """The codes of the row that ``index`` is in."""
    depth = t.call["input"].shape[-1]
    return [int(t.at("input", (*index[:-1], i))) for i in range(depth)]


@twin("softmax", "gemmlowp")
def gemmlowp(t: Twin, output: int, index: Index) -> int:
    """One probability."""
    most, total, inverse, over = t.shared(("row", index[:-1]), lambda: _row(t, index[:-1]))
    e = _exponential(t, int(t.at("input", index)) - most)
    low, high = storage(t.call.output)
    width = (high - low).bit_length()
    t.say("largest code of the row", most)
    t.say("exponential", e, text="Q0.31")
    t.say("accumulator", total, text="the sum of exponentials")
    t.say("reciprocal", inverse, text=f"Q0.31, to be shifted right by {over}")
    by = Factor(Fraction(inverse), inverse, width - 31 - over)
    return run_stages(t, t.params.finish, e, by, low, (low, high))


def _row(t: Twin, where: Index) -> tuple[int, int, int, int]:
    codes = row(t, (*where, 0))
    most = max(codes)
    bits = t.params.sum_bits
    total = sum(power(_exponential(t, code - most), -bits) for code in codes)
    total = fitted(total, 32, "wrap")
    return most, total, *reciprocal(total, bits)


def _exponential(t: Twin, difference: int) -> int:
    def make() -> int:
        bits = t.params.input_bits
        by = t.shared("factor", lambda: _factor(t))
        least = math.floor((2**bits - 1) * 2 ** (31 - bits) / Fraction(2) ** by.shift)
        if difference < -least:
            return 0
        quiet = Twin(t.call, t.values, t.cache)
        return exponential(run_stages(quiet, t.params.rescale, difference, by), bits)

    made: int = t.shared(("exponential", difference), make)
    return made


def _factor(t: Twin) -> Factor:
    beta = Fraction(t.call.attributes["beta"])
    product = float_of(beta * scale(t.call["input"]), 64) * 2 ** (31 - t.params.input_bits)
    return factor(min(product, Fraction(2**31 - 1)), t.policy.multiplier)
