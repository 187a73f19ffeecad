"""Twin of conv_2d."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._accumulate import (
    accumulate,
    bias_of,
    finish,
    weight_zero_point,
    window_start,
    window_taps,
)
from qinterp.twin._arithmetic import ACTIVATION_LIMITS, float_of
from qinterp.twin._twin import Index, Twin, twin, zero_point


@twin("conv_2d", "accumulate")
def conv_2d(t: Twin, output: int, index: Index) -> int:
    """One output of the convolution."""
    oc = index[3]
    taps = [(x, int(w)) for x, w in _taps(t, index)]
    bias = bias_of(t, oc)
    acc = accumulate(t, taps, zero_point(t.call["input"]), weight_zero_point(t, "filter", oc), bias)
    return finish(t, acc, t.call["input"], t.call["filter"], oc, index)


@twin("conv_2d", "float32")
def conv_2d_float(t: Twin, output: int, index: Index) -> float:
    """One output, every operation rounded to float32."""
    total = Fraction(0)
    for x, w in _taps(t, index):
        if x is not None:
            total = float_of(total + float_of(Fraction(x) * Fraction(w), 32), 32)
    if t.call.get("bias"):
        total = float_of(total + Fraction(t.at("bias", (index[3],))), 32)
    return clamp_float(t, total)


def clamp_float(t: Twin, value: Fraction) -> float:
    """The fused activation of a float operator."""
    low, high = ACTIVATION_LIMITS[t.call.attributes["activation"]]
    if low is not None:
        value = max(value, Fraction(low))
    if high is not None:
        value = min(value, Fraction(high))
    return float(value)


def _taps(t: Twin, index: Index) -> list[tuple[float | None, float]]:
    n, oy, ox, oc = index
    _, h, w, c = t.call["input"].shape
    channels, kh, kw, depth = t.call["filter"].shape
    top, left = window_start(t, (kh, kw), (h, w))
    (sy, sx), (dy, dx) = t.call.attributes["strides"], t.call.attributes["dilations"]
    first = oc // (channels // (c // depth)) * depth
    taps: list[tuple[float | None, float]] = []
    for ky, kx, ic in window_taps(t, (kh, kw), depth):
        y, x = oy * sy - top + ky * dy, ox * sx - left + kx * dx
        inside = 0 <= y < h and 0 <= x < w
        code = t.at("input", (n, y, x, first + ic)) if inside else None
        taps.append((code, t.at("filter", (oc, ky, kx, ic))))
    return taps
