"""Twins of the reductions to the greatest or the least element."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from qinterp.twin._arithmetic import quantized, storage
from qinterp.twin._reduce import reduced
from qinterp.twin._twin import Index, Number, Twin, scale, twin, zero_point

LAST_FLOAT = float(Fraction(2) ** 128 - Fraction(2) ** 104)


def extremum(kind: str, choose: Callable[[list[Any]], Any], sign: int) -> None:
    """Declare the twins of ``kind``; ``sign`` is that of the value no element is worse than."""

    def best(t: Twin, index: Index) -> int:
        codes = reduced(t, index)
        worst = storage(t.call["input"])[0 if sign < 0 else 1]
        code: int = choose([worst, *codes])
        t.say("code", code, text=f"of {len(codes)}")
        return code

    @twin(kind, "code")
    def code(t: Twin, output: int, index: Index) -> Number:
        return best(t, index)

    @twin(kind, "real")
    def real(t: Twin, output: int, index: Index) -> Number:
        tensor = t.call["input"]
        if tensor.quantization is None:
            return best(t, index)
        return quantized(t, (best(t, index) - zero_point(tensor)) * scale(tensor))

    @twin(kind, "float32")
    def float32(t: Twin, output: int, index: Index) -> Number:
        elements = reduced(t, index)
        start = sign * LAST_FLOAT
        if elements and _reduces_everything(t):
            start = elements[0]
        found: float = start
        if found == found:
            found = choose([start, *(x for x in elements if x == x)])
        return found


def _reduces_everything(t: Twin) -> bool:
    rank = len(t.call["input"].shape)
    axes = t.values[1]
    assert axes is not None
    return len({int(a) % max(rank, 1) for a in axes.reshape(-1)}) >= rank
