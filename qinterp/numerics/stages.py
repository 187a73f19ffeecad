"""Requantization as an ordered list of stages (clauses R1 to R14 of docs/numerics.md).

No closed formula covers the backends, so a scheme lists what happens to an accumulator, step by
step; ``_kernels.run_stages`` applies the list exactly, and common lists have names.

Sources of the named lists: gemmlowp fixedpoint/fixedpoint.h
(SaturatingRoundingDoublingHighMul, RoundingDivideByPOT); tflite/kernels/internal/common.cc
(MultiplyByQuantizedMultiplier, 32 and 64 bits); tflite/kernels/internal/reference/integer_ops/
fully_connected.h (float scale); XNNPACK src/xnnpack/requantization.h (fp32); glow
lib/LLVMIRCodeGen/libjit/libjit_defs.h libjit_scale, include/glow/Quantization/Base/Base.h
(quantize, dequantize).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from qinterp.errors import SchemeError
from qinterp.numerics.records import build, one_of, to_table
from qinterp.numerics.rounding import OVERFLOW_CODE, ROUNDING_CODE, Overflow, Rounding
from qinterp.numerics.scales import Precision

Amount = Literal["literal", "left", "right", "total", "pre", "post"]
AMOUNTS: tuple[Amount, ...] = ("literal", "left", "right", "total", "pre", "post")
FLOAT_BITS = {"float32": 32, "float64": 64}


@dataclass(frozen=True)
class Stage:
    """One step on the way from an accumulator to a code; the subclasses are the kinds of step.

    A stage works on an integer (of any width) or on a float; ``takes`` and ``gives`` say which,
    None meaning either.
    """

    takes: ClassVar[Literal["integer", "float"] | None] = "integer"
    gives: ClassVar[Literal["integer", "float"] | None] = "integer"
    stage: ClassVar[str] = ""

    def __post_init__(self) -> None:
        bits = getattr(self, "bits", 32)
        if not 2 <= bits <= 64:
            raise ValueError(f"bits must be in 2..64, got {bits}")

    def row(self) -> tuple[int, ...]:
        """Opcode and parameters, as ``_kernels.run_stages`` takes them."""
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def from_table(cls, table: object, path: str) -> Stage:
        """A stage from ``{stage = "shift_right", rounding = ...}``."""
        if isinstance(table, Stage):
            return table
        if not isinstance(table, Mapping) or "stage" not in table:
            raise SchemeError(f"{path}: expected a table with a key 'stage', got {table!r}")
        kind = STAGES[one_of(table["stage"], STAGES, f"{path}.stage")]
        rest = {key: value for key, value in table.items() if key != "stage"}
        return build(kind, rest, path)

    @classmethod
    def named(cls, name: str, path: str) -> tuple[Stage, ...]:
        """The stage list that goes by ``name``."""
        return NAMED_STAGES[one_of(name, NAMED_STAGES, path)]

    def to_table(self) -> dict[str, Any]:
        """The table that builds the stage again."""
        return {"stage": self.stage} | {
            f.name: to_table(value)
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }


@dataclass(frozen=True)
class ShiftLeft(Stage):
    """``x * 2**amount``; by default the left part of the multiplier's shift."""

    stage: ClassVar[str] = "shift_left"
    bits: int = 32
    overflow: Overflow = "wrap"
    amount: Amount = "left"
    by: int = 0

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (0, AMOUNTS.index(self.amount), self.by, self.bits, OVERFLOW_CODE[self.overflow])


@dataclass(frozen=True)
class Multiply(Stage):
    """``x * multiplier``, the whole product."""

    stage: ClassVar[str] = "multiply"
    bits: int = 64
    overflow: Overflow = "wrap"

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (1, self.bits, OVERFLOW_CODE[self.overflow])


@dataclass(frozen=True)
class MultiplyHigh(Stage):
    """``x * multiplier / 2**(bits - 1)``, rounded: the doubling high half of the product."""

    stage: ClassVar[str] = "multiply_high"
    rounding: Rounding
    bits: int = 32
    overflow: Overflow = "saturate"

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (2, self.bits, ROUNDING_CODE[self.rounding], OVERFLOW_CODE[self.overflow])


@dataclass(frozen=True)
class ShiftRight(Stage):
    """``x / 2**amount``, rounded; by default the right part of the multiplier's shift.

    With amount "total" the shift is ``by - shift``: the fraction bits of a whole product.
    """

    stage: ClassVar[str] = "shift_right"
    rounding: Rounding
    amount: Amount = "right"
    by: int = 0

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (3, AMOUNTS.index(self.amount), self.by, ROUNDING_CODE[self.rounding])


@dataclass(frozen=True)
class ToFloat(Stage):
    """The integer as a float, rounded to nearest even where it has too many digits."""

    stage: ClassVar[str] = "to_float"
    gives: ClassVar[Literal["integer", "float"] | None] = "float"
    precision: Literal["float32", "float64"]

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (4, FLOAT_BITS[self.precision])


@dataclass(frozen=True)
class Scale(Stage):
    """``v * effective_scale`` in ``precision``."""

    stage: ClassVar[str] = "scale"
    takes: ClassVar[Literal["integer", "float"] | None] = "float"
    gives: ClassVar[Literal["integer", "float"] | None] = "float"
    precision: Literal["float32", "float64"]

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (5, FLOAT_BITS[self.precision])


@dataclass(frozen=True)
class ScaleExact(Stage):
    """``x * effective_scale`` as a rational number, rounded once to an integer."""

    stage: ClassVar[str] = "scale_exact"
    rounding: Rounding

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (6, ROUNDING_CODE[self.rounding])


@dataclass(frozen=True)
class DivideScale(Stage):
    """``v / effective_scale`` in ``precision``."""

    stage: ClassVar[str] = "divide_scale"
    takes: ClassVar[Literal["integer", "float"] | None] = "float"
    gives: ClassVar[Literal["integer", "float"] | None] = "float"
    precision: Literal["float32", "float64"]

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (7, FLOAT_BITS[self.precision])


@dataclass(frozen=True)
class Round(Stage):
    """A float to an integer of ``bits`` bits."""

    stage: ClassVar[str] = "round"
    takes: ClassVar[Literal["integer", "float"] | None] = "float"
    rounding: Rounding
    bits: int = 32
    overflow: Overflow = "indefinite"

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (8, ROUNDING_CODE[self.rounding], self.bits, OVERFLOW_CODE[self.overflow])


@dataclass(frozen=True)
class AddZeroPoint(Stage):
    """``x + zero_point``; to a float it is added in the float's own precision."""

    stage: ClassVar[str] = "add_zero_point"
    takes: ClassVar[Literal["integer", "float"] | None] = None
    gives: ClassVar[Literal["integer", "float"] | None] = None
    bits: int = 32
    overflow: Overflow = "wrap"

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (9, self.bits, OVERFLOW_CODE[self.overflow])


@dataclass(frozen=True)
class Saturate(Stage):
    """Clamped to ``bits`` signed bits."""

    stage: ClassVar[str] = "saturate"
    bits: int

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (11, self.bits, OVERFLOW_CODE["saturate"])


@dataclass(frozen=True)
class Wrap(Stage):
    """Reduced modulo ``2**bits``, signed."""

    stage: ClassVar[str] = "wrap"
    bits: int

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (11, self.bits, OVERFLOW_CODE["wrap"])


@dataclass(frozen=True)
class Clamp(Stage):
    """To the bounds of the fused activation, which lie in the storage type's range."""

    stage: ClassVar[str] = "clamp"

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (12,)


@dataclass(frozen=True)
class ClampFloat(Stage):
    """A float to the activation's bounds less the zero point, before it is rounded."""

    stage: ClassVar[str] = "clamp_float"
    takes: ClassVar[Literal["integer", "float"] | None] = "float"
    gives: ClassVar[Literal["integer", "float"] | None] = "float"
    low: bool = True
    high: bool = True

    def row(self) -> tuple[int, ...]:
        """See :meth:`Stage.row`."""
        return (13, int(self.low), int(self.high))


STAGES: dict[str, type[Stage]] = {
    kind.stage: kind
    for kind in (
        ShiftLeft, Multiply, MultiplyHigh, ShiftRight, ToFloat, Scale, ScaleExact, DivideScale,
        Round, AddZeroPoint, Saturate, Wrap, Clamp, ClampFloat,
    )
}  # fmt: skip

_END = (AddZeroPoint(), Clamp())
_TWO_ROUNDINGS = (ShiftLeft(), MultiplyHigh("ties_toward_positive"), ShiftRight("ties_to_away"))
_ONE_ROUNDING = (Multiply(), ShiftRight("ties_toward_positive", "total", 31), Wrap(32))
NAMED_STAGES: dict[str, tuple[Stage, ...]] = {
    # DR: gemmlowp, TFLite's reference kernels, CMSIS-NN
    "gemmlowp": (*_TWO_ROUNDINGS, *_END),
    # the same, of what does not end in a code
    "rescale": _TWO_ROUNDINGS,
    "rescale_to_16_bits": (*_TWO_ROUNDINGS, Saturate(16)),
    # DU: Arm NEON vqrdmulh + vrshl, ruy on x86
    "double_rounding_toward_positive": (
        ShiftLeft(), MultiplyHigh("ties_toward_positive"), ShiftRight("ties_toward_positive"),
        *_END,
    ),
    # SR: TFLITE_SINGLE_ROUNDING, CMSIS_NN_USE_SINGLE_ROUNDING, ruy on Arm
    "single_rounding": (*_ONE_ROUNDING, *_END),
    # the same, of what does not end in a code
    "rescale_single_rounding": _ONE_ROUNDING,
    # M64: 64-bit accumulators with a mantissa reduced to 16 bits
    "int64_reduced": (
        Multiply(), ShiftRight("ties_toward_positive", "total", 15), Wrap(32), *_END,
    ),
    # the same in CMSIS-NN: twice the result is cut to 32 bits before it is rounded
    "int64_reduced_to_31_bits": (
        Multiply(), ShiftRight("toward_negative", "total", 14), Wrap(32),
        ShiftRight("ties_toward_positive", "literal", 1), *_END,
    ),
    "float64_ties_to_away": (
        ToFloat("float64"), Scale("float64"), Round("ties_to_away"), *_END,
    ),
    # XNNPACK fp32 with lrintf / cvtps2dq
    "float32_ties_to_even": (
        ToFloat("float32"), Scale("float32"), ClampFloat(low=False), Round("ties_to_even"),
        Saturate(16), AddZeroPoint(16, "saturate"), Clamp(),
    ),
    # the same with AVX-512: the zero point is added in 32 bits, which wrap
    "float32_ties_to_even_avx512": (
        ToFloat("float32"), Scale("float32"), ClampFloat(low=False), Round("ties_to_even"),
        AddZeroPoint(), Clamp(),
    ),
    "exact_ties_to_even": (ScaleExact("ties_to_even"), AddZeroPoint(64, "saturate"), Clamp()),
    # Glow's CPU backend: a short multiplier between two shifts; the zero point comes later
    "shift_multiply_shift": (
        ShiftRight("toward_negative", "pre"), Multiply(32),
        ShiftRight("ties_toward_positive", "post"),
    ),
    # Glow's quantize and dequantize: the zero point is added before the rounding
    "dequantize_float32": (ToFloat("float32"), Scale("float32")),
    "quantize_float32": (DivideScale("float32"), AddZeroPoint(), Round("ties_to_even"), Clamp()),
}  # fmt: skip


def check_stages(stages: Sequence[Stage], path: str, *, bounded: bool = True) -> None:
    """SchemeError unless each stage takes what the one before it gives.

    Parameters
    ----------
    bounded : the last stage must be the clamp, so that the result fits its storage type.
    """
    domain: str = "integer"
    for i, stage in enumerate(stages):
        if stage.takes not in (None, domain):
            raise SchemeError(
                f"{path}[{i}]: stage {stage.stage!r} takes a {stage.takes}, but has a {domain} "
                f"before it"
            )
        domain = stage.gives or domain
    if domain != "integer":
        raise SchemeError(f"{path}: the last stage leaves a float; a round stage is missing")
    if bounded and not (stages and isinstance(stages[-1], Clamp)):
        raise SchemeError(f"{path}: the last stage must be 'clamp'")


def uses(stages: Sequence[Stage], kind: type[Stage]) -> bool:
    """Whether a stage of ``kind`` is in the list."""
    return any(isinstance(stage, kind) for stage in stages)


def precision_of(stages: Sequence[Stage]) -> Precision | None:
    """The precision in which the list wants the effective scale, None if it uses a multiplier."""
    for stage in stages:
        if isinstance(stage, ScaleExact):
            return "exact"
        if isinstance(stage, (Scale, DivideScale)):
            return stage.precision
    return None
