"""Twin of the 16-bit softmax."""

from __future__ import annotations

from fractions import Fraction

from qinterp.numerics.elementary import exp, nearest_float
from qinterp.twin._arithmetic import Factor, bits_of, factor, fitted, float_of, rounded, run_stages
from qinterp.twin._fixed_point import zeros
from qinterp.twin._tables import entry, interpolated
from qinterp.twin._twin import Index, Twin, scale, twin
from qinterp.twin._unary import call_library
from qinterp.twin.softmax.gemmlowp import row

_GRIDS = {"exp": (10, 32767), "reciprocal": (1, -32768)}


@twin("softmax", "interpolated_tables")
def interpolated_tables(t: Twin, output: int, index: Index) -> int:
    """One probability."""
    most, total, inverse = t.shared(("row", index[:-1]), lambda: _row(t, index[:-1]))
    term = _term(t, int(t.at("input", index)) - most)
    t.say("exponential", term, text="Q0.15")
    t.say("accumulator", total, text="the sum of exponentials")
    t.say("reciprocal", inverse, text="Q0.15, of the sum scaled to 1 .. 2")
    exact = Fraction(term * inverse, 2 ** (31 - zeros(total)))
    value = rounded(exact, "ties_toward_positive")
    t.say("product", value, exact)
    return fitted(value, 16, t.params.overflow)


def _row(t: Twin, where: Index) -> tuple[int, int, int]:
    codes = row(t, (*where, 0))
    most = max(codes)
    total = sum(_term(t, code - most) for code in codes)
    one_to_two = Fraction(total * 2 ** (zeros(total) - 1), 2**14)
    code = rounded(one_to_two, "ties_toward_positive") - 65536 - 32768
    return most, total, _table(t, "reciprocal", min(max(code, -32768), 32767))


def _term(t: Twin, difference: int) -> int:
    def make() -> int:
        by = t.shared("factor", lambda: _factor(t))
        quiet = Twin(t.call, t.values, t.cache)
        code = run_stages(quiet, t.params.rescale, difference, by, 32767)
        return _table(t, "exp", code)

    made: int = t.shared(("term", difference), make)
    return made


def _factor(t: Twin) -> Factor:
    exact = scale(t.call["input"]) * Fraction(t.call.attributes["beta"])
    product = float_of(exact, bits_of(t.params.product))
    return factor(float_of(product / Fraction(10.0 / 65535.0), 64), t.policy.multiplier)


def _table(t: Twin, name: str, code: int) -> int:
    bits = bits_of(t.params.tables)

    def function(x: Fraction) -> Fraction:
        if name != "exp":
            return float_of(1 / float_of(1 + x, bits), bits)
        if bits == 64:
            return Fraction(nearest_float(exp(x, 40), 64))
        return Fraction(call_library(t, "exp", x))

    def entries(i: int) -> int:
        span, zero = _GRIDS[name]
        grid, unit = ((float_of(Fraction(n, 65535), bits), z) for n, z in ((span, zero), (2, 0)))
        made: int = t.shared((name, i), lambda: entry(function, grid, unit, i, bits))
        return made

    return interpolated(entries, code)
