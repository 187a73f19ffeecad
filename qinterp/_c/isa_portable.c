/* Plain C for every compiler. gcc and clang vectorize the loops for the baseline of the platform. */
#include "packed.h"

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
#include "depthwise_ordered.h"
#include "elementwise_loops.h"

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

/* ---- depthwise; weights: (taps, 16 channels) ---- */

enum { LANES = 16 };

/* Products of words: compilers know instructions for those. */
INLINE void add_products(int32_t *sum, const int16_t *x, const int16_t *w)
{
    int c;
    for (c = 0; c < LANES; c++) sum[c] = (int32_t)((uint32_t)sum[c] + (uint32_t)((int32_t)x[c] * w[c]));
}

INLINE void depthwise_pixels(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int channels,
                             const int16_t *weights, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride,
                             const int conversion)
{
    int p, t;
    for (p = 0; p < pixels; p++) {
        int32_t sum[LANES];
        int16_t x[LANES] = {0};
        memcpy(sum, bias, sizeof sum);
        for (t = 0; t < count; t++) {
            const uint8_t *from = taps[p * count + t] + offset;
            if (channels == LANES)
                convert_16((uint8_t *)x, from, conversion);
            else
                convert((uint8_t *)x, from, channels, from, conversion); /* element by element */
            add_products(sum, x, weights + t * LANES);
        }
        memcpy(tile + p * tile_stride, sum, sizeof sum);
    }
}

static void depthwise(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int x_type, int channels,
                      const uint8_t *limit, const int16_t *weights, const int32_t *bias, int32_t *tile,
                      ptrdiff_t tile_stride)
{
    (void)limit;
    switch (x_type) {
    case QI_I8:
        depthwise_pixels(taps, count, pixels, offset, channels, weights, bias, tile, tile_stride, QI_WIDEN_SIGNED);
        break;
    case QI_U8:
        depthwise_pixels(taps, count, pixels, offset, channels, weights, bias, tile, tile_stride, QI_WIDEN_UNSIGNED);
        break;
    default: depthwise_pixels(taps, count, pixels, offset, channels, weights, bias, tile, tile_stride, QI_COPY_WORDS); break;
    }
}

/* ---- requantization ---- */

/* At most 64 channels of one row. */
INLINE void requantize_row(const int32_t *x, int first, int channels, const qi_requantizer *with, int32_t y[64])
{
    const double most = with->high - with->zero_point, least = with->low - with->zero_point;
    const float most32 = (float)most, least32 = (float)least; /* integers: clamping before rounding changes nothing */
    int c;
    switch (with->kind) {
    case QI_MULTIPLIER:
        for (c = 0; c < channels; c++) {
            const int i = first + c;
            const int32_t shifted = with->pre ? x[c] >> with->pre[i] : (int32_t)((uint32_t)x[c] << with->left[i]);
            const int64_t product = (int64_t)shifted * with->multiplier[i];
            const int64_t term = with->above[i] + ((with->below[i] - with->above[i]) & (product >> 63)); /* no branch */
            const int64_t rounded = (product + term) >> with->shift[i];
            y[c] = (int32_t)((uint32_t)rounded + (uint32_t)with->zero_point);
        }
        for (c = 0; c < channels; c++) y[c] = y[c] < with->low ? with->low : y[c];
        for (c = 0; c < channels; c++) y[c] = y[c] > with->high ? with->high : y[c];
        break;
    case QI_FLOAT32:
        for (c = 0; c < channels; c++) {
            float v = (float)x[c] * with->scale32[first + c];
            v = v > most32 ? most32 : v;
            v = v < least32 ? least32 : v;
            y[c] = (int32_t)((v + 12582912.0f) - 12582912.0f) + with->zero_point; /* 2^23 + 2^22: ties to even */
        }
        break;
    default:
        for (c = 0; c < channels; c++) {
            /* the largest double below 1/2: the sum never reaches the next integer unless the fraction is 1/2 or more */
            double v = (double)x[c] * with->scale64[first + c];
            v = v > most ? most : v;
            v = v < least ? least : v;
            y[c] = (int32_t)(v + (v < 0 ? -0.49999999999999994 : 0.49999999999999994)) + with->zero_point;
        }
        break;
    }
}

static void requantize(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                       const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride)
{
    int32_t y[64];
    int r, c, i;
    for (c = 0; c < channels; c += 64) {
        const int n = channels - c < 64 ? channels - c : 64;
        for (r = 0; r < rows; r++) {
            const ptrdiff_t at = r * out_stride + c;
            requantize_row(tile + r * tile_stride + c, first + c, n, with, y);
            if (out_type == QI_I16)
                for (i = 0; i < n; i++) ((int16_t *)out)[at + i] = (int16_t)y[i];
            else /* the low 8 bits, signed or not */
                for (i = 0; i < n; i++) ((uint8_t *)out)[at + i] = (uint8_t)y[i];
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

const qi_isa qi_portable = {
    .name = "portable", .block = 16, .lanes = LANES, .narrow_lanes = 16, .gather = gather, .words = gemm,
    .depthwise = depthwise, .requantize = requantize, .wide = wide, .pairs = pairs, .narrow = narrow,
    .depthwise_ordered = depthwise_ordered, .run_stages = run_stages, .widen = widen, .combine = combine,
    .fold = fold, .quantize = quantize, .look_up_bytes = look_up_bytes, .add_lines = add_lines,
};
