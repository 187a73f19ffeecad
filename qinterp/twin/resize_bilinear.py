"""Twin of resize_bilinear."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from qinterp.twin._arithmetic import Factor, float_of, quantized, rounded, run_stages
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point

Place = tuple[int, int, Fraction, Fraction]
"""Two neighbours and their shares."""

Finder = Callable[[int, int, int], Place]
"""From input size, output size and output position to the place in the input."""


@twin("resize_bilinear", "fixed_point_weights")
def fixed_point_weights(t: Twin, output: int, index: Index) -> int:
    """Shares in fixed point."""
    bits = t.params.bits
    find = _fixed if t.params.places == "fixed_point" else _rounded
    total = Fraction(0)
    for element, shares in _corners(t, index, lambda *sizes: find(t, bits, *sizes)):
        total += element * shares[0] * shares[1]
    t.say("sum of products", total)
    return run_stages(t, t.params.stages, int(total * 4**bits), Factor(Fraction(1), 1, -2 * bits))


def _fixed(t: Twin, bits: int, size: int, length: int, i: int) -> Place:
    one = 2**bits
    above, below = (size - 1, length - 1) if _aligned(t, length) else (size, length)
    step = math.floor((one * above + Fraction(below // 2)) / below)
    place = i * step
    if t.call.attributes["half_pixel_centers"]:
        place += step // 2 - one // 2
    first = max(0, place // one)
    share = Fraction(place - first * one, one)
    return first, min(math.ceil(Fraction(place, one)), size - 1), 1 - share, share


def _rounded(t: Twin, bits: int, size: int, length: int, i: int) -> Place:
    above, below = (size - 1, length - 1) if _aligned(t, length) else (size, length)
    by = float_of(Fraction(above, below), 32)
    place = float_of(i * by, 32)
    if t.call.attributes["half_pixel_centers"]:
        moved = float_of(float_of(by / 2, 32) - Fraction(1, 2), 32)
        place = max(float_of(place + moved, 32), Fraction(0))
    place = min(place, Fraction(size - 1))
    first = math.floor(place)
    share = Fraction(rounded(float_of((place - first) * 2**bits, 32), "ties_to_even"), 2**bits)
    return first, min(first + 1, size - 1), 1 - share, share


@twin("resize_bilinear", "float_weights")
def float_weights(t: Twin, output: int, index: Index) -> int:
    """Shares in float32, one half added, the rest cut off."""
    return math.floor(float_of(_float_sum(t, index) + Fraction(1, 2), 32))


@twin("resize_bilinear", "float_share_products")
def float_share_products(t: Twin, output: int, index: Index) -> int:
    """Products of shares in float32, one half added, the rest cut off."""
    total = Fraction(0)
    upper_left, lower_left, upper_right, lower_right = _corners(
        t, index, lambda *sizes: _float(t, *sizes)
    )
    for element, (vertical, horizontal) in (upper_left, upper_right, lower_left, lower_right):
        product = float_of(element * float_of(vertical * horizontal, 32), 32)
        total = float_of(total + product, 32)
    t.say("sum of products", total)
    return math.floor(float_of(total + Fraction(1, 2), 32))


@twin("resize_bilinear", "float32")
def resize_float(t: Twin, output: int, index: Index) -> float:
    """Four products in float32."""
    return float(_float_sum(t, index))


def _float_sum(t: Twin, index: Index) -> Fraction:
    total = Fraction(0)
    for element, shares in _corners(t, index, lambda *sizes: _float(t, *sizes)):
        product = Fraction(element)
        for share in shares:
            product = float_of(product * share, 32)
        total = float_of(total + product, 32)
    t.say("sum of products", total)
    return total


def _float(t: Twin, size: int, length: int, i: int) -> Place:
    above, below = (size - 1, length - 1) if _aligned(t, length) else (size, length)
    by = float_of(Fraction(above, below), 32)
    if t.call.attributes["half_pixel_centers"]:
        place = float_of(float_of((i + Fraction(1, 2)) * by, 32) - Fraction(1, 2), 32)
    else:
        place = float_of(i * by, 32)
    first = max(0, math.floor(place))
    share = float_of(place - first, 32)
    return first, min(math.ceil(place), size - 1), float_of(1 - share, 32), share


@twin("resize_bilinear", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real interpolation, rounded once."""
    tensor = t.call["input"]
    total = Fraction(0)
    for element, shares in _corners(t, index, lambda *sizes: _exact(t, *sizes)):
        total += (element - zero_point(tensor)) * shares[0] * shares[1]
    t.say("interpolated codes less zero point", total)
    return quantized(t, total * scale(tensor))


def _exact(t: Twin, size: int, length: int, i: int) -> Place:
    if _aligned(t, length):
        place = Fraction(i * (size - 1), length - 1)
    elif t.call.attributes["half_pixel_centers"]:
        place = (i + Fraction(1, 2)) * Fraction(size, length) - Fraction(1, 2)
    else:
        place = Fraction(i * size, length)
    place = min(max(place, Fraction(0)), Fraction(size - 1))
    first = math.floor(place)
    return first, min(first + 1, size - 1), 1 - (place - first), place - first


def _aligned(t: Twin, length: int) -> bool:
    return bool(t.call.attributes["align_corners"]) and length > 1


def _corners(t: Twin, index: Index, find: Finder) -> list[tuple[Any, tuple[Fraction, Fraction]]]:
    """The four elements with their shares, in the kernels' order."""
    n, y, x, c = index
    _, h, w, _ = t.call["input"].shape
    _, oh, ow, _ = t.call.output.shape
    y0, y1, up, down = find(h, oh, y)
    x0, x1, left, right = find(w, ow, x)
    corners = [(y0, x0, up, left), (y1, x0, down, left), (y0, x1, up, right), (y1, x1, down, right)]
    return [
        (t.at("input", (n, row, column, c)), (vertical, horizontal))
        for row, column, vertical, horizontal in corners
    ]
