"""Integer loops. Arrays and integers in, arrays out: no scheme, no graph, no names.

Codes (the list exists once, in ``_c/codes.h``; the enums here mirror it):

Rounding: 0 ties_to_even, 1 ties_to_away, 2 ties_toward_positive, 3 ties_toward_negative, 4 ties_toward_zero,
5 toward_negative, 6 toward_zero, 7 toward_positive, 8 away_from_zero.
Overflow: 0 wrap, 1 saturate, 2 error (the value is that of saturate; the call reports it), 3 indefinite.
Check: 0 at_end, 1 each_step. Operands: 0 zero_point_subtracted, 1 raw. Padding: 0 skip, 1 zero_point, 2 zero.
BiasOrder: 0 last, 1 first.

Arrays may be read-only; integer operands are copied when they are not C-contiguous. The GIL is released in the loops.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Array: TypeAlias = NDArray[Any]
_Pair: TypeAlias = tuple[int, int]
# (bits, overflow, check, operands, padding, bias, group_size, group_bits, group_overflow)
_Accumulator: TypeAlias = tuple[int, int, int, int, int, int, int, int, int]

class Rounding(IntEnum):
    TIES_TO_EVEN = 0
    TIES_TO_AWAY = 1
    TIES_TOWARD_POSITIVE = 2
    TIES_TOWARD_NEGATIVE = 3
    TIES_TOWARD_ZERO = 4
    TOWARD_NEGATIVE = 5
    TOWARD_ZERO = 6
    TOWARD_POSITIVE = 7
    AWAY_FROM_ZERO = 8

class Overflow(IntEnum):
    WRAP = 0
    SATURATE = 1
    ERROR = 2
    INDEFINITE = 3

class Check(IntEnum):
    AT_END = 0
    EACH_STEP = 1

class Operands(IntEnum):
    ZERO_POINT_SUBTRACTED = 0
    RAW = 1

class Padding(IntEnum):
    SKIP = 0
    ZERO_POINT = 1
    ZERO = 2

class BiasOrder(IntEnum):
    LAST = 0
    FIRST = 1

class Amount(IntEnum):
    """Where a shift stage takes its amount from."""

    LITERAL = 0  # literal
    LEFT = 1  # max(shift, 0)
    RIGHT = 2  # max(-shift, 0)
    TOTAL = 3  # literal - shift
    PRE = 4  # the array ``pre``
    POST = 5  # the array ``post``

class Opcode(IntEnum):
    """Stages of run_stages, with their parameters."""

    SHIFT_LEFT = 0  # (amount, literal, bits, overflow)
    MULTIPLY = 1  # (bits, overflow)                  x * M
    MULTIPLY_HIGH = 2  # (bits, rounding, overflow)        x * M / 2**(bits-1)
    SHIFT_RIGHT = 3  # (amount, literal, rounding)
    TO_FLOAT = 4  # (precision)
    SCALE = 5  # (precision)                       v * scale
    SCALE_RATIO = 6  # (rounding)                        x * numerator * 2**exponent / denominator
    DIVIDE_SCALE = 7  # (precision)                       v / scale
    ROUND = 8  # (rounding, bits, overflow)        float -> integer
    ADD_ZERO_POINT = 9  # (bits, overflow)                  in a float lane: no parameters used
    SUBTRACT_ZERO_POINT = 10  # (bits, overflow)
    FIT = 11  # (bits, overflow)
    CLAMP = 12  # ()                                to [lo, hi]
    CLAMP_FLOAT = (
        13  # (low, high)                       each 0 or 1: to lo - zero_point, hi - zero_point
    )

class Combination(IntEnum):
    """How two operands make an accumulator."""

    COMBINE_ADD = 0
    COMBINE_SUBTRACT = 1
    COMBINE_MULTIPLY = 2
    COMBINE_MAX = 3
    COMBINE_MIN = 4

class Folding(IntEnum):
    """How a window makes one element."""

    FOLD_SUM = 0
    FOLD_MAX = 1
    FOLD_MIN = 2

class Fused(IntEnum):
    """Requantizations that a Requantizer does in one go, each equal to the stage program beside it.

    ROUND's width does not matter where it saturates and the clamp follows.
    """

    DR = 0  # SHIFT_LEFT(LEFT, 32, WRAP), MULTIPLY_HIGH(32, TIES_TOWARD_POSITIVE), SHIFT_RIGHT(RIGHT, TIES_TO_AWAY),
    # ADD_ZERO_POINT(32, WRAP), CLAMP
    DU = 1  # the same, SHIFT_RIGHT(RIGHT, TIES_TOWARD_POSITIVE)
    SR = 2  # MULTIPLY(64), SHIFT_RIGHT(TOTAL 31, TIES_TOWARD_POSITIVE), ADD_ZERO_POINT(32, WRAP), CLAMP
    FLOAT32 = 3  # TO_FLOAT(32), SCALE(32), CLAMP_FLOAT(0, 1), ROUND(TIES_TO_EVEN, 32, INDEFINITE or SATURATE),
    # ADD_ZERO_POINT(64), CLAMP
    FLOAT64 = 4  # TO_FLOAT(64), SCALE(64), ROUND(TIES_TO_AWAY, SATURATE), ADD_ZERO_POINT(64), CLAMP

def conv_2d(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    x_zero_point: int,
    w_zero_point: _Array,
    strides: _Pair,
    dilations: _Pair,
    padding: _Pair,
    out_hw: _Pair,
    groups: int,
    accumulator: _Accumulator,
    taps: _Array | None = None,
) -> tuple[_Array, bool]:
    """Accumulators of a 2-D convolution: x (N, H, W, C), w (OC, KH, KW, C / groups) -> (N, OH, OW, OC), overflowed.

    x: int8, uint8 or int16; w: int8, uint8 or int16; bias: int64 (OC,) or None; w_zero_point: int64 (OC,).
    ``padding`` is (top, left); anything of the window outside of x is a padding tap. Output channel ``oc`` reads
    the input channels of group ``oc // (OC // groups)``. The result is int32 when bits <= 32, else int64.

    ``taps``: int32 (K, 3), the taps (kh, kw, ic) in accumulation order; None: kh outermost, ic innermost.

    What happens, in order, for each output:

    1. acc = 0; with bias FIRST, acc = fit(bias).
    2. Each tap in order gives a product: ZERO_POINT_SUBTRACTED (x - x_zp) * (w - w_zp), RAW x * w. A padding tap:
       SKIP gives no product (but keeps its slot in a group), ZERO_POINT gives the product with x = x_zp, ZERO with x = 0.
    3. group_size = 0: acc = acc + product, fitted to ``bits`` when the check is EACH_STEP.
       group_size = n: n consecutive taps are summed from 0 in ``group_bits``: fitted by group_overflow after each
       product (EACH_STEP and n > 2) or once, the exact sum of the group (AT_END, or n <= 2: a pair is one step, as in
       vpmaddubsw). Then acc = acc + sum of the group, fitted to ``bits`` when the check is EACH_STEP.
    4. RAW: acc = acc + (-x_zp * sum(w) - w_zp * sum(x) + count * x_zp * w_zp), one value; the sums and the count run
       over the taps that gave a product. Fitted when EACH_STEP.
    5. Bias LAST: acc = acc + bias, fitted when EACH_STEP.
    6. acc is fitted to ``bits`` (the only time when AT_END; sums are modular in 64 bits until then).

    ``overflowed`` is True when some value left the range of its width at a point where it was fitted, whatever the
    overflow mode. ERROR has the values of SATURATE: the caller raises.
    """

def depthwise_conv_2d(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    x_zero_point: int,
    w_zero_point: _Array,
    strides: _Pair,
    dilations: _Pair,
    padding: _Pair,
    out_hw: _Pair,
    accumulator: _Accumulator,
    taps: _Array | None = None,
) -> tuple[_Array, bool]:
    """As conv_2d with one input channel a group: w (KH, KW, OC), OC = C * multiplier, oc reads oc // multiplier.

    ``taps`` has ic = 0 everywhere.
    """

def transpose_conv_2d(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    x_zero_point: int,
    w_zero_point: _Array,
    strides: _Pair,
    dilations: _Pair,
    padding: _Pair,
    out_hw: _Pair,
    groups: int,
    accumulator: _Accumulator,
    taps: _Array | None = None,
) -> tuple[_Array, bool]:
    """As conv_2d, transposed: x[iy] * w[kh] goes to output row iy * stride - padding + kh * dilation.

    Written as a gather: for each output its taps (kh, kw, ic) in order; those that no input reaches are skipped
    (they keep their slot in a group), whatever the padding rule.
    """

def matmul(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    x_zero_point: int,
    w_zero_point: _Array,
    accumulator: _Accumulator,
    order: _Array | None = None,
) -> tuple[_Array, bool]:
    """As conv_2d for x (M, K), w (N, K) -> (M, N); ``order``: int32 (K',), indices of k in accumulation order."""

def conv_2d_float32(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    strides: _Pair,
    dilations: _Pair,
    padding: _Pair,
    out_hw: _Pair,
    groups: int,
    taps: _Array | None = None,
) -> _Array:
    """float32 convolution, ``total += x * w`` strictly in tap order, padding taps skipped, bias added last.

    Every product and every sum is rounded to float32; nothing is fused. x (N, H, W, C), w (OC, KH, KW, C / groups).
    """

def depthwise_conv_2d_float32(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    strides: _Pair,
    dilations: _Pair,
    padding: _Pair,
    out_hw: _Pair,
    taps: _Array | None = None,
) -> _Array:
    """As conv_2d_float32; w (KH, KW, OC), OC = C * multiplier."""

def transpose_conv_2d_float32(
    x: _Array,
    w: _Array,
    bias: _Array | None,
    strides: _Pair,
    dilations: _Pair,
    padding: _Pair,
    out_hw: _Pair,
    groups: int,
    taps: _Array | None = None,
) -> _Array:
    """As conv_2d_float32, transposed as transpose_conv_2d.

    ``taps`` None: each output receives its terms in the order of the inputs (a scatter over iy, ix, ic), that is kh and
    kw descending, ic ascending.
    """

def matmul_float32(
    x: _Array, w: _Array, bias: _Array | None, order: _Array | None = None
) -> _Array:
    """As conv_2d_float32 for x (M, K), w (N, K) -> (M, N)."""

def run_stages(
    program: _Array,
    x: _Array,
    multiplier: _Array,
    shift: _Array,
    scale: _Array,
    ratio: _Array,
    zero_point: int,
    lo: int,
    hi: int,
    out: _Array,
    pre: _Array | None = None,
    post: _Array | None = None,
    isa: str | None = None,
) -> bool:
    """Run a requantization program over x (rows, channels) into out (same shape), both C-contiguous.

    program: int64 (n, 6), an Opcode and up to five parameters a row. x: any of int8, uint8, int16, int32, int64, float32,
    float64. out: any of them too. multiplier, shift, pre, post: int64 (1,) or (channels,); scale: float64 likewise;
    ratio: int64 (1 or channels, 3): numerator, denominator > 0, exponent. ``isa``: whose loops, by default those of isa()
    when the module was imported; the bits are the same. Returns True when a stage with overflow ERROR left its range.

    A lane is an integer (int64) or a float; every integer stage is mathematically exact before its own fit. Widths go from
    1 to 64, signed.

    * Shift amounts: see Amount. A negative amount shifts the other way: SHIFT_LEFT then floors, SHIFT_RIGHT then saturates
      to int64. Amounts of 64 and more behave as mathematics says.
    * Float stages: the operands are converted to ``precision`` (32 or 64), then one operation rounded to it. The lane keeps
      that precision; ADD_ZERO_POINT, SUBTRACT_ZERO_POINT and CLAMP_FLOAT of a float lane work in it. NaN passes CLAMP_FLOAT.
    * ROUND: NaN gives 0 (INDEFINITE: -2**(bits-1)) and counts as out of range.
    * INDEFINITE: out of range gives -2**(bits-1), as the x86 conversions do.
    * SCALE_RATIO saturates to int64.
    * The last lane is stored: an integer lane wraps into an integer ``out`` (clamp before) or is converted to a float
      ``out``; a float lane needs a float ``out``.
    """

class Stages:
    """A program of run_stages with its parameters, ready to run any number of times, by any number of threads."""

    def __init__(
        self,
        program: _Array,
        multiplier: _Array,
        shift: _Array,
        scale: _Array,
        ratio: _Array,
        zero_point: int,
        lo: int,
        hi: int,
        pre: _Array | None = None,
        post: _Array | None = None,
        isa: str | None = None,
    ) -> None: ...
    def into(self, x: _Array, out: _Array) -> bool:
        """Run over x (..., channels), or of any shape where the parameters are of one channel, into out (same size)."""

def round_shift(x: _Array, amount: int | _Array, rounding: int) -> NDArray[np.int64]:
    """x / 2**amount, rounded. ``amount`` broadcasts to x; a negative one shifts left, saturating to int64."""

def fit(x: _Array, bits: int, overflow: int) -> NDArray[np.int64]:
    """x in a signed width of 1..64 bits: wrapped, saturated (also ERROR), or INDEFINITE."""

# ---- packed forms ------------------------------------------------------------------------------------------------------

def isa() -> str:
    """Return the instruction set that packed forms take now: QINTERP_ISA when it is set, else the best there is."""

def available_isas() -> tuple[str, ...]:
    """Return the instruction sets of this machine, the best first: of "avx512vnni", "avx2", "portable"."""

class Requantizer:
    """One of the Fused requantizations, from int32 to int8, uint8 or int16, for any int32 value.

    multiplier: 0 .. 2**31 - 1 and shift: -31 .. 30 (positive = left), or scale: finite; each one value or one a channel.
    float32 scales are taken as float32. zero_point, lo and hi are within +-65535. One channel stands for all elements.

    pre: of SR, 0 .. 31, shifts to the right, rounding down, before the multiplication.

    SR with a positive shift can leave 32 bits: it is refused (ValueError) unless ``accumulator_range``, the lowest and the
    highest accumulator of each channel, excludes that.

    Immutable; any number of threads may use one.
    """

    def __init__(
        self,
        kind: int,
        channels: int,
        multiplier: ArrayLike | None,
        shift: ArrayLike | None,
        scale: ArrayLike | None,
        zero_point: int,
        lo: int,
        hi: int,
        accumulator_range: tuple[_Array, _Array] | None = None,
        isa: str | None = None,
        *,
        pre: ArrayLike | None = None,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    def into(self, accumulators: _Array, out: _Array) -> None:
        """Requantize int32 accumulators (..., channels) into ``out`` of the same shape; both C-contiguous."""

class _Packed:
    """A convolution or product packed once for one geometry; immutable, any number of threads may use one.

    The accumulators are exact modulo 2**32 whatever the order of the sum, so they are those of any backend whose
    accumulator wraps, or provably (see low and high) does not overflow; an ordered PackedConv excepted.
    """

    @property
    def isa(self) -> str: ...
    @property
    def kernel(self) -> str:
        """What runs: "bytes", "words" or "depthwise"; "wide", "pairs" or "narrow" in order."""
    @property
    def low(self) -> NDArray[np.int64]:
        """The lowest exact accumulator of each output channel, over every x within x_range; high is the highest."""
    @property
    def high(self) -> NDArray[np.int64]: ...
    @property
    def out_shape(self) -> tuple[int, ...]:
        """Of the output, without the batch."""
    def accumulate(self, x: _Array) -> tuple[_Array, bool]:
        """Return the accumulators, int32 (int64 of a wide one), and whether an ordered one left its range."""
    def requantize_into(self, x: _Array, out: _Array, requantizer: Requantizer) -> bool:
        """Write requantized outputs to ``out`` (int8, uint8 or int16); return what accumulate returns second.

        The requantizer must have the output's channels.
        """
    def task(self, batch: int, requantizer: Requantizer, out_dtype: Any) -> Task:
        """The same as part of a chain; what an ordered accumulation leaves is not told."""

class PackedConv(_Packed):
    """conv_2d (or transpose_conv_2d) for inputs (batch, *x_shape), x_shape = (H, W, C), of one dtype.

    w, bias, zero points and geometry as in conv_2d. x_range: the lowest and highest x that occur, the dtype's own if None.

    wide: accumulators in 64 bits, exact; accumulate only.

    ordered: an accumulator tuple whose order matters, done in the order of ``taps``. ValueError says that it is not among
    those that run vectorized; conv_2d takes it then. Those are: saturating each step in at most 31 bits (SATURATE or
    ERROR); pairs (group_size 2) saturated in at most 31 bits, the accumulator likewise or provably not overflowing.

    Raises ValueError for operands that no packed form takes: weights minus zero point beyond int16.
    """

    def __init__(
        self,
        x_shape: tuple[int, int, int],
        x_dtype: Any,
        w: _Array,
        bias: _Array | None,
        x_zero_point: int,
        w_zero_point: _Array,
        strides: _Pair,
        dilations: _Pair,
        padding: _Pair,
        out_hw: _Pair,
        groups: int = 1,
        *,
        transposed: bool = False,
        x_range: _Pair | None = None,
        wide: bool = False,
        ordered: _Accumulator | None = None,
        taps: _Array | None = None,
        isa: str | None = None,
    ) -> None: ...

class PackedDepthwise(_Packed):
    """depthwise_conv_2d: w (KH, KW, OC), OC a multiple of C."""

    def __init__(
        self,
        x_shape: tuple[int, int, int],
        x_dtype: Any,
        w: _Array,
        bias: _Array | None,
        x_zero_point: int,
        w_zero_point: _Array,
        strides: _Pair,
        dilations: _Pair,
        padding: _Pair,
        out_hw: _Pair,
        *,
        x_range: _Pair | None = None,
        ordered: _Accumulator | None = None,
        taps: _Array | None = None,
        isa: str | None = None,
    ) -> None: ...

class PackedMatmul(_Packed):
    """matmul: x (M, K), any M, by w (N, K)."""

    def __init__(
        self,
        x_dtype: Any,
        w: _Array,
        bias: _Array | None,
        x_zero_point: int,
        w_zero_point: _Array,
        *,
        x_range: _Pair | None = None,
        wide: bool = False,
        ordered: _Accumulator | None = None,
        order: _Array | None = None,
        isa: str | None = None,
    ) -> None: ...

# ---- elementwise -------------------------------------------------------------------------------------------------------

class Pairs:
    """Elements of two operands, each int8, uint8 or int16, combined in int32.

    An operand is its dtype and either its zero point, which is subtracted, or a table of 256 or 65536 integers, indexed by
    the code's bits. An operand repeats as a whole to the size of the result. ValueError: results may not fit
    32 bits. low and high are the least and the greatest result.
    """

    def __init__(
        self,
        combination: int,
        first: tuple[Any, int | _Array],
        second: tuple[Any, int | _Array],
        isa: str | None = None,
    ) -> None: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...
    def accumulate(self, a: _Array, b: _Array, shape: tuple[int, ...]) -> NDArray[np.int32]: ...
    def requantize_into(self, a: _Array, b: _Array, out: _Array, requantizer: Requantizer) -> None:
        """The same requantized, by a requantizer of one channel, into ``out`` (int8, uint8 or int16)."""
    def task(self, sizes: tuple[int, int, int], requantizer: Requantizer, out_dtype: Any) -> Task:
        """The same as part of a chain, for so many elements of both operands and of the result."""

def look_up(table: _Array, x: _Array, out: _Array | None = None, isa: str | None = None) -> _Array:
    """table[x], in ``out`` if it is given, x read as unsigned codes of 1 or 2 bytes; the table has an element of 1, 2 or 4 bytes for each."""

def look_up_pairs(table: _Array, a: _Array, b: _Array, out: _Array | None = None) -> _Array:
    """table[256 * a + b], in ``out`` if it is given, for operands of 1 byte and one shape, read as unsigned."""

class Windows:
    """Sums or extrema over windows of images (batch, *x_shape), x_shape = (H, W, C), int8, uint8 or int16.

    rows, columns: (out, 2), the first pixel of each window and their number, which is at least 1. Sums are of the codes
    less the zero point, in int32 (ValueError where they may not fit); extrema are clamped to ``bounds``. low and high are
    the least and the greatest result.
    """

    def __init__(
        self,
        folding: int,
        x_dtype: Any,
        x_shape: tuple[int, int, int],
        rows: ArrayLike,
        columns: ArrayLike,
        *,
        zero_point: int = 0,
        bounds: _Pair | None = None,
        isa: str | None = None,
    ) -> None: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a result: out rows, out columns, C."""
    def fold(self, x: _Array) -> _Array:
        """(batch, out rows, out columns, C): int32 of sums, else of the type of x."""
    def requantize_into(self, x: _Array, out: _Array, requantizer: Requantizer) -> None:
        """Sums requantized, by a requantizer of one channel, into ``out`` (int8, uint8 or int16)."""
    def task(self, batch: int, requantizer: Requantizer | None, out_dtype: Any) -> Task:
        """Requantized sums, or extrema, as part of a chain."""

class Quantizer:
    """float32 to codes: a program of run_stages, which takes over where a number is too large for the fast form.

    The fast form is ``clamp(round(x * scale) + zero_point)``: divided instead of multiplied, ties to even instead of away
    from zero, the zero point added in float32 before the rounding, as asked. That it equals the program for numbers below
    2**22 is the caller's promise.
    """

    def __init__(
        self,
        program: _Array,
        scale: float,
        zero_point: int,
        lo: int,
        hi: int,
        out_dtype: Any,
        *,
        divide: bool,
        to_even: bool,
        zero_point_first: bool,
        isa: str | None = None,
    ) -> None: ...
    def into(self, x: _Array, out: _Array) -> bool:
        """Codes of x; returns what run_stages does."""

# ---- softmax -----------------------------------------------------------------------------------------------------------

class Softmax:
    """Softmax over rows of int8 or uint8 by a table of 256 exponentials, indexed by the distance to the row's maximum.

    With ``terms`` (int32, as the exponentials in Q0.31): they are added modulo 2**32; gemmlowp's reciprocal of that sum, with
    ``sum_bits`` integer bits, gives the multiplier m and how far it is over, and the program runs on the exponentials
    with m and ``shift - over``. Without (float32): the exponentials are added one after the other from 0, and the program
    runs on ``exponential * (1 / (sum * unit)) + offset``, every operation rounded to float32.
    """

    def __init__(
        self,
        x_dtype: Any,
        out_dtype: Any,
        exponentials: _Array,
        program: _Array,
        zero_point: int,
        lo: int,
        hi: int,
        *,
        terms: _Array | None = None,
        sum_bits: int = 0,
        shift: int = 0,
        unit: float = 1.0,
        offset: float = 0.0,
        isa: str | None = None,
    ) -> None: ...
    def into(self, x: _Array, out: _Array, totals: _Array | None = None) -> bool:
        """Codes of x (rows, depth), not empty; the sums (rows) in ``totals`` (int64); returns what run_stages does."""
    def task(self, rows: int, depth: int) -> Task:
        """The same as part of a chain; ValueError where a stage may report an overflow."""

class Task:
    """One prepared call as part of a chain. sizes: bytes of its operands and of its output."""

    @property
    def sizes(self) -> tuple[int, ...]: ...

def look_up_task(table: _Array, x_bytes: int, n: int) -> Task:
    """look_up of n codes of 1 or 2 bytes as part of a chain."""

def move_task(pieces: _Array, fill: _Array, sizes: Sequence[int]) -> Task:
    """Copies of runs of bytes as part of a chain.

    pieces: (n, 4), each where to, the number of the operand (-1: ``fill``, the bytes of an element), where from, how many.
    sizes: bytes of each operand, at most 8, and of the output.
    """

class Chain:
    """Tasks one after the other, without the interpreter lock unless they are done sooner than a lock is handed over; reentrant.

    Places are numbered: first the arrays that a run is given, of ``sizes`` bytes, then parts of a memory of the chain's own,
    ``offsets`` = (offset, bytes). ``places`` holds for each task those of its operands and its output.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        places: Sequence[tuple[int, ...]],
        sizes: Sequence[int],
        offsets: Sequence[tuple[int, int]],
    ) -> None: ...
    def run(
        self, runs: Sequence[Sequence[_Array]], outputs: int, memory: _Array | None = None
    ) -> None:
        """Run for each of ``runs`` arrays, the last so many of which are written. All are C-contiguous.

        memory: bytes for the parts, to be looked at after the last run; else the chain's own. A MemoryError has the number
        of the task that lacked some, if it was one.
        """
