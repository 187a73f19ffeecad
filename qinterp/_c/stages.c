#include "stages.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "integers.h"

/* The float stages promise one rounding each, to the width they name. */
#if defined(FLT_EVAL_METHOD) && (FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2)
#error "float arithmetic must not be evaluated in a wider type (on x86: -mfpmath=sse)"
#endif

enum { BLOCK = 128 };

typedef struct {
    int64_t multiplier[BLOCK], shift[BLOCK], numerator[BLOCK], denominator[BLOCK], exponent[BLOCK], pre[BLOCK], post[BLOCK];
    double scale[BLOCK];
} lane_parameters;

/* What is known of a stage before any data is seen. */
typedef struct {
    int narrow;         /* the exact result fits 64 bits */
    int shifts_forward; /* no lane has a negative amount */
} stage_plan;

/* ---- parameters of lanes ---- */

static void spread_integers(int64_t *lanes, const int64_t *values, int varies, size_t first, size_t channels, int n)
{
    int i;
    size_t c = first;
    if (!values) return;
    for (i = 0; i < n; i++) {
        lanes[i] = values[varies ? c : 0];
        if (++c == channels) c = 0;
    }
}

static void spread_doubles(double *lanes, const double *values, int varies, size_t first, size_t channels, int n)
{
    int i;
    size_t c = first;
    if (!values) return;
    for (i = 0; i < n; i++) {
        lanes[i] = values[varies ? c : 0];
        if (++c == channels) c = 0;
    }
}

static void spread(lane_parameters *lanes, const qi_parameters *p, size_t first, size_t channels, int n)
{
    spread_integers(lanes->multiplier, p->multiplier, p->multiplier_varies, first, channels, n);
    spread_integers(lanes->shift, p->shift, p->shift_varies, first, channels, n);
    spread_integers(lanes->numerator, p->numerator, p->ratio_varies, first, channels, n);
    spread_integers(lanes->denominator, p->denominator, p->ratio_varies, first, channels, n);
    spread_integers(lanes->exponent, p->exponent, p->ratio_varies, first, channels, n);
    spread_integers(lanes->pre, p->pre, p->pre_varies, first, channels, n);
    spread_integers(lanes->post, p->post, p->post_varies, first, channels, n);
    spread_doubles(lanes->scale, p->scale, p->scale_varies, first, channels, n);
}

static int64_t amount_of(int64_t source, int64_t literal, int64_t shift, int64_t pre, int64_t post)
{
    switch (source) {
    case QI_LEFT: return shift > 0 ? shift : 0;
    case QI_RIGHT: return shift < 0 ? -shift : 0;
    case QI_TOTAL: return literal - shift;
    case QI_PRE: return pre;
    case QI_POST: return post;
    default: return literal;
    }
}

static void amounts_of(const int64_t *stage, const lane_parameters *p, int64_t *amount, int n)
{
    int i;
    for (i = 0; i < n; i++) amount[i] = amount_of(stage[1], stage[2], p->shift[i], p->pre[i], p->post[i]);
}

/* ---- what can be known beforehand ---- */

static int width_of(int64_t x) /* of the signed type that holds x */
{
    int bits = 1;
    uint64_t u = x < 0 ? ~(uint64_t)x : (uint64_t)x;
    while (u) {
        u >>= 1;
        bits++;
    }
    return bits;
}

static int widest(const int64_t *values, size_t n)
{
    size_t i;
    int bits = 1, b;
    for (i = 0; i < n; i++) {
        b = width_of(values[i]);
        if (b > bits) bits = b;
    }
    return bits;
}

static void amount_range(const int64_t *stage, const qi_parameters *p, size_t channels, int64_t *least, int64_t *most)
{
    size_t c;
    *least = INT64_MAX;
    *most = INT64_MIN;
    for (c = 0; c < channels; c++) {
        int64_t a = amount_of(stage[1], stage[2], p->shift ? p->shift[p->shift_varies ? c : 0] : 0,
                              p->pre ? p->pre[p->pre_varies ? c : 0] : 0, p->post ? p->post[p->post_varies ? c : 0] : 0);
        if (a < *least) *least = a;
        if (a > *most) *most = a;
        if (!p->shift_varies && !p->pre_varies && !p->post_varies) break;
    }
}

static void plan_stages(const int64_t *program, int stages, int x_type, const qi_parameters *p, size_t channels,
                        stage_plan *plan)
{
    static const int widths[] = {8, 9, 16, 32, 64, 64, 64};
    int width = widths[x_type], product, k;
    int64_t least, most;
    for (k = 0; k < stages; k++, program += QI_STAGE_WIDTH, plan++) {
        plan->narrow = plan->shifts_forward = 0;
        switch (program[0]) {
        case QI_SHIFT_LEFT:
            amount_range(program, p, channels, &least, &most);
            plan->shifts_forward = least >= 0;
            plan->narrow = least >= 0 && most < 64 && width + (int)most <= 64;
            width = (int)program[3];
            break;
        case QI_MULTIPLY:
        case QI_MULTIPLY_HIGH:
            product = width + widest(p->multiplier, p->multiplier_varies ? channels : 1);
            plan->narrow = product <= 64;
            width = (int)program[1];
            break;
        case QI_SHIFT_RIGHT:
            amount_range(program, p, channels, &least, &most);
            plan->shifts_forward = least >= 0;
            plan->narrow = least >= 0 && most < 64;
            if (least < 0) width = 64;
            break;
        case QI_ADD_ZERO_POINT:
        case QI_SUBTRACT_ZERO_POINT:
            plan->narrow = width < 64 && width_of(p->zero_point) < 63;
            width = (int)program[1];
            break;
        case QI_ROUND: width = (int)program[2]; break;
        case QI_FIT: width = (int)program[1]; break;
        case QI_CLAMP:
            width = width_of(p->lo);
            if (width_of(p->hi) > width) width = width_of(p->hi);
            break;
        case QI_SCALE_RATIO: width = 64; break;
        default: break;
        }
    }
}

/* ---- integer stages; each returns whether a value left the range ---- */

static int fit_lanes(int64_t *x, int n, int bits, int overflow)
{
    const int64_t low = qi_low(bits), high = qi_high(bits);
    int i, overflowed = 0;
    if (bits == 64 && QINTERP_PLANTED_BUG != 4) return 0;
    if (overflow == QI_WRAP) {
        for (i = 0; i < n; i++) x[i] = qi_wrap(x[i], bits);
    } else if (overflow == QI_INDEFINITE) {
        for (i = 0; i < n; i++) x[i] = x[i] < low || x[i] > high ? low : x[i];
    } else {
        for (i = 0; i < n; i++) {
            int64_t fitted = x[i] < low ? low : x[i] > high ? high : x[i];
            overflowed |= fitted != x[i];
            x[i] = fitted;
        }
    }
    return overflowed;
}

static int shift_left(int64_t *x, const int64_t *amount, int n, int bits, int overflow, stage_plan plan)
{
    int i, overflowed = 0;
    if (plan.narrow) {
        for (i = 0; i < n; i++) x[i] = (int64_t)((uint64_t)x[i] << amount[i]);
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++)
        x[i] = amount[i] < 0 ? qi_fit(qi_round_shift(x[i], -amount[i], QI_TOWARD_NEGATIVE), bits, overflow, &overflowed)
                             : qi_shift_left_fit(x[i], amount[i], bits, overflow, &overflowed);
    return overflowed;
}

/* Every rounding gets its own copy of the loop, without a switch in it. */
#define WITH_CONSTANT_ROUNDING(rounding, LOOP)            \
    switch (rounding) {                                   \
    case QI_TIES_TO_EVEN: LOOP(QI_TIES_TO_EVEN)           \
    case QI_TIES_TO_AWAY: LOOP(QI_TIES_TO_AWAY)           \
    case QI_TIES_TOWARD_POSITIVE: LOOP(QI_TIES_TOWARD_POSITIVE) \
    case QI_TIES_TOWARD_NEGATIVE: LOOP(QI_TIES_TOWARD_NEGATIVE) \
    case QI_TIES_TOWARD_ZERO: LOOP(QI_TIES_TOWARD_ZERO)   \
    case QI_TOWARD_NEGATIVE: LOOP(QI_TOWARD_NEGATIVE)     \
    case QI_TOWARD_ZERO: LOOP(QI_TOWARD_ZERO)             \
    case QI_TOWARD_POSITIVE: LOOP(QI_TOWARD_POSITIVE)     \
    default: LOOP(QI_AWAY_FROM_ZERO)                      \
    }

/* x / 2^amount, 0 <= amount <= 63 */
static inline int64_t round_shift_short(int64_t x, int64_t amount, int rounding)
{
    int64_t floor = x >> amount;
    uint64_t fraction = amount ? (uint64_t)x << (64 - amount) : 0; /* in units of 2^-64 */
    return floor + qi_rounds_up(rounding, (int)(fraction >> 63), (fraction << 1) != 0, (int)floor & 1, x < 0);
}

static void shift_right(int64_t *x, const int64_t *amount, int n, int rounding, stage_plan plan)
{
    int i, ignored = 0;
    if (plan.narrow) {
#define SHORT(r)                                                                   \
    for (i = 0; i < n; i++) x[i] = round_shift_short(x[i], amount[i], r);          \
    break;
        WITH_CONSTANT_ROUNDING(rounding, SHORT)
        return;
    }
    for (i = 0; i < n; i++)
        x[i] = amount[i] < 0 ? qi_shift_left_fit(x[i], -amount[i], 64, QI_SATURATE, &ignored)
                             : qi_round_shift(x[i], amount[i], rounding);
}

static int multiply(int64_t *x, const int64_t *by, int n, int bits, int overflow, stage_plan plan)
{
    int i, overflowed = 0;
    if (plan.narrow) {
        for (i = 0; i < n; i++) x[i] *= by[i];
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++) x[i] = qi_wide_fit(qi_multiply(x[i], by[i]), bits, overflow, &overflowed);
    return overflowed;
}

static int multiply_high(int64_t *x, const int64_t *by, int n, int bits, int rounding, int overflow, stage_plan plan)
{
    int i, overflowed = 0;
#if QINTERP_PLANTED_BUG == 1
    if (rounding == QI_TIES_TOWARD_POSITIVE) rounding = QI_TIES_TO_AWAY;
#endif
    if (plan.narrow) {
#define NARROW(r)                                                                            \
    for (i = 0; i < n; i++) x[i] = round_shift_short(x[i] * by[i], bits - 1, r);             \
    break;
        WITH_CONSTANT_ROUNDING(rounding, NARROW)
        return fit_lanes(x, n, bits, overflow);
    }
#define WIDE(r)                                                                              \
    for (i = 0; i < n; i++)                                                                  \
        x[i] = qi_wide_fit(qi_wide_round_shift(qi_multiply(x[i], by[i]), bits - 1, r), bits, overflow, &overflowed); \
    break;
    WITH_CONSTANT_ROUNDING(rounding, WIDE)
    return overflowed;
}

static int add_integer(int64_t *x, int n, int64_t zero_point, int subtract, int bits, int overflow, stage_plan plan)
{
    int i, overflowed = 0;
    if (plan.narrow) {
        int64_t term = subtract ? -zero_point : zero_point;
        for (i = 0; i < n; i++) x[i] += term;
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++) { /* x - z = -(~x + z) - 1 = ~(~x + z) */
        int64_t term = subtract ? ~x[i] : x[i], sum = qi_wrapping_add(term, zero_point);
        int beyond = ((term ^ sum) & (zero_point ^ sum)) < 0;
        if (subtract) sum = ~sum;
        if (beyond) {
            overflowed = 1;
            x[i] = qi_overflowed(sum, x[i] < 0, bits, overflow);
        } else {
            x[i] = qi_fit(sum, bits, overflow, &overflowed);
        }
    }
    return overflowed;
}

/* ---- float stages; the lanes are doubles that hold floats while the precision is 32 ---- */

static void to_float(const int64_t *x, double *v, int n, int precision)
{
    int i;
    if (precision == 32)
        for (i = 0; i < n; i++) v[i] = (float)x[i];
    else
        for (i = 0; i < n; i++) v[i] = (double)x[i];
}

static void scale(double *v, const double *by, int n, int precision)
{
    int i;
    if (precision == 32)
        for (i = 0; i < n; i++) v[i] = (float)v[i] * (float)by[i];
    else
        for (i = 0; i < n; i++) v[i] *= by[i];
}

static void divide_scale(double *v, const double *by, int n, int precision)
{
    int i;
    if (precision == 32)
        for (i = 0; i < n; i++) v[i] = (float)v[i] / (float)by[i];
    else
        for (i = 0; i < n; i++) v[i] /= by[i];
}

static void add_float(double *v, int n, int64_t zero_point, int subtract, int precision)
{
    int i;
    if (precision == 32) {
        float term = subtract ? -(float)zero_point : (float)zero_point;
        for (i = 0; i < n; i++) v[i] = (float)v[i] + term;
    } else {
        double term = subtract ? -(double)zero_point : (double)zero_point;
        for (i = 0; i < n; i++) v[i] += term;
    }
}

static void clamp_float(double *v, int n, const qi_parameters *p, int below, int above, int precision)
{
    double low = (double)(p->lo - p->zero_point), high = (double)(p->hi - p->zero_point);
    int i;
    if (precision == 32) {
        low = (float)(p->lo - p->zero_point);
        high = (float)(p->hi - p->zero_point);
    }
    if (below)
        for (i = 0; i < n; i++) v[i] = v[i] < low ? low : v[i];
    if (above)
        for (i = 0; i < n; i++) v[i] = v[i] > high ? high : v[i];
}

/* |v| >= 2^62, or NaN: an integer with trailing zeros. */
static int64_t round_huge(double v, int bits, int overflow, int *overflowed)
{
    double low_bits;
    if (v >= -9223372036854775808.0 && v < 9223372036854775808.0)
        return qi_fit((int64_t)v, bits, overflow, overflowed);
    *overflowed = 1;
    if (v != v) return overflow == QI_INDEFINITE ? qi_low(bits) : 0;
    if (overflow != QI_WRAP) return qi_overflowed(0, v < 0, bits, overflow);
    if (v - v != 0) return 0; /* infinite */
    low_bits = fmod(v, 18446744073709551616.0);
    return qi_wrap((int64_t)(low_bits < 0 ? 0 - (uint64_t)-low_bits : (uint64_t)low_bits), bits);
}

static inline int64_t round_moderate(double v, int rounding)
{
    int64_t floor = (int64_t)v;
    double fraction = v - (double)floor; /* exact, with the sign of v */
    int half, rest, negative = v < 0;
    if (fraction < 0) {
        floor -= 1;
        half = fraction >= -0.5;
        rest = fraction != -0.5;
    } else {
        half = fraction >= 0.5;
        rest = fraction != 0 && fraction != 0.5;
    }
    return floor + qi_rounds_up(rounding, half, rest, (int)floor & 1, negative);
}

static int round_lanes(const double *v, int64_t *x, int n, int rounding, int bits, int overflow)
{
    int i, overflowed = 0, huge = 0;
    for (i = 0; i < n; i++) huge |= !(fabs(v[i]) < 4611686018427387904.0);
    if (huge) {
        for (i = 0; i < n; i++)
            x[i] = fabs(v[i]) < 4611686018427387904.0
                       ? qi_fit(round_moderate(v[i], rounding), bits, overflow, &overflowed)
                       : round_huge(v[i], bits, overflow, &overflowed);
        return overflowed;
    }
#define MODERATE(r)                                                    \
    for (i = 0; i < n; i++) x[i] = round_moderate(v[i], r);            \
    break;
    WITH_CONSTANT_ROUNDING(rounding, MODERATE)
    return fit_lanes(x, n, bits, overflow);
}

/* ---- loads and stores ---- */

#define LOAD(type, lanes)                                              \
    for (i = 0; i < n; i++) lanes[i] = ((const type *)source)[first + i]; \
    break;

static void load(const void *source, int type, size_t first, int n, int64_t *x, double *v)
{
    int i;
    switch (type) {
    case QI_I8: LOAD(int8_t, x)
    case QI_U8: LOAD(uint8_t, x)
    case QI_I16: LOAD(int16_t, x)
    case QI_I32: LOAD(int32_t, x)
    case QI_I64: LOAD(int64_t, x)
    case QI_F32: LOAD(float, v)
    default: LOAD(double, v)
    }
}

#define STORE(type, lanes)                                             \
    for (i = 0; i < n; i++) ((type *)target)[first + i] = (type)lanes[i]; \
    break;

static void store(void *target, int type, size_t first, int n, const int64_t *x, const double *v, int is_float)
{
    int i;
    switch (type) {
    case QI_I8: STORE(int8_t, x)
    case QI_U8: STORE(uint8_t, x)
    case QI_I16: STORE(int16_t, x)
    case QI_I32: STORE(int32_t, x)
    case QI_I64: STORE(int64_t, x)
    case QI_F32:
        if (!is_float) {
            STORE(float, x)
        }
        STORE(float, v)
    default:
        if (!is_float) {
            STORE(double, x)
        }
        STORE(double, v)
    }
}

/* ---- the interpreter ---- */

static int run_block(const int64_t *program, int stages, const stage_plan *plan, const lane_parameters *lanes,
                     const qi_parameters *p, int64_t *x, double *v, int n, int precision, int *result_precision)
{
    int64_t amount[BLOCK];
    int i, k, overflow, overflowed, error = 0;
    for (k = 0; k < stages; k++, program += QI_STAGE_WIDTH) {
        overflow = QI_WRAP;
        overflowed = 0;
        switch (program[0]) {
        case QI_SHIFT_LEFT:
            overflow = (int)program[4];
            amounts_of(program, lanes, amount, n);
            overflowed = shift_left(x, amount, n, (int)program[3], overflow, plan[k]);
            break;
        case QI_MULTIPLY:
            overflow = (int)program[2];
            overflowed = multiply(x, lanes->multiplier, n, (int)program[1], overflow, plan[k]);
            break;
        case QI_MULTIPLY_HIGH:
            overflow = (int)program[3];
            overflowed = multiply_high(x, lanes->multiplier, n, (int)program[1], (int)program[2], overflow, plan[k]);
            break;
        case QI_SHIFT_RIGHT:
            amounts_of(program, lanes, amount, n);
            shift_right(x, amount, n, (int)program[3], plan[k]);
            break;
        case QI_TO_FLOAT:
            if (precision)
                for (i = 0; program[1] == 32 && i < n; i++) v[i] = (float)v[i];
            else
                to_float(x, v, n, (int)program[1]);
            precision = (int)program[1];
            break;
        case QI_SCALE:
            precision = (int)program[1];
            scale(v, lanes->scale, n, precision);
            break;
        case QI_DIVIDE_SCALE:
            precision = (int)program[1];
            divide_scale(v, lanes->scale, n, precision);
            break;
        case QI_SCALE_RATIO:
            for (i = 0; i < n; i++)
                x[i] = qi_scale_ratio(x[i], lanes->numerator[i], lanes->denominator[i], lanes->exponent[i], (int)program[1]);
            break;
        case QI_ROUND:
            overflow = (int)program[3];
            overflowed = round_lanes(v, x, n, (int)program[1], (int)program[2], overflow);
            precision = 0;
            break;
        case QI_ADD_ZERO_POINT:
        case QI_SUBTRACT_ZERO_POINT:
            if (precision) {
                add_float(v, n, p->zero_point, program[0] == QI_SUBTRACT_ZERO_POINT, precision);
                break;
            }
            overflow = (int)program[2];
            overflowed = add_integer(x, n, p->zero_point, program[0] == QI_SUBTRACT_ZERO_POINT, (int)program[1], overflow,
                                     plan[k]);
            break;
        case QI_FIT:
            overflow = (int)program[2];
            overflowed = fit_lanes(x, n, (int)program[1], overflow);
            break;
        case QI_CLAMP:
            for (i = 0; i < n; i++) x[i] = x[i] < p->lo ? p->lo : x[i] > p->hi ? p->hi : x[i];
            break;
        case QI_CLAMP_FLOAT: clamp_float(v, n, p, (int)program[1], (int)program[2], precision); break;
        }
        error |= overflowed && overflow == QI_ERROR;
    }
    *result_precision = precision;
    return error;
}

int qi_run_stages(const int64_t *program, int stages, const void *x, int x_type, size_t rows, size_t channels,
                  const qi_parameters *parameters, void *out, int out_type)
{
    int64_t integers[BLOCK];
    double floats[BLOCK];
    lane_parameters lanes;
    stage_plan plan[QI_MAX_STAGES];
    const qi_parameters *p = parameters;
    const int varies = p->multiplier_varies || p->shift_varies || p->ratio_varies || p->pre_varies || p->post_varies ||
                       p->scale_varies;
    const int input_precision = x_type == QI_F32 ? 32 : x_type == QI_F64 ? 64 : 0;
    const size_t size = rows * channels;
    size_t first, channel = 0, n = BLOCK;
    int error = 0, precision = 0, whole_rows = !varies || channels <= BLOCK;

    if (size == 0) return 0;
    memset(&lanes, 0, sizeof lanes);
    memset(integers, 0, sizeof integers);
    memset(floats, 0, sizeof floats);
    plan_stages(program, stages, x_type, p, channels, plan);
    if (whole_rows) { /* every block starts at channel 0: one set of lane parameters serves all */
        if (varies) n = BLOCK / channels * channels;
        spread(&lanes, p, 0, channels, (int)n);
    }
    for (first = 0; first < size; first += n) {
        if (!whole_rows) {
            channel = first % channels;
            n = channels - channel < BLOCK ? channels - channel : BLOCK;
            spread(&lanes, p, channel, channels, (int)n);
        } else if (size - first < n) {
            n = size - first;
        }
        load(x, x_type, first, (int)n, integers, floats);
        error |= run_block(program, stages, plan, &lanes, p, integers, floats, (int)n, input_precision, &precision);
        store(out, out_type, first, (int)n, integers, floats, precision != 0);
    }
    return error;
}
