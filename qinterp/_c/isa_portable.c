/* Plain C for every compiler. gcc and clang vectorize the loops for the baseline of the platform. */
#include "packed.h"

#include <math.h>
#include <string.h>

#define INLINE static inline
#define TARGET

/* ---- gathering, 16 elements at a time where memory goes on ---- */

INLINE void convert_16(uint8_t *to, const uint8_t *from, const int conversion)
{
    uint8_t bytes[32];
    int16_t words[16];
    int i;
    memcpy(bytes, from, conversion == QI_COPY_WORDS ? 32 : 16);
    if (conversion >= QI_WIDEN_SIGNED && conversion != QI_COPY_WORDS) {
        for (i = 0; i < 16; i++) words[i] = conversion == QI_WIDEN_SIGNED ? (int8_t)bytes[i] : bytes[i];
        memcpy(to, words, 32);
        return;
    }
    for (i = 0; conversion == QI_FLIP_BYTES && i < 16; i++) bytes[i] ^= 0x80;
    memcpy(to, bytes, conversion == QI_COPY_WORDS ? 32 : 16);
}

INLINE void convert_1(uint8_t *to, const uint8_t *from, const int conversion)
{
    switch (conversion) {
    case QI_COPY_BYTES: *to = *from; break;
    case QI_FLIP_BYTES: *to = *from ^ 0x80; break;
    case QI_WIDEN_SIGNED: *(int16_t *)to = *(const int8_t *)from; break;
    case QI_WIDEN_UNSIGNED: *(int16_t *)to = *from; break;
    default: memcpy(to, from, 2); break;
    }
}

INLINE void convert(uint8_t *to, const uint8_t *from, ptrdiff_t n, const uint8_t *limit, const int conversion)
{
    const ptrdiff_t out = conversion >= QI_WIDEN_SIGNED ? 2 : 1, in = conversion == QI_COPY_WORDS ? 2 : 1;
    ptrdiff_t i = 0;
    for (; i < n && limit - from >= (i + 16) * in; i += 16) convert_16(to + i * out, from + i * in, conversion);
    for (; i < n; i++) convert_1(to + i * out, from + i * in, conversion);
}

#include "gather.h"
#include "run_stages.h"

/* ---- products ---- */

/* Weights: (16 channels, steps) int16 pairs, a channel's own steps being contiguous. */
static void gemm(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps, int vectors,
                 const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride)
{
    const int depth = 2 * steps;
    int r, c, k;
    (void)vectors; /* blocks of 16 channels */
    for (c = 0; c < 16; c += 4) {
        const int16_t *w0 = (const int16_t *)weights + (ptrdiff_t)c * depth, *w1 = w0 + depth, *w2 = w1 + depth,
                      *w3 = w2 + depth;
        for (r = 0; r < count; r++) {
            const int16_t *a = (const int16_t *)(rows + r * row_bytes);
            /* unsigned: the sums are modulo 2^32 */
            uint32_t s0 = (uint32_t)bias[c], s1 = (uint32_t)bias[c + 1], s2 = (uint32_t)bias[c + 2],
                     s3 = (uint32_t)bias[c + 3];
            int32_t *to = tile + r * tile_stride + c;
            for (k = 0; k < depth; k++) {
                s0 += (uint32_t)((int32_t)a[k] * w0[k]);
                s1 += (uint32_t)((int32_t)a[k] * w1[k]);
                s2 += (uint32_t)((int32_t)a[k] * w2[k]);
                s3 += (uint32_t)((int32_t)a[k] * w3[k]);
            }
            to[0] = (int32_t)s0;
            to[1] = (int32_t)s1;
            to[2] = (int32_t)s2;
            to[3] = (int32_t)s3;
        }
    }
}

enum { LANES = 16 };

#define ADD_TAPS(type)                                                                       \
    for (t = 0; t < count; t++) {                                                            \
        const type *x = (const type *)(taps[p * count + t] + offset);                        \
        const int16_t *w = weights + t * LANES;                                              \
        for (c = 0; c < LANES; c++) sum[c] += (uint32_t)((int32_t)x[c] * w[c]);              \
    }                                                                                        \
    break;

#define ADD_TAPS_OF_TAIL(type)                                                               \
    for (t = 0; t < count; t++) {                                                            \
        const type *x = (const type *)(taps[p * count + t] + offset);                        \
        for (c = 0; c < channels; c++) sum[c] += (uint32_t)((int32_t)x[c] * weights[t * LANES + c]); \
    }                                                                                        \
    break;

/* Weights: (taps, 16 channels). */
static void depthwise(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int x_type, int channels,
                      const uint8_t *limit, const int16_t *weights, const int32_t *bias, int32_t *tile,
                      ptrdiff_t tile_stride)
{
    int p, t, c;
    (void)limit;
    for (p = 0; p < pixels; p++) {
        uint32_t sum[LANES];
        for (c = 0; c < LANES; c++) sum[c] = (uint32_t)bias[c];
        switch (channels == LANES ? x_type : x_type + 16) {
        case QI_I8: ADD_TAPS(int8_t)
        case QI_U8: ADD_TAPS(uint8_t)
        case QI_I16: ADD_TAPS(int16_t)
        case QI_I8 + 16: ADD_TAPS_OF_TAIL(int8_t)
        case QI_U8 + 16: ADD_TAPS_OF_TAIL(uint8_t)
        default: ADD_TAPS_OF_TAIL(int16_t)
        }
        for (c = 0; c < LANES; c++) tile[p * tile_stride + c] = (int32_t)sum[c];
    }
}

static int32_t clamped(int64_t y, const qi_requantizer *with)
{
    return (int32_t)(y < with->low ? with->low : y > with->high ? with->high : y);
}

static int32_t requantized(int32_t x, int c, const qi_requantizer *with)
{
    if (with->kind == QI_MULTIPLIER) {
        int64_t product = (int64_t)(int32_t)((uint32_t)x << with->left[c]) * with->multiplier[c];
        int64_t y = (product + (product < 0 ? with->below[c] : with->above[c])) >> with->shift[c];
        return clamped((int32_t)((uint32_t)y + (uint32_t)with->zero_point), with);
    }
    if (with->kind == QI_FLOAT32) {
        const float most = (float)(with->high - with->zero_point), least = (float)(with->low - with->zero_point);
        float v = (float)x * with->scale32[c];
        v = v > most ? most : v < least ? least : v; /* integers both: clamping before rounding changes nothing */
        return clamped((int64_t)((v + 12582912.0f) - 12582912.0f) + with->zero_point, with); /* ties to even */
    } else {
        const double most = with->high - with->zero_point, least = with->low - with->zero_point;
        double v = (double)x * with->scale64[c], whole;
        v = v > most ? most : v < least ? least : v;
        whole = trunc(v);
        if (fabs(v - whole) >= 0.5) whole += v < 0 ? -1 : 1;
        return clamped((int64_t)whole + with->zero_point, with);
    }
}

static void requantize(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                       const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride)
{
    int r, c;
    for (r = 0; r < rows; r++) {
        const int32_t *x = tile + r * tile_stride;
        if (out_type == QI_I16) {
            int16_t *y = (int16_t *)out + r * out_stride;
            for (c = 0; c < channels; c++) y[c] = (int16_t)requantized(x[c], first + c, with);
        } else { /* the low 8 bits, signed or not */
            uint8_t *y = (uint8_t *)out + r * out_stride;
            for (c = 0; c < channels; c++) y[c] = (uint8_t)requantized(x[c], first + c, with);
        }
    }
}

/* ---- saturating accumulation ---- */

static int32_t bounded(int32_t x, int32_t low, int32_t high) { return x < low ? low : x > high ? high : x; }

/* Weights as for gemm. */
static void wide(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps, const int32_t *start,
                 qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, int *overflowed)
{
    const int depth = 2 * steps;
    int r, c, k, left = 0;
    for (r = 0; r < count; r++) {
        const int16_t *a = (const int16_t *)(rows + r * row_bytes);
        for (c = 0; c < 16; c++) {
            const int16_t *w = (const int16_t *)weights + (ptrdiff_t)c * depth;
            int32_t sum = start[c];
            for (k = 0; k < depth; k++) {
                int32_t next = sum + (int32_t)a[k] * w[k];
                sum = bounded(next, limits.low, limits.high);
                left |= sum != next;
            }
            tile[r * tile_stride + c] = sum;
        }
    }
    *overflowed |= left;
}

static void pairs(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                  const int32_t *start, qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, int *overflowed)
{
    const int wraps = limits.low == INT32_MIN;
    int r, c, k, left = 0;
    for (r = 0; r < count; r++) {
        const int16_t *a = (const int16_t *)(rows + r * row_bytes);
        for (c = 0; c < 16; c++) {
            const int16_t *w = (const int16_t *)weights + (ptrdiff_t)c * 2 * steps;
            int32_t sum = start[c];
            for (k = 0; k < 2 * steps; k += 2) {
                int32_t exact = (int32_t)a[k] * w[k] + (int32_t)a[k + 1] * w[k + 1];
                int32_t pair = bounded(exact, limits.pair_low, limits.pair_high), next;
                left |= pair != exact;
                next = (int32_t)((uint32_t)sum + (uint32_t)pair);
                sum = wraps ? next : bounded(next, limits.low, limits.high);
                left |= sum != next;
            }
            tile[r * tile_stride + c] = sum;
        }
    }
    *overflowed |= left;
}

/* Weights: (depth, 16 channels) int16. */
static void narrow(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                   const int32_t *start, qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, int *overflowed)
{
    const int depth = steps;
    int r, c, k, left = 0;
    for (r = 0; r < count; r++) {
        const int16_t *a = (const int16_t *)(rows + r * row_bytes);
        int32_t sum[16];
        for (c = 0; c < 16; c++) sum[c] = start[c];
        for (k = 0; k < depth; k++) {
            const int16_t *w = (const int16_t *)weights + (ptrdiff_t)k * 16;
            for (c = 0; c < 16; c++) {
                int32_t next = sum[c] + (int32_t)a[k] * w[c];
                sum[c] = bounded(next, limits.low, limits.high);
                left |= sum[c] ^ next;
            }
        }
        for (c = 0; c < 16; c++) tile[r * tile_stride + c] = sum[c];
    }
    *overflowed |= left != 0;
}

const qi_isa qi_portable = {"portable", 16, LANES, 16, gather, NULL, gemm, depthwise, requantize, wide, pairs, narrow, run_stages};
