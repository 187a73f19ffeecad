#include "integers.h"

typedef struct {
    uint64_t high, low;
} magnitude;

static magnitude shifted_left(magnitude x, int amount) /* 0..127 */
{
    if (amount >= 64) {
        x.high = x.low << (amount - 64);
        x.low = 0;
    } else if (amount > 0) {
        x.high = (x.high << amount) | (x.low >> (64 - amount));
        x.low <<= amount;
    }
    return x;
}

static int bit_length(magnitude x)
{
    int length = 0;
    uint64_t word = x.high ? x.high : x.low;
    while (word) {
        word >>= 1;
        length++;
    }
    return x.high ? length + 64 : length;
}

static int less(magnitude a, magnitude b) { return a.high != b.high ? a.high < b.high : a.low < b.low; }

static magnitude difference(magnitude a, magnitude b)
{
    magnitude d;
    d.low = a.low - b.low;
    d.high = a.high - b.high - (a.low < b.low);
    return d;
}

/* Quotient; `n` becomes the remainder. */
static magnitude divide(magnitude *n, magnitude d)
{
    magnitude quotient = {0, 0};
#if QI_INT128
    unsigned __int128 wide_n = (unsigned __int128)n->high << 64 | n->low;
    unsigned __int128 wide_d = (unsigned __int128)d.high << 64 | d.low, q = wide_n / wide_d;
    wide_n -= q * wide_d;
    n->high = (uint64_t)(wide_n >> 64);
    n->low = (uint64_t)wide_n;
    quotient.high = (uint64_t)(q >> 64);
    quotient.low = (uint64_t)q;
#else
    int i = bit_length(*n) - bit_length(d);
    for (; i >= 0; i--) {
        magnitude multiple = shifted_left(d, i);
        quotient = shifted_left(quotient, 1);
        if (!less(*n, multiple)) {
            *n = difference(*n, multiple);
            quotient.low |= 1;
        }
    }
#endif
    return quotient;
}

int64_t qi_scale_ratio(int64_t x, int64_t numerator, int64_t denominator, int64_t exponent, int rounding)
{
    qi_wide product = qi_multiply(x, numerator);
    int negative = product.high < 0, half, rest, ignored = 0;
    magnitude n, d, quotient, complement;
    qi_wide result;
    if (negative) product = qi_wide_negated(product);
    n.high = (uint64_t)product.high; /* at most 2^126 */
    n.low = product.low;
    d.high = 0;
    d.low = (uint64_t)denominator;
    if ((n.high | n.low) == 0) return 0;
    if (exponent > 0) {
        /* 2^127 or more over a denominator below 2^63 does not fit 64 bits */
        if (exponent + bit_length(n) > 127) return negative ? INT64_MIN : INT64_MAX;
        n = shifted_left(n, (int)exponent);
    } else if (bit_length(d) - exponent > 128) { /* d >= 2^128 > 2 n: nearest to zero, above or below */
        return qi_rounds_up(rounding, negative, 1, negative, negative) - negative;
    } else {
        d = shifted_left(d, (int)-exponent);
    }
    quotient = divide(&n, d);
    /* of the number's magnitude, the fraction is n / d; of the number itself, when negative, (d - n) / d over the floor */
    complement = difference(d, n);
    rest = (n.high | n.low) != 0;
    if (negative && rest) {
        magnitude swap = n;
        n = complement;
        complement = swap;
        quotient.low += 1;
        quotient.high += quotient.low == 0;
    }
    half = rest && !less(n, complement);
    rest = rest && (n.high != complement.high || n.low != complement.low);
    if (quotient.high >> 63) return negative ? INT64_MIN : INT64_MAX;
    result.high = (int64_t)quotient.high;
    result.low = quotient.low;
    if (negative) result = qi_wide_negated(result);
    if (qi_rounds_up(rounding, half, rest, (int)result.low & 1, negative)) {
        result.low += 1;
        result.high += result.low == 0;
    }
    return qi_wide_fit(result, 64, QI_SATURATE, &ignored);
}

/* ---- arrays ---- */

void qi_round_shifts(const int64_t *x, const int64_t *amount, ptrdiff_t n, int rounding, int64_t *out)
{
    int ignored = 0;
    ptrdiff_t i;
    for (i = 0; i < n; i++)
        out[i] = amount[i] < 0 ? qi_shift_left_fit(x[i], -amount[i], 64, QI_SATURATE, &ignored)
                               : qi_round_shift(x[i], amount[i], rounding);
}

void qi_fits(const int64_t *x, ptrdiff_t n, int bits, int overflow, int64_t *out)
{
    int ignored = 0;
    ptrdiff_t i;
    for (i = 0; i < n; i++) out[i] = qi_fit(x[i], bits, overflow, &ignored);
}
