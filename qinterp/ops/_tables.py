"""Functions of one code as tables (clause L1).

Source: tflite/kernels/internal/common.h LUTPopulate, LUTLookup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qinterp import _kernels
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.libm import LIBRARIES, Function, Library
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.rounding import Rounding
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import Round
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import NO_NOTES, Run
from qinterp.ops._tails import Elementwise

FloatFunction = Callable[[Array, Mapping[str, Function]], Array]
"""Of a float32 array and the C library's functions by name ("exp", "tanh", ..)."""

_STEPS = 512
_UNSCALED = Rescale.of_factor(1.0, Multiplier("none"))


@dataclass(frozen=True)
class Libm:
    """Float arithmetic that calls a C library.

    Attributes
    ----------
    library : whose functions it calls; see :mod:`qinterp.numerics.libm`.
    """

    library: Library = "glibc_2.28"


@dataclass(frozen=True)
class FloatTable(Libm):
    """A table of codes made in float32: dequantize, function, times ``1 / scale``, round.

    Attributes
    ----------
    rounding : of the quotient.
    zero_point : added to the rounded quotient, or to the quotient in float32.
    overflow : what a float beyond int32 becomes: the nearer end of the codes, NaN becoming code
        0 ("saturate", which LLVM makes of a conversion that is clamped to int8), or the least
        code ("indefinite", the x86 conversion).
    """

    rounding: Rounding = "ties_to_away"
    zero_point: Literal["after_rounding", "before_rounding"] = "after_rounding"
    overflow: Literal["saturate", "indefinite"] = "saturate"


def functions(params: Libm | None) -> Mapping[str, Function]:
    """The C library's functions; those of the default where a scheme gives no parameters."""
    return LIBRARIES[(params or Libm()).library]


def float_table(call: Call, function: FloatFunction) -> Run:
    """A run that looks up ``function``, worked out in float32 for all 256 codes."""
    types = ("int8", "uint8")
    call.types(input=types, output=(call["input"].dtype,))
    params: FloatTable = call.params
    scale, zero_point = call.per_tensor(call["input"])
    unit, out_zero_point = call.per_tensor(call.output)
    kind = call.output.int_type
    rounds = Requantizer((Round(params.rounding, 64, "saturate"),), _UNSCALED)
    steps = (codes_of(call["input"].dtype) - zero_point).astype(np.float32)
    with np.errstate(all="ignore"):
        value = function(steps * np.float32(scale), functions(params))
        value = value * (np.float32(1) / np.float32(unit))
        if params.zero_point == "before_rounding":
            value, out_zero_point = value + np.float32(out_zero_point), 0
        whole = np.where(np.isfinite(value), apply_stages(rounds, value), value)
        moved = whole.astype(np.float32) + np.float32(out_zero_point)
        if params.overflow == "indefinite":
            fits = (np.abs(moved) < 2.0**31) & ~np.isnan(value)
            moved = np.where(fits, moved, kind.min)
        moved = np.where(np.isnan(moved), 0, moved)
    return lookup(call, np.clip(moved, kind.min, kind.max))


def interpolated(call: Call, function: FloatFunction) -> Run:
    """A run that interpolates ``function`` between 513 entries, worked out in float32."""
    call.types(input=("int16",), output=("int16",))
    library = functions(call.params)
    grids = (call.per_tensor(call["input"]), call.per_tensor(call.output))
    return lookup(call, interpolate(interpolated_table(lambda x: function(x, library), *grids)))


def codes_of(dtype: str) -> Array:
    """Every code of an 8- or 16-bit type, in the order of :func:`lookup`'s table."""
    unsigned = np.arange(256 if dtype in ("int8", "uint8") else 65536)
    return unsigned.astype("u" + dtype.lstrip("u")).astype(dtype).astype(np.int64)


class LookUp:
    """From codes to what a table has for them; ``task``: the same for a chain."""

    def __init__(self, call: Call, table: Array) -> None:
        self._table = np.ascontiguousarray(table, call.output.numpy_dtype)
        size, width = math.prod(call.output.shape), call["input"].numpy_dtype.itemsize
        self.task = None
        if self._table.itemsize <= 4 and size == math.prod(call["input"].shape):
            self.task = _kernels.look_up_task(self._table, width, size)

    def __call__(self, values: Sequence[Any], out: Array) -> None:
        """Write the part of the output that belongs to a part of the operand."""
        _kernels.look_up(self._table, values[0], out)


def lookup(call: Call, table: Array) -> Elementwise:
    """A run that takes each element from ``table``, indexed by the code as if unsigned."""
    return Elementwise(call, LookUp(call, table))


def tabled(call: Call, run: Run) -> Run:
    """``run``, elementwise of one operand, by a table of all codes where there are 256 of them."""
    kind = call["input"].numpy_dtype
    if kind.itemsize != 1 or len(call.inputs) != 1:
        return run
    try:
        (table,) = run([np.arange(256, dtype=np.uint8).view(kind)], NO_NOTES)
    except ArithmeticError:  # of codes that perhaps do not occur
        return run
    return Elementwise(call, lookup(call, table).into, run)


def round_away(x: Array) -> Array:
    """The C library's ``round``, in the type of ``x``: exact, ties away from zero."""
    whole = np.trunc(x)
    result: Array = whole + np.where(np.abs(x - whole) >= 0.5, np.copysign(x.dtype.type(1), x), 0)
    return result


def interpolated_table(
    function: Callable[[Array], Array],
    input_grid: tuple[Any, int],
    output_grid: tuple[Any, int],
    floats: Any = np.float32,
) -> Array:
    """The 513 entries between which int16 functions are interpolated.

    Parameters
    ----------
    function : on arrays of ``floats``.
    input_grid, output_grid : scale and zero point.
    floats : the type in which every operation is rounded.
    """
    ends = []
    for scale, zero_point in (input_grid, output_grid):
        ends.append([floats(scale) * floats(code - zero_point) for code in (-32768, 32767)])
    (low, high), (out_low, out_high) = ends
    step = (high - low) / floats(_STEPS)
    per_step = floats(65536) / (out_high - out_low)
    start = low + np.arange(_STEPS).astype(floats) * step
    with np.errstate(all="ignore"):
        here = function(start)
        middle = function(start + step / floats(2))
        following = function(low + np.arange(1, _STEPS + 1).astype(floats) * step)
        sample = round_away(here * per_step)
        between = round_away((following * per_step + sample) / floats(2))
        error = between - round_away(middle * per_step)
        entries = sample - round_away(error / floats(2))
        last = round_away(function(np.array([high])) * per_step)
        table = np.concatenate([entries, last])
    table = np.where(np.isnan(table), 0, table)  # where the function overflows: inf - inf
    codes: Array = np.clip(table, -32768, 32767).astype(np.int16)
    return codes


def interpolate(table: Array) -> Array:
    """All 65536 values of an interpolated table, in the order of :func:`lookup`."""
    code = codes_of("int16")
    index, offset = 256 + (code >> 7), code & 0x7F
    entries = table.astype(np.int64)
    slope = (entries[index + 1] - entries[index]).astype(np.int16).astype(np.int64)
    codes: Array = (entries[index] + ((slope * offset + 64) >> 7)).astype(np.int16)
    return codes
