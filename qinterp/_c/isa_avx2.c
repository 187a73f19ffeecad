/* AVX2: 8 channels a vector, blocks of 16; operands are words. */
#include "packed.h"

#if QI_X86
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 16")
/* Keeps a constant in a register: gcc makes it anew in every round of a loop otherwise. */
#define KEEP(x) __asm__("" : "+x"(x))

INLINE int load_step(const uint8_t *at)
{
    int step;
    memcpy(&step, at, sizeof step);
    return step;
}

INLINE __m256i load(const void *at) { return _mm256_loadu_si256((const __m256i *)at); }

INLINE void store(void *at, __m256i x) { _mm256_storeu_si256((__m256i *)at, x); }

/* ---- gathering, 32 or 16 elements at a time where memory goes on ---- */

INLINE void convert_16(uint8_t *to, const uint8_t *from, const int conversion)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)from);
    switch (conversion) {
    case QI_WIDEN_SIGNED: store(to, _mm256_cvtepi8_epi16(bytes)); break;
    case QI_WIDEN_UNSIGNED: store(to, _mm256_cvtepu8_epi16(bytes)); break;
    default: store(to, load(from)); break; /* words */
    }
}

INLINE void convert(uint8_t *to, const uint8_t *from, ptrdiff_t n, const uint8_t *limit, const int conversion)
{
    const ptrdiff_t in = conversion == QI_COPY_WORDS ? 2 : 1;
    ptrdiff_t i = 0;
    for (; i < n && limit - from >= (i + 16) * in; i += 16) convert_16(to + 2 * i, from + i * in, conversion);
    for (; i < n; i++)
        ((int16_t *)to)[i] = conversion == QI_WIDEN_SIGNED     ? ((const int8_t *)from)[i]
                             : conversion == QI_WIDEN_UNSIGNED ? from[i]
                                                               : ((const int16_t *)from)[i];
}

#include "gather.h"
#include "run_stages.h"
#include "depthwise_ordered.h"
#include "elementwise_loops.h"

/* ---- products; weights: (steps, 16 channels, 2) int16 ---- */

INLINE void gemm_block(const uint8_t *rows, ptrdiff_t row_bytes, const int16_t *weights, int steps, const int32_t *bias,
                       int32_t *tile, ptrdiff_t tile_stride, const int count)
{
    __m256i sum[6][2];
    int r, s;
    UNROLL for (r = 0; r < count; r++) {
        sum[r][0] = load(bias);
        sum[r][1] = load(bias + 8);
    }
    for (s = 0; s < steps; s++) {
        const __m256i w0 = load(weights + s * 32), w1 = load(weights + s * 32 + 16);
        UNROLL for (r = 0; r < count; r++) {
            const __m256i x = _mm256_set1_epi32(load_step(rows + r * row_bytes + 4 * s));
            sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(x, w0));
            sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(x, w1));
        }
    }
    UNROLL for (r = 0; r < count; r++) {
        store(tile + r * tile_stride, sum[r][0]);
        store(tile + r * tile_stride + 8, sum[r][1]);
    }
}

TARGET static void gemm(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps, int vectors,
                        const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride)
{
    int r;
    (void)vectors; /* blocks of 16 channels */
    for (r = 0; r < count; r += 6) {
        if (count - r == 1 + (QINTERP_PLANTED_BUG == 13))
            gemm_block(rows + r * row_bytes, row_bytes, weights, steps, bias, tile + r * tile_stride, tile_stride, 1);
        else
            gemm_block(rows + r * row_bytes, row_bytes, weights, steps, bias, tile + r * tile_stride, tile_stride, 6);
    }
}

/* ---- depthwise: pairs of taps interleaved; weights: (pairs, 2 halves, 2, 4 channels, 2 taps) ---- */

enum { LANES = 16 };

/* All 16 channels, or those there are where memory ends before the sixteenth. */
INLINE __m256i load_channels(const uint8_t *at, const uint8_t *limit, int channels, const int x_type, const int whole)
{
    const size_t size = x_type == QI_I16 ? 2 : 1;
    uint8_t copy[32] = {0};
    if (!whole && limit - at < (ptrdiff_t)(LANES * size)) {
        memcpy(copy, at, (size_t)channels * size);
        at = copy;
    }
    if (x_type == QI_I16) return load(at);
    if (x_type == QI_I8) return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)at));
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)at));
}

INLINE void depthwise_block(const uint8_t *const *taps, int count, ptrdiff_t offset, int channels, const uint8_t *limit,
                            const int16_t *weights, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride,
                            const int pixels, const int x_type, const int whole)
{
    __m256i low[4], high[4];
    int p, t;
    UNROLL for (p = 0; p < pixels; p++) low[p] = high[p] = _mm256_setzero_si256();
    for (t = 0; t < count; t += 2) {
        const __m256i w_low = load(weights + t * LANES), w_high = load(weights + (t + 1) * LANES);
        UNROLL for (p = 0; p < pixels; p++) {
            const __m256i x0 = load_channels(taps[p * count + t] + offset, limit, channels, x_type, whole);
            const __m256i x1 = load_channels(taps[p * count + t + 1] + offset, limit, channels, x_type, whole);
            low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), w_low));
            high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), w_high));
        }
    }
    UNROLL for (p = 0; p < pixels; p++) {
        int32_t *to = tile + p * tile_stride;
        store(to, _mm256_add_epi32(_mm256_permute2x128_si256(low[p], high[p], 0x20), load(bias)));
        store(to + 8, _mm256_add_epi32(_mm256_permute2x128_si256(low[p], high[p], 0x31), load(bias + 8)));
    }
}

INLINE void depthwise_pixels(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int channels,
                             const uint8_t *limit, const int16_t *weights, const int32_t *bias, int32_t *tile,
                             ptrdiff_t tile_stride, const int x_type)
{
    int p = 0;
    if (channels == LANES) {
        for (; p + 4 <= pixels; p += 4)
            depthwise_block(taps + p * count, count, offset, channels, limit, weights, bias, tile + p * tile_stride,
                            tile_stride, 4, x_type, 1);
        for (; p < pixels - (QINTERP_PLANTED_BUG == 14); p++)
            depthwise_block(taps + p * count, count, offset, channels, limit, weights, bias, tile + p * tile_stride,
                            tile_stride, 1, x_type, 1);
    }
    for (; p < pixels - (QINTERP_PLANTED_BUG == 14); p++)
        depthwise_block(taps + p * count, count, offset, channels, limit, weights, bias, tile + p * tile_stride,
                        tile_stride, 1, x_type, 0);
}

TARGET static void depthwise(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int x_type, int channels,
                             const uint8_t *limit, const int16_t *weights, const int32_t *bias, int32_t *tile,
                             ptrdiff_t tile_stride)
{
    switch (x_type) {
    case QI_I8:
        depthwise_pixels(taps, count, pixels, offset, channels, limit, weights, bias, tile, tile_stride, QI_I8);
        break;
    case QI_U8:
        depthwise_pixels(taps, count, pixels, offset, channels, limit, weights, bias, tile, tile_stride, QI_U8);
        break;
    default: depthwise_pixels(taps, count, pixels, offset, channels, limit, weights, bias, tile, tile_stride, QI_I16); break;
    }
}

/* ---- requantization, 8 channels at a time ---- */

INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The values fit the type. */
INLINE void store_8(__m256i y, void *out, int out_type, ptrdiff_t at, int n)
{
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    const __m128i packed = out_type == QI_I16  ? words
                           : out_type == QI_I8 ? _mm_packs_epi16(words, words)
                                               : _mm_packus_epi16(words, words);
    const size_t size = out_type == QI_I16 ? 2 : 1;
    uint8_t *to = (uint8_t *)out + at * (ptrdiff_t)size, copy[16];
    if (n == 8 && size == 2) {
        _mm_storeu_si128((__m128i *)to, packed);
    } else if (n == 8) {
        _mm_storel_epi64((__m128i *)to, packed);
    } else {
        _mm_storeu_si128((__m128i *)copy, packed);
        memcpy(to, copy, (size_t)n * size);
    }
}

/* Adds the zero point and clamps. It is within +-16384 here, so that saturating at 16 bits first changes nothing. */
typedef struct {
    __m256i zero_point, low, high, by_row;
} byte_store;

INLINE byte_store byte_store_of(const qi_requantizer *with)
{
    byte_store s;
    s.zero_point = _mm256_set1_epi16((int16_t)(with->adds ? with->zero_point : 0));
    s.low = _mm256_set1_epi8((int8_t)with->low);
    s.high = _mm256_set1_epi8((int8_t)with->high);
    s.by_row = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    KEEP(s.zero_point);
    KEEP(s.low);
    KEEP(s.high);
    KEEP(s.by_row);
    return s;
}

INLINE void store_four_rows(const __m256i y[4], const byte_store *s, void *out, int out_type, ptrdiff_t at,
                            ptrdiff_t out_stride)
{
    const __m256i y01 = _mm256_adds_epi16(_mm256_packs_epi32(y[0], y[1]), s->zero_point);
    const __m256i y23 = _mm256_adds_epi16(_mm256_packs_epi32(y[2], y[3]), s->zero_point);
    uint8_t *to = (uint8_t *)out + at;
    __m256i bytes;
    __m128i half;
    if (out_type == QI_I8)
        bytes = _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(y01, y23), s->low), s->high);
    else
        bytes = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(y01, y23), s->low), s->high);
    bytes = _mm256_permutevar8x32_epi32(bytes, s->by_row);
    half = _mm256_castsi256_si128(bytes);
    _mm_storel_epi64((__m128i *)to, half);
    _mm_storel_epi64((__m128i *)(to + out_stride), _mm_unpackhi_epi64(half, half));
    half = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64((__m128i *)(to + 2 * out_stride), half);
    _mm_storel_epi64((__m128i *)(to + 3 * out_stride), _mm_unpackhi_epi64(half, half));
}

INLINE int rows_share(const qi_requantizer *with, int out_type, int n)
{
    return n == 8 && out_type != QI_I16 && with->zero_point >= -16384 && with->zero_point <= 16384;
}

INLINE __m256i even_of(const int64_t *at) /* of 8: 0 2 4 6 */
{
    return _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(load(at), load(at + 4)), 0xd8);
}

INLINE __m256i odd_of(const int64_t *at)
{
    return _mm256_permute4x64_epi64(_mm256_unpackhi_epi64(load(at), load(at + 4)), 0xd8);
}

/* There is no arithmetic shift of 64 bits: (p >> s) = ((p + 2^63) >>> s) - 2^(63 - s). Above and below contain the 2^63,
   the low halves of 2^(63 - s) come off with the zero point. */
INLINE __m256i round_product(__m256i product, __m256i above, __m256i below, __m256i shift)
{
    const __m256i term = _mm256_castpd_si256(
        _mm256_blendv_pd(_mm256_castsi256_pd(above), _mm256_castsi256_pd(below), _mm256_castsi256_pd(product)));
    return _mm256_srlv_epi64(_mm256_add_epi64(product, term), shift);
}

INLINE __m256i joined(__m256i even, __m256i odd) { return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa); }

INLINE void by_multiplier(const int32_t *tile, ptrdiff_t tile_stride, int rows, int c, int n, const qi_requantizer *with,
                          void *out, int out_type, ptrdiff_t at, ptrdiff_t out_stride)
{
    const __m256i mask = first_lanes(n), sign = _mm256_set1_epi64x(INT64_MIN);
    const __m256i left = load(with->left + c), multiplier = load(with->multiplier + c);
    const __m256i odd_multiplier = _mm256_srli_epi64(multiplier, 32);
    const __m256i above0 = _mm256_xor_si256(even_of(with->above + c), sign);
    const __m256i above1 = _mm256_xor_si256(odd_of(with->above + c), sign);
    const __m256i below0 = _mm256_xor_si256(even_of(with->below + c), sign);
    const __m256i below1 = _mm256_xor_si256(odd_of(with->below + c), sign);
    const __m256i shift0 = even_of(with->shift + c), shift1 = odd_of(with->shift + c);
    const __m256i excess = joined(_mm256_srlv_epi64(sign, shift0), _mm256_srlv_epi64(sign, shift1));
    const __m256i zero_point = _mm256_sub_epi32(_mm256_set1_epi32(with->zero_point), excess);
    const __m256i least = _mm256_set1_epi32(with->low), most = _mm256_set1_epi32(with->high);
    const __m256i pre = with->pre ? load(with->pre + c) : _mm256_setzero_si256();
    int r = 0, i;
    if (with->plain[c / 16] && c % 8 == 0 && rows_share(with, out_type, n)) {
        const __m256i doubled = load(with->high_half.doubled + c), odd_doubled = _mm256_srli_epi64(doubled, 32);
        const __m256i lift = load(with->high_half.lift + c), top = load(with->high_half.top + c);
        const __m256i rest = load(with->high_half.rest + c), nudge = _mm256_set1_epi32(with->nudge);
        const byte_store bytes = byte_store_of(with);
        for (; r + 4 <= rows; r += 4) {
            __m256i y[4];
            UNROLL for (i = 0; i < 4; i++) {
                const __m256i acc = load(tile + (r + i) * tile_stride), x = with->pre ? _mm256_srav_epi32(acc, pre) : acc;
                const __m256i lifted = _mm256_add_epi32(x, lift);
                const __m256i even = _mm256_mul_epu32(lifted, doubled);
                const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(lifted, 32), odd_doubled);
                const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
                const __m256i nudged = _mm256_add_epi32(_mm256_add_epi32(high, top), _mm256_and_si256(_mm256_srai_epi32(x, 31), nudge));
                y[i] = _mm256_srav_epi32(nudged, rest);
            }
            store_four_rows(y, &bytes, out, out_type, at + r * out_stride, out_stride);
        }
    }
    for (; r < rows; r++) {
        const __m256i acc = _mm256_maskload_epi32(tile + r * tile_stride, mask);
        const __m256i x = with->pre ? _mm256_srav_epi32(acc, pre) : _mm256_sllv_epi32(acc, left);
        const __m256i even = round_product(_mm256_mul_epi32(x, multiplier), above0, below0, shift0);
        const __m256i odd = round_product(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), odd_multiplier), above1, below1, shift1);
        const __m256i y = _mm256_add_epi32(joined(even, odd), zero_point);
        store_8(_mm256_min_epi32(_mm256_max_epi32(y, least), most), out, out_type, at + r * out_stride, n);
    }
}

INLINE void by_float32(const int32_t *tile, ptrdiff_t tile_stride, int rows, int c, int n, const qi_requantizer *with,
                       void *out, int out_type, ptrdiff_t at, ptrdiff_t out_stride)
{
    const __m256i mask = first_lanes(n), zero_point = _mm256_set1_epi32(with->zero_point);
    const __m256 scale = _mm256_loadu_ps(with->scale32 + c);
    const __m256 most = _mm256_set1_ps((float)(with->high - with->zero_point));
    const __m256 least = _mm256_set1_ps((float)(with->low - with->zero_point)); /* an integer: as clamping afterwards */
    int r = 0, i;
    if (rows_share(with, out_type, n)) {
        const byte_store bytes = byte_store_of(with);
        for (; r + 4 <= rows; r += 4) {
            __m256i y[4];
            UNROLL for (i = 0; i < 4; i++) {
                const __m256 x = _mm256_cvtepi32_ps(load(tile + (r + i) * tile_stride));
                /* what is below becomes INT32_MIN, and saturates */
                y[i] = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(x, scale), most));
            }
            store_four_rows(y, &bytes, out, out_type, at + r * out_stride, out_stride);
        }
    }
    for (; r < rows; r++) {
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_maskload_epi32(tile + r * tile_stride, mask)), scale);
        v = _mm256_max_ps(_mm256_min_ps(v, most), least);
        store_8(_mm256_add_epi32(_mm256_cvtps_epi32(v), zero_point), out, out_type, at + r * out_stride, n);
    }
}

INLINE __m128i round_away(__m128i x, __m256d scale, __m256d least, __m256d most)
{
    /* the largest double below 1/2: the sum never rounds up to the next integer unless the fraction is 1/2 or more */
    const __m256d almost_half = _mm256_set1_pd(0.49999999999999994), sign = _mm256_set1_pd(-0.0);
    __m256d v = _mm256_mul_pd(_mm256_cvtepi32_pd(x), scale);
    v = _mm256_max_pd(_mm256_min_pd(v, most), least);
    return _mm256_cvttpd_epi32(_mm256_add_pd(v, _mm256_or_pd(almost_half, _mm256_and_pd(v, sign))));
}

INLINE void by_float64(const int32_t *tile, ptrdiff_t tile_stride, int rows, int c, int n, const qi_requantizer *with,
                       void *out, int out_type, ptrdiff_t at, ptrdiff_t out_stride)
{
    const __m256i mask = first_lanes(n), zero_point = _mm256_set1_epi32(with->zero_point);
    const __m256d scale0 = _mm256_loadu_pd(with->scale64 + c), scale1 = _mm256_loadu_pd(with->scale64 + c + 4);
    const __m256d most = _mm256_set1_pd(with->high - with->zero_point), least = _mm256_set1_pd(with->low - with->zero_point);
    int r;
    for (r = 0; r < rows; r++) {
        const __m256i x = _mm256_maskload_epi32(tile + r * tile_stride, mask);
        const __m128i y0 = round_away(_mm256_castsi256_si128(x), scale0, least, most);
        const __m128i y1 = round_away(_mm256_extracti128_si256(x, 1), scale1, least, most);
        const __m256i y = _mm256_inserti128_si256(_mm256_castsi128_si256(y0), y1, 1);
        store_8(_mm256_add_epi32(y, zero_point), out, out_type, at + r * out_stride, n);
    }
}

TARGET static void requantize(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                              const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride)
{
    int c;
    for (c = 0; c < channels; c += 8) {
        const int n = channels - c < 8 ? channels - c : 8;
        switch (with->kind) {
        case QI_MULTIPLIER:
            by_multiplier(tile + c, tile_stride, rows, first + c, n, with, out, out_type, c, out_stride);
            break;
        case QI_FLOAT32: by_float32(tile + c, tile_stride, rows, first + c, n, with, out, out_type, c, out_stride); break;
        default: by_float64(tile + c, tile_stride, rows, first + c, n, with, out, out_type, c, out_stride); break;
        }
    }
}

/* ---- saturating accumulation; rows of which only `count` may be looked at, for the sake of the flag ---- */

INLINE __m256i bounded(__m256i x, __m256i low, __m256i high) { return _mm256_min_epi32(_mm256_max_epi32(x, low), high); }

INLINE __m256i add_saturating(__m256i sum, __m256i term, __m256i low, __m256i high, __m256i *changed)
{
    const __m256i next = _mm256_add_epi32(sum, term), kept = bounded(next, low, high);
    *changed = _mm256_or_si256(*changed, _mm256_xor_si256(next, kept));
    return kept;
}

/* Weights: (steps, 16 channels, 2); the two halves of the channels one after the other. */
INLINE void wide_block(const uint8_t *rows, ptrdiff_t row_bytes, const int16_t *weights, int steps, const int32_t *start,
                       qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, __m256i *changed, const int count)
{
    const __m256i low = _mm256_set1_epi32(limits.low), high = _mm256_set1_epi32(limits.high);
    const __m256i even = _mm256_set1_epi32(0xffff), odd = _mm256_slli_epi32(even, 16);
    __m256i sum[4];
    int r, s, half;
    for (half = 0; half < 2; half++) {
        UNROLL for (r = 0; r < count; r++) sum[r] = load(start + 8 * half);
        for (s = 0; s < steps; s++) {
            const __m256i w = load(weights + s * 32 + half * 16);
            UNROLL for (r = 0; r < count; r++) {
                const __m256i x = _mm256_set1_epi32(load_step(rows + r * row_bytes + 4 * s));
                sum[r] = add_saturating(sum[r], _mm256_madd_epi16(_mm256_and_si256(x, even), w), low, high, changed);
                sum[r] = add_saturating(sum[r], _mm256_madd_epi16(_mm256_and_si256(x, odd), w), low, high, changed);
            }
        }
        UNROLL for (r = 0; r < count; r++) store(tile + r * tile_stride + 8 * half, sum[r]);
    }
}

INLINE void pairs_block(const uint8_t *rows, ptrdiff_t row_bytes, const int16_t *weights, int steps, const int32_t *start,
                        qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, __m256i *changed, const int count,
                        const int wraps)
{
    const __m256i low = _mm256_set1_epi32(limits.low), high = _mm256_set1_epi32(limits.high);
    const __m256i pair_low = _mm256_set1_epi32(limits.pair_low), pair_high = _mm256_set1_epi32(limits.pair_high);
    __m256i sum[4];
    int r, s, half;
    for (half = 0; half < 2; half++) {
        UNROLL for (r = 0; r < count; r++) sum[r] = load(start + 8 * half);
        for (s = 0; s < steps; s++) {
            const __m256i w = load(weights + s * 32 + half * 16);
            UNROLL for (r = 0; r < count; r++) {
                const __m256i x = _mm256_set1_epi32(load_step(rows + r * row_bytes + 4 * s));
                const __m256i exact = _mm256_madd_epi16(x, w), pair = bounded(exact, pair_low, pair_high);
                *changed = _mm256_or_si256(*changed, _mm256_xor_si256(exact, pair));
                sum[r] = wraps ? _mm256_add_epi32(sum[r], pair) : add_saturating(sum[r], pair, low, high, changed);
            }
        }
        UNROLL for (r = 0; r < count; r++) store(tile + r * tile_stride + 8 * half, sum[r]);
    }
}

/* Weights: (depth, 16 channels) int16. */
INLINE void narrow_block(const uint8_t *rows, ptrdiff_t row_bytes, const int16_t *weights, int depth, const int32_t *start,
                         qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, __m256i *changed, const int count,
                         const int full)
{
    const __m256i low = _mm256_set1_epi16((int16_t)limits.low), high = _mm256_set1_epi16((int16_t)limits.high);
    __m256i sum[4];
    int r, k;
    UNROLL for (r = 0; r < count; r++)
        sum[r] = _mm256_permute4x64_epi64(_mm256_packs_epi32(load(start), load(start + 8)), 0xd8);
    for (k = 0; k < depth; k++) {
        const __m256i w = load(weights + k * 16);
        UNROLL for (r = 0; r < count; r++) {
            const __m256i x = _mm256_set1_epi16(((const int16_t *)(rows + r * row_bytes))[k]);
            const __m256i product = _mm256_mullo_epi16(x, w), next = _mm256_add_epi16(sum[r], product);
            __m256i kept = _mm256_adds_epi16(sum[r], product);
            if (!full) kept = _mm256_min_epi16(_mm256_max_epi16(kept, low), high);
            *changed = _mm256_or_si256(*changed, _mm256_xor_si256(next, kept));
            sum[r] = kept;
        }
    }
    UNROLL for (r = 0; r < count; r++) {
        store(tile + r * tile_stride, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum[r])));
        store(tile + r * tile_stride + 8, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum[r], 1)));
    }
}

/* Rows in fours, the rest one by one. */
#define ORDERED_ROWS(block, ...)                                                                                      \
    __m256i changed = _mm256_setzero_si256();                                                                         \
    int r = 0;                                                                                                        \
    for (; r + 4 <= count; r += 4)                                                                                    \
        block(rows + r * row_bytes, row_bytes, weights, steps, start, limits, tile + r * tile_stride, tile_stride,    \
              &changed, 4 __VA_ARGS__);                                                                               \
    for (; r < count; r++)                                                                                            \
        block(rows + r * row_bytes, row_bytes, weights, steps, start, limits, tile + r * tile_stride, tile_stride,    \
              &changed, 1 __VA_ARGS__);                                                                               \
    *overflowed |= !_mm256_testz_si256(changed, changed);

TARGET static void wide(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                        const int32_t *start, qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, int *overflowed)
{
    ORDERED_ROWS(wide_block)
}

TARGET static void pairs(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                         const int32_t *start, qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, int *overflowed)
{
    if (limits.low == INT32_MIN) {
        ORDERED_ROWS(pairs_block, , 1)
    } else {
        ORDERED_ROWS(pairs_block, , 0)
    }
}

TARGET static void narrow(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                          const int32_t *start, qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, int *overflowed)
{
    if (limits.low == INT16_MIN) {
        ORDERED_ROWS(narrow_block, , 1)
    } else {
        ORDERED_ROWS(narrow_block, , 0)
    }
}

const qi_isa qi_avx2 = {
    .name = "avx2", .block = 16, .lanes = LANES, .narrow_lanes = 16, .gather = gather, .words = gemm,
    .depthwise = depthwise, .requantize = requantize, .wide = wide, .pairs = pairs, .narrow = narrow,
    .depthwise_ordered = depthwise_ordered, .run_stages = run_stages, .widen = widen, .combine = combine,
    .fold = fold, .quantize = quantize, .look_up_bytes = look_up_bytes, .add_lines = add_lines,
};
#endif
