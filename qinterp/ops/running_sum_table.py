"""A function as a table whose arguments are summed up step by step (clause L3).

The argument of code ``i + 1`` is that of code ``i`` plus the scale, rounded to float32: errors add
up along the table, and zero need not be an argument.

Sources: glow include/glow/Quantization/Base/Base.h createMapping, quantize; glow lib/Quantization/
Quantization.cpp replaceQuantizedSigmoidWithLookupTable, replaceQuantizedTanhWithLookupTable; glow
lib/Graph/Graph.cpp createIntSigmoid, createIntTanh; glow lib/Optimizer/GraphOptimizer/
GraphOptimizer.cpp ReplaceQuantizedHardSwishWithLookupTable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qinterp.errors import SchemeError
from qinterp.ir import Call
from qinterp.ir.tensor import Array
from qinterp.numerics.libm import Function
from qinterp.numerics.parameters import QuantizationParameters as Grid
from qinterp.numerics.parameters import choose_qparams
from qinterp.numerics.requantize import Requantizer, Rescale
from qinterp.numerics.scales import Multiplier
from qinterp.numerics.stages import AddZeroPoint, Clamp, DivideScale, Round, Stage
from qinterp.ops._elementwise import apply_stages
from qinterp.ops._operator import Run
from qinterp.ops._tables import Libm, codes_of, functions, lookup
from qinterp.ops.hard_swish import HARD_SWISH
from qinterp.ops.logistic import LOGISTIC
from qinterp.ops.tanh import TANH

CODES = ("int8", "uint8")
_NO_MULTIPLIER = Multiplier("none")

FloatFunction = Callable[[Array, Mapping[str, Function]], Array]


@dataclass(frozen=True)
class RunningSumTable(Libm):
    """A table from the input's grid to the output's.

    Attributes
    ----------
    quantize : from a float32 value to a code.
    """

    quantize: tuple[Stage, ...] = (
        DivideScale("float32"),
        AddZeroPoint(),
        Round("ties_to_even", 32, "indefinite"),
        Clamp(),
    )


@dataclass(frozen=True)
class RescaledTable(RunningSumTable):
    """A table between grids of its own, and the rescalings to the first and from the second.

    Attributes
    ----------
    arguments, values : the real ranges of the two grids.
    to_real, from_real : the two steps of a rescaling, by the scale it comes from and by the one it
        goes to; with ``from_real`` alone its factor is their quotient, rounded to float32.
    """

    arguments: tuple[float, ...] = (-1.0, 1.0)
    values: tuple[float, ...] = (-1.0, 1.0)
    to_real: tuple[Stage, ...] = ()
    from_real: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        for name in ("arguments", "values"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} must be a least and a greatest number")


def _table(call: Call, source: Grid, target: Grid, function: FloatFunction) -> Array:
    """The codes of ``target`` for every code of ``source``, from the least on."""
    params: RunningSumTable = call.params
    low, high = _limits(call)
    step = np.float32(source.scale)
    arguments = np.full(high - low + 1, step)
    arguments[0] = np.float32(low - source.zero_point) * step
    with np.errstate(all="ignore"):
        made = function(np.cumsum(arguments, dtype=np.float32), functions(params))
    stages = Requantizer(
        params.quantize,
        Rescale.of_factor(target.scale, _NO_MULTIPLIER),
        zero_point=int(target.zero_point),
        bounds=(low, high),
    )
    return apply_stages(stages, made)


def _rescaled(call: Call, codes: Array, source: Grid, target: Grid) -> Array:
    """Codes of one grid as codes of another."""
    params: RescaledTable = call.params
    multiplier = call.policy.multiplier
    x: Array = codes - int(source.zero_point)
    factor = float(np.float32(source.scale) / np.float32(target.scale))
    if params.to_real:
        real = Requantizer(params.to_real, Rescale.of_factor(source.scale, multiplier))
        x, factor = apply_stages(real, x, np.float32), target.scale
    stages = Requantizer(
        params.from_real,
        Rescale.of_factor(factor, multiplier),
        zero_point=int(target.zero_point),
        bounds=_limits(call),
    )
    return apply_stages(stages, x)


def _limits(call: Call) -> tuple[int, int]:
    kind = call.output.int_type
    return kind.min, kind.max


def _grids(call: Call) -> tuple[Grid, Grid]:
    """Of input and output."""
    call.types(input=CODES, output=(call["input"].dtype,))
    return Grid(*call.per_tensor(call["input"])), Grid(*call.per_tensor(call.output))


def _looked_up(call: Call, entries: Array) -> Run:
    return lookup(call, entries[codes_of(call["input"].dtype) - _limits(call)[0]])


def _between_rescalings(call: Call, function: FloatFunction) -> Run:
    params: RescaledTable = call.params
    source, target = _grids(call)
    dtype = call["input"].dtype
    arguments = choose_qparams(*params.arguments, schema="asymmetric", dtype=dtype)
    values = choose_qparams(*params.values, schema="asymmetric", dtype=dtype)
    table = _table(call, arguments, values, function)
    low, high = _limits(call)
    places = _rescaled(call, np.arange(low, high + 1), source, arguments)
    if places.min() < low or places.max() > high:
        message = f"the argument leaves the table's codes {low}..{high}: a stage must clamp"
        raise SchemeError(call.where(message))
    codes = table[places - low]
    return _looked_up(call, _rescaled(call, codes, values, target))


@LOGISTIC.recipe("rescaled_table", RescaledTable)
def logistic(call: Call) -> Run:
    """``1 / (1 + exp(-x))`` by a table."""
    one = np.float32(1)
    return _between_rescalings(call, lambda x, library: one / (one + library["exp"](-x)))


@TANH.recipe("rescaled_table", RescaledTable)
def tanh(call: Call) -> Run:
    """``tanh(x)`` by a table."""
    return _between_rescalings(call, lambda x, library: library["tanh"](x))


@HARD_SWISH.recipe("running_sum_table", RunningSumTable)
def hard_swish(call: Call) -> Run:
    """``x * min(max(x + 3, 0), 6) / 6`` by a table, where ``x + 3`` has lost its fraction."""
    source, target = _grids(call)
    return _looked_up(call, _table(call, source, target, _cut_hard_swish))


def _cut_hard_swish(x: Array, library: Any) -> Array:
    # the source keeps x + 3 in an int
    gate = np.clip(np.trunc(x + np.float32(3)), 0, 6)
    result: Array = x * gate / np.float32(6)
    return result
