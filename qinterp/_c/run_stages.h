/* Requantization programs: lists of stages over blocks of lanes. For inclusion by each instruction set, which has defined
   TARGET: the loops are plain C, and the compiler's vectorizer makes of them what the instruction set allows. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "integers.h"
#include "stages.h"

/* The float stages promise one rounding each, to the width they name. */
#if defined(FLT_EVAL_METHOD) && (FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2)
#error "float arithmetic must not be evaluated in a wider type (on x86: -mfpmath=sse)"
#endif

enum { BLOCK = 128 };

typedef struct {
    int64_t multiplier[BLOCK], shift[BLOCK], numerator[BLOCK], denominator[BLOCK], exponent[BLOCK], pre[BLOCK], post[BLOCK];
    double scale[BLOCK];
} lane_parameters;

/* What is known of a stage before any data is seen: its exact results, and the values it starts from, fit the fast loop. */
typedef struct {
    int narrow;
} stage_plan;

/* Adding and subtracting it rounds a double below 2^50 to an integer, ties to even; its lowest bits then are that integer. */
#define MAGIC 6755399441055744.0 /* 2^52 + 2^51 */
#define MAGIC_BITS 0x4338000000000000

/* ---- parameters of lanes ---- */

/* `values` point at one value, or at one a channel, `stride` elements apart (0: the one). */
TARGET static void spread_integers(int64_t *lanes, const int64_t *values, ptrdiff_t stride, size_t first, size_t channels, int n)
{
    int i;
    size_t c = first;
    for (i = 0; values && i < n; i++) {
        lanes[i] = values[(ptrdiff_t)c * stride];
        if (++c == channels) c = 0;
    }
}

TARGET static void spread(lane_parameters *lanes, const qi_parameters *p, size_t first, size_t channels, int n)
{
    int i;
    size_t c = first;
    spread_integers(lanes->multiplier, p->multiplier, p->multiplier_stride, first, channels, n);
    spread_integers(lanes->shift, p->shift, p->shift_stride, first, channels, n);
    spread_integers(lanes->numerator, p->ratio, p->ratio_stride, first, channels, n);
    spread_integers(lanes->denominator, p->ratio ? p->ratio + 1 : NULL, p->ratio_stride, first, channels, n);
    spread_integers(lanes->exponent, p->ratio ? p->ratio + 2 : NULL, p->ratio_stride, first, channels, n);
    spread_integers(lanes->pre, p->pre, p->pre_stride, first, channels, n);
    spread_integers(lanes->post, p->post, p->post_stride, first, channels, n);
    for (i = 0; p->scale && i < n; i++) {
        lanes->scale[i] = p->scale[(ptrdiff_t)c * p->scale_stride];
        if (++c == channels) c = 0;
    }
}

TARGET static void amounts_of(const int64_t *stage, const lane_parameters *p, int64_t *amount, int n)
{
    int i;
    switch (stage[1]) {
    case QI_LEFT:
        for (i = 0; i < n; i++) amount[i] = p->shift[i] > 0 ? p->shift[i] : 0;
        break;
    case QI_RIGHT:
        for (i = 0; i < n; i++) amount[i] = p->shift[i] < 0 ? -p->shift[i] : 0;
        break;
    case QI_TOTAL:
        for (i = 0; i < n; i++) amount[i] = stage[2] - p->shift[i];
        break;
    case QI_PRE: memcpy(amount, p->pre, (size_t)n * sizeof *amount); break;
    case QI_POST: memcpy(amount, p->post, (size_t)n * sizeof *amount); break;
    default:
        for (i = 0; i < n; i++) amount[i] = stage[2];
        break;
    }
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

static int widest(const int64_t *values, ptrdiff_t stride, size_t channels)
{
    uint64_t all = 0;
    size_t c, n = stride ? channels : 1;
    for (c = 0; c < n; c++) all |= (uint64_t)(values[(ptrdiff_t)c * stride] ^ (values[(ptrdiff_t)c * stride] >> 63));
    return width_of((int64_t)all);
}

/* Least and greatest amount of a shift stage. */
static void amount_range(const int64_t *stage, const qi_parameters *p, size_t channels, int64_t *least, int64_t *most)
{
    const int64_t *values = stage[1] == QI_PRE ? p->pre : stage[1] == QI_POST ? p->post : p->shift;
    const ptrdiff_t stride = stage[1] == QI_PRE ? p->pre_stride : stage[1] == QI_POST ? p->post_stride : p->shift_stride;
    const size_t n = stride ? channels : 1;
    int64_t low = INT64_MAX, high = INT64_MIN;
    size_t c;
    for (c = 0; c < n; c++) {
        const int64_t value = values ? values[(ptrdiff_t)c * stride] : 0;
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    switch (stage[1]) {
    case QI_LITERAL: *least = *most = stage[2]; break;
    case QI_LEFT: *least = low > 0 ? low : 0, *most = high > 0 ? high : 0; break;
    case QI_RIGHT: *least = high < 0 ? -high : 0, *most = low < 0 ? -low : 0; break;
    case QI_TOTAL: *least = stage[2] - high, *most = stage[2] - low; break;
    default: *least = low, *most = high; break;
    }
}

static void plan_stages(const int64_t *program, int stages, int x_type, const qi_parameters *p, size_t channels,
                        stage_plan *plan)
{
    static const int widths[] = {8, 9, 16, 32, 64, 64, 64};
    int width = widths[x_type], k;
    int64_t least, most;
    for (k = 0; k < stages; k++, program += QI_STAGE_WIDTH, plan++) {
        plan->narrow = 0;
        switch (program[0]) {
        case QI_SHIFT_LEFT:
            amount_range(program, p, channels, &least, &most);
            plan->narrow = least >= 0 && most < 64 && width + (int)most <= 64;
            width = (int)program[3];
            break;
        case QI_MULTIPLY:
        case QI_MULTIPLY_HIGH:
            plan->narrow = width + widest(p->multiplier, p->multiplier_stride, channels) <= 64;
            width = (int)program[1];
            break;
        case QI_SHIFT_RIGHT:
            amount_range(program, p, channels, &least, &most);
            plan->narrow = least >= 0 && most < 64;
            if (least < 0) width = 64;
            break;
        case QI_ADD_ZERO_POINT:
        case QI_SUBTRACT_ZERO_POINT:
            plan->narrow = width < 64 && width_of(p->zero_point) < 63;
            width = (int)program[1];
            break;
        case QI_TO_FLOAT: plan->narrow = width <= 51; break;
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

/* Every rounding gets its own copy of the loop. */
#define WITH_CONSTANT_ROUNDING(rounding, LOOP)                  \
    switch (rounding) {                                         \
    case QI_TIES_TO_EVEN: LOOP(QI_TIES_TO_EVEN)                 \
    case QI_TIES_TO_AWAY: LOOP(QI_TIES_TO_AWAY)                 \
    case QI_TIES_TOWARD_POSITIVE: LOOP(QI_TIES_TOWARD_POSITIVE) \
    case QI_TIES_TOWARD_NEGATIVE: LOOP(QI_TIES_TOWARD_NEGATIVE) \
    case QI_TIES_TOWARD_ZERO: LOOP(QI_TIES_TOWARD_ZERO)         \
    case QI_TOWARD_NEGATIVE: LOOP(QI_TOWARD_NEGATIVE)           \
    case QI_TOWARD_ZERO: LOOP(QI_TOWARD_ZERO)                   \
    case QI_TOWARD_POSITIVE: LOOP(QI_TOWARD_POSITIVE)           \
    default: LOOP(QI_AWAY_FROM_ZERO)                            \
    }

/* x / 2^amount, 0 <= amount <= 63, as qi_rounds_up has it, in operations that every vectorizer understands. */
TARGET static inline int64_t round_shift_lane(int64_t x, int64_t amount, const int rounding)
{
    const int64_t floor = x >> amount;
    const uint64_t fraction = (uint64_t)x << (63 - amount) << 1, below_half = fraction << 1; /* in units of 2^-64 */
    const uint64_t half = fraction >> 63, rest = (below_half | (0 - below_half)) >> 63;
    const uint64_t negative = (uint64_t)x >> 63, odd = (uint64_t)floor & 1;
    switch (rounding) {
    case QI_TIES_TO_EVEN: return floor + (int64_t)(half & (rest | odd));
    case QI_TIES_TO_AWAY: return floor + (int64_t)(half & (rest | (negative ^ 1)));
    case QI_TIES_TOWARD_POSITIVE: return floor + (int64_t)half;
    case QI_TIES_TOWARD_NEGATIVE: return floor + (int64_t)(half & rest);
    case QI_TIES_TOWARD_ZERO: return floor + (int64_t)(half & (rest | negative));
    case QI_TOWARD_NEGATIVE: return floor;
    case QI_TOWARD_ZERO: return floor + (int64_t)((half | rest) & negative);
    case QI_TOWARD_POSITIVE: return floor + (int64_t)(half | rest);
    default: return floor + (int64_t)((half | rest) & (negative ^ 1));
    }
}

TARGET static int fit_lanes(int64_t *x, int n, int bits, int overflow)
{
    const int64_t low = qi_low(bits), high = qi_high(bits);
    int64_t changed = 0;
    int i;
    if (bits == 64 && QINTERP_PLANTED_BUG != 4) return 0;
    if (overflow == QI_WRAP) {
        for (i = 0; i < n; i++) x[i] = qi_wrap(x[i], bits);
    } else if (overflow == QI_INDEFINITE) {
        for (i = 0; i < n; i++) x[i] = ((x[i] < low) | (x[i] > high)) ? low : x[i];
    } else {
        for (i = 0; i < n; i++) {
            int64_t fitted = x[i] < low ? low : x[i];
            fitted = fitted > high ? high : fitted;
            changed |= fitted ^ x[i];
            x[i] = fitted;
        }
    }
    return changed != 0;
}

TARGET static int shift_left(int64_t *x, const int64_t *amount, int n, int bits, int overflow, int narrow)
{
    int i, overflowed = 0;
    if (narrow) {
        for (i = 0; i < n; i++) x[i] = (int64_t)((uint64_t)x[i] << amount[i]);
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++)
        x[i] = amount[i] < 0 ? qi_fit(qi_round_shift(x[i], -amount[i], QI_TOWARD_NEGATIVE), bits, overflow, &overflowed)
                             : qi_shift_left_fit(x[i], amount[i], bits, overflow, &overflowed);
    return overflowed;
}

TARGET static void shift_right(int64_t *x, const int64_t *amount, int n, int rounding, int narrow)
{
    int i, ignored = 0;
    if (narrow) {
#define SHIFT_LANES(r)                                                      \
    for (i = 0; i < n; i++) x[i] = round_shift_lane(x[i], amount[i], r);    \
    break;
        WITH_CONSTANT_ROUNDING(rounding, SHIFT_LANES)
        return;
    }
    for (i = 0; i < n; i++)
        x[i] = amount[i] < 0 ? qi_shift_left_fit(x[i], -amount[i], 64, QI_SATURATE, &ignored)
                             : qi_round_shift(x[i], amount[i], rounding);
}

TARGET static int multiply(int64_t *x, const int64_t *by, int n, int bits, int overflow, int narrow)
{
    int i, overflowed = 0;
    if (narrow) {
        for (i = 0; i < n; i++) x[i] *= by[i];
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++) x[i] = qi_wide_fit(qi_multiply(x[i], by[i]), bits, overflow, &overflowed);
    return overflowed;
}

TARGET static int multiply_high(int64_t *x, const int64_t *by, int n, int bits, int rounding, int overflow, int narrow)
{
    int i, overflowed = 0;
#if QINTERP_PLANTED_BUG == 1
    if (rounding == QI_TIES_TOWARD_POSITIVE) rounding = QI_TIES_TO_AWAY;
#endif
    if (narrow) {
#define MULTIPLY_LANES(r)                                                            \
    for (i = 0; i < n; i++) x[i] = round_shift_lane(x[i] * by[i], bits - 1, r);      \
    break;
        WITH_CONSTANT_ROUNDING(rounding, MULTIPLY_LANES)
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++) {
        const qi_wide high = qi_wide_round_shift(qi_multiply(x[i], by[i]), bits - 1, rounding);
        x[i] = qi_wide_fit(high, bits, overflow, &overflowed);
    }
    return overflowed;
}

TARGET static int add_integer(int64_t *x, int n, int64_t zero_point, int subtract, int bits, int overflow, int narrow)
{
    int i, overflowed = 0;
    if (narrow) {
        const int64_t term = subtract ? -zero_point : zero_point;
        for (i = 0; i < n; i++) x[i] += term;
        return fit_lanes(x, n, bits, overflow);
    }
    for (i = 0; i < n; i++) { /* x - z = ~(~x + z) */
        const int64_t term = subtract ? ~x[i] : x[i], sum = qi_wrapping_add(term, zero_point);
        if (((term ^ sum) & (zero_point ^ sum)) < 0) {
            overflowed = 1;
            x[i] = qi_overflowed(subtract ? ~sum : sum, x[i] < 0, bits, overflow);
        } else {
            x[i] = qi_fit(subtract ? ~sum : sum, bits, overflow, &overflowed);
        }
    }
    return overflowed;
}

/* ---- float stages; the lanes are doubles that hold floats while the precision is 32 ---- */

TARGET static void to_float(const int64_t *x, double *v, int n, int precision, int narrow)
{
    int i;
    if (narrow) {
        for (i = 0; i < n; i++) {
            const int64_t bits = x[i] + MAGIC_BITS;
            memcpy(&v[i], &bits, sizeof bits);
        }
        for (i = 0; i < n; i++) v[i] -= MAGIC; /* exact */
        for (i = 0; precision == 32 && i < n; i++) v[i] = (float)v[i];
    } else if (precision == 32) {
        for (i = 0; i < n; i++) v[i] = (float)x[i];
    } else {
        for (i = 0; i < n; i++) v[i] = (double)x[i];
    }
}

TARGET static void scale(double *v, const double *by, int n, int precision)
{
    int i;
    if (precision == 32)
        for (i = 0; i < n; i++) v[i] = (float)v[i] * (float)by[i];
    else
        for (i = 0; i < n; i++) v[i] *= by[i];
}

TARGET static void divide_scale(double *v, const double *by, int n, int precision)
{
    int i;
    if (precision == 32)
        for (i = 0; i < n; i++) v[i] = (float)v[i] / (float)by[i];
    else
        for (i = 0; i < n; i++) v[i] /= by[i];
}

TARGET static void add_float(double *v, int n, int64_t zero_point, int subtract, int precision)
{
    int i;
    if (precision == 32) {
        const float term = subtract ? -(float)zero_point : (float)zero_point;
        for (i = 0; i < n; i++) v[i] = (float)v[i] + term;
    } else {
        const double term = subtract ? -(double)zero_point : (double)zero_point;
        for (i = 0; i < n; i++) v[i] += term;
    }
}

TARGET static void clamp_float(double *v, int n, const qi_parameters *p, int below, int above, int precision)
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

static int64_t round_any(double v, int rounding, int bits, int overflow, int *overflowed)
{
    if (v >= -9223372036854775808.0 && v < 9223372036854775808.0) {
        int64_t floor = (int64_t)v;
        const double fraction = v - (double)floor; /* exact, with the sign of v */
        int half = fraction >= 0.5, rest = fraction != 0 && fraction != 0.5;
        if (fraction < 0) {
            floor -= 1;
            half = fraction >= -0.5;
            rest = fraction != -0.5;
        }
        return qi_fit(floor + qi_rounds_up(rounding, half, rest, (int)floor & 1, v < 0), bits, overflow, overflowed);
    }
    *overflowed = 1;
    if (v != v) return overflow == QI_INDEFINITE ? qi_low(bits) : 0;
    if (overflow != QI_WRAP) return qi_overflowed(0, v < 0, bits, overflow);
    if (v - v != 0) return 0; /* infinite */
    v = fmod(v, 18446744073709551616.0); /* an integer already */
    return qi_wrap((int64_t)(v < 0 ? 0 - (uint64_t)-v : (uint64_t)v), bits);
}

/* |v| < 2^50; the result is a double. */
TARGET static inline double round_lane(double v, const int rounding)
{
    const double nearest = (v + MAGIC) - MAGIC, left = v - nearest; /* exact, within +-1/2 */
    const double up = nearest + 1, down = nearest - 1;
    switch (rounding) {
    case QI_TIES_TO_EVEN: return nearest;
    case QI_TIES_TO_AWAY: return ((left == 0.5) & (v > 0)) ? up : ((left == -0.5) & (v < 0)) ? down : nearest;
    case QI_TIES_TOWARD_POSITIVE: return left == 0.5 ? up : nearest;
    case QI_TIES_TOWARD_NEGATIVE: return left == -0.5 ? down : nearest;
    case QI_TIES_TOWARD_ZERO: return ((left == 0.5) & (v < 0)) ? up : ((left == -0.5) & (v > 0)) ? down : nearest;
    case QI_TOWARD_NEGATIVE: return left < 0 ? down : nearest;
    case QI_TOWARD_ZERO: return ((left < 0) & (v > 0)) ? down : ((left > 0) & (v < 0)) ? up : nearest;
    case QI_TOWARD_POSITIVE: return left > 0 ? up : nearest;
    default: return ((left > 0) & (v > 0)) ? up : ((left < 0) & (v < 0)) ? down : nearest;
    }
}

TARGET static int round_lanes(double *v, int64_t *x, int n, int rounding, int bits, int overflow)
{
    int i, overflowed = 0;
    int64_t huge = 0;
    for (i = 0; i < n; i++) huge |= !(fabs(v[i]) < 1125899906842624.0);
    if (huge) {
        for (i = 0; i < n; i++) x[i] = round_any(v[i], rounding, bits, overflow, &overflowed);
        return overflowed;
    }
#define ROUND_LANES(r)                                         \
    for (i = 0; i < n; i++) v[i] = round_lane(v[i], r);        \
    break;
    WITH_CONSTANT_ROUNDING(rounding, ROUND_LANES)
    for (i = 0; i < n; i++) {
        const double shifted = v[i] + MAGIC;
        memcpy(&x[i], &shifted, sizeof shifted);
    }
    for (i = 0; i < n; i++) x[i] -= MAGIC_BITS;
    return fit_lanes(x, n, bits, overflow);
}

/* ---- loads and stores ---- */

#define LOAD(type, lanes)                                              \
    for (i = 0; i < n; i++) lanes[i] = ((const type *)source)[first + i]; \
    break;

TARGET static void load_lanes(const void *source, int type, size_t first, int n, int64_t *x, double *v)
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

TARGET static void store_lanes(void *target, int type, size_t first, int n, const int64_t *x, const double *v, int is_float)
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

TARGET static int run_block(const int64_t *program, int stages, const stage_plan *plan, const lane_parameters *lanes,
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
            overflowed = shift_left(x, amount, n, (int)program[3], overflow, plan[k].narrow);
            break;
        case QI_MULTIPLY:
            overflow = (int)program[2];
            overflowed = multiply(x, lanes->multiplier, n, (int)program[1], overflow, plan[k].narrow);
            break;
        case QI_MULTIPLY_HIGH:
            overflow = (int)program[3];
            overflowed = multiply_high(x, lanes->multiplier, n, (int)program[1], (int)program[2], overflow, plan[k].narrow);
            break;
        case QI_SHIFT_RIGHT:
            amounts_of(program, lanes, amount, n);
            shift_right(x, amount, n, (int)program[3], plan[k].narrow);
            break;
        case QI_TO_FLOAT:
            if (precision)
                for (i = 0; program[1] == 32 && i < n; i++) v[i] = (float)v[i];
            else
                to_float(x, v, n, (int)program[1], plan[k].narrow);
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
                                     plan[k].narrow);
            break;
        case QI_FIT:
            overflow = (int)program[2];
            overflowed = fit_lanes(x, n, (int)program[1], overflow);
            break;
        case QI_CLAMP:
            for (i = 0; i < n; i++) {
                const int64_t raised = x[i] < p->lo ? p->lo : x[i];
                x[i] = raised > p->hi ? p->hi : raised;
            }
            break;
        case QI_CLAMP_FLOAT: clamp_float(v, n, p, (int)program[1], (int)program[2], precision); break;
        }
        error |= overflowed && overflow == QI_ERROR;
    }
    *result_precision = precision;
    return error;
}

TARGET static int run_stages(const int64_t *program, int stages, const void *x, int x_type, size_t rows, size_t channels,
                  const qi_parameters *parameters, void *out, int out_type)
{
    int64_t integers[BLOCK];
    double floats[BLOCK];
    lane_parameters lanes;
    stage_plan plan[QI_MAX_STAGES];
    const qi_parameters *p = parameters;
    const int varies = p->multiplier_stride || p->shift_stride || p->ratio_stride || p->pre_stride || p->post_stride ||
                       p->scale_stride;
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
        load_lanes(x, x_type, first, (int)n, integers, floats);
        error |= run_block(program, stages, plan, &lanes, p, integers, floats, (int)n, input_precision, &precision);
        store_lanes(out, out_type, first, (int)n, integers, floats, precision != 0);
    }
    return error;
}
