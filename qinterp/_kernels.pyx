"""Integer loops. Arrays and integers in, arrays out: no scheme, no graph, no names.

The contract of every function is in ``_kernels.pyi``. A ``def`` function checks what memory safety needs, allocates the
result and calls a loop that holds no Python object; what the numbers mean is the caller's business.
"""

import numpy as np

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


cdef Policy _policy(accumulator) except *:
    cdef Policy p
    p.bits, p.overflow, p.check, p.operands, p.padding, p.bias, p.group_size, p.group_bits, p.group_overflow = accumulator
    if not (
        2 <= p.bits <= 64 and WRAP <= p.overflow <= ERROR and AT_END <= p.check <= EACH_STEP
        and ZERO_POINT_SUBTRACTED <= p.operands <= RAW and SKIP <= p.padding <= ZERO and LAST <= p.bias <= FIRST
        and p.group_size >= 0
        and (p.group_size == 0 or (2 <= p.group_bits <= 64 and WRAP <= p.group_overflow <= ERROR))
    ):
        raise ValueError(f"not an accumulator: {accumulator}")
    return p


cdef int64_t _sum_in_order(
    const int32_t[::1] x, const int32_t[:, ::1] w, Py_ssize_t oc, int64_t w_zero_point, int64_t start, const Policy *p,
    int *overflowed,
) except? -1 nogil:
    """Add the products x[t] * (w[oc, t] - w_zero_point) to ``start``, group by group, fitting where the policy says so."""
    cdef Py_ssize_t t, taps = x.shape[0], left = p.group_size
    cdef bint each_step = p.check == EACH_STEP, step_in_group = p.check == EACH_STEP and p.group_size > 2
    cdef int64_t total = start, group = 0, product
    if p.group_size == 0 and not each_step:
        for t in range(taps):
            total = qi_wrapping_add(total, x[t] * (w[oc, t] - w_zero_point))
        return total
    if p.group_size == 0:
        for t in range(taps):
            total = qi_add_fit(total, x[t] * (w[oc, t] - w_zero_point), p.bits, p.overflow, overflowed)
        return total
    for t in range(taps):
        product = x[t] * (w[oc, t] - w_zero_point)
        if step_in_group:
            group = qi_add_fit(group, product, p.group_bits, p.group_overflow, overflowed)
        else:
            group = qi_wrapping_add(group, product)
        left -= 1
        if left == 0 or t == taps - 1:
            group = qi_fit(group, p.group_bits, p.group_overflow, overflowed)
            total = qi_add_fit(total, group, p.bits, p.overflow, overflowed) if each_step else qi_wrapping_add(total, group)
            group = 0
            left = p.group_size
    return total


cdef int _accumulate(
    const int32_t[:, :, ::1] x, const int32_t[:, ::1] w, const int64_t[::1] bias, int x_zero_point,
    const int64_t[::1] w_zero_point, const int32_t[:, ::1] rows, const int32_t[:, ::1] columns, Py_ssize_t width,
    const int32_t[:, ::1] taps, Py_ssize_t groups, const Policy *p,
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
                        total = _sum_in_order(values[:count], w, oc, operand_zero_point, total, p, &overflowed)
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
    cdef Policy policy = _policy(accumulator)
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
_FARTHEST = 1 << 20  # no shift amount or exponent needs to go farther: the result no longer changes


cdef bint _check_program(const int64_t[:, ::1] program, bint is_float) except -1:
    """Raise for a malformed program; return whether its result is a float. ``is_float``: its input is."""
    cdef Py_ssize_t k
    cdef int64_t opcode, a, b, c, d
    cdef bint good
    for k in range(program.shape[0]):
        opcode, a, b, c, d = program[k, 0], program[k, 1], program[k, 2], program[k, 3], program[k, 4]
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
            raise ValueError(f"stage {k} of the program is not possible here: {np.asarray(program[k]).tolist()}")
    return is_float


cdef inline bint _is_fit(int64_t bits, int64_t overflow) noexcept:
    return 1 <= bits <= 64 and WRAP <= overflow <= INDEFINITE


cdef const int64_t *_integers(array, name, Py_ssize_t channels, int *varies, bint bounded) except? NULL:
    """Return the address of one integer, or one a channel. The caller keeps the array alive."""
    cdef const int64_t[::1] view
    if array is None:
        varies[0] = 0
        return NULL
    view = array
    if view.shape[0] != 1 and view.shape[0] != channels:
        raise ValueError(f"{name} has {view.shape[0]} values for {channels} channels")
    if bounded and np.any(np.abs(array) > _FARTHEST):
        raise ValueError(f"{name} is beyond +-{_FARTHEST}")
    varies[0] = view.shape[0] > 1
    return &view[0] if view.shape[0] else NULL


def run_stages(program, x, multiplier, shift, scale, ratio, zero_point, lo, hi, out, pre=None, post=None):
    cdef const int64_t[:, ::1] stages = program
    cdef const double[::1] scales
    cdef qi_parameters p
    cdef int error, x_type, out_type
    cdef size_t rows, channels, x_address, out_address
    if x.dtype not in _TYPES or out.dtype not in _TYPES or x.shape != out.shape or x.ndim != 2:
        raise TypeError(f"x {x.dtype} {x.shape} and out {out.dtype} {out.shape} must be numeric, of one shape (rows, channels)")
    if not (x.flags.c_contiguous and out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("x and out must be C-contiguous, out writeable")
    if stages.shape[1] != QI_STAGE_WIDTH or stages.shape[0] > QI_MAX_STAGES:
        raise ValueError(f"a program is (stages <= {QI_MAX_STAGES}, {QI_STAGE_WIDTH})")
    if _check_program(stages, x.dtype.kind == "f") and out.dtype.kind != "f":
        raise ValueError(f"the program ends with a float, out is {out.dtype}")
    if x.size == 0:
        return False
    if max(abs(zero_point), abs(lo), abs(hi)) >= 1 << 62:
        raise ValueError("zero_point, lo and hi must be within +-2**62")
    ratios = np.ascontiguousarray(np.asarray(ratio, dtype=np.int64).T)
    if ratios.shape[0] != 3 or (ratios[1] <= 0).any():
        raise ValueError("ratio is (1 or channels, 3): numerator, denominator > 0, exponent")
    x_type, out_type = _TYPES[x.dtype], _TYPES[out.dtype]
    rows, channels = x.shape
    p.multiplier = _integers(multiplier, "multiplier", channels, &p.multiplier_varies, False)
    p.shift = _integers(shift, "shift", channels, &p.shift_varies, True)
    p.numerator = _integers(ratios[0], "ratio", channels, &p.ratio_varies, False)
    p.denominator = _integers(ratios[1], "ratio", channels, &p.ratio_varies, False)
    p.exponent = _integers(ratios[2], "ratio", channels, &p.ratio_varies, True)
    p.pre = _integers(pre, "pre", channels, &p.pre_varies, True)
    p.post = _integers(post, "post", channels, &p.post_varies, True)
    scales = scale
    if scales.shape[0] != 1 and scales.shape[0] != <Py_ssize_t>channels:
        raise ValueError(f"scale has {scales.shape[0]} values for {channels} channels")
    p.scale, p.scale_varies = &scales[0], scales.shape[0] > 1
    p.zero_point, p.lo, p.hi = zero_point, lo, hi
    x_address, out_address = x.ctypes.data, out.ctypes.data
    with nogil:
        error = qi_run_stages(
            &stages[0, 0] if stages.shape[0] else NULL, <int>stages.shape[0], <const void *>x_address, x_type, rows, channels,
            &p, <void *>out_address, out_type,
        )
    return bool(error)


def round_shift(x, amount, rounding):
    cdef Py_ssize_t i
    cdef int ignored = 0, mode = rounding
    x = np.asarray(x, dtype=np.int64)
    out = np.empty(x.shape, np.int64)
    if not TIES_TO_EVEN <= mode <= AWAY_FROM_ZERO:
        raise ValueError(f"not a rounding: {rounding}")
    amount = np.broadcast_to(np.clip(np.asarray(amount, dtype=np.int64), -_FARTHEST, _FARTHEST), x.shape)
    cdef const int64_t[::1] values = np.ascontiguousarray(x).reshape(-1), amounts = np.ascontiguousarray(amount).reshape(-1)
    cdef int64_t[::1] results = out.reshape(-1)
    with nogil:
        for i in range(values.shape[0]):
            if amounts[i] < 0:
                results[i] = qi_shift_left_fit(values[i], -amounts[i], 64, SATURATE, &ignored)
            else:
                results[i] = qi_round_shift(values[i], amounts[i], mode)
    return out


def fit(x, bits, overflow):
    cdef Py_ssize_t i
    cdef int ignored = 0, width = bits, mode = overflow
    if not _is_fit(width, mode):
        raise ValueError(f"not a width and overflow: {bits}, {overflow}")
    x = np.asarray(x, dtype=np.int64)
    out = np.empty(x.shape, np.int64)
    cdef const int64_t[::1] values = np.ascontiguousarray(x).reshape(-1)
    cdef int64_t[::1] results = out.reshape(-1)
    with nogil:
        for i in range(values.shape[0]):
            results[i] = qi_fit(values[i], width, mode, &ignored)
    return out
