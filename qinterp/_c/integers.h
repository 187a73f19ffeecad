/* Exact integer arithmetic: fitting into a width, rounding, 128-bit products and quotients. */
#ifndef QINTERP_INTEGERS_H
#define QINTERP_INTEGERS_H

#include <stddef.h>
#include <stdint.h>

#include "codes.h"

/* Every >> of a negative value below is a floor shift. */
typedef char qi_shift_must_be_arithmetic[(-1 >> 1) == -1 ? 1 : -1];

/* ---- widths of 1..64 bits ---- */

static inline int64_t qi_high(int bits)
{
#if QINTERP_PLANTED_BUG == 4
    return (int64_t)((UINT64_MAX >> 1) >> (64 - bits)) - 1;
#else
    return (int64_t)((UINT64_MAX >> 1) >> (64 - bits));
#endif
}

static inline int64_t qi_low(int bits) { return -1 - (int64_t)((UINT64_MAX >> 1) >> (64 - bits)); }

static inline int64_t qi_wrap(int64_t x, int bits)
{
    return (int64_t)((uint64_t)x << (64 - bits)) >> (64 - bits);
}

/* What a value outside of the width becomes; `low_bits` are its lowest 64 bits. */
static inline int64_t qi_overflowed(int64_t low_bits, int negative, int bits, int overflow)
{
    if (overflow == QI_WRAP) return qi_wrap(low_bits, bits);
    if (overflow == QI_INDEFINITE || negative) return qi_low(bits);
    return qi_high(bits);
}

static inline int64_t qi_fit(int64_t x, int bits, int overflow, int *overflowed)
{
    if (x >= qi_low(bits) && x <= qi_high(bits)) return x;
    *overflowed = 1;
    return qi_overflowed(x, x < 0, bits, overflow);
}

static inline int64_t qi_wrapping_add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

static inline int64_t qi_wrapping_multiply(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* a + b, exact before the fit (65 bits). */
static inline int64_t qi_add_fit(int64_t a, int64_t b, int bits, int overflow, int *overflowed)
{
    int64_t sum = qi_wrapping_add(a, b);
    if (((a ^ sum) & (b ^ sum)) < 0) {
        *overflowed = 1;
        return qi_overflowed(sum, a < 0, bits, overflow);
    }
    return qi_fit(sum, bits, overflow, overflowed);
}

/* ---- rounding ----
   A number is floor + fraction; `half`: fraction >= 1/2, `rest`: fraction is neither 0 nor 1/2.
   Returns whether the result is floor + 1. */
static inline int qi_rounds_up(int rounding, int half, int rest, int odd, int negative)
{
    switch (rounding) {
    case QI_TIES_TO_EVEN: return half & (rest | odd);
    case QI_TIES_TO_AWAY: return half & (rest | !negative);
    case QI_TIES_TOWARD_POSITIVE: return half;
    case QI_TIES_TOWARD_NEGATIVE: return half & rest;
    case QI_TIES_TOWARD_ZERO: return half & (rest | negative);
    case QI_TOWARD_NEGATIVE: return 0;
    case QI_TOWARD_ZERO: return (half | rest) & negative;
    case QI_TOWARD_POSITIVE: return half | rest;
    default: return (half | rest) & !negative; /* away from zero */
    }
}

/* x / 2^amount, amount >= 0. */
static inline int64_t qi_round_shift(int64_t x, int64_t amount, int rounding)
{
    int a, half, rest, odd;
    int64_t floor;
    if (amount == 0) return x;
    if (amount > 64) { /* |x / 2^amount| < 1/2 */
        half = x < 0;
        return (x >> 63) + qi_rounds_up(rounding, half, x != 0, half, half);
    }
    a = (int)amount;
    floor = a == 64 ? x >> 63 : x >> a;
    half = (int)(x >> (a - 1)) & 1;
    rest = a > 1 && (uint64_t)x << (65 - a) != 0;
    odd = (int)floor & 1;
    return floor + qi_rounds_up(rounding, half, rest, odd, x < 0);
}

/* x * 2^amount, amount >= 0, exact before the fit. */
static inline int64_t qi_shift_left_fit(int64_t x, int64_t amount, int bits, int overflow, int *overflowed)
{
    int64_t low_bits = amount > 63 ? 0 : (int64_t)((uint64_t)x << amount);
    if (amount > 63 ? x == 0 : low_bits >> amount == x) return qi_fit(low_bits, bits, overflow, overflowed);
    *overflowed = 1;
    return qi_overflowed(low_bits, x < 0, bits, overflow);
}

/* ---- 128 bits, two's complement ----
   The portable code also serves the checked build, so that it is tested where __int128 exists. */
#if defined(__SIZEOF_INT128__) && !defined(QINTERP_CHECKED_KERNELS)
#define QI_INT128 1
#else
#define QI_INT128 0
#endif

typedef struct {
    int64_t high;
    uint64_t low;
} qi_wide;

static inline qi_wide qi_wide_negated(qi_wide x)
{
    x.low = ~x.low + 1;
    x.high = (int64_t)(~(uint64_t)x.high + (x.low == 0));
    return x;
}

static inline qi_wide qi_multiply(int64_t a, int64_t b)
{
    qi_wide product;
#if QI_INT128
    __int128 exact = (__int128)a * b;
    product.high = (int64_t)(exact >> 64);
    product.low = (uint64_t)exact;
#else
    uint64_t ua = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, ub = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    uint64_t a0 = (uint32_t)ua, a1 = ua >> 32, b0 = (uint32_t)ub, b1 = ub >> 32;
    uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), carry = a0 * b1 + (uint32_t)middle;
    product.low = (carry << 32) | (uint32_t)low;
    product.high = (int64_t)(a1 * b1 + (middle >> 32) + (carry >> 32));
    if ((a < 0) != (b < 0)) product = qi_wide_negated(product);
#endif
    return product;
}

static inline int64_t qi_wide_fit(qi_wide x, int bits, int overflow, int *overflowed)
{
    if (x.high == (int64_t)x.low >> 63) return qi_fit((int64_t)x.low, bits, overflow, overflowed);
    *overflowed = 1;
    return qi_overflowed((int64_t)x.low, x.high < 0, bits, overflow);
}

/* x / 2^amount, 0 <= amount <= 64. */
static inline qi_wide qi_wide_round_shift(qi_wide x, int amount, int rounding)
{
    qi_wide floor = x;
    int half, rest;
    uint64_t up;
    if (amount == 0) return x;
    if (amount == 64) {
        floor.low = (uint64_t)x.high;
        floor.high = x.high >> 63;
    } else {
        floor.low = (x.low >> amount) | ((uint64_t)x.high << (64 - amount));
        floor.high = x.high >> amount;
    }
    half = (int)(x.low >> (amount - 1)) & 1;
    rest = amount > 1 && x.low << (65 - amount) != 0;
    up = (uint64_t)qi_rounds_up(rounding, half, rest, (int)floor.low & 1, x.high < 0);
    floor.low += up;
    floor.high += floor.low < up;
    return floor;
}

/* round(x * numerator * 2^exponent / denominator), denominator > 0, saturated to 64 bits. */
int64_t qi_scale_ratio(int64_t x, int64_t numerator, int64_t denominator, int64_t exponent, int rounding);

/* out[i] = x[i] / 2^amount[i], rounded; a negative amount shifts left and saturates. */
void qi_round_shifts(const int64_t *x, const int64_t *amount, ptrdiff_t n, int rounding, int64_t *out);

/* out[i] = x[i], fitted. */
void qi_fits(const int64_t *x, ptrdiff_t n, int bits, int overflow, int64_t *out);

#endif
