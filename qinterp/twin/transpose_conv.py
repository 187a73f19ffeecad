"""Twin of transpose_conv: for every output, the inputs that reach it."""

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


@twin("transpose_conv", "accumulate")
def transpose_conv(t: Twin, output: int, index: Index) -> int:
    """One output of the transposed convolution."""
    oc = index[3]
    _, kh, kw, depth = t.call["filter"].shape
    taps: list[tuple[int | None, int]] = []
    for ky, kx, ic in window_taps(t, (kh, kw), depth):
        x, w = _tap(t, index, ky, kx, ic)
        # no product, whatever padding stands for; it matters only for a group's slots
        if x is not None or t.policy.accumulator.group:
            taps.append((None if x is None else int(x), int(w)))
    bias = bias_of(t, oc)
    acc = accumulate(t, taps, zero_point(t.call["input"]), weight_zero_point(t, "filter", oc), bias)
    return finish(t, acc, t.call["input"], t.call["filter"], oc, index)


@twin("transpose_conv", "float32")
def transpose_conv_float(t: Twin, output: int, index: Index) -> float:
    """One output in the order of the inputs, every operation rounded to float32."""
    _, kh, kw, depth = t.call["filter"].shape
    total = Fraction(0)
    # an input further down or to the right reaches the output by an earlier tap
    for ky in reversed(range(kh)):
        for kx in reversed(range(kw)):
            for ic in range(depth):
                x, w = _tap(t, index, ky, kx, ic)
                if x is not None:
                    total = float_of(total + float_of(Fraction(x) * Fraction(w), 32), 32)
    if t.call.get("bias"):
        total = float_of(total + Fraction(t.at("bias", (index[3],))), 32)
    return clamp_float(t, total)


def _tap(t: Twin, index: Index, ky: int, kx: int, ic: int) -> tuple[float | None, float]:
    n, oy, ox, oc = index
    _, h, w, c = t.call["input"].shape
    channels, kh, kw, depth = t.call["filter"].shape
    _, height, width, _ = t.call.output.shape
    top, left = window_start(t, (kh, kw), (height, width))
    (sy, sx), (dy, dx) = t.call.attributes["strides"], t.call.attributes["dilations"]
    weight = t.at("filter", (oc, ky, kx, ic))
    y, rest_y = divmod(oy + top - ky * dy, sy)
    x, rest_x = divmod(ox + left - kx * dx, sx)
    if rest_y or rest_x or not (0 <= y < h and 0 <= x < w):
        return None, weight
    first = oc // (channels // (c // depth)) * depth
    return t.at("input", (n, y, x, first + ic)), weight
