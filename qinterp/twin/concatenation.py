"""Twin of concatenation."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from qinterp.ir import Tensor
from qinterp.twin._arithmetic import Factor, float_of, quantized, run_stages
from qinterp.twin._twin import Index, Number, Twin, scale, twin, zero_point


@twin("concatenation", "float32")
def copied(t: Twin, output: int, index: Index) -> Number:
    """The element of the operand that stands there."""
    return _element(t, index)[1]


@twin("concatenation", "float_rescale")
def float_rescale(t: Twin, output: int, index: Index) -> Number:
    """The element, in float32 if it is uint8 and its parameters are not the output's."""
    tensor, code = _element(t, index)
    out = t.call.output
    if tensor.dtype != "uint8" or _parameters(tensor) == _parameters(out):
        return code
    inverse = float_of(1 / scale(out), 32)
    ratio = float_of(scale(tensor) * inverse, 32)
    bias = float_of(-zero_point(tensor) * ratio, 32)
    steps: Any = float_of(float_of(int(code) * ratio, 32) + bias, 32)
    t.say("float32 steps", steps)
    return run_stages(t, t.params.stages, steps, Factor(Fraction(1)), zero_point(out), (0, 255))


@twin("concatenation", "real")
def real(t: Twin, output: int, index: Index) -> Number:
    """The element's real value, rounded once."""
    tensor, code = _element(t, index)
    if _parameters(tensor) == _parameters(t.call.output):
        return code
    return quantized(t, (int(code) - zero_point(tensor)) * scale(tensor))


def _element(t: Twin, index: Index) -> tuple[Tensor, Number]:
    """The operand that reaches to ``index``, and its element there."""
    axis: int = t.call.attributes["axis"] % len(index)
    position = index[axis]
    operands = [tensor for tensor in t.call.inputs if tensor is not None]
    number = 0
    while position >= (size := operands[number].shape[axis] if operands[number].shape else 1):
        position -= size
        number += 1
    at = (*index[:axis], position, *index[axis + 1 :]) if operands[number].shape else ()
    t.say("operand", number)
    return operands[number], t.at(f"values{number}", at)


def _parameters(tensor: Tensor) -> tuple[Fraction, int] | None:
    return (scale(tensor), zero_point(tensor)) if tensor.quantization else None
