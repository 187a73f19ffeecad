"""Twin of depthwise_conv_2d."""

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
from qinterp.twin._arithmetic import float_of
from qinterp.twin._twin import Index, Twin, twin, zero_point
from qinterp.twin.conv_2d import clamp_float


@twin("depthwise_conv_2d", "accumulate")
def depthwise_conv_2d(t: Twin, output: int, index: Index) -> int:
    """One output of the convolution."""
    oc = index[3]
    taps = [(None if x is None else int(x), int(w)) for x, w in _taps(t, index)]
    bias = bias_of(t, oc)
    acc = accumulate(t, taps, zero_point(t.call["input"]), weight_zero_point(t, "filter", oc), bias)
    return finish(t, acc, t.call["input"], t.call["filter"], oc, index)


@twin("depthwise_conv_2d", "float32")
def depthwise_conv_2d_float(t: Twin, output: int, index: Index) -> float:
    """One output, every operation rounded to float32."""
    total = Fraction(0)
    for x, w in _taps(t, index):
        if x is not None:
            total = float_of(total + float_of(Fraction(x) * Fraction(w), 32), 32)
    if t.call.get("bias"):
        total = float_of(total + Fraction(t.at("bias", (index[3],))), 32)
    return clamp_float(t, total)


def _taps(t: Twin, index: Index) -> list[tuple[float | None, float]]:
    n, oy, ox, oc = index
    _, h, w, c = t.call["input"].shape
    _, kh, kw, channels = t.call["filter"].shape
    channel = oc * c // channels
    top, left = window_start(t, (kh, kw), (h, w))
    (sy, sx), (dy, dx) = t.call.attributes["strides"], t.call.attributes["dilations"]
    taps: list[tuple[float | None, float]] = []
    for ky, kx, _ in window_taps(t, (kh, kw), 1):
        y, x = oy * sy - top + ky * dy, ox * sx - left + kx * dx
        code = t.at("input", (n, y, x, channel)) if 0 <= y < h and 0 <= x < w else None
        taps.append((code, t.at("filter", (0, ky, kx, oc))))
    return taps
