"""Twin of the softmax by a table of exponentials."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from qinterp.twin._arithmetic import factor, fitted, rounded, run_stages, storage
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point
from qinterp.twin._unary import call_library
from qinterp.twin.common_grid import f32


@twin("softmax", "exponential_table")
def exponential_table(t: Twin, output: int, index: Index) -> int:
    """One term over the sum of its row."""
    out = t.call.output
    depth = out.shape[-1]
    row = [_weighed(t, int(t.at("input", (*index[:-1], i)))) for i in range(depth)]
    terms = [_term(t, max(row) - code) for code in row]
    whole = 0
    while 2**whole < depth:
        whole += 1
    whole += 2**whole == depth
    total = sum(term >> (whole - 1) for term in terms) % 2**32
    t.say("sum of terms", total)
    point = whole
    while total < 2**31:
        total, point = total * 2, point - 1
    total >>= 16
    inverse = f32(1 / scale(out))
    bits = int(inverse).bit_length()
    ratio = (rounded(inverse * 2 ** (32 - bits), "ties_to_away") + total // 2) % 2**32 // total
    shift = 31 + 16 - bits + point
    constant = fitted(1 << ((shift - 1) % 32), 32, "wrap")
    steps = ((ratio * terms[index[-1]] + constant) % 2**64) >> shift
    low, high = storage(out)
    return min(max(fitted(steps, 32, "wrap") + zero_point(out), low), high)


def _term(t: Twin, distance: int) -> int:
    exponent = f32(scale(t.call["input"]) * -distance)
    value = Fraction(call_library(t, "exp", exponent))
    return rounded(value * 2**31, "ties_to_away")


def _weighed(t: Twin, code: int) -> int:
    beta = Fraction(t.call.attributes["beta"])
    if beta == 1:
        return code
    tensor: Any = t.call["input"]
    unit, zero = scale(tensor), zero_point(tensor)
    low, high = storage(tensor)
    weight = min(max(rounded(f32(f32(beta / unit) + zero), "ties_to_even"), low), high)
    by = factor(f32(f32(unit * unit) / unit), t.policy.multiplier)
    product = (code - zero) * (weight - zero)
    return run_stages(t, t.policy.requantize, product, by, zero, (low, high))
