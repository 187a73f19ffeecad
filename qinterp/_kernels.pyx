"""Integer loops. Arrays and integers in, arrays out: no scheme, no graph, no names.

The contract of every function is in ``_kernels.pyi``. A ``def`` function checks what memory safety needs, allocates the
result and calls a loop that holds no Python object; what the numbers mean is the caller's business.
"""

import os
from math import prod
from time import perf_counter

import numpy as np

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport free, malloc

# ---- windows: which input position a tap reads -------------------------------------------------------------------------


def _positions(out, kernel, size, stride, dilation, padding, transposed):
    """Return int32 (out, kernel): the input index that each tap of each output reads along one axis, -1 if outside."""
    if QINTERP_PLANTED_BUG == 2:
        dilation = 1
    outputs, taps = np.arange(out, dtype=np.int64)[:, None], np.arange(kernel, dtype=np.int64) * dilation
    if transposed:
        position, remainder = np.divmod(outputs + padding - taps, stride)
        inside = (remainder == 0) & (position >= 0) & (position < size)
    else:
        position = outputs * stride - padding + taps
        inside = (position >= 0) & (position < size)
    return np.where(inside, position, -1).astype(np.int32)


def _windows(x, kernel_hw, strides, dilations, padding, out_hw, transposed):
    if QINTERP_PLANTED_BUG == 6:
        strides = strides[::-1]
    if min(strides) < 1 or min(dilations) < 1 or min(out_hw) < 0:
        raise ValueError(f"strides {strides} and dilations {dilations} must be positive, out_hw {out_hw} not negative")
    return [
        _positions(out_hw[i], kernel_hw[i], x.shape[i + 1], strides[i], dilations[i], padding[i], transposed) for i in (0, 1)
    ]


def _taps(taps, kernel):
    """Return int32 (K, 3): the given accumulation order, checked, or the nested one of a (kh, kw, ic) kernel."""
    if taps is None:
        return np.indices(kernel, dtype=np.int32).reshape(3, -1).T.copy()
    taps = np.ascontiguousarray(taps, dtype=np.int32)
    if taps.ndim != 2 or taps.shape[1] != 3 or (taps < 0).any() or (taps >= np.array(kernel)).any():
        raise ValueError(f"taps must be (K, 3) indices (kh, kw, ic) below {kernel}")
    return taps


def _check_shapes(x, w, bias, groups):
    if x.ndim != 4 or w.ndim != 4 or groups < 1 or w.shape[0] % groups or w.shape[3] * groups != x.shape[3]:
        raise ValueError(f"x {x.shape} and w {w.shape} do not make a convolution of {groups} groups")
    if bias is not None and bias.shape != (w.shape[0],):
        raise ValueError(f"bias has shape {bias.shape}, w has {w.shape[0]} output channels")


# ---- integer accumulation ----------------------------------------------------------------------------------------------


cdef qi_policy _policy(accumulator) except *:
    cdef qi_policy p
    p.bits, p.overflow, p.check, p.operands, p.padding, p.bias, p.group_size, p.group_bits, p.group_overflow = accumulator
    if not (
        2 <= p.bits <= 64 and WRAP <= p.overflow <= ERROR and AT_END <= p.check <= EACH_STEP
        and ZERO_POINT_SUBTRACTED <= p.operands <= RAW and SKIP <= p.padding <= ZERO and LAST <= p.bias <= FIRST
        and p.group_size >= 0
        and (p.group_size == 0 or (2 <= p.group_bits <= 64 and WRAP <= p.group_overflow <= ERROR))
    ):
        raise ValueError(f"not an accumulator: {accumulator}")
    return p


cdef int _accumulate(
    const int32_t[:, :, ::1] x, const int32_t[:, ::1] w, const int64_t[::1] bias, int x_zero_point,
    const int64_t[::1] w_zero_point, const int32_t[:, ::1] rows, const int32_t[:, ::1] columns, Py_ssize_t width,
    const int32_t[:, ::1] taps, Py_ssize_t groups, const qi_policy *p,
    int64_t[::1] pixels, int32_t[::1] values, uint8_t[::1] given, int64_t[:, :, :, ::1] out,
) except -1 nogil:
    """Return whether a value left its range. ``pixels``, ``values`` and ``given`` are scratch of one element a tap."""
    cdef Py_ssize_t n, oy, ox, g, oc, t, row, column, count = taps.shape[0]
    cdef Py_ssize_t group_in = x.shape[2] // groups, group_out = w.shape[0] // groups
    cdef bint raw = p.operands == RAW, each_step = p.check == EACH_STEP
    cdef int32_t offset = 0 if raw else x_zero_point
    cdef int32_t pad_value = x_zero_point - offset if p.padding == ZERO_POINT else 0 if p.padding == SKIP else -offset
    cdef int64_t total, correction, sum_x, sum_w, products, operand_zero_point
    cdef int overflowed = 0
    if QINTERP_PLANTED_BUG == 7:
        pad_value += 1
    if QINTERP_PLANTED_BUG == 8:
        count -= count > 1
    for n in range(out.shape[0]):
        for oy in range(out.shape[1]):
            for ox in range(out.shape[2]):
                for t in range(count):
                    row = rows[oy, taps[t, 0]]
                    column = columns[ox, taps[t, 1]]
                    pixels[t] = -1 if row < 0 or column < 0 else row * width + column
                    given[t] = pixels[t] >= 0 or p.padding != SKIP
                for g in range(groups):
                    for t in range(count):
                        values[t] = pad_value if pixels[t] < 0 else x[n, pixels[t], g * group_in + taps[t, 2]] - offset
                    for oc in range(g * group_out, (g + 1) * group_out):
                        total = qi_fit(bias[oc], p.bits, p.overflow, &overflowed) if p.bias == FIRST and each_step else 0
                        if p.bias == FIRST and not each_step:
                            total = bias[oc]
                        operand_zero_point = 0 if raw or QINTERP_PLANTED_BUG == 3 else w_zero_point[oc]
                        total = qi_sum_in_order(
                            &values[0] if count else NULL, &w[oc, 0] if count else NULL, count, operand_zero_point, total, p,
                            &overflowed,
                        )
                        if raw:
                            sum_x = sum_w = products = 0
                            for t in range(count):
                                if given[t]:
                                    sum_x += values[t]
                                    sum_w += w[oc, t]
                                    products += 1
                            correction = products * x_zero_point * w_zero_point[oc]
                            correction -= x_zero_point * sum_w + w_zero_point[oc] * sum_x
                            total = (
                                qi_add_fit(total, correction, p.bits, p.overflow, &overflowed) if each_step
                                else qi_wrapping_add(total, correction)
                            )
                        if p.bias == LAST or (QINTERP_PLANTED_BUG == 5 and groups > 1):
                            total = (
                                qi_add_fit(total, bias[oc], p.bits, p.overflow, &overflowed) if each_step
                                else qi_wrapping_add(total, bias[oc])
                            )
                        if QINTERP_PLANTED_BUG == 5 and groups > 1 and p.bias == LAST:
                            total = qi_wrapping_add(total, bias[oc])
                        out[n, oy, ox, oc] = qi_fit(total, p.bits, p.overflow, &overflowed)
    return overflowed


def _widened(array, name):
    if array.dtype not in (np.int8, np.uint8, np.int16):
        raise TypeError(f"{name} must be int8, uint8 or int16, not {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int32)


def _accumulators(x, w, bias, x_zero_point, w_zero_point, rows, columns, taps, groups, accumulator):
    """x (N, H, W, C), w (OC, KH, KW, C / groups) in any layout; rows and columns are the tables of _positions."""
    cdef qi_policy policy = _policy(accumulator)
    cdef int overflowed, x_zero = x_zero_point
    cdef Py_ssize_t width = x.shape[2], group_count = groups
    _check_shapes(x, w, bias, groups)
    taps = _taps(taps, w.shape[1:])
    w_zero_point = np.ascontiguousarray(w_zero_point, dtype=np.int64)
    bias = np.zeros(w.shape[0], np.int64) if bias is None else np.ascontiguousarray(bias, dtype=np.int64)
    if w_zero_point.shape != bias.shape or abs(x_zero) > 1 << 16 or (np.abs(w_zero_point) > 1 << 16).any():
        raise ValueError("zero points must be within +-65536, those of w one an output channel")
    out = np.empty((x.shape[0], rows.shape[0], columns.shape[0], w.shape[0]), np.int64)
    cdef const int32_t[:, :, ::1] x_view = _widened(x, "x").reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    cdef const int32_t[:, ::1] w_view = np.ascontiguousarray(_widened(w, "w")[:, taps[:, 0], taps[:, 1], taps[:, 2]])
    cdef const int64_t[::1] bias_view = bias, w_zero_view = w_zero_point
    cdef const int32_t[:, ::1] rows_view = rows, columns_view = columns, taps_view = taps
    cdef int64_t[::1] pixels = np.empty(len(taps), np.int64)
    cdef int32_t[::1] values = np.empty(len(taps), np.int32)
    cdef uint8_t[::1] given = np.empty(len(taps), np.uint8)
    cdef int64_t[:, :, :, ::1] out_view = out
    with nogil:
        overflowed = _accumulate(
            x_view, w_view, bias_view, x_zero, w_zero_view, rows_view, columns_view, width, taps_view, group_count, &policy,
            pixels, values, given, out_view,
        )
    return out.astype(np.int32) if policy.bits <= 32 else out, bool(overflowed)


def conv_2d(
    x, w, bias, x_zero_point, w_zero_point, strides, dilations, padding, out_hw, groups, accumulator, taps=None,
):
    rows, columns = _windows(x, w.shape[1:3], strides, dilations, padding, out_hw, transposed=False)
    return _accumulators(x, w, bias, x_zero_point, w_zero_point, rows, columns, taps, groups, accumulator)


def depthwise_conv_2d(
    x, w, bias, x_zero_point, w_zero_point, strides, dilations, padding, out_hw, accumulator, taps=None,
):
    rows, columns = _windows(x, w.shape[:2], strides, dilations, padding, out_hw, transposed=False)
    w = w.transpose(2, 0, 1)[..., None]
    return _accumulators(x, w, bias, x_zero_point, w_zero_point, rows, columns, taps, x.shape[3], accumulator)


def transpose_conv_2d(
    x, w, bias, x_zero_point, w_zero_point, strides, dilations, padding, out_hw, groups, accumulator, taps=None,
):
    rows, columns = _windows(x, w.shape[1:3], strides, dilations, padding, out_hw, transposed=True)
    accumulator = (*accumulator[:4], SKIP, *accumulator[5:])
    return _accumulators(x, w, bias, x_zero_point, w_zero_point, rows, columns, taps, groups, accumulator)


def matmul(x, w, bias, x_zero_point, w_zero_point, accumulator, order=None):
    inside = np.zeros((1, 1), np.int32)
    taps = None if order is None else np.stack([np.zeros_like(order), np.zeros_like(order), order], axis=1)
    out, overflowed = _accumulators(
        x[:, None, None, :], w[:, None, None, :], bias, x_zero_point, w_zero_point, inside, inside, taps, 1, accumulator,
    )
    return out.reshape(len(x), len(w)), overflowed


# ---- float32 accumulation ----------------------------------------------------------------------------------------------


cdef int _accumulate_float32(
    const float[:, :, ::1] x, const float[:, :, ::1] w, const float[::1] bias, const int32_t[:, ::1] rows,
    const int32_t[:, ::1] columns, Py_ssize_t width, const int32_t[:, ::1] taps, float[:, :, :, ::1] out,
) except -1 nogil:
    """w is (groups, taps, output channels of a group): the channels of a group advance together, each in tap order."""
    cdef Py_ssize_t n, oy, ox, g, t, oc, row, column, groups = w.shape[0], group_out = w.shape[2]
    cdef Py_ssize_t group_in = x.shape[2] // groups
    for n in range(out.shape[0]):
        for oy in range(out.shape[1]):
            for ox in range(out.shape[2]):
                for oc in range(out.shape[3]):
                    out[n, oy, ox, oc] = 0
                for t in range(taps.shape[0]):
                    row = rows[oy, taps[t, 0]]
                    column = columns[ox, taps[t, 1]]
                    if row < 0 or column < 0:
                        continue
                    for g in range(groups):
                        qi_add_products(
                            &out[n, oy, ox, g * group_out], &w[g, t, 0],
                            x[n, row * width + column, g * group_in + taps[t, 2]], group_out,
                        )
                for oc in range(out.shape[3]):
                    out[n, oy, ox, oc] = out[n, oy, ox, oc] + bias[oc]
    return 0


def _accumulators_float32(x, w, bias, rows, columns, taps, groups):
    cdef Py_ssize_t width = x.shape[2]
    for name, array in (("x", x), ("w", w)) if bias is None else (("x", x), ("w", w), ("bias", bias)):
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, not {array.dtype}")
    _check_shapes(x, w, bias, groups)
    taps = _taps(taps, w.shape[1:])
    out = np.empty((x.shape[0], rows.shape[0], columns.shape[0], w.shape[0]), np.float32)
    if out.size == 0:
        return out
    w = w[:, taps[:, 0], taps[:, 1], taps[:, 2]].reshape(groups, w.shape[0] // groups, len(taps)).transpose(0, 2, 1)
    cdef const float[:, :, ::1] x_view = np.ascontiguousarray(x).reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    cdef const float[:, :, ::1] w_view = np.ascontiguousarray(w)
    cdef const float[::1] bias_view = np.zeros(out.shape[3], np.float32) if bias is None else np.ascontiguousarray(bias)
    cdef const int32_t[:, ::1] rows_view = rows, columns_view = columns, taps_view = taps
    cdef float[:, :, :, ::1] out_view = out
    with nogil:
        _accumulate_float32(x_view, w_view, bias_view, rows_view, columns_view, width, taps_view, out_view)
    return out


def conv_2d_float32(x, w, bias, strides, dilations, padding, out_hw, groups, taps=None):
    rows, columns = _windows(x, w.shape[1:3], strides, dilations, padding, out_hw, transposed=False)
    return _accumulators_float32(x, w, bias, rows, columns, taps, groups)


def depthwise_conv_2d_float32(x, w, bias, strides, dilations, padding, out_hw, taps=None):
    rows, columns = _windows(x, w.shape[:2], strides, dilations, padding, out_hw, transposed=False)
    return _accumulators_float32(x, w.transpose(2, 0, 1)[..., None], bias, rows, columns, taps, x.shape[3])


def transpose_conv_2d_float32(x, w, bias, strides, dilations, padding, out_hw, groups, taps=None):
    rows, columns = _windows(x, w.shape[1:3], strides, dilations, padding, out_hw, transposed=True)
    if taps is None:
        nested = _taps(None, w.shape[1:]).reshape(*w.shape[1:], 3)
        taps = nested[::-1, ::-1].reshape(-1, 3)
    return _accumulators_float32(x, w, bias, rows, columns, taps, groups)


def matmul_float32(x, w, bias, order=None):
    inside = np.zeros((1, 1), np.int32)
    taps = None if order is None else np.stack([np.zeros_like(order), np.zeros_like(order), order], axis=1)
    out = _accumulators_float32(x[:, None, None, :], w[:, None, None, :], bias, inside, inside, taps, 1)
    return out.reshape(len(x), len(w))


# ---- requantization ----------------------------------------------------------------------------------------------------

_TYPES = {
    np.dtype(np.int8): I8, np.dtype(np.uint8): U8, np.dtype(np.int16): I16, np.dtype(np.int32): I32,
    np.dtype(np.int64): I64, np.dtype(np.float32): F32, np.dtype(np.float64): F64,
}
cdef int64_t _FARTHEST = 1 << 20  # no shift amount or exponent needs to go farther: the result no longer changes
cdef int64_t _FARTHEST_BOUND = <int64_t>1 << 62


cdef bint _check_program(const int64_t *program, int stages, bint is_float) except -1:
    """Raise for a malformed program; return whether its result is a float. ``is_float``: its input is."""
    cdef int k
    cdef int64_t opcode, a, b, c, d
    cdef bint good
    for k in range(stages):
        opcode, a, b, c, d = program[0], program[1], program[2], program[3], program[4]
        if opcode == SHIFT_LEFT:
            good = not is_float and LITERAL <= a <= POST and -_FARTHEST <= b <= _FARTHEST and _is_fit(c, d)
        elif opcode == MULTIPLY:
            good = not is_float and _is_fit(a, b)
        elif opcode == MULTIPLY_HIGH:
            good = not is_float and _is_fit(a, c) and TIES_TO_EVEN <= b <= AWAY_FROM_ZERO
        elif opcode == SHIFT_RIGHT:
            good = not is_float and LITERAL <= a <= POST and -_FARTHEST <= b <= _FARTHEST and TIES_TO_EVEN <= c <= AWAY_FROM_ZERO
        elif opcode == TO_FLOAT:
            good = a == 32 or a == 64
            is_float = True
        elif opcode in (SCALE, DIVIDE_SCALE):
            good = is_float and (a == 32 or a == 64)
        elif opcode == SCALE_RATIO:
            good = not is_float and TIES_TO_EVEN <= a <= AWAY_FROM_ZERO
        elif opcode == ROUND:
            good = is_float and TIES_TO_EVEN <= a <= AWAY_FROM_ZERO and _is_fit(b, c)
            is_float = False
        elif opcode in (ADD_ZERO_POINT, SUBTRACT_ZERO_POINT):
            good = is_float or _is_fit(a, b)
        elif opcode == FIT:
            good = not is_float and _is_fit(a, b)
        elif opcode == CLAMP:
            good = not is_float
        elif opcode == CLAMP_FLOAT:
            good = is_float
        else:
            good = False
        if not good:
            raise ValueError(f"stage {k} of the program is not possible here: {[opcode, a, b, c, d, program[5]]}")
        program += QI_STAGE_WIDTH
    return is_float


cdef inline bint _is_fit(int64_t bits, int64_t overflow) noexcept:
    return 1 <= bits <= 64 and WRAP <= overflow <= INDEFINITE


cdef class Stages:
    cdef qi_parameters p
    cdef const qi_isa *_isa
    cdef const int64_t *_program
    cdef int _count
    cdef object _arrays
    cdef Py_ssize_t _channels

    def __init__(
        self, program, multiplier, shift, scale, ratio, zero_point, lo, hi, pre=None, post=None, isa=None,
    ):
        cdef Py_ssize_t i
        cdef bint good
        program = np.ascontiguousarray(program, np.int64)
        if program.ndim != 2 or program.shape[1] != QI_STAGE_WIDTH or len(program) > QI_MAX_STAGES:
            raise ValueError(f"a program is (stages <= {QI_MAX_STAGES}, {QI_STAGE_WIDTH})")
        self._isa = _default_isa if isa is None else _find_isa(isa)
        self._program, self._count = <const int64_t *>_address(program), <int>len(program)
        self.p.zero_point, self.p.lo, self.p.hi = zero_point, lo, hi
        if not (
            -_FARTHEST_BOUND < self.p.zero_point < _FARTHEST_BOUND
            and -_FARTHEST_BOUND < self.p.lo and self.p.hi < _FARTHEST_BOUND
        ):
            raise ValueError("zero_point, lo and hi must be within +-2**62")
        ratio, scale = np.ascontiguousarray(ratio, np.int64), np.ascontiguousarray(scale, np.float64)
        self._arrays, self._channels = [program, scale, ratio], 1
        self.p.ratio, self.p.ratio_stride = <const int64_t *>_address(ratio), 3 * self._stride_of(ratio, "ratio")
        good = ratio.ndim == 2 and ratio.shape[1] == 3
        for i in range(len(ratio) if good else 0):
            good &= self.p.ratio[3 * i + 1] > 0 and -_FARTHEST <= self.p.ratio[3 * i + 2] <= _FARTHEST
        if not good:
            raise ValueError(f"ratio is (1 or channels, 3): numerator, denominator > 0, exponent within +-{_FARTHEST}")
        self.p.scale, self.p.scale_stride = <const double *>_address(scale), self._stride_of(scale, "scale")
        self._set(multiplier, "multiplier", False, &self.p.multiplier, &self.p.multiplier_stride)
        self._set(shift, "shift", True, &self.p.shift, &self.p.shift_stride)
        self._set(pre, "pre", True, &self.p.pre, &self.p.pre_stride)
        self._set(post, "post", True, &self.p.post, &self.p.post_stride)

    cdef ptrdiff_t _stride_of(self, values, name) except -1:
        """1 where there is one value a channel, of which all parameters must have as many; 0 where there is one."""
        if len(values) == 0 or (len(values) != 1 and self._channels not in (1, len(values))):
            raise ValueError(f"{name} has {len(values)} values for {self._channels} channels")
        self._channels = max(self._channels, len(values))
        return len(values) > 1

    cdef int _set(self, values, name, bint bounded, const int64_t **address, ptrdiff_t *stride) except -1:
        cdef Py_ssize_t i
        address[0], stride[0] = NULL, 0
        if values is None:
            return 0
        values = np.ascontiguousarray(values, np.int64)
        stride[0] = self._stride_of(values, name)
        address[0] = <const int64_t *>_address(values)
        self._arrays.append(values)
        for i in range(len(values) if bounded else 0):
            if not -_FARTHEST <= address[0][i] <= _FARTHEST:
                raise ValueError(f"{name} is beyond +-{_FARTHEST}")
        return 0

    def into(self, x, out):
        cdef Py_buffer source, target
        cdef int error, x_type = _TYPES.get(x.dtype, -1), out_type = _TYPES.get(out.dtype, -1)
        cdef Py_ssize_t channels, size
        if x_type < 0 or out_type < 0 or x.size != out.size:
            raise TypeError(f"x {x.dtype} {x.shape} and out {out.dtype} {out.shape} must be numeric, of one size")
        if _check_program(self._program, self._count, x_type >= F32) and out_type < F32:
            raise ValueError(f"the program ends with a float, out is {out.dtype}")
        PyObject_GetBuffer(np.ascontiguousarray(x), &source, PyBUF_C_CONTIGUOUS)
        try:
            size, channels = source.len // source.itemsize, source.shape[source.ndim - 1] if source.ndim else 1
            if self._channels != 1 and channels != self._channels:
                raise ValueError(f"parameters have {self._channels} values for {channels} channels")
            if self._channels == 1:
                channels = 1
            if size == 0:
                return False
            PyObject_GetBuffer(out, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            with nogil:
                error = self._isa.run_stages(
                    self._program, self._count, source.buf, x_type, size // channels, channels, &self.p, target.buf, out_type,
                )
            PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        return bool(error)


def run_stages(
    program, x, multiplier, shift, scale, ratio, zero_point, lo, hi, out, pre=None, post=None, isa=None,
):
    if x.ndim != 2 or x.shape != out.shape:
        raise TypeError(f"x {x.dtype} {x.shape} must be (rows, channels), and out {out.dtype} {out.shape} too")
    return Stages(program, multiplier, shift, scale, ratio, zero_point, lo, hi, pre, post, isa).into(x, out)


def round_shift(x, amount, rounding):
    cdef int mode = rounding
    x = np.asarray(x, dtype=np.int64)
    out = np.empty(x.shape, np.int64)
    if not TIES_TO_EVEN <= mode <= AWAY_FROM_ZERO:
        raise ValueError(f"not a rounding: {rounding}")
    amount = np.broadcast_to(np.clip(np.asarray(amount, dtype=np.int64), -_FARTHEST, _FARTHEST), x.shape)
    cdef const int64_t[::1] values = np.ascontiguousarray(x).reshape(-1), amounts = np.ascontiguousarray(amount).reshape(-1)
    cdef int64_t[::1] results = out.reshape(-1)
    if out.size:
        with nogil:
            qi_round_shifts(&values[0], &amounts[0], values.shape[0], mode, &results[0])
    return out


def fit(x, bits, overflow):
    cdef int width = bits, mode = overflow
    if not _is_fit(width, mode):
        raise ValueError(f"not a width and overflow: {bits}, {overflow}")
    x = np.asarray(x, dtype=np.int64)
    out = np.empty(x.shape, np.int64)
    cdef const int64_t[::1] values = np.ascontiguousarray(x).reshape(-1)
    cdef int64_t[::1] results = out.reshape(-1)
    if out.size:
        with nogil:
            qi_fits(&values[0], values.shape[0], width, mode, &results[0])
    return out


# ---- packed forms: instruction sets ------------------------------------------------------------------------------------


def available_isas():
    cdef const qi_isa *const *each = qi_available_isas()
    names = []
    while each[0] != NULL:
        names.append(each[0].name.decode())
        each += 1
    return tuple(names)


def isa():
    return os.environ.get("QINTERP_ISA") or available_isas()[0]


cdef const qi_isa *_find_isa(name) except NULL:
    cdef const qi_isa *const *each = qi_available_isas()
    wanted = name or isa()
    while each[0] != NULL:
        if each[0].name.decode() == wanted:
            return each[0]
        each += 1
    raise ValueError(f"instruction set {wanted!r} is not available here; there are {', '.join(available_isas())}")


# looks at the processor once, before any thread can ask
cdef const qi_isa *_default_isa = _find_isa(None)


def _aligned(shape, dtype):
    """Return zeros, aligned to 64 bytes for whole-vector loads."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


cdef size_t _address(array) except? 0:
    """The address of a contiguous array's first element; the caller keeps the array alive."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)
    return <size_t>view.buf


# ---- packed forms: requantization --------------------------------------------------------------------------------------


cdef class Requantizer:
    cdef qi_requantizer c
    cdef const qi_isa *_isa
    cdef object _arrays, _pre
    cdef readonly Py_ssize_t channels

    def __init__(
        self, kind, channels, multiplier, shift, scale, zero_point, lo, hi, accumulator_range=None, isa=None, *, pre=None,
    ):
        self._isa = _find_isa(isa)
        self.channels = channels
        self._pre = None if pre is None else self._spread(pre, np.int32)
        if pre is not None:
            if kind != SR or self._pre.min() < 0 or self._pre.max() > 31:
                raise ValueError("shifts before the multiplication are 0 .. 31, and of single rounding only")
            self.c.pre = <const int32_t *>_address(self._pre)
        if not -65535 <= lo <= hi <= 65535 or abs(zero_point) > 65535:
            raise ValueError(f"zero point {zero_point} and bounds {lo}, {hi} must be within +-65535, lo <= hi")
        self.c.zero_point, self.c.low, self.c.high = zero_point, lo, hi
        self.c.adds = True
        if kind in (DR, DU, SR):
            multiplier, shift = self._spread(multiplier, np.int64), self._spread(shift, np.int64)
            if (multiplier < 0).any() or (multiplier >= 1 << 31).any() or (shift < -31).any() or (shift > 30).any():
                raise ValueError("multipliers must be within 0 .. 2**31 - 1, shifts within -31 .. 30")
            self._set_multiplier(kind, multiplier, shift, accumulator_range)
        elif kind in (FLOAT32, FLOAT64):
            self.c.kind = QI_FLOAT32 if kind == FLOAT32 else QI_FLOAT64
            scale = self._spread(scale, np.float32 if kind == FLOAT32 else np.float64)
            if not np.isfinite(scale).all():
                raise ValueError("scales must be finite")
            self._set_float(scale, kind == FLOAT32, accumulator_range)
        else:
            raise ValueError(f"not a fused requantization: {kind}")

    def _spread(self, values, dtype):
        """Return one value a channel, with a vector's length of zeros behind; one channel fills the vector."""
        values = np.asarray(values, dtype)
        if values.shape not in ((1,), (self.channels,)):
            raise ValueError(f"parameters have shape {values.shape} for {self.channels} channels")
        spread = np.zeros(self.channels + 32, dtype)
        spread[: 16 if self.channels == 1 else self.channels] = values
        return spread

    def _set_multiplier(self, kind, multiplier, shift, accumulator_range):
        cdef int64_t half = 1 << 30
        right = np.maximum(-shift, 0)
        if kind == SR:
            low, high = accumulator_range if accumulator_range is not None else (np.array([-1 << 31]), np.array([(1 << 31) - 1]))
            low, high = (np.broadcast_to(end, self.channels) for end in (low, high))
            for channel in np.flatnonzero(shift[: self.channels] > 0):
                m, s = int(multiplier[channel]), int(shift[channel])
                if any(abs((int(x[channel]) * m + (1 << 30 - s)) >> 31 - s) >= 1 << 31 for x in (low, high)):
                    raise ValueError(f"channel {channel}: a shift of {s} to the left can leave 32 bits")
            left, total = np.zeros_like(shift), 31 - shift
            above = below = half >> shift.clip(0) << right
        else:
            left, total = np.maximum(shift, 0), 31 + right
            above = below = half + np.where(right > 0, half << right, 0)
            if kind == DR and QINTERP_PLANTED_BUG != 9:
                below = above - np.where(right > 0, 2 * half, 0)
        self.c.kind = QI_MULTIPLIER
        padded = -(-self.channels // 16) * 16
        plain = ((left == 0) & (total >= 32))[:padded]
        low, high = accumulator_range if accumulator_range is not None else (-1 << 31, 1 << 31)
        plain[: self.channels] &= (np.asarray(low) > -1 << 30) & (np.asarray(high) < 1 << 30)
        plain |= np.arange(padded) >= self.channels
        plain = plain.reshape(-1, 16).all(axis=1)
        blocks = np.append(plain, np.ones(-len(plain) % 4, np.bool_)).reshape(-1, 4).all(axis=1)
        blocks &= self._pre is None
        plain = plain.astype(np.uint8)
        self._arrays = [left.astype(np.int32), multiplier.astype(np.int32), above, below, total, plain]
        self.c.left, self.c.multiplier = <const int32_t *>_address(self._arrays[0]), <const int32_t *>_address(self._arrays[1])
        self.c.above, self.c.below = <const int64_t *>_address(self._arrays[2]), <const int64_t *>_address(self._arrays[3])
        self.c.shift, self.c.plain = <const int64_t *>_address(self._arrays[4]), <const uint8_t *>_address(self._arrays[5])
        # a negative accumulator's result is at most 0 with or without the nudge, which clamping may hide
        self.c.nudge = -1 if (below < above)[: self.channels].any() and self.c.low < self.c.zero_point else 0
        self._set_high_half(*_high_half(multiplier, above, total), np.repeat(plain, 16), blocks)

    def _set_high_half(self, doubled, lift, top, rest, plain, blocks):
        shifted = np.where(plain, self.c.zero_point * (1 << rest[: len(plain)]), 0)
        shifted = np.append(shifted, np.zeros(len(top) - len(plain), np.int64))
        self.c.adds = np.abs(shifted).max() > 1 << 29
        if not self.c.adds:
            top = top + shifted
        constants = [np.ascontiguousarray(x.astype(np.uint32)) for x in (doubled, lift, top, rest)]
        quarters = [_in_quarters(x, self.channels) for x in constants]
        tail = [_tail_of(x, self.channels) for x in constants]
        self._set_arrangeable(blocks)
        self._arrays += [*constants, *quarters, *tail]
        _point_to(&self.c.high_half, constants)
        _point_to(&self.c.quarters.high_half, quarters)
        _point_to(&self.c.tail.high_half, tail)

    def _set_arrangeable(self, blocks):
        blocks = blocks.astype(np.uint8)
        self._arrays.append(blocks)
        self.c.arrangeable = <const uint8_t *>_address(blocks)

    def _set_float(self, scale, is_float32, accumulator_range):
        quarters, tail = _in_quarters(scale, self.channels), _tail_of(scale, self.channels)
        self._arrays = [scale, quarters, tail]
        self._set_arrangeable(np.full(-(-self.channels // 64), is_float32))
        self.c.scale32, self.c.scale64 = <const float *>_address(scale), <const double *>_address(scale)
        self.c.quarters.scale32, self.c.tail.scale32 = <const float *>_address(quarters), <const float *>_address(tail)
        largest = np.abs(scale[: self.channels].astype(np.float64)) * _largest_of(accumulator_range)
        self.c.clips = largest.max(initial=0.0) >= 1 << 30

    @property
    def isa(self):
        return self._isa.name.decode()

    cdef int _out_type(self, dtype) except -1:
        cdef int out_type = _TYPES.get(dtype, F64)
        if out_type > I16:
            raise TypeError(f"out must be int8, uint8 or int16, not {dtype}")
        if self.c.low < (-128, 0, -32768)[out_type] or self.c.high > (127, 255, 32767)[out_type]:
            raise ValueError(f"bounds {self.c.low}, {self.c.high} do not fit {dtype}")
        return out_type

    def into(self, accumulators, out):
        cdef int out_type = self._out_type(out.dtype)
        cdef Py_ssize_t first, rows, channels = self.channels
        cdef Py_ssize_t row_bytes = channels * (2 if out_type == I16 else 1)
        cdef Py_buffer x, y
        if accumulators.dtype != np.int32 or accumulators.shape != out.shape or out.shape[out.ndim - 1] != channels:
            raise ValueError(
                f"accumulators {accumulators.dtype} {accumulators.shape} must be int32, of the shape of out {out.shape}, "
                f"and end with {channels} channels"
            )
        PyObject_GetBuffer(accumulators, &x, PyBUF_C_CONTIGUOUS)
        try:
            PyObject_GetBuffer(out, &y, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            rows = y.len // row_bytes if row_bytes else 0
            with nogil:
                if channels == 1:
                    qi_requantize_flat(self._isa, <const int32_t *>x.buf, rows, &self.c, y.buf, out_type)
                    rows = 0
                for first in range(0, rows, 256):
                    self._isa.requantize(
                        <const int32_t *>x.buf + first * channels, channels, <int>min(256, rows - first), 0, <int>channels,
                        &self.c, <uint8_t *>y.buf + first * row_bytes, out_type, channels,
                    )
            PyBuffer_Release(&y)
        finally:
            PyBuffer_Release(&x)


def _largest_of(accumulator_range):
    """The largest magnitude of each accumulator."""
    return 1 << 31 if accumulator_range is None else np.maximum(-accumulator_range[0], accumulator_range[1])


def _high_half(multiplier, above, shift):
    """Return the constants of qi_high_half; those of a channel that is not plain mean nothing."""
    doubled, term = 2 * multiplier.astype(np.uint64), 2 * above.astype(np.uint64)
    step = (1 << 30) // np.maximum(multiplier & -multiplier, 1)
    lift = np.where(term & 0xFFFFFFFF, np.where(step == 1 << 30, step, (1 << 30) + step), 1 << 31).astype(np.uint64)
    return doubled, lift, ((term - lift * doubled) >> 32).astype(np.int64), (shift - 31).clip(0)


cdef void _point_to(qi_high_half *half, arrays) except *:
    half.doubled, half.lift = <const uint32_t *>_address(arrays[0]), <const uint32_t *>_address(arrays[1])
    half.top, half.rest = <const int32_t *>_address(arrays[2]), <const int32_t *>_address(arrays[3])


_QUARTERS = np.arange(64).reshape(4, 4, 4).swapaxes(0, 1).ravel()


def _in_quarters(x, channels):
    """The first values of x, one a channel, in blocks of 64 in quarters; at most 32 in the last block come twice."""
    blocks = np.zeros((-(-channels // 64), 64), x.dtype)
    blocks.reshape(-1)[:channels] = x[:channels]
    if 0 < channels % 64 <= 32:
        blocks[-1, 32:] = blocks[-1, :32]
    arranged = _aligned(blocks.shape, x.dtype)
    arranged[...] = blocks[:, _QUARTERS]
    return arranged


_HALVES = np.arange(32).reshape(4, 2, 4).swapaxes(0, 1).ravel()


def _order_of_tail(channels):
    """The order of the channels of the last block, of at most 32."""
    return _HALVES if channels % 64 > 16 else np.arange(32)


def _tail_of(x, channels):
    """Those of the last block of a product, if it has at most 32 channels."""
    tail = _aligned(32, x.dtype)
    if 0 < channels % 64 <= 32:
        tail[: channels % 64] = x[channels // 64 * 64 : channels]
        tail[:] = tail[_order_of_tail(channels)]
    return tail


# ---- packed forms: convolutions ----------------------------------------------------------------------------------------


cdef class _Packed:
    cdef qi_conv conv
    cdef qi_depthwise_conv deep
    cdef bint _is_wide, _starts_outside
    cdef object _arrays, _x_dtype
    cdef tuple _x_tail, _out_tail
    cdef readonly object low, high
    cdef readonly str isa, kernel

    @property
    def out_shape(self):
        return self._out_tail

    cdef Py_ssize_t _batch(self, x) except -1:
        if x.dtype != self._x_dtype or x.shape[1:] != self._x_tail:
            tail = ", ".join(map(str, self._x_tail))
            raise ValueError(f"x is {x.dtype} {x.shape}, packed for {self._x_dtype} (batch, {tail})")
        return len(x)

    cdef int _run(self, x, Py_ssize_t batch, target, const qi_requantizer *requantizer, int out_type) except -1:
        cdef Py_buffer source, result
        cdef int32_t *accumulators = NULL
        cdef int64_t *wide = NULL
        cdef void *out = NULL
        cdef int status
        PyObject_GetBuffer(x, &source, PyBUF_C_CONTIGUOUS)
        try:
            PyObject_GetBuffer(target, &result, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            try:
                if requantizer != NULL:
                    out = result.buf
                elif self._is_wide:
                    wide = <int64_t *>result.buf
                else:
                    accumulators = <int32_t *>result.buf
                with nogil:
                    if self.deep.isa != NULL:
                        status = qi_run_depthwise(&self.deep, source.buf, batch, accumulators, requantizer, out, out_type)
                    else:
                        status = qi_run_conv(&self.conv, source.buf, batch, accumulators, wide, requantizer, out, out_type)
            finally:
                PyBuffer_Release(&result)
        finally:
            PyBuffer_Release(&source)
        if status < 0:
            raise MemoryError
        return status or (self._starts_outside and batch > 0)

    def accumulate(self, x):
        cdef Py_ssize_t batch = self._batch(x)
        out = np.empty((batch, *self._out_tail), np.int64 if self._is_wide else np.int32)
        return out, bool(self._run(x, batch, out, NULL, 0))

    def requantize_into(self, x, out, Requantizer requantizer not None):
        cdef Py_ssize_t batch = self._batch(x)
        cdef int out_type = requantizer._out_type(out.dtype)
        if self._is_wide:
            raise ValueError("64-bit accumulators cannot be requantized here: accumulate, then run_stages")
        if out.shape != (batch, *self._out_tail) or requantizer.channels != out.shape[out.ndim - 1]:
            raise ValueError(
                f"out has shape {out.shape} and the requantizer {requantizer.channels} channels, "
                f"the result has shape {(batch, *self._out_tail)}"
            )
        return bool(self._run(x, batch, out, &requantizer.c, out_type))

    def task(self, batch, Requantizer requantizer not None, out_dtype):
        cdef Task task = Task.__new__(Task)
        if self._is_wide or requantizer.channels != self._out_tail[len(self._out_tail) - 1]:
            raise ValueError("64-bit accumulators, or a requantizer of other channels")
        sizes = batch * prod(self._x_tail) * self._x_dtype.itemsize, batch * prod(self._out_tail) * np.dtype(out_dtype).itemsize
        task._set(self, requantizer, sizes, out_dtype)
        if self.deep.isa != NULL:
            task.c.run, task.c.self = qi_task_depthwise, <const void *>&self.deep
        else:
            task.c.run, task.c.self = qi_task_conv, <const void *>&self.conv
        task.c.sizes[0] = batch
        return task

    def _set_range(self, w, bias, x_zero_point, x_range):
        """w (OC, K) is less its zero points. A padding tap adds nothing, which no range excludes."""
        least, greatest = min(x_range[0] - x_zero_point, 0), max(x_range[1] - x_zero_point, 0)
        positive = np.maximum(w, 0).sum(axis=1, dtype=np.int64)
        negative = w.sum(axis=1, dtype=np.int64) - positive
        self.low = bias + least * positive + greatest * negative
        self.high = bias + greatest * positive + least * negative

    def _pack(
        self, x_shape, x_dtype, w, bias, x_zero_point, w_zero_point, rows, columns, groups, x_range, wide, ordered, taps, isa,
    ):
        """w (OC, KH, KW, C / groups)."""
        cdef qi_conv *conv = &self.conv
        conv.isa = _find_isa(isa)
        self.isa = conv.isa.name.decode()
        self._x_dtype, x_range = _check_packed(x_dtype, x_zero_point, x_range)
        w, bias, w_zero_point = _less_zero_point(w, bias, w_zero_point, w.shape[0])
        _check_shapes(np.empty((0, *x_shape), np.int8), w, bias, groups)
        flat = w.reshape(len(w), -1)
        self._set_range(flat, bias, x_zero_point, x_range)
        conv.x_type = _TYPES[self._x_dtype]
        conv.x_zero_point = x_zero_point
        conv.height, conv.width, conv.channels = x_shape
        conv.out_height, conv.out_width, conv.out_channels = len(rows), len(columns), len(w)
        conv.kernel_height, conv.kernel_width, conv.groups = w.shape[1], w.shape[2], groups
        consecutive = (columns[:, :1] >= 0).all(axis=1) & (np.diff(columns, axis=1) == 1).all(axis=1)
        consecutive = consecutive.astype(np.uint8)
        inside = [np.arange(size, dtype=np.int32)[:, None] for size in x_shape[:2]]
        conv.direct = groups == 1 and np.array_equal(rows, inside[0]) and np.array_equal(columns, inside[1])
        conv.rows, conv.columns = <const int32_t *>_address(rows), <const int32_t *>_address(columns)
        conv.contiguous = <const uint8_t *>_address(consecutive)
        self._arrays = [rows, columns, consecutive]
        if ordered is None:
            self._pack_unordered(flat, bias, x_zero_point, wide)
        else:
            _policy(ordered)  # checks it
            self._pack_ordered(flat, w.shape[1:], bias, x_zero_point, w_zero_point, x_range, ordered, taps)

    def _pack_unordered(self, w, bias, x_zero_point, wide):
        cdef qi_conv *conv = &self.conv
        cdef bint bytes_fit = w.min(initial=0) >= -128 and w.max(initial=0) <= 127
        flip, in_type = 0, w.dtype
        if conv.isa.bytes != NULL and conv.x_type != I16 and bytes_fit and not wide:
            self.kernel, operand, per_step = "bytes", np.int8, 4
            conv.conversion, flip = (QI_FLIP_BYTES, 128 - (QINTERP_PLANTED_BUG == 11)) if conv.x_type == I8 else (QI_COPY_BYTES, 0)
        else:
            self.kernel, operand, per_step = "words", np.int16, 2
            conv.conversion = _words_of(conv.x_type)
        steps = -(-w.shape[1] // per_step)
        segments = [steps]
        self._is_wide = wide
        sums = w.sum(axis=1, dtype=np.int64)
        if wide:  # parts of the depth whose sums fit 32 bits
            largest = 1 << (15 if conv.x_type == I16 else 8)
            segment = ((1 << 31) - 1) // (2 * largest * max(_largest(w), 1))
            if segment == 0:
                raise ValueError("one product of these operands does not fit 32 bits")
            segments = [min(segment, steps - start) for start in range(0, steps, segment)] or [0]
            wide_bias = np.ascontiguousarray(bias - x_zero_point * sums)
            self._arrays.append(wide_bias)
            conv.wide_bias = <const int64_t *>_address(wide_bias)
            start = np.zeros(len(w), np.int64)
        else:
            start = bias - (x_zero_point + flip) * sums
        conv.step_bytes, conv.row_bytes = 4, _row_bytes(steps)
        self._store_weights(w.astype(operand), per_step, segments, conv.isa.block, start)

    def _store_weights(self, w, per_step, segments, block, start):
        """Weights in blocks of channels, each block's steps in turn; of a narrow convolution a step is one int16."""
        cdef qi_conv *conv = &self.conv
        cdef bint narrow = self.kernel == "narrow", transpose = self.isa != "portable"
        groups, depth = conv.groups, sum(segments)
        channels = len(w) // groups
        padded = -(-channels // (16 if self.conv.ordered == NULL else block)) * (16 if self.conv.ordered == NULL else block)
        operands = np.zeros((groups, padded, depth * per_step), w.dtype)
        operands[:, :channels, : w.shape[1]] = w.reshape(groups, channels, -1)
        bias = np.zeros((groups, padded), np.int32)
        bias[:, :channels] = (start & 0xFFFFFFFF).astype(np.uint32).view(np.int32).reshape(groups, channels)
        conv.arranged = groups == 1 and conv.ordered == NULL and block == 64 and conv.isa.natural_order != NULL
        if conv.arranged:
            whole = channels // 64 * 64
            order = np.arange(padded)
            order[:whole] = (np.arange(0, whole, 64)[:, None] + _QUARTERS).ravel()
            if padded - whole == 32:
                order[whole:] = whole + _HALVES
            operands, bias = operands[:, order], bias[:, order]
        aligned = _aligned(bias.shape, np.int32)
        aligned[...] = bias
        operands = operands if narrow else operands.view(np.int32)
        weights = _aligned(operands.size, operands.dtype)
        at = first = 0
        for steps in segments:
            for g in range(groups):
                for c in range(0, padded, block):
                    part = operands[g, c : c + block, first : first + steps]
                    if narrow or transpose:
                        part = part.T
                    weights[at : at + part.size].reshape(part.shape)[...] = part
                    at += part.size
            first += steps
        segment_steps = np.array(segments, np.int32)
        conv.segments, conv.segment_steps = len(segments), <const int32_t *>_address(segment_steps)
        conv.weights, conv.bias = <const uint8_t *>_address(weights), <const int32_t *>_address(aligned)
        self._arrays += [segment_steps, weights, aligned]

    def _pack_ordered(self, w, kernel, bias, x_zero_point, w_zero_point, x_range, accumulator, taps):
        cdef qi_conv *conv = &self.conv
        pads = _reads_padding(self._arrays[0]) or _reads_padding(self._arrays[1])
        first = self._put_in_order(&conv.in_order, w, bias, x_zero_point, w_zero_point, x_range, accumulator, pads)
        order = _order(taps, kernel, w.shape[1])
        if not np.array_equal(order, np.arange(len(order))) and QINTERP_PLANTED_BUG != 12:
            conv.in_order.order = <const int32_t *>_address(order)
            self._arrays.append(order)
        w = w if QINTERP_PLANTED_BUG == 12 else w[:, order]
        narrow = self.kernel == "narrow"
        conv.ordered = conv.isa.narrow if narrow else conv.isa.wide if self.kernel == "wide" else conv.isa.pairs
        conv.ordered_block = conv.isa.narrow_lanes if narrow else 16
        conv.conversion, conv.x_zero_point = _words_of(conv.x_type), _padding_code(accumulator, x_zero_point)
        steps = w.shape[1] if narrow else -(-w.shape[1] // 2)
        conv.step_bytes, conv.row_bytes = (2 if narrow else 4), _row_bytes(-(-w.shape[1] // 2))
        self._store_weights(w.astype(np.int16), 1 if narrow else 2, [steps], conv.ordered_block, first)

    cdef object _put_in_order(
        self, qi_in_order *in_order, w, bias, x_zero_point, w_zero_point, x_range, accumulator, pads,
    ):
        """Set what ordered accumulation of w (OC, K) needs, and the kernel; return what the sums start with."""
        cdef int start_outside = 0
        if w.shape[1] == 0:
            raise ValueError("nothing to accumulate")
        bits, overflow, check, operands, padding, bias_order, group_size, group_bits, group_overflow = accumulator
        limit, each_step = 1 << bits - 1, check == EACH_STEP
        saturates = overflow != WRAP
        subtract = x_zero_point if operands == ZERO_POINT_SUBTRACTED else 0
        sums = w.sum(axis=1, dtype=np.int64)
        correction = np.zeros(len(w), np.int64)
        if operands == RAW:
            if w_zero_point.any():
                raise ValueError("raw operands with weight zero points are not accumulated in order here")
            if padding == SKIP and pads and x_zero_point != 0:
                raise ValueError("raw operands with skipped padding are not accumulated in order here")
            correction -= x_zero_point * sums
        xs = [x - subtract for x in (*x_range, _padding_code(accumulator, x_zero_point))]
        largest_x, largest_w = max(abs(x) for x in xs), max(_largest(w), 1)
        product = largest_x * largest_w
        first = bias if bias_order == FIRST and each_step else np.zeros_like(bias)
        last = bias - first
        if largest_x > 32767:
            raise ValueError("operands do not fit 16 bits")
        if group_size == 0:
            if not (each_step and saturates) or product + limit >= 1 << 31:
                raise ValueError("only saturation of at most 31 bits in each step is accumulated in order here")
            self.kernel = "narrow" if bits <= 16 and product <= 32767 else "wide"
            in_order.limits.low, in_order.limits.high = -limit, limit - 1
            first = np.array([qi_fit(b, bits, overflow, &start_outside) for b in first.tolist()])
        elif group_size == 2:
            if group_overflow == WRAP or group_bits > 31 or 2 * product >= 1 << 31:
                raise ValueError("only pairs saturated in at most 31 bits are accumulated in order here")
            self.kernel = "pairs"
            pair = min(2 * product, 1 << group_bits - 1)
            bound = (w.shape[1] + 1) // 2 * pair + int(np.abs(first).max())
            if each_step and saturates and pair + limit < 1 << 31:
                in_order.limits.low, in_order.limits.high = -limit, limit - 1
                first = np.array([qi_fit(b, bits, overflow, &start_outside) for b in first.tolist()])
            elif bound < (limit if each_step else 1 << 31):
                in_order.limits.low, in_order.limits.high = -1 << 31, (1 << 31) - 1
            else:
                raise ValueError("this accumulator of pairs may overflow")
            in_order.limits.pair_low, in_order.limits.pair_high = -1 << group_bits - 1, (1 << group_bits - 1) - 1
        else:
            raise ValueError("groups other than pairs are not accumulated in order here")
        if bits > 32:
            raise ValueError("only accumulators of at most 32 bits are accumulated in order here")
        self._starts_outside = start_outside
        in_order.subtract = subtract
        in_order.bits, in_order.overflow, in_order.each_step = bits, overflow, each_step
        last, correction = np.ascontiguousarray(last), np.ascontiguousarray(correction)
        in_order.last_bias, in_order.correction = <const int64_t *>_address(last), <const int64_t *>_address(correction)
        self._arrays += [last, correction]
        return first


def _padding_code(accumulator, x_zero_point):
    return 0 if accumulator[4] == ZERO else x_zero_point


def _order(taps, kernel, count):
    """Positions of the taps (kh, kw, ic) of a kernel, in their order."""
    order = np.ravel_multi_index(tuple(_taps(taps, kernel).T), kernel).astype(np.int32)
    if len(order) != count:
        raise ValueError(f"{len(order)} taps for {count} weights")
    return order


def _row_bytes(steps):
    """Return the bytes of a row; not a multiple of 1024, which would put the rows into few cache sets."""
    return 4 * steps + (64 if steps and 4 * steps % 1024 == 0 else 0)


def _words_of(x_type):
    return {I8: QI_WIDEN_SIGNED, U8: QI_WIDEN_UNSIGNED, I16: QI_COPY_WORDS}[x_type]


def _reads_padding(table):
    return bool((table < 0).any())


def _check_packed(x_dtype, x_zero_point, x_range):
    x_dtype = np.dtype(x_dtype)
    if x_dtype not in (np.int8, np.uint8, np.int16):
        raise TypeError(f"x must be int8, uint8 or int16, not {x_dtype}")
    info = np.iinfo(x_dtype)
    low, high = (info.min, info.max) if x_range is None else x_range
    if not info.min <= x_zero_point <= info.max or not info.min <= low <= high <= info.max:
        raise ValueError(f"zero point {x_zero_point} and range {low}, {high} must be within {x_dtype}")
    return x_dtype, (int(low), int(high))


def _largest(w):
    return max(int(w.max(initial=0)), -int(w.min(initial=0)))


def _less_zero_point(w, bias, w_zero_point, channels):
    """Return w (OC, ...) less its zero points, as int16, the bias and the zero points, both int64."""
    w_zero_point = np.ascontiguousarray(w_zero_point, dtype=np.int64)
    if w_zero_point.shape != (channels,):
        raise ValueError(f"w has {channels} output channels, zero points of shape {w_zero_point.shape}")
    if w_zero_point.any() or w.dtype not in (np.int8, np.uint8, np.int16):
        w = w.astype(np.int64) - w_zero_point.reshape(-1, *[1] * (w.ndim - 1))
        if w.min(initial=0) < -32768 or w.max(initial=0) > 32767:
            raise ValueError("weights less their zero point do not fit 16 bits")
    w = w.astype(np.int16)
    bias = np.zeros(channels, np.int64) if bias is None else np.ascontiguousarray(bias, dtype=np.int64)
    if bias.shape != (channels,):
        raise ValueError(f"w has {channels} output channels, bias has shape {bias.shape}")
    return w, bias, w_zero_point


cdef class PackedConv(_Packed):
    def __init__(
        self, x_shape, x_dtype, w, bias, x_zero_point, w_zero_point, strides, dilations, padding, out_hw, groups=1, *,
        transposed=False, x_range=None, wide=False, ordered=None, taps=None, isa=None,
    ):
        self._x_tail, self._out_tail = tuple(x_shape), (*out_hw, len(w))
        shape = np.empty((0, *x_shape), np.int8)
        rows, columns = _windows(shape, w.shape[1:3], strides, dilations, padding, out_hw, transposed)
        if transposed and ordered is not None:
            ordered = (*ordered[:4], SKIP, *ordered[5:])
        self._pack(
            x_shape, x_dtype, w, bias, x_zero_point, w_zero_point, rows, columns, groups, x_range, wide, ordered, taps, isa,
        )


cdef class PackedMatmul(_Packed):
    def __init__(
        self, x_dtype, w, bias, x_zero_point, w_zero_point, *, x_range=None, wide=False, ordered=None, order=None, isa=None,
    ):
        self._x_tail, self._out_tail = (w.shape[1],), (len(w),)
        inside = np.zeros((1, 1), np.int32)
        taps = None if order is None else np.stack([np.zeros_like(order), np.zeros_like(order), order], axis=1)
        self._pack(
            (1, 1, w.shape[1]), x_dtype, w[:, None, None, :], bias, x_zero_point, w_zero_point, inside, inside, 1, x_range,
            wide, ordered, taps, isa,
        )


cdef class PackedDepthwise(_Packed):
    def __init__(
        self, x_shape, x_dtype, w, bias, x_zero_point, w_zero_point, strides, dilations, padding, out_hw, *, x_range=None,
        ordered=None, taps=None, isa=None,
    ):
        cdef qi_depthwise_conv *conv = &self.deep
        channels = w.shape[2]
        conv.isa = _find_isa(isa)
        self.isa, self.kernel = conv.isa.name.decode(), "depthwise"
        self._x_dtype, x_range = _check_packed(x_dtype, x_zero_point, x_range)
        self._x_tail, self._out_tail = tuple(x_shape), (*out_hw, channels)
        if x_shape[2] < 1 or channels % x_shape[2]:
            raise ValueError(f"{channels} output channels are not a multiple of {x_shape[2]} input channels")
        shape = np.empty((0, *x_shape), np.int8)
        rows, columns = _windows(shape, w.shape[:2], strides, dilations, padding, out_hw, False)
        flat, bias, zero = _less_zero_point(w.reshape(-1, channels).T, bias, w_zero_point, channels)
        self._set_range(flat, bias, x_zero_point, x_range)
        self._arrays = [rows, columns]
        offset, pad_code = x_zero_point, x_zero_point
        if ordered is not None:
            _policy(ordered)  # checks it
            pads, pad_code = _reads_padding(rows) or _reads_padding(columns), _padding_code(ordered, x_zero_point)
            first = self._put_in_order(&conv.in_order, flat, bias, x_zero_point, zero, x_range, ordered, pads)
            if self.kernel == "pairs":
                raise ValueError("pairs are not accumulated in order here")
            order = _order(taps, (*w.shape[:2], 1), flat.shape[1])
            conv.in_order.order, conv.ordered = <const int32_t *>_address(order), True
            self._arrays.append(order)
            self.kernel = "depthwise"
            weights = flat[:, order].T
        elif (
            conv.isa.depthwise_columns != NULL and self._x_dtype != np.int16 and dilations[1] == 1
            and flat.min(initial=0) >= -128 and flat.max(initial=0) <= 127
        ):
            conv.shared_stride, conv.left = strides[1], padding[1]
            kernel = flat.reshape(channels, *w.shape[:2])
            weights = _columns_of(kernel, conv.isa.column_lanes)
            if (
                conv.isa.depthwise_pair != NULL and w.shape[:2] == (3, 3) and conv.shared_stride == 1
                and np.array_equal(rows[1:, :2], rows[:-1, 1:])
            ):
                moved = _columns_of(np.pad(kernel, ((0, 0), (1, 0), (0, 0))), conv.isa.column_lanes)
                below = _aligned(moved.shape, np.int8)
                below[...] = moved
                conv.below = <const void *>_address(below)
                self._arrays.append(below)
            offset += 128 if self._x_dtype == np.int8 else 0
        else:
            weights = _taps_of(flat, conv.isa.lanes, self.isa == "portable")
        packed, start = _aligned(weights.size, weights.dtype), np.zeros(channels + 64, np.int32)
        packed.reshape(weights.shape)[...] = weights
        if ordered is not None:
            start[:channels] = first
        else:
            start[:channels] = ((bias - offset * flat.sum(axis=1)) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        if conv.shared_stride and conv.isa.natural_order != NULL:
            start = _in_quarters(start, channels)
        pad_pixel = np.full(channels + 64, pad_code, self._x_dtype)
        conv.x_type = _TYPES[self._x_dtype]
        conv.height, conv.width, conv.channels = x_shape
        conv.out_height, conv.out_width = out_hw
        conv.multiplier, conv.kernel_height, conv.kernel_width = channels // x_shape[2], w.shape[0], w.shape[1]
        conv.rows, conv.columns = <const int32_t *>_address(rows), <const int32_t *>_address(columns)
        conv.padding, conv.weights = <const uint8_t *>_address(pad_pixel), <const void *>_address(packed)
        conv.bias = <const int32_t *>_address(start)
        self._arrays += [pad_pixel, packed, start]


def _taps_of(w, lanes, natural):
    """w (channels, taps) in blocks of lanes; in each, as interleaving the words of two taps orders them."""
    taps = w.shape[1] + w.shape[1] % 2
    weights = np.zeros((-(-w.shape[0] // lanes) * lanes, taps), np.int16)
    weights[: w.shape[0], : w.shape[1]] = w
    if natural:
        return weights.reshape(-1, lanes, taps).transpose(0, 2, 1)
    return weights.reshape(-1, lanes // 8, 2, 4, taps // 2, 2).transpose(0, 4, 2, 1, 3, 5)


def _columns_of(w, lanes):
    """w (channels, KH, KW) in blocks of lanes; in each, as interleaving the bytes of four rows orders them."""
    channels, height, width = w.shape
    weights = np.zeros((-(-channels // lanes) * lanes, -(-height // 4) * 4, width), np.int8)
    weights[:channels, :height] = w
    if 0 < channels % 64 <= 32 and lanes == 64:
        end = len(weights)
        weights[end - 32 :] = weights[end - 64 : end - 32]
    return weights.reshape(-1, lanes // 16, 4, 4, weights.shape[1] // 4, 4, width).transpose(0, 4, 6, 2, 1, 3, 5)


# ---- elementwise -------------------------------------------------------------------------------------------------------


cdef int _code_type(dtype) except -1:
    """The type of codes of 8 or 16 bits."""
    cdef int x_type = _TYPES.get(np.dtype(dtype), F64)
    if x_type > I16:
        raise TypeError(f"codes must be int8, uint8 or int16, not {dtype}")
    return x_type


cdef int _one_for_all(Requantizer requantizer) except -1:
    if requantizer.channels != 1:
        raise ValueError(f"the requantizer must be of one channel, which is all elements', not of {requantizer.channels}")
    return 0


def _line(table, dtype):
    """Return the slope, the start, and int8 (256) of what they leave over by code; None where that is too much."""
    codes = np.arange(256, dtype=np.uint8).view(dtype).astype(np.int64)
    slope = round((int(table[codes.argmax()]) - int(table[codes.argmin()])) / 255)
    rest = table - slope * codes
    start = (int(rest.min()) + int(rest.max())) // 2
    rest -= start
    if rest.min() < -128 or rest.max() > 127 or abs(slope) >= 1 << 31:
        return None
    return slope, start, rest.astype(np.int8)


cdef class Pairs:
    cdef qi_pairs c
    cdef object _arrays
    cdef tuple _dtypes
    cdef readonly object low, high

    def __init__(self, combination, first, second, isa=None):
        cdef qi_operand *operand
        self.c.isa = _find_isa(isa)
        self.c.combine = combination
        self._arrays, self._dtypes, ends = [], (np.dtype(first[0]), np.dtype(second[0])), []
        for i, (dtype, values) in enumerate((first, second)):
            operand = &self.c.operands[i]
            operand.type = _code_type(dtype)
            if isinstance(values, np.ndarray):
                if values.shape != (1 << 8 * self._dtypes[i].itemsize,):
                    raise ValueError(f"a table of {values.shape} integers for codes of {dtype}")
                ends.append((int(values.min()), int(values.max())))
                table = np.ascontiguousarray(values, np.int32)
                if not np.array_equal(table, values):
                    raise ValueError("the table does not fit 32 bits")
                self._arrays.append(table)
                operand.table = <const int32_t *>_address(table)
            else:
                info = np.iinfo(dtype)
                if not -65536 <= values <= 65536:
                    raise ValueError(f"zero point {values} must be within +-65536")
                operand.zero_point = values
                ends.append((info.min - int(values), info.max - int(values)))
        (a, b), (c, d) = ends
        if combination == COMBINE_ADD:
            results = [a + c, b + d]
        elif combination == COMBINE_SUBTRACT:
            results = [a - d, b - c]
        elif combination == COMBINE_MULTIPLY:
            results = [a * c, a * d, b * c, b * d]
        elif combination == COMBINE_MAX:
            results = [max(a, c), max(b, d)]
        elif combination == COMBINE_MIN:
            results = [min(a, c), min(b, d)]
        else:
            raise ValueError(f"not a combination: {combination}")
        self.low, self.high = min(results), max(results)
        if self.low < -1 << 31 or self.high >= 1 << 31:
            raise ValueError(f"results of {self.low} to {self.high} do not fit 32 bits")
        if combination == COMBINE_ADD and [len(table) for table in self._arrays] == [256, 256] and len(set(self._dtypes)) == 1:
            lines = [_line(table, self._dtypes[0]) for table in self._arrays]
            if None not in lines:
                self.c.start = <int32_t><uint32_t>((lines[0][1] + lines[1][1]) & 0xFFFFFFFF)
                for i, (slope, _, rest) in enumerate(lines):
                    self.c.slopes[i], self.c.rest[i] = slope, <const int8_t *>_address(rest)
                    self._arrays.append(rest)
                ends = [int(lines[0][2].min()) + int(lines[1][2].min()), int(lines[0][2].max()) + int(lines[1][2].max())]
                self.c.rests_add = ends[0] >= -128 and ends[1] <= 127

    cdef int _run(self, a, b, target, const qi_requantizer *requantizer, int out_type) except -1:
        cdef Py_buffer buffers[3]
        cdef const void *x[2]
        cdef ptrdiff_t sizes[2]
        cdef Py_ssize_t n = target.size
        cdef int held = 0
        if a.dtype != self._dtypes[0] or b.dtype != self._dtypes[1]:
            raise TypeError(f"operands are {a.dtype} and {b.dtype}, prepared for {self._dtypes[0]} and {self._dtypes[1]}")
        sizes[0], sizes[1] = a.size, b.size
        if n == 0:
            return 0
        if sizes[0] == 0 or sizes[1] == 0 or n % sizes[0] or n % sizes[1]:
            raise ValueError(f"{n} results of {sizes[0]} and {sizes[1]} elements")
        try:
            for array in (np.ascontiguousarray(a), np.ascontiguousarray(b), target):
                PyObject_GetBuffer(array, &buffers[held], PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if held == 2 else 0))
                held += 1
            x[0], x[1] = buffers[0].buf, buffers[1].buf
            with nogil:
                if requantizer == NULL:
                    qi_run_pairs(&self.c, x, sizes, n, <int32_t *>buffers[2].buf, NULL, NULL, 0)
                else:
                    qi_run_pairs(&self.c, x, sizes, n, NULL, requantizer, buffers[2].buf, out_type)
        finally:
            while held:
                held -= 1
                PyBuffer_Release(&buffers[held])
        return 0

    def accumulate(self, a, b, shape):
        out = np.empty(shape, np.int32)
        self._run(a, b, out, NULL, 0)
        return out

    def requantize_into(self, a, b, out, Requantizer requantizer not None):
        _one_for_all(requantizer)
        self._run(a, b, out, &requantizer.c, requantizer._out_type(out.dtype))

    def task(self, sizes, Requantizer requantizer not None, out_dtype):
        cdef Task task = Task.__new__(Task)
        a, b, n = sizes
        _one_for_all(requantizer)
        if min(a, b, n) < 1 or n % a or n % b:
            raise ValueError(f"{n} results of {a} and {b} elements")
        bytes_of = a * self._dtypes[0].itemsize, b * self._dtypes[1].itemsize, n * np.dtype(out_dtype).itemsize
        task._set(self, requantizer, bytes_of, out_dtype)
        task.c.run, task.c.self = qi_task_pairs, <const void *>&self.c
        task.c.sizes[0], task.c.sizes[1], task.c.sizes[2] = a, b, n
        return task


cdef _look_up(const qi_isa *isa, table, a, b, out, int codes):
    cdef Py_buffer buffers[4]
    cdef int held = 0, x_bytes = a.itemsize, out_bytes = table.itemsize
    if a.dtype.kind not in "iu" or x_bytes > 2 or out_bytes > 4 or out_bytes == 3:
        raise TypeError(f"no look-up of {a.dtype} in a table of {table.dtype}")
    if table.size != codes:
        raise ValueError(f"the table has {table.size} elements, must have {codes}")
    if out is None:
        out = np.empty(a.shape, table.dtype)
    elif out.size != a.size or out.dtype != table.dtype:
        raise ValueError(f"out is {out.dtype} {out.shape}, the result {table.dtype} {a.shape}")
    try:
        for array in (table, a, out) if b is None else (table, a, out, b):
            PyObject_GetBuffer(array, &buffers[held], PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if held == 2 else 0))
            held += 1
        with nogil:
            if held == 4:
                qi_look_up_pairs(
                    buffers[0].buf, <const uint8_t *>buffers[1].buf, <const uint8_t *>buffers[3].buf, buffers[1].len,
                    buffers[2].buf, out_bytes,
                )
            else:
                qi_look_up(
                    isa, buffers[0].buf, buffers[1].buf, x_bytes, buffers[1].len // x_bytes, buffers[2].buf, out_bytes,
                )
    finally:
        while held:
            held -= 1
            PyBuffer_Release(&buffers[held])
    return out


def look_up(table, x, out=None, isa=None):
    return _look_up(_default_isa if isa is None else _find_isa(isa), table, np.ascontiguousarray(x), None, out, 1 << 8 * x.itemsize)


def look_up_pairs(table, a, b, out=None):
    if a.shape != b.shape or a.itemsize != 1 or b.itemsize != 1:
        raise ValueError(f"codes of 8 bits and one shape, not {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    return _look_up(_default_isa, table, np.ascontiguousarray(a), np.ascontiguousarray(b), out, 1 << 16)


cdef class Windows:
    cdef qi_windows c
    cdef object _arrays, _x_dtype
    cdef tuple _x_tail, _out_tail
    cdef readonly object low, high

    def __init__(self, folding, x_dtype, x_shape, rows, columns, *, zero_point=0, bounds=None, isa=None):
        self.c.isa = _find_isa(isa)
        self.c.x_type, self.c.fold = _code_type(x_dtype), folding
        self._x_dtype, self._x_tail = np.dtype(x_dtype), tuple(x_shape)
        self.c.height, self.c.width, self.c.channels = x_shape
        if min(x_shape) < 1 or not -65536 <= zero_point <= 65536:
            raise ValueError(f"an image of {x_shape}, or a zero point of {zero_point}")
        rows, columns = np.ascontiguousarray(rows, np.int32), np.ascontiguousarray(columns, np.int32)
        for pairs, size in ((rows, x_shape[0]), (columns, x_shape[1])):
            if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
                raise ValueError("windows are pairs of a start and a count, at least one")
            if (pairs[:, 0] < 0).any() or (pairs[:, 1] < 1).any() or (pairs[:, 0] > size - pairs[:, 1]).any():
                raise ValueError(f"a window is empty, or not within {size} pixels")
        self.c.out_height, self.c.out_width = len(rows), len(columns)
        self.c.rows, self.c.columns = <const int32_t *>_address(rows), <const int32_t *>_address(columns)
        self._arrays = rows, columns
        self._out_tail = len(rows), len(columns), x_shape[2]
        info = np.iinfo(self._x_dtype)
        self.low, self.high = (info.min, info.max) if bounds is None else (int(bounds[0]), int(bounds[1]))
        if folding == FOLD_SUM:
            self.c.zero_point = zero_point
            counts = [int(rows[:, 1].min()) * int(columns[:, 1].min()), int(rows[:, 1].max()) * int(columns[:, 1].max())]
            self.low = min(n * (info.min - zero_point) for n in counts)
            self.high = max(n * (info.max - zero_point) for n in counts)
            if counts[1] * (max(-info.min, info.max) + abs(zero_point)) >= 1 << 31:
                raise ValueError(f"sums of {counts[1]} elements may not fit 32 bits")
        elif folding not in (FOLD_MAX, FOLD_MIN) or zero_point:
            raise ValueError(f"not a folding: {folding}, or one with a zero point")
        elif not info.min <= self.low <= self.high <= info.max:
            raise ValueError(f"bounds {self.low}, {self.high} are not codes of {x_dtype}")
        else:
            self.c.low, self.c.high = self.low, self.high

    cdef int _run(self, x, target, const qi_requantizer *requantizer, int out_type) except -1:
        cdef Py_buffer source, result
        cdef Py_ssize_t batch
        cdef int status
        if x.dtype != self._x_dtype or x.shape[1:] != self._x_tail:
            raise ValueError(f"x is {x.dtype} {x.shape}, prepared for {self._x_dtype} (batch, *{self._x_tail})")
        batch = len(x)
        if target.shape != (batch, *self._out_tail):
            raise ValueError(f"out has shape {target.shape}, the result {(batch, *self._out_tail)}")
        PyObject_GetBuffer(np.ascontiguousarray(x), &source, PyBUF_C_CONTIGUOUS)
        try:
            PyObject_GetBuffer(target, &result, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            with nogil:
                if requantizer != NULL or self.c.fold != FOLD_SUM:
                    status = qi_run_windows(&self.c, source.buf, batch, NULL, requantizer, result.buf, out_type)
                else:
                    status = qi_run_windows(&self.c, source.buf, batch, <int32_t *>result.buf, NULL, NULL, 0)
            PyBuffer_Release(&result)
        finally:
            PyBuffer_Release(&source)
        if status < 0:
            raise MemoryError
        return 0

    @property
    def shape(self):
        return self._out_tail

    def fold(self, x):
        out = np.empty((len(x), *self._out_tail), np.int32 if self.c.fold == FOLD_SUM else self._x_dtype)
        self._run(x, out, NULL, 0)
        return out

    def requantize_into(self, x, out, Requantizer requantizer not None):
        _one_for_all(requantizer)
        if self.c.fold != FOLD_SUM:
            raise ValueError("only sums are requantized")
        self._run(x, out, &requantizer.c, requantizer._out_type(out.dtype))

    def task(self, batch, Requantizer requantizer, out_dtype):
        cdef Task task = Task.__new__(Task)
        if (requantizer is None) == (self.c.fold == FOLD_SUM):
            raise ValueError("sums are requantized, and only they")
        if requantizer is not None:
            _one_for_all(requantizer)
        elif np.dtype(out_dtype) != self._x_dtype:
            raise TypeError(f"extrema are of {self._x_dtype}, not {out_dtype}")
        sizes = batch * prod(self._x_tail) * self._x_dtype.itemsize, batch * prod(self._out_tail) * np.dtype(out_dtype).itemsize
        task._set(self, requantizer, sizes, out_dtype)
        task.c.run, task.c.self = qi_task_windows, <const void *>&self.c
        task.c.sizes[0] = batch
        return task


cdef class Quantizer:
    cdef qi_quantizer c
    cdef object _arrays
    cdef int _out_type

    def __init__(
        self, program, scale, zero_point, lo, hi, out_dtype, *, divide, to_even, zero_point_first, isa=None,
    ):
        self.c.isa = _find_isa(isa)
        program = np.ascontiguousarray(program, np.int64)
        scales, ratio = np.array([scale], np.float64), np.array([1, 1, 0], np.int64)
        if program.ndim != 2 or program.shape[1] != QI_STAGE_WIDTH or not 0 < len(program) <= QI_MAX_STAGES:
            raise ValueError(f"a program is (stages <= {QI_MAX_STAGES}, {QI_STAGE_WIDTH})")
        if _check_program(<const int64_t *>_address(program), <int>len(program), True):
            raise ValueError("the program ends with a float")
        self._out_type = _code_type(out_dtype)
        info = np.iinfo(out_dtype)
        if not info.min <= lo <= hi <= info.max or not -65536 <= zero_point <= 65536:
            raise ValueError(f"zero point {zero_point} and bounds {lo}, {hi} for {out_dtype}")
        self._arrays = program, scales, ratio
        self.c.program, self.c.stages = <const int64_t *>_address(program), len(program)
        self.c.parameters.scale, self.c.parameters.ratio = <const double *>_address(scales), <const int64_t *>_address(ratio)
        self.c.parameters.zero_point, self.c.parameters.lo, self.c.parameters.hi = zero_point, lo, hi
        self.c.fast.scale, self.c.fast.low, self.c.fast.high = scale, lo, hi
        self.c.fast.before, self.c.fast.after = (zero_point, 0) if zero_point_first else (0, zero_point)
        self.c.fast.divide, self.c.fast.to_even = divide, to_even

    def into(self, x, out):
        cdef Py_buffer source, result
        cdef int error
        if x.dtype != np.float32 or x.shape != out.shape or _code_type(out.dtype) != self._out_type:
            raise ValueError(f"x {x.dtype} {x.shape} must be float32 and of the shape of out {out.dtype} {out.shape}")
        PyObject_GetBuffer(np.ascontiguousarray(x), &source, PyBUF_C_CONTIGUOUS)
        try:
            PyObject_GetBuffer(out, &result, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            with nogil:
                error = qi_run_quantizer(
                    &self.c, <const float *>source.buf, source.len // sizeof(float), result.buf, self._out_type,
                )
            PyBuffer_Release(&result)
        finally:
            PyBuffer_Release(&source)
        return bool(error)


# ---- softmax -----------------------------------------------------------------------------------------------------------


cdef class Softmax:
    cdef qi_softmax c
    cdef object _arrays, _x_dtype, _out_dtype

    def __init__(
        self, x_dtype, out_dtype, exponentials, program, zero_point, lo, hi, *, terms=None, sum_bits=0, shift=0, unit=1.0,
        offset=0.0, isa=None,
    ):
        cdef bint floats = terms is None
        self.c.isa = _find_isa(isa)
        self.c.x_type, self.c.out_type = _code_type(x_dtype), _code_type(out_dtype)
        self._x_dtype, self._out_dtype = np.dtype(x_dtype), np.dtype(out_dtype)
        if self.c.x_type == I16:
            raise TypeError("softmax by distances is of 8-bit codes")
        program = np.ascontiguousarray(program, np.int64)
        if program.ndim != 2 or program.shape[1] != QI_STAGE_WIDTH or not 0 < len(program) <= QI_MAX_STAGES:
            raise ValueError(f"a program is (stages <= {QI_MAX_STAGES}, {QI_STAGE_WIDTH})")
        if _check_program(<const int64_t *>_address(program), <int>len(program), floats):
            raise ValueError("the program ends with a float")
        kind, one, ratio = np.float32 if floats else np.int32, np.ones(1), np.array([1, 1, 0], np.int64)
        given = np.asarray(exponentials), np.asarray(exponentials if floats else terms)
        exponentials, terms = (table.astype(kind) for table in given)
        if not floats and not (np.array_equal(exponentials, given[0]) and np.array_equal(terms, given[1])):
            raise ValueError("the tables do not fit 32 bits")
        info = np.iinfo(out_dtype)
        if exponentials.shape != (256,) or terms.shape != (256,):
            raise ValueError("tables have 256 entries, one for each distance to the maximum")
        if not info.min <= lo <= hi <= info.max or not -65536 <= zero_point <= 65536 or not -64 <= sum_bits <= 64:
            raise ValueError(f"zero point {zero_point}, bounds {lo}, {hi}, {sum_bits} bits for {out_dtype}")
        self._arrays = program, exponentials, terms, one, ratio
        if floats:
            self.c.floats = <const float *>_address(exponentials)
        else:
            self.c.exponentials, self.c.terms = <const int32_t *>_address(exponentials), <const int32_t *>_address(terms)
        self.c.sum_bits, self.c.extra_shift, self.c.unit, self.c.offset = sum_bits, shift, unit, offset
        self.c.program, self.c.stages = <const int64_t *>_address(program), <int>len(program)
        self.c.parameters.scale, self.c.parameters.ratio = <const double *>_address(one), <const int64_t *>_address(ratio)
        self.c.parameters.zero_point, self.c.parameters.lo, self.c.parameters.hi = zero_point, lo, hi
        rows = [tuple(row) for row in program.tolist()]
        end = [(ADD_ZERO_POINT, 32, WRAP, 0, 0, 0), (CLAMP, 0, 0, 0, 0, 0)]
        if floats:
            self.c.to_even = rows[0] == (ROUND, TIES_TO_EVEN, 32, INDEFINITE, 0, 0)
            self.c.direct = rows[1:] == end and (self.c.to_even or rows[0] == (ROUND, TIES_TO_AWAY, 32, INDEFINITE, 0, 0))
        else:
            high, right = (MULTIPLY_HIGH, 32, TIES_TOWARD_POSITIVE, SATURATE, 0, 0), (SHIFT_RIGHT, RIGHT, 0, TIES_TO_AWAY, 0, 0)
            self.c.direct = rows == [high, right, *end]
        # what else is 2 does no harm
        self.c.may_fail = not self.c.direct and any(ERROR in row[1:] for row in rows)

    def task(self, rows, depth):
        cdef Task task = Task.__new__(Task)
        if self.c.may_fail or rows < 1 or depth < 1:
            raise ValueError("a stage may fail, or there is nothing to do")
        task._set(self, None, (rows * depth * self._x_dtype.itemsize, rows * depth * self._out_dtype.itemsize), None)
        task.c.run, task.c.self = qi_task_softmax, <const void *>&self.c
        task.c.sizes[0], task.c.sizes[1] = rows, depth
        return task

    def into(self, x, out, totals=None):
        cdef Py_buffer source, target, sums
        cdef int error
        cdef Py_ssize_t rows, depth
        cdef int64_t *to = NULL
        if x.ndim != 2 or x.dtype != self._x_dtype or out.dtype != self._out_dtype or out.shape != x.shape or x.size == 0:
            raise ValueError(
                f"x {x.dtype} {x.shape} and out {out.dtype} {out.shape} must be (rows, depth) of {self._x_dtype} and "
                f"{self._out_dtype}, not empty"
            )
        rows, depth = x.shape
        if totals is not None and (totals.dtype != np.int64 or totals.shape != (rows,)):
            raise ValueError(f"totals {totals.dtype} {totals.shape} must be int64 ({rows},)")
        PyObject_GetBuffer(np.ascontiguousarray(x), &source, PyBUF_C_CONTIGUOUS)
        try:
            PyObject_GetBuffer(out, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
            try:
                if totals is not None:
                    PyObject_GetBuffer(totals, &sums, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
                    to = <int64_t *>sums.buf
                with nogil:
                    error = qi_run_softmax(&self.c, source.buf, rows, depth, target.buf, to)
                if to != NULL:
                    PyBuffer_Release(&sums)
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        if error < 0:
            raise MemoryError
        return bool(error)


# ---- chains ------------------------------------------------------------------------------------------------------------


cdef class Task:
    cdef qi_task c
    cdef object _kept
    cdef readonly tuple sizes

    cdef _set(self, kernel, Requantizer requantizer, sizes, out_dtype):
        """What all tasks have: of a kernel, maybe requantized; the bytes of its operands and its output."""
        self._kept, self.sizes = (kernel, requantizer), tuple(sizes)
        if requantizer is not None:
            self.c.with_, self.c.out_type = &requantizer.c, requantizer._out_type(np.dtype(out_dtype))
        elif out_dtype is not None:
            self.c.out_type = _code_type(out_dtype)


def look_up_task(table, x_bytes, n):
    cdef Task task = Task.__new__(Task)
    if x_bytes not in (1, 2) or table.shape != (1 << 8 * x_bytes,) or table.itemsize not in (1, 2, 4):
        raise ValueError(f"no look-up of codes of {x_bytes} bytes in a table of {table.dtype} {table.shape}")
    task._set(table, None, (n * x_bytes, n * table.itemsize), None)
    task.c.run, task.c.self, task.c.isa = qi_task_look_up, <const void *><size_t>_address(table), _default_isa
    task.c.x_bytes, task.c.out_type, task.c.sizes[0] = x_bytes, table.itemsize, n
    return task


def move_task(pieces, fill, sizes):
    cdef Task task = Task.__new__(Task)
    pieces, fill = np.ascontiguousarray(pieces, np.int64), np.ascontiguousarray(fill, np.uint8)
    operands, size = list(sizes)[: len(sizes) - 1], sizes[len(sizes) - 1]
    if not 1 <= len(operands) <= QI_OPERANDS or pieces.ndim != 2 or pieces.shape[1] != 4 or not 1 <= len(fill) <= 8:
        raise ValueError(f"pieces {pieces.shape} of {len(operands)} operands, elements of {len(fill)} bytes")
    to, operand, source, length = pieces.T
    ends = np.array([*operands, size])[operand.clip(-1, len(operands))]  # of the fill value: any
    inside = (to >= 0) & (length >= 0) & (to <= size - length) & (operand >= -1) & (operand < len(operands))
    if not (inside & (source >= 0) & (source <= ends - length) & (length % len(fill) == 0)).all():
        raise ValueError("a piece is not inside its operand or the output")
    task._set((pieces, fill), None, sizes, None)
    task.c.run, task.c.self, task.c.fill = qi_task_move, <const void *><size_t>_address(pieces), <const uint8_t *>_address(fill)
    task.c.sizes[0], task.c.out_type = len(pieces), len(fill)
    return task


cdef double SHORT = 2e-5  # seconds for which the lock is kept: waking whoever waits for it takes longer


cdef class Chain:
    cdef const qi_task **_tasks
    cdef qi_places *_places
    cdef Py_ssize_t _count, _given, _slots, _bytes
    cdef list _spare
    cdef double _seconds
    cdef tuple _kept, _sizes, _offsets

    def __cinit__(self):
        self._tasks, self._places, self._seconds = NULL, NULL, SHORT

    def __dealloc__(self):
        free(self._tasks)
        free(self._places)

    def __init__(self, tasks, places, sizes, offsets):
        cdef Py_ssize_t i
        cdef Task task
        self._kept, self._sizes, self._offsets, self._spare = tuple(tasks), tuple(sizes), tuple(offsets), []
        self._count, self._given, self._slots = len(tasks), len(sizes), len(sizes) + len(offsets)
        if min((offset for offset, _ in self._offsets), default=0) < 0:
            raise ValueError("an offset is negative")
        ends = [offset + size for offset, size in self._offsets]
        self._bytes = max(ends, default=0)
        room = [*self._sizes, *(size for _, size in self._offsets)]
        self._tasks = <const qi_task **>malloc(max(self._count, 1) * sizeof(void *))
        self._places = <qi_places *>malloc(max(self._count, 1) * sizeof(qi_places))
        if self._tasks == NULL or self._places == NULL:
            raise MemoryError
        for i in range(self._count):
            task, at = tasks[i], places[i]
            if [room[place] for place in at] != list(task.sizes):
                raise ValueError(f"task {i} is of {task.sizes} bytes, its places have {[room[place] for place in at]}")
            self._tasks[i] = &task.c
            for k in range(QI_OPERANDS):
                self._places[i].x[k] = at[min(k, len(at) - 2)]
            self._places[i].out = at[len(at) - 1]

    cdef Py_ssize_t _run_all(self, void **places, Py_ssize_t count) noexcept nogil:
        cdef Py_ssize_t k, failed = -1
        for k in range(count):
            failed = max(failed, qi_run_chain(self._tasks, self._places, self._count, places + k * self._slots))
        return failed

    def run(self, runs, Py_ssize_t outputs, memory=None):
        cdef Py_buffer *views
        cdef void **places
        cdef Py_ssize_t held = 0, given = self._given, slots = self._slots, count = len(runs), i, k
        cdef size_t base
        cdef Py_ssize_t failed
        if memory is not None:
            arena = memory
            if arena.nbytes < self._bytes:
                raise ValueError(f"a memory of {arena.nbytes} bytes, must have {self._bytes}")
        else:
            try:
                arena = self._spare.pop()
            except IndexError:
                arena = _aligned(self._bytes, np.uint8)
        base = _address(arena)
        views = <Py_buffer *>malloc(max(count * given, 1) * sizeof(Py_buffer))
        places = <void **>malloc(max(count * slots, 1) * sizeof(void *))
        try:
            if views == NULL or places == NULL:
                raise MemoryError
            for k in range(count):
                arrays = runs[k]
                if len(arrays) != given:
                    raise ValueError(f"{len(arrays)} arrays for {given} places")
                for i in range(given):
                    PyObject_GetBuffer(
                        arrays[i], &views[held], PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if i >= given - outputs else 0),
                    )
                    places[k * slots + i] = views[held].buf
                    held += 1
                    if views[held - 1].len != self._sizes[i]:
                        raise ValueError(f"array {i} has {views[held - 1].len} bytes, must have {self._sizes[i]}")
                for i in range(given, slots):
                    places[k * slots + i] = <void *>(base + <size_t>self._offsets[i - given][0])
            started = perf_counter()
            if self._seconds * count < SHORT:
                failed = self._run_all(places, count)
            else:
                with nogil:
                    failed = self._run_all(places, count)
            self._seconds = (perf_counter() - started) / max(count, 1)
            if failed >= 0:
                raise MemoryError(failed)
        finally:
            while held:
                held -= 1
                PyBuffer_Release(&views[held])
            free(views)
            free(places)
            if memory is None:
                self._spare.append(arena)
