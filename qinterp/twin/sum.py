"""Twin of sum."""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._accumulate import accumulate
from qinterp.twin._arithmetic import bounds, factor, fitted, float_of, quantized, run_stages
from qinterp.twin._float_sums import by_factor
from qinterp.twin._reduce import reduced
from qinterp.twin._twin import Index, Twin, scale, twin, zero_point


@twin("sum", "rescaled_sum")
def rescaled_sum(t: Twin, output: int, index: Index) -> int:
    """The sum of codes, rescaled; int8 codes perhaps taken for unsigned bytes."""
    codes = reduced(t, index)
    tensor, out = t.call["input"], t.call.output
    if tensor.dtype in ("int32", "int64"):
        return _plain(t, codes)
    if 0 in tensor.shape:
        return 0
    as_bytes = t.params.bytes_as_uint8
    if as_bytes:
        codes = [code % 256 for code in codes]
    total = accumulate(t, [(code, 1) for code in codes], zero_point(tensor), 0, None)
    by = factor(float_of(scale(tensor) / scale(out), 64), t.policy.multiplier)
    limits = (0, 255) if as_bytes else bounds(t)
    code = run_stages(t, t.params.stages, total, by, zero_point(out), limits)
    return fitted(code, 8, "wrap") if out.dtype == "int8" else code


@twin("sum", "float_zero_point")
def float_zero_point(t: Twin, output: int, index: Index) -> int:
    """The sum by a float32 factor and zero point."""
    if t.call["input"].dtype in ("int32", "int64"):
        return _plain(t, reduced(t, index))
    return by_factor(t, index, mean=False, zero_point_in_float=True)


@twin("sum", "float_bias")
def float_bias(t: Twin, output: int, index: Index) -> int:
    """The sum by a float32 factor and bias."""
    if t.call["input"].dtype in ("int32", "int64"):
        return _plain(t, reduced(t, index))
    return by_factor(t, index, mean=False, zero_point_in_float=False)


@twin("sum", "real")
def real(t: Twin, output: int, index: Index) -> int:
    """The real sum, rounded once."""
    codes = reduced(t, index)
    tensor = t.call["input"]
    if tensor.dtype in ("int32", "int64"):
        return _plain(t, codes)
    total = sum(codes) - len(codes) * zero_point(tensor)
    t.say("sum of codes less zero points", total, text=f"{len(codes)} elements")
    return quantized(t, total * scale(tensor))


@twin("sum", "float32")
def sum_float(t: Twin, output: int, index: Index) -> float:
    """Float32 additions."""
    total = Fraction(0)
    for value in reduced(t, index):
        total = float_of(total + Fraction(value), 32)
    return float(total)


def _plain(t: Twin, values: list[int]) -> int:
    return fitted(sum(values), int(t.call.output.dtype.removeprefix("int")), "wrap")
