/* AVX512 with VNNI: 16 channels a vector, blocks of 64. */
#include "packed.h"

#if QI_X86
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 16")
/* Keeps a constant in a register: gcc makes it anew in every round of a loop otherwise. */
#define KEEP(x) __asm__("" : "+v"(x))
/* Keeps what a pointer leads to in memory: gcc copies it to the stack before a loop otherwise, vector by vector. */
#define AFRESH(pointer) __asm__("" : "+r"(pointer))

INLINE int load_step(const uint8_t *at)
{
    int step;
    memcpy(&step, at, sizeof step);
    return step;
}

INLINE __m512i multiply_add(__m512i sum, __m512i rows, __m512i weights, const int bytes)
{
    return bytes ? _mm512_dpbusd_epi32(sum, rows, weights) : _mm512_dpwssd_epi32(sum, rows, weights);
}

/* ---- gathering; masked loads and stores touch nothing else ---- */

INLINE void convert(uint8_t *to, const uint8_t *from, ptrdiff_t n, const uint8_t *limit, const int conversion)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    ptrdiff_t i = 0;
    (void)limit;
    if (conversion == QI_COPY_BYTES || conversion == QI_FLIP_BYTES) {
        __m512i bytes;
        if (n <= 16) { /* a short store seldom crosses into another cache line */
            __m128i few = _mm_maskz_loadu_epi8((__mmask16)(0xffff >> (16 - n)), from);
            if (conversion == QI_FLIP_BYTES) few = _mm_xor_si128(few, _mm512_castsi512_si128(flip));
            _mm_storeu_si128((__m128i *)to, few);
            return;
        }
        for (; i + 64 <= n; i += 64) {
            bytes = _mm512_loadu_si512(from + i);
            if (conversion == QI_FLIP_BYTES) bytes = _mm512_xor_si512(bytes, flip);
            _mm512_storeu_si512(to + i, bytes);
        }
        if (i < n) {
            bytes = _mm512_maskz_loadu_epi8(~0ull >> (64 - (n - i)), from + i);
            if (conversion == QI_FLIP_BYTES) bytes = _mm512_xor_si512(bytes, flip);
            _mm512_storeu_si512(to + i, bytes);
        }
        return;
    }
    for (; i < n; i += 32) {
        const __mmask32 mask = n - i < 32 ? ~0u >> (32 - (n - i)) : ~0u;
        __m512i words;
        if (conversion == QI_WIDEN_SIGNED)
            words = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, from + i));
        else if (conversion == QI_WIDEN_UNSIGNED)
            words = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, from + i));
        else
            words = _mm512_maskz_loadu_epi16(mask, from + 2 * i);
        _mm512_storeu_si512(to + 2 * i, words);
    }
}

#include "gather.h"
#include "run_stages.h"
#include "depthwise_ordered.h"
#include "elementwise_loops.h"

/* ---- products; weights: (steps, vectors, 16 channels, 4 bytes) ---- */

INLINE void gemm_block(const uint8_t *rows, ptrdiff_t row_bytes, const __m512i *weights, int steps, const int32_t *bias,
                       int32_t *tile, ptrdiff_t tile_stride, const int count, const int vectors, const int bytes)
{
    __m512i sum[12][4], w[4];
    int r, v, s;
    UNROLL for (r = 0; r < count; r++)
        UNROLL for (v = 0; v < vectors; v++) sum[r][v] = _mm512_loadu_si512(bias + 16 * v);
    for (s = 0; s < steps; s++) {
        UNROLL for (v = 0; v < vectors; v++) {
            w[v] = _mm512_loadu_si512(weights + s * vectors + v);
        }
        UNROLL for (r = 0; r < count; r++) {
            const __m512i x = _mm512_set1_epi32(load_step(rows + r * row_bytes + 4 * s));
            UNROLL for (v = 0; v < vectors; v++) {
                sum[r][v] = multiply_add(sum[r][v], x, w[v], bytes);
                KEEP(sum[r][v]);
            }
        }
    }
    UNROLL for (r = 0; r < count; r++)
        UNROLL for (v = 0; v < vectors; v++) _mm512_storeu_si512(tile + r * tile_stride + 16 * v, sum[r][v]);
}

/* Rows in sixes or twelves, as many as registers hold; a last single one alone. */
#define ROWS_OF_VECTORS(rows_at_once, vectors, bytes)                                                              \
    for (r = 0; r < count; r += rows_at_once) {                                                                    \
        if (count - r == 1 + (QINTERP_PLANTED_BUG == 13))                                                                                        \
            gemm_block(rows + r * row_bytes, row_bytes, weights, steps, bias, tile + r * tile_stride, tile_stride, \
                       1, vectors, bytes);                                                                         \
        else                                                                                                       \
            gemm_block(rows + r * row_bytes, row_bytes, weights, steps, bias, tile + r * tile_stride, tile_stride, \
                       rows_at_once, vectors, bytes);                                                              \
    }                                                                                                              \
    break;

INLINE void gemm(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps, int vectors,
                 const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride, const int bytes)
{
    int r;
    switch (vectors) {
    case 4: ROWS_OF_VECTORS(6, 4, bytes)
    case 3: ROWS_OF_VECTORS(6, 3, bytes)
    case 2: ROWS_OF_VECTORS(12, 2, bytes)
    default: ROWS_OF_VECTORS(12, 1, bytes)
    }
}

TARGET static void gemm_bytes(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                              int vectors, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride)
{
    gemm(rows, row_bytes, count, weights, steps, vectors, bias, tile, tile_stride, 1);
}

TARGET static void gemm_words(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                              int vectors, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride)
{
    gemm(rows, row_bytes, count, weights, steps, vectors, bias, tile, tile_stride, 0);
}

/* ---- depthwise: pairs of taps interleaved; weights: (pairs, 2 halves, 4, 4 channels, 2 taps) ---- */

enum { LANES = 32 };

INLINE __m512i load_channels(const uint8_t *at, __mmask32 mask, const int x_type)
{
    if (x_type == QI_I16) return _mm512_maskz_loadu_epi16(mask, at);
    if (x_type == QI_I8) return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, at));
    return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, at));
}

INLINE void depthwise_block(const uint8_t *const *taps, int count, ptrdiff_t offset, __mmask32 mask,
                            const int16_t *weights, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride,
                            const int pixels, const int x_type)
{
    const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    const __m512i bias0 = _mm512_loadu_si512(bias), bias1 = _mm512_loadu_si512(bias + 16);
    __m512i low[4], high[4];
    int p, t;
    UNROLL for (p = 0; p < pixels; p++) low[p] = high[p] = _mm512_setzero_si512();
    for (t = 0; t < count; t += 2) {
        const __m512i w_low = _mm512_loadu_si512(weights + t * LANES), w_high = _mm512_loadu_si512(weights + (t + 1) * LANES);
        UNROLL for (p = 0; p < pixels; p++) {
            const __m512i x0 = load_channels(taps[p * count + t] + offset, mask, x_type);
            const __m512i x1 = load_channels(taps[p * count + t + 1] + offset, mask, x_type);
            low[p] = _mm512_dpwssd_epi32(low[p], _mm512_unpacklo_epi16(x0, x1), w_low);
            high[p] = _mm512_dpwssd_epi32(high[p], _mm512_unpackhi_epi16(x0, x1), w_high);
        }
    }
    UNROLL for (p = 0; p < pixels; p++) {
        int32_t *to = tile + p * tile_stride;
        _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_permutex2var_epi64(low[p], first, high[p]), bias0));
        _mm512_storeu_si512(to + 16, _mm512_add_epi32(_mm512_permutex2var_epi64(low[p], second, high[p]), bias1));
    }
}

INLINE void depthwise_pixels(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, __mmask32 mask,
                             const int16_t *weights, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride,
                             const int x_type)
{
    int p = 0;
    for (; p + 4 <= pixels; p += 4)
        depthwise_block(taps + p * count, count, offset, mask, weights, bias, tile + p * tile_stride, tile_stride, 4, x_type);
    for (; p < pixels - (QINTERP_PLANTED_BUG == 14); p++)
        depthwise_block(taps + p * count, count, offset, mask, weights, bias, tile + p * tile_stride, tile_stride, 1, x_type);
}

TARGET static void depthwise(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int x_type, int channels,
                             const uint8_t *limit, const int16_t *weights, const int32_t *bias, int32_t *tile,
                             ptrdiff_t tile_stride)
{
    const __mmask32 mask = 0xffffffffu >> (LANES - channels);
    (void)limit; /* masked loads touch nothing else */
    switch (x_type) {
    case QI_I8: depthwise_pixels(taps, count, pixels, offset, mask, weights, bias, tile, tile_stride, QI_I8); break;
    case QI_U8: depthwise_pixels(taps, count, pixels, offset, mask, weights, bias, tile, tile_stride, QI_U8); break;
    default: depthwise_pixels(taps, count, pixels, offset, mask, weights, bias, tile, tile_stride, QI_I16); break;
    }
}

/* ---- depthwise with shared columns: four rows of a column interleaved by bytes serve every pixel that they are a tap of.
   Weights: (groups of four rows, kernel_width, 4 quarters, 4, 4 channels, 4 rows) ---- */

enum { COLUMN_LANES = 64 };

/* The bytes of channels 4j .. 4j+3 of each sixteen go to quarter j, the four rows of a channel side by side. */
INLINE void interleave(__m512i a, __m512i b, __m512i c, __m512i d, __m512i quarter[4])
{
    const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
    quarter[0] = _mm512_unpacklo_epi16(ab_low, cd_low);
    quarter[1] = _mm512_unpackhi_epi16(ab_low, cd_low);
    quarter[2] = _mm512_unpacklo_epi16(ab_high, cd_high);
    quarter[3] = _mm512_unpackhi_epi16(ab_high, cd_high);
}

INLINE __m512i load_tap(const uint8_t *at, __mmask64 mask, __m512i flip)
{
    return _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, at), flip);
}

/* With a constant kernel_width and stride the loops over columns and pixels unroll, and the sums stay in registers. */
INLINE void columns_block(const uint8_t *const *taps, int count, int kernel_height, ptrdiff_t offset, __mmask64 mask,
                          __m512i flip, const int8_t *weights, const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride,
                          const int pixels, const int kernel_width, const int stride)
{
    __m512i sum[4][4], quarter[4];
    int p, q, g, j;
    UNROLL for (p = 0; p < pixels; p++)
        UNROLL for (q = 0; q < 4; q++) sum[p][q] = _mm512_loadu_si512(bias + 16 * q);
    for (g = 0; g < kernel_height; g += 4) {
        const ptrdiff_t second = g + 1 < kernel_height ? kernel_width : 0; /* rows there are not have weight 0 */
        const ptrdiff_t third = g + 2 < kernel_height ? 2 * kernel_width : 0;
        const ptrdiff_t fourth = g + 3 < kernel_height ? 3 * kernel_width : 0;
        UNROLL for (j = 0; j < kernel_width + (pixels - 1) * stride; j++) {
            /* column j is tap kw of `owner`, the first pixel that it is a tap of */
            const int owner = j < kernel_width ? 0 : (j - kernel_width) / stride + 1, kw = j - owner * stride;
            const uint8_t *const *tap = taps + owner * count + g * kernel_width + kw;
            interleave(load_tap(tap[0] + offset, mask, flip), load_tap(tap[second] + offset, mask, flip),
                       load_tap(tap[third] + offset, mask, flip), load_tap(tap[fourth] + offset, mask, flip), quarter);
            UNROLL for (p = 0; p < pixels; p++) {
                const int kw_of_p = j - p * stride;
                const int8_t *w = weights + (g / 4 * kernel_width + kw_of_p) * 256;
                if (kw_of_p >= 0 && kw_of_p < kernel_width)
                    UNROLL for (q = 0; q < 4; q++)
                        sum[p][q] = _mm512_dpbusd_epi32(sum[p][q], quarter[q], _mm512_loadu_si512(w + 64 * q));
            }
        }
    }
    UNROLL for (p = 0; p < pixels; p++)
        UNROLL for (q = 0; q < 4; q++) _mm512_storeu_si512(tile + p * tile_stride + 16 * q, sum[p][q]);
}

#define FOUR_PIXELS(kernel_width, stride)                                                                            \
    for (; p + 4 <= pixels; p += 4)                                                                                  \
        columns_block(taps + p * count, count, kernel_height, offset, mask, flip, weights, bias, tile + p * tile_stride, \
                      tile_stride, 4, kernel_width, stride);

TARGET static void depthwise_columns(const uint8_t *const *taps, int count, int kernel_height, int kernel_width, int stride,
                                     int pixels, ptrdiff_t offset, int x_type, int channels, const int8_t *weights,
                                     const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride)
{
    const __mmask64 mask = ~0ull >> (COLUMN_LANES - channels);
    const __m512i flip = _mm512_set1_epi8(x_type == QI_I8 ? (char)0x80 : 0);
    int p = 0;
    if (kernel_width == 3 && stride == 1) {
        FOUR_PIXELS(3, 1)
    } else if (kernel_width == 3 && stride == 2) {
        FOUR_PIXELS(3, 2)
    } else if (kernel_width == 5 && stride == 1) {
        FOUR_PIXELS(5, 1)
    }
    for (; p < pixels; p++)
        columns_block(taps + p * count, count, kernel_height, offset, mask, flip, weights, bias, tile + p * tile_stride,
                      tile_stride, 1, kernel_width, stride);
}

/* ---- requantization, 16 channels at a time: of one row, or of four rows that share their packing to bytes ---- */

INLINE void store_16(__m512i y, void *out, int out_type, ptrdiff_t at, __mmask16 mask)
{
    if (out_type == QI_I16)
        _mm256_mask_storeu_epi16((int16_t *)out + at, mask, _mm512_cvtepi32_epi16(y));
    else
        _mm_mask_storeu_epi8((int8_t *)out + at, mask, _mm512_cvtepi32_epi8(y));
}

enum { NOTHING, ABOVE, BELOW_AND_ABOVE };

/* Adds the zero point and clamps, each where it is wanted. The zero point is within +-16384 here, so that saturating at 16
   bits first changes nothing. */
typedef struct {
    __m512i zero_point, low, high, by_row;
    int clamps; /* what is not done by saturating to the type */
} byte_store;

INLINE byte_store byte_store_of(const qi_requantizer *with, int out_type)
{
    byte_store s;
    s.zero_point = _mm512_set1_epi16((int16_t)(with->adds ? with->zero_point : 0));
    s.clamps = with->high < (out_type == QI_I8 ? INT8_MAX : UINT8_MAX) ? ABOVE : NOTHING;
    if (with->low > (out_type == QI_I8 ? INT8_MIN : 0) || (with->kind == QI_MULTIPLIER && with->adds)) s.clamps = BELOW_AND_ABOVE;
    s.low = _mm512_set1_epi8((int8_t)with->low);
    s.high = _mm512_set1_epi8((int8_t)with->high);
    s.by_row = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    KEEP(s.zero_point);
    KEEP(s.low);
    KEEP(s.high);
    KEEP(s.by_row);
    return s;
}

/* Adds the zero point unless it is in already. */
INLINE __m512i to_words(__m512i a, __m512i b, const byte_store *s, const int add)
{
    const __m512i words = _mm512_packs_epi32(a, b);
    return add ? _mm512_adds_epi16(words, s->zero_point) : words;
}

INLINE __m512i to_bytes(__m512i a, __m512i b, const byte_store *s, int out_type, const int clamp)
{
    const __m512i bytes = out_type == QI_I8 ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
    if (clamp == NOTHING) return bytes;
    if (out_type == QI_I8) return _mm512_min_epi8(clamp == ABOVE ? bytes : _mm512_max_epi8(bytes, s->low), s->high);
    return _mm512_min_epu8(clamp == ABOVE ? bytes : _mm512_max_epu8(bytes, s->low), s->high);
}

/* Four vectors to 64 bytes: in quarters those of one pixel. */
INLINE __m512i pack_four(const __m512i *y, const byte_store *s, int out_type, const int add, const int clamp)
{
    return to_bytes(to_words(y[0], y[1], s, add), to_words(y[2], y[3], s, add), s, out_type, clamp);
}

INLINE void store_four_rows(const __m512i y[4], const byte_store *s, void *out, int out_type, ptrdiff_t at,
                            ptrdiff_t out_stride, __mmask16 mask)
{
    uint8_t *to = (uint8_t *)out + at;
    const __m512i bytes = _mm512_permutexvar_epi32(s->by_row, pack_four(y, s, out_type, 1, BELOW_AND_ABOVE));
    _mm_mask_storeu_epi8(to, mask, _mm512_castsi512_si128(bytes));
    _mm_mask_storeu_epi8(to + out_stride, mask, _mm512_extracti32x4_epi32(bytes, 1));
    _mm_mask_storeu_epi8(to + 2 * out_stride, mask, _mm512_extracti32x4_epi32(bytes, 2));
    _mm_mask_storeu_epi8(to + 3 * out_stride, mask, _mm512_extracti32x4_epi32(bytes, 3));
}

INLINE int rows_share(const qi_requantizer *with, int out_type)
{
    return out_type != QI_I16 && with->zero_point >= -16384 && with->zero_point <= 16384;
}

INLINE __m512i even_of(const int64_t *at)
{
    return _mm512_permutex2var_epi64(_mm512_loadu_si512(at), _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0),
                                     _mm512_loadu_si512(at + 8));
}

INLINE __m512i odd_of(const int64_t *at)
{
    return _mm512_permutex2var_epi64(_mm512_loadu_si512(at), _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1),
                                     _mm512_loadu_si512(at + 8));
}

INLINE __m512i round_product(__m512i product, __m512i above, __m512i below, __m512i shift)
{
    const __m512i term = _mm512_mask_mov_epi64(above, _mm512_movepi64_mask(product), below);
    return _mm512_srav_epi64(_mm512_add_epi64(product, term), shift);
}

/* The high halves of x * doubled; both unsigned. */
INLINE __m512i high_half(__m512i x, __m512i doubled, __m512i odd_doubled)
{
    const __m512i even = _mm512_mul_epu32(x, doubled), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), odd_doubled);
    return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}

INLINE void by_multiplier(const int32_t *tile, ptrdiff_t tile_stride, int rows, int c, __mmask16 mask,
                          const qi_requantizer *with, void *out, int out_type, ptrdiff_t at, ptrdiff_t out_stride)
{
    const __m512i left = _mm512_loadu_si512(with->left + c), multiplier = _mm512_loadu_si512(with->multiplier + c);
    const __m512i odd_multiplier = _mm512_srli_epi64(multiplier, 32);
    const __m512i above0 = even_of(with->above + c), above1 = odd_of(with->above + c);
    const __m512i below0 = even_of(with->below + c), below1 = odd_of(with->below + c);
    const __m512i shift0 = even_of(with->shift + c), shift1 = odd_of(with->shift + c);
    const __m512i zero_point = _mm512_set1_epi32(with->zero_point);
    const __m512i least = _mm512_set1_epi32(with->low), most = _mm512_set1_epi32(with->high);
    const __m512i pre = with->pre ? _mm512_loadu_si512(with->pre + c) : _mm512_setzero_si512();
    int r = 0, i;
    if (with->plain[c / 16] && c % 16 == 0 && rows_share(with, out_type)) {
        const __m512i doubled = _mm512_loadu_si512(with->high_half.doubled + c), odd_doubled = _mm512_srli_epi64(doubled, 32);
        const __m512i lift = _mm512_loadu_si512(with->high_half.lift + c), top = _mm512_loadu_si512(with->high_half.top + c);
        const __m512i rest = _mm512_loadu_si512(with->high_half.rest + c), nudge = _mm512_set1_epi32(with->nudge);
        const byte_store bytes = byte_store_of(with, out_type);
        for (; r + 4 <= rows; r += 4) {
            __m512i y[4];
            UNROLL for (i = 0; i < 4; i++) {
                const __m512i x = _mm512_srav_epi32(_mm512_maskz_loadu_epi32(mask, tile + (r + i) * tile_stride), pre);
                const __m512i high = _mm512_add_epi32(high_half(_mm512_add_epi32(x, lift), doubled, odd_doubled), top);
                y[i] = _mm512_srav_epi32(_mm512_mask_add_epi32(high, _mm512_movepi32_mask(x), high, nudge), rest);
            }
            store_four_rows(y, &bytes, out, out_type, at + r * out_stride, out_stride, mask);
        }
    }
    for (; r < rows; r++) {
        const __m512i acc = _mm512_maskz_loadu_epi32(mask, tile + r * tile_stride);
        const __m512i x = with->pre ? _mm512_srav_epi32(acc, pre) : _mm512_sllv_epi32(acc, left);
        const __m512i even = round_product(_mm512_mul_epi32(x, multiplier), above0, below0, shift0);
        const __m512i odd = round_product(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), odd_multiplier), above1, below1, shift1);
        __m512i y = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
        y = _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(y, zero_point), least), most);
        store_16(y, out, out_type, at + r * out_stride, mask);
    }
}

INLINE void by_float32(const int32_t *tile, ptrdiff_t tile_stride, int rows, int c, __mmask16 mask,
                       const qi_requantizer *with, void *out, int out_type, ptrdiff_t at, ptrdiff_t out_stride)
{
    const __m512 scale = _mm512_loadu_ps(with->scale32 + c);
    const __m512 most = _mm512_set1_ps((float)(with->high - with->zero_point));
    const __m512 least = _mm512_set1_ps((float)(with->low - with->zero_point)); /* an integer: as clamping afterwards */
    const __m512i zero_point = _mm512_set1_epi32(with->zero_point);
    int r = 0, i;
    if (rows_share(with, out_type)) {
        const byte_store bytes = byte_store_of(with, out_type);
        for (; r + 4 <= rows; r += 4) {
            __m512i y[4];
            UNROLL for (i = 0; i < 4; i++) {
                const __m512 x = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, tile + (r + i) * tile_stride));
                /* what is below becomes INT32_MIN, and saturates */
                y[i] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(x, scale), most));
            }
            store_four_rows(y, &bytes, out, out_type, at + r * out_stride, out_stride, mask);
        }
    }
    for (; r < rows; r++) {
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, tile + r * tile_stride)), scale);
        v = _mm512_max_ps(_mm512_min_ps(v, most), least);
        store_16(_mm512_add_epi32(_mm512_cvtps_epi32(v), zero_point), out, out_type, at + r * out_stride, mask);
    }
}

INLINE __m256i round_away(__m256i x, __m512d scale, __m512d least, __m512d most)
{
    /* the largest double below 1/2: the sum never rounds up to the next integer unless the fraction is 1/2 or more */
    const __m512d almost_half = _mm512_set1_pd(0.49999999999999994), sign = _mm512_set1_pd(-0.0);
    __m512d v = _mm512_mul_pd(_mm512_cvtepi32_pd(x), scale);
    v = _mm512_max_pd(_mm512_min_pd(v, most), least);
    return _mm512_cvttpd_epi32(_mm512_add_pd(v, _mm512_or_pd(almost_half, _mm512_and_pd(v, sign))));
}

INLINE void by_float64(const int32_t *tile, ptrdiff_t tile_stride, int rows, int c, __mmask16 mask,
                       const qi_requantizer *with, void *out, int out_type, ptrdiff_t at, ptrdiff_t out_stride)
{
    const __m512d scale0 = _mm512_loadu_pd(with->scale64 + c), scale1 = _mm512_loadu_pd(with->scale64 + c + 8);
    const __m512d most = _mm512_set1_pd(with->high - with->zero_point), least = _mm512_set1_pd(with->low - with->zero_point);
    const __m512i zero_point = _mm512_set1_epi32(with->zero_point);
    int r;
    for (r = 0; r < rows; r++) {
        const __m512i x = _mm512_maskz_loadu_epi32(mask, tile + r * tile_stride);
        const __m256i y0 = round_away(_mm512_castsi512_si256(x), scale0, least, most);
        const __m256i y1 = round_away(_mm512_extracti64x4_epi64(x, 1), scale1, least, most);
        const __m512i y = _mm512_inserti64x4(_mm512_castsi256_si512(y0), y1, 1);
        store_16(_mm512_add_epi32(y, zero_point), out, out_type, at + r * out_stride, mask);
    }
}

TARGET static void requantize(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                              const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride)
{
    int c;
    for (c = 0; c < channels; c += 16) {
        const __mmask16 mask = (__mmask16)(channels - c < 16 ? 0xffff >> (16 - (channels - c)) : 0xffff);
        switch (with->kind) {
        case QI_MULTIPLIER:
            by_multiplier(tile + c, tile_stride, rows, first + c, mask, with, out, out_type, c, out_stride);
            break;
        case QI_FLOAT32:
            by_float32(tile + c, tile_stride, rows, first + c, mask, with, out, out_type, c, out_stride);
            break;
        default: by_float64(tile + c, tile_stride, rows, first + c, mask, with, out, out_type, c, out_stride); break;
        }
    }
}

/* With what sums start, or are: the high half of a product is that of a lifted sum. */
INLINE __m512i start_of(const int32_t *bias, const qi_arranged *constants, int channel, const int kind)
{
    const __m512i start = _mm512_loadu_si512(bias);
    if (kind != QI_MULTIPLIER) return start;
    return _mm512_add_epi32(start, _mm512_loadu_si512(constants->high_half.lift + channel));
}

/* Rows of sums, (rows, vectors), by the constants from `first` on, to what is packed and clamped. */
INLINE void high_halves(__m512i *sum, const qi_arranged *constants, int first, const int rows, const int vectors, const int nudged)
{
    const __m512i nudge = _mm512_set1_epi32(-1);
    int v, i;
    UNROLL for (v = 0; v < vectors; v++) {
        const int c = first + 16 * v;
        const qi_high_half *half;
        __m512i doubled, odd_doubled, top, rest;
        AFRESH(constants);
        half = &constants->high_half;
        doubled = _mm512_loadu_si512(half->doubled + c);
        odd_doubled = _mm512_srli_epi64(doubled, 32);
        top = _mm512_loadu_si512(half->top + c);
        rest = _mm512_loadu_si512(half->rest + c);
        UNROLL for (i = v; i < rows * vectors; i += vectors) {
            __m512i high = _mm512_add_epi32(high_half(sum[i], doubled, odd_doubled), top);
            if (nudged) {
                const __mmask16 negative = _mm512_cmplt_epu32_mask(sum[i], _mm512_loadu_si512(half->lift + c));
                high = _mm512_mask_add_epi32(high, negative, high, nudge);
            }
            sum[i] = _mm512_srav_epi32(high, rest);
        }
    }
}

INLINE void scaled(__m512i *sum, const qi_arranged *constants, int first, const int rows, const int vectors, const int clips,
                   __m512 most)
{
    int v, i;
    UNROLL for (v = 0; v < vectors; v++) {
        __m512 scale;
        AFRESH(constants);
        scale = _mm512_loadu_ps(constants->scale32 + first + 16 * v);
        UNROLL for (i = v; i < rows * vectors; i += vectors) {
            __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i]), scale);
            if (clips) x = _mm512_min_ps(x, most); /* what is below becomes INT32_MIN, and saturates */
            sum[i] = _mm512_cvtps_epi32(x);
        }
    }
}

INLINE void requantize_sums(__m512i *sum, const qi_requantizer *with, const qi_arranged *constants, int first, const int kind,
                            const int rows, const int vectors)
{
    const __m512 most = _mm512_set1_ps((float)(with->high - with->zero_point));
    if (kind == QI_MULTIPLIER && with->nudge)
        high_halves(sum, constants, first, rows, vectors, 1);
    else if (kind == QI_MULTIPLIER)
        high_halves(sum, constants, first, rows, vectors, 0);
    else if (with->clips)
        scaled(sum, constants, first, rows, vectors, 1, most);
    else
        scaled(sum, constants, first, rows, vectors, 0, most);
}

/* Sixteen vectors to four of bytes. */
INLINE void pack_sums(const __m512i *y, const byte_store *s, __m512i bytes[4], const int kind, const int out_type)
{
    int i;
    if (s->clamps == BELOW_AND_ABOVE) {
        UNROLL for (i = 0; i < 4; i++) bytes[i] = pack_four(y + 4 * i, s, out_type, 1, BELOW_AND_ABOVE);
    } else if (s->clamps == ABOVE) {
        UNROLL for (i = 0; i < 4; i++) bytes[i] = pack_four(y + 4 * i, s, out_type, kind == QI_FLOAT32, ABOVE);
    } else {
        UNROLL for (i = 0; i < 4; i++) bytes[i] = pack_four(y + 4 * i, s, out_type, kind == QI_FLOAT32, NOTHING);
    }
}

/* Sixteen vectors of what requantize_sums made, to the first `count` rows: a row is four of them in quarters, two in halves, or
   one. */
INLINE void store_sums(const __m512i *y, int count, const byte_store *s, uint8_t *out, ptrdiff_t out_stride, __mmask64 mask,
                       const int vectors, const int kind, const int out_type)
{
    const int at_once = 4 / vectors;
    __m512i all[4];
    int b;
    pack_sums(y, s, all, kind, out_type);
    UNROLL for (b = 0; b < 4; b++) {
        const int i = b * at_once;
        uint8_t *to = out + i * out_stride;
        if (i >= count) return;
        if (vectors == 4) {
            _mm512_mask_storeu_epi8(to, mask, all[b]);
        } else if (vectors == 2) {
            const __m512i bytes = _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), all[b]);
            _mm256_mask_storeu_epi8(to, (__mmask32)mask, _mm512_castsi512_si256(bytes));
            if (i + 1 < count) _mm256_mask_storeu_epi8(to + out_stride, (__mmask32)mask, _mm512_extracti64x4_epi64(bytes, 1));
        } else {
            const __m512i bytes = _mm512_permutexvar_epi32(s->by_row, all[b]);
            _mm_mask_storeu_epi8(to, (__mmask16)mask, _mm512_castsi512_si128(bytes));
            if (i + 1 < count) _mm_mask_storeu_epi8(to + out_stride, (__mmask16)mask, _mm512_extracti32x4_epi32(bytes, 1));
            if (i + 2 < count) _mm_mask_storeu_epi8(to + 2 * out_stride, (__mmask16)mask, _mm512_extracti32x4_epi32(bytes, 2));
            if (i + 3 < count) _mm_mask_storeu_epi8(to + 3 * out_stride, (__mmask16)mask, _mm512_extracti32x4_epi32(bytes, 3));
        }
    }
}

/* Of a tile, sixteen vectors at once. */
INLINE void requantize_tile(const int32_t *tile, ptrdiff_t tile_stride, int count, const qi_arranged *constants, int first,
                            int channels, const qi_requantizer *with, uint8_t *out, ptrdiff_t out_stride, const int vectors,
                            const int kind, const int out_type)
{
    const byte_store bytes = byte_store_of(with, out_type);
    const __mmask64 mask = ~0ull >> (64 - channels);
    const int rows = 16 / vectors;
    int r, v, i;
    for (r = 0; r < count; r += rows) {
        __m512i sum[16];
        UNROLL for (i = 0; i < rows; i++)
            UNROLL for (v = 0; v < vectors; v++)
                sum[i * vectors + v] = start_of(tile + (r + i) * tile_stride + 16 * v, constants, first + 16 * v, kind);
        requantize_sums(sum, with, constants, first, kind, rows, vectors);
        store_sums(sum, count - r, &bytes, out + r * out_stride, out_stride, mask, vectors, kind, out_type);
    }
}

#define BY_KIND_AND_TYPE(function, ...)                                  \
    if (with->kind == QI_MULTIPLIER && out_type == QI_I8)                 \
        function(__VA_ARGS__, QI_MULTIPLIER, QI_I8);                      \
    else if (with->kind == QI_MULTIPLIER)                                 \
        function(__VA_ARGS__, QI_MULTIPLIER, QI_U8);                      \
    else                                                                  \
        function(__VA_ARGS__, QI_FLOAT32, out_type);

TARGET static void requantize_quarters(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                                       const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride)
{
    BY_KIND_AND_TYPE(requantize_tile, tile, tile_stride, rows, &with->quarters, first, channels, with, out, out_stride, 4)
}

TARGET static void requantize_tail(const int32_t *tile, ptrdiff_t tile_stride, int rows, int channels,
                                   const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride)
{
    if (channels <= 16) {
        BY_KIND_AND_TYPE(requantize_tile, tile, tile_stride, rows, &with->tail, 0, channels, with, out, out_stride, 1)
    } else {
        BY_KIND_AND_TYPE(requantize_tile, tile, tile_stride, rows, &with->tail, 0, channels, with, out, out_stride, 2)
    }
}

/* ---- products, fused with their requantization: worth it where few steps go with many sums ---- */

INLINE void fused_rows(const uint8_t *rows_at, ptrdiff_t row_bytes, int count, const __m512i *weights, int steps,
                       const int32_t *bias, const qi_requantizer *with, int first, int channels, uint8_t *out,
                       ptrdiff_t out_stride, const int bytes, const int vectors, const int kind, const int out_type)
{
    const byte_store store = byte_store_of(with, out_type);
    const __mmask64 mask = ~0ull >> (64 - channels);
    const int rows = 16 / vectors;
    int r, i, v, s;
    if (vectors != 4) first = 0;
    for (r = 0; r < count; r += rows) {
        __m512i sum[16], w[4];
        const uint8_t *row = rows_at + r * row_bytes;
        const qi_arranged *constants;
        AFRESH(bias);
        AFRESH(with);
        constants = vectors == 4 ? &with->quarters : &with->tail;
        UNROLL for (v = 0; v < vectors; v++) {
            sum[v] = start_of(bias + 16 * v, constants, first + 16 * v, kind);
            UNROLL for (i = 1; i < rows; i++) sum[i * vectors + v] = sum[v];
        }
        s = 0;
        do {
            UNROLL for (v = 0; v < vectors; v++) w[v] = _mm512_loadu_si512(weights + s * vectors + v);
            UNROLL for (i = 0; i < rows; i++) {
                const __m512i x = _mm512_set1_epi32(load_step(row + i * row_bytes + 4 * s));
                UNROLL for (v = 0; v < vectors; v++) {
                    sum[i * vectors + v] = multiply_add(sum[i * vectors + v], x, w[v], bytes);
                    KEEP(sum[i * vectors + v]);
                }
            }
        } while (++s < steps);
        requantize_sums(sum, with, constants, first, kind, rows, vectors);
        store_sums(sum, count - r, &store, out + r * out_stride, out_stride, mask, vectors, kind, out_type);
    }
}

#define FUSED_PRODUCT_ARGUMENTS                                                                                        \
    const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps, const int32_t *bias,          \
        const qi_requantizer *with, int first, int channels, void *out, int out_type, ptrdiff_t out_stride, int bytes
/* Each a function of its own, in which the compiler keeps to the registers. */
#define FUSED_PRODUCT(name, is_bytes, vectors, kind, type)                                                             \
    TARGET static __attribute__((noinline)) void name(FUSED_PRODUCT_ARGUMENTS)                                         \
    {                                                                                                                  \
        (void)out_type, (void)bytes;                                                                                   \
        fused_rows(rows, row_bytes, count, weights, steps, bias, with, first, channels, out, out_stride, is_bytes,     \
                   vectors, kind, type);                                                                               \
    }
#define FUSED_PRODUCTS(name, is_bytes, kind, type)                                                                     \
    FUSED_PRODUCT(name##_4, is_bytes, 4, kind, type)                                                                   \
    FUSED_PRODUCT(name##_2, is_bytes, 2, kind, type)                                                                   \
    FUSED_PRODUCT(name##_1, is_bytes, 1, kind, type)                                                                   \
    TARGET static void name(FUSED_PRODUCT_ARGUMENTS)                                                                   \
    {                                                                                                                  \
        (channels == 64 ? name##_4 : channels > 16 ? name##_2 : name##_1)(                                             \
            rows, row_bytes, count, weights, steps, bias, with, first, channels, out, out_type, out_stride, bytes);    \
    }

FUSED_PRODUCTS(product_by_multiplier, 1, QI_MULTIPLIER, QI_I8)
FUSED_PRODUCTS(product_by_float32, 1, QI_FLOAT32, QI_I8)
FUSED_PRODUCTS(any_product, bytes, with->kind, out_type)

TARGET static void gemm_fused(FUSED_PRODUCT_ARGUMENTS)
{
    void (*run)(FUSED_PRODUCT_ARGUMENTS) = any_product;
    if (out_type == QI_I8 && bytes) run = with->kind == QI_MULTIPLIER ? product_by_multiplier : product_by_float32;
    run(rows, row_bytes, count, weights, steps, bias, with, first, channels, out, out_type, out_stride, bytes);
}

/* ---- depthwise, fused with its requantization ---- */

/* Of how many channels a block is. */
enum { WHOLE, PART, PAIR /* at most 32: two groups of pixels side by side */ };

/* The channels of a pixel; in pairs those of another in the upper half. */
INLINE __m512i load_pixels(const uint8_t *at, const uint8_t *apart, __mmask64 mask, __m512i flip, const int shape)
{
    if (shape == WHOLE) return _mm512_xor_si512(_mm512_loadu_si512(at), flip);
    if (shape == PART) return load_tap(at, mask, flip);
    return _mm512_xor_si512(
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi8((__mmask32)mask, at)),
                           _mm256_maskz_loadu_epi8((__mmask32)mask, apart), 1), flip);
}

/* The channels of a pixel; in pairs those of another from the upper half. */
INLINE void store_pixels(uint8_t *to, uint8_t *apart, __m512i bytes, __mmask64 mask, const int shape)
{
    if (shape == WHOLE) {
        _mm512_storeu_si512(to, bytes);
    } else if (shape == PART) {
        _mm512_mask_storeu_epi8(to, mask, bytes);
    } else {
        _mm256_mask_storeu_epi8(to, (__mmask32)mask, _mm512_castsi512_si256(bytes));
        _mm256_mask_storeu_epi8(apart, (__mmask32)mask, _mm512_extracti64x4_epi64(bytes, 1));
    }
}

/* Four rows' pixels in a column; in pairs also in the one `apart` columns on. The rows' addresses move on by a column. */
INLINE void load_column(const qi_depthwise_row *row, const uint8_t *at[4], const ptrdiff_t pitch[4], ptrdiff_t x,
                        ptrdiff_t apart, __mmask64 mask, __m512i flip, const int shape, const int inside, __m512i quarter[4])
{
    const int here = inside || (x >= 0 && x < row->width), there = inside || (x + apart >= 0 && x + apart < row->width);
    __m512i taps[4];
    int k;
    UNROLL for (k = 0; k < 4; k++) {
        taps[k] = load_pixels(here ? at[k] : row->padding, there ? at[k] + apart * pitch[k] : row->padding, mask, flip, shape);
        at[k] += pitch[k];
    }
    interleave(taps[0], taps[1], taps[2], taps[3], quarter);
}

/* Four pixels from column x on; in pairs eight, four of them in the upper halves. */
INLINE void fused_block(const qi_depthwise_row *row, ptrdiff_t x, ptrdiff_t offset, __mmask64 mask, __m512i flip,
                        const int8_t *weights, const int32_t *bias, const qi_requantizer *with, int first,
                        const byte_store *bytes, uint8_t *out, ptrdiff_t out_stride, const int kernel_width, const int stride,
                        const int shape, const int inside, const int kind, const int out_type)
{
    const int height = row->kernel_height;
    const uint8_t *at[4];
    ptrdiff_t pitch[4];
    __m512i sum[16], quarter[4], all[4];
    int p, q, g, j, k;
    AFRESH(weights);
    AFRESH(bias);
    AFRESH(with);
    UNROLL for (q = 0; q < 4; q++) {
        sum[q] = start_of(bias + 16 * q, &with->quarters, first + 16 * q, kind);
        UNROLL for (p = 1; p < 4; p++) sum[4 * p + q] = sum[q];
    }
    for (g = 0; g < height; g += 4) {
        UNROLL for (k = 0; k < 4; k++) {
            const qi_row *from = row->rows + (g + k < height ? g + k : g); /* rows there are not have weight 0 */
            pitch[k] = from->pitch;
            at[k] = from->at + x * pitch[k] + offset;
        }
        UNROLL for (j = 0; j < kernel_width + 3 * stride; j++) {
            load_column(row, at, pitch, x + j, 4 * stride, mask, flip, shape, inside, quarter);
            UNROLL for (p = 0; p < 4; p++) {
                const int kw = j - p * stride;
                const int8_t *w = weights + (g / 4 * kernel_width + kw) * 256;
                if (kw >= 0 && kw < kernel_width)
                    UNROLL for (q = 0; q < 4; q++)
                        sum[4 * p + q] = _mm512_dpbusd_epi32(sum[4 * p + q], quarter[q], _mm512_loadu_si512(w + 64 * q));
            }
        }
    }
    requantize_sums(sum, with, &with->quarters, first, kind, 4, 4);
    pack_sums(sum, bytes, all, kind, out_type);
    UNROLL for (p = 0; p < 4; p++) {
        uint8_t *to = out + p * out_stride;
        store_pixels(to, to + 4 * out_stride, all[p], mask, shape);
    }
}

INLINE void fused_row(const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights, const int32_t *bias,
                      const qi_requantizer *with, int first, uint8_t *out, ptrdiff_t out_stride, const int kernel_width,
                      const int stride, const int shape, const int kind, const int out_type)
{
    const __mmask64 mask = ~0ull >> (64 - channels);
    const __m512i flip = _mm512_set1_epi8(row->x_type == QI_I8 ? (char)0x80 : 0);
    const byte_store bytes = byte_store_of(with, out_type);
    const int at_once = shape == PAIR ? 8 : 4;
    int p;
    for (p = 0; p < row->pixels; p += at_once) {
        ptrdiff_t x;
        if (p > row->pixels - at_once) p = row->pixels - at_once; /* the last ones, some of them again */
        x = row->left + p * stride;
        if (x >= 0 && x + kernel_width + (at_once - 1) * stride <= row->width)
            fused_block(row, x, offset, mask, flip, weights, bias, with, first, &bytes, out + p * out_stride, out_stride,
                        kernel_width, stride, shape, 1, kind, out_type);
        else
            fused_block(row, x, offset, mask, flip, weights, bias, with, first, &bytes, out + p * out_stride, out_stride,
                        kernel_width, stride, shape, 0, kind, out_type);
    }
}

/* Two pixels of two rows from column x on; in pairs four, two of them in the upper halves. */
INLINE void fused_square(const qi_depthwise_row *row, ptrdiff_t x, ptrdiff_t offset, __mmask64 mask, __m512i flip,
                         const int8_t *weights, const int8_t *below, const int32_t *bias, const qi_requantizer *with, int first,
                         const byte_store *bytes, uint8_t *out, uint8_t *out_below, ptrdiff_t out_stride, const int shape,
                         const int inside, const int kind, const int out_type)
{
    __m512i sum[16], quarter[4], all[4];
    const uint8_t *at[4];
    ptrdiff_t pitch[4];
    int p, q, j, k;
    AFRESH(weights);
    AFRESH(below);
    AFRESH(bias);
    AFRESH(with);
    UNROLL for (q = 0; q < 4; q++) {
        sum[q] = start_of(bias + 16 * q, &with->quarters, first + 16 * q, kind);
        UNROLL for (p = 1; p < 4; p++) sum[4 * p + q] = sum[q];
    }
    UNROLL for (k = 0; k < 4; k++) {
        pitch[k] = row->rows[k].pitch;
        at[k] = row->rows[k].at + x * pitch[k] + offset;
    }
    UNROLL for (j = 0; j < 4; j++) {
        load_column(row, at, pitch, x + j, 2, mask, flip, shape, inside, quarter);
        UNROLL for (p = 0; p < 2; p++) {
            const int kw = j - p;
            if (kw >= 0 && kw < 3) {
                UNROLL for (q = 0; q < 4; q++) {
                    const int at = 256 * kw + 64 * q;
                    sum[4 * p + q] = _mm512_dpbusd_epi32(sum[4 * p + q], quarter[q], _mm512_loadu_si512(weights + at));
                    sum[8 + 4 * p + q] = _mm512_dpbusd_epi32(sum[8 + 4 * p + q], quarter[q], _mm512_loadu_si512(below + at));
                }
            }
        }
    }
    requantize_sums(sum, with, &with->quarters, first, kind, 4, 4);
    pack_sums(sum, bytes, all, kind, out_type);
    UNROLL for (p = 0; p < 4; p++) {
        uint8_t *to = (p < 2 ? out : out_below) + p % 2 * out_stride;
        store_pixels(to, to + 2 * out_stride, all[p], mask, shape);
    }
}

INLINE void fused_pair(const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights, const int8_t *below,
                       const int32_t *bias, const qi_requantizer *with, int first, uint8_t *out, uint8_t *out_below,
                       ptrdiff_t out_stride, const int shape, const int kind, const int out_type)
{
    const __mmask64 mask = ~0ull >> (64 - channels);
    const __m512i flip = _mm512_set1_epi8(row->x_type == QI_I8 ? (char)0x80 : 0);
    const byte_store bytes = byte_store_of(with, out_type);
    const int at_once = shape == PAIR ? 4 : 2;
    int p;
    for (p = 0; p < row->pixels; p += at_once) {
        ptrdiff_t x;
        if (p > row->pixels - at_once) p = row->pixels - at_once; /* the last ones, some of them again */
        x = row->left + p;
        if (x >= 0 && x + 2 + at_once <= row->width)
            fused_square(row, x, offset, mask, flip, weights, below, bias, with, first, &bytes, out + p * out_stride,
                         out_below + p * out_stride, out_stride, shape, 1, kind, out_type);
        else
            fused_square(row, x, offset, mask, flip, weights, below, bias, with, first, &bytes, out + p * out_stride,
                         out_below + p * out_stride, out_stride, shape, 0, kind, out_type);
    }
}

#define PAIR_ARGUMENTS                                                                                               \
    const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights, const int8_t *below,          \
        const int32_t *bias, const qi_requantizer *with, int first, void *out, void *out_below, int out_type,         \
        ptrdiff_t out_stride
#define FUSED_PAIR(name, shape, kind, type)                                                                           \
    TARGET static __attribute__((noinline)) void name(PAIR_ARGUMENTS)                                                 \
    {                                                                                                                 \
        (void)out_type;                                                                                               \
        fused_pair(row, offset, channels, weights, below, bias, with, first, out, out_below, out_stride, shape, kind, type); \
    }
/* Each a function of its own, in which the compiler keeps to the registers. */
#define FUSED_PAIRS(name, kind, type)                                                                                 \
    FUSED_PAIR(name##_whole, WHOLE, kind, type)                                                                       \
    FUSED_PAIR(name##_part, PART, kind, type)                                                                         \
    FUSED_PAIR(name##_pair, PAIR, kind, type)                                                                         \
    TARGET static void name(PAIR_ARGUMENTS)                                                                           \
    {                                                                                                                 \
        (channels == 64 ? name##_whole : channels > 32 ? name##_part : name##_pair)(                                  \
            row, offset, channels, weights, below, bias, with, first, out, out_below, out_type, out_stride);          \
    }

FUSED_PAIRS(rows_by_multiplier, QI_MULTIPLIER, QI_I8)
FUSED_PAIRS(rows_by_float32, QI_FLOAT32, QI_I8)
FUSED_PAIRS(any_rows, with->kind, out_type)

TARGET static void depthwise_pair(PAIR_ARGUMENTS)
{
    void (*run)(PAIR_ARGUMENTS) = any_rows;
    if (out_type == QI_I8) run = with->kind == QI_MULTIPLIER ? rows_by_multiplier : rows_by_float32;
    run(row, offset, channels, weights, below, bias, with, first, out, out_below, out_type, out_stride);
}

#define FUSED_ARGUMENTS                                                                                              \
    const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights, const int32_t *bias,          \
        const qi_requantizer *with, int first, uint8_t *out, int out_type, ptrdiff_t out_stride
#define FUSED_ROW(name, kernel_width, stride, shape, kind, type)                                                      \
    TARGET static __attribute__((noinline)) void name(FUSED_ARGUMENTS)                                                \
    {                                                                                                                 \
        (void)out_type;                                                                                               \
        fused_row(row, offset, channels, weights, bias, with, first, out, out_stride, kernel_width, stride, shape, kind, type); \
    }
/* Each a function of its own, in which the compiler keeps to the registers. */
#define FUSED_ROWS(name, kernel_width, stride, kind, type)                                                            \
    FUSED_ROW(name##_whole, kernel_width, stride, WHOLE, kind, type)                                                  \
    FUSED_ROW(name##_part, kernel_width, stride, PART, kind, type)                                                    \
    FUSED_ROW(name##_pair, kernel_width, stride, PAIR, kind, type)                                                    \
    TARGET static void name(FUSED_ARGUMENTS)                                                                          \
    {                                                                                                                 \
        (channels == 64 ? name##_whole : channels > 32 ? name##_part : name##_pair)(                                  \
            row, offset, channels, weights, bias, with, first, out, out_type, out_stride);                            \
    }

FUSED_ROWS(multiplier_3_2, 3, 2, QI_MULTIPLIER, QI_I8)
FUSED_ROWS(multiplier_5_1, 5, 1, QI_MULTIPLIER, QI_I8)
FUSED_ROWS(float32_3_2, 3, 2, QI_FLOAT32, QI_I8)
FUSED_ROWS(any_row, row->kernel_width, row->stride, with->kind, out_type)

TARGET static void depthwise_fused(const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights,
                                   const int32_t *bias, const qi_requantizer *with, int first, void *out, int out_type,
                                   ptrdiff_t out_stride)
{
    const int width = row->kernel_width, stride = row->stride, by_float = with->kind == QI_FLOAT32;
    void (*run)(FUSED_ARGUMENTS) = any_row;
    if (out_type == QI_I8 && width == 3 && stride == 2)
        run = by_float ? float32_3_2 : multiplier_3_2;
    else if (out_type == QI_I8 && width == 5 && stride == 1 && !by_float)
        run = multiplier_5_1;
    run(row, offset, channels, weights, bias, with, first, out, out_type, out_stride);
}

/* From quarters or halves to sixteen channels a vector. */
TARGET static void natural_order(int32_t *tile, ptrdiff_t tile_stride, int rows, int channels)
{
    const __m512i low = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    if (channels <= 16) return;
    for (; channels <= 32 && rows > 0; rows--, tile += tile_stride) {
        const __m512i h0 = _mm512_loadu_si512(tile), h1 = _mm512_loadu_si512(tile + 16);
        _mm512_storeu_si512(tile, _mm512_permutex2var_epi64(h0, low, h1));
        _mm512_storeu_si512(tile + 16, _mm512_permutex2var_epi64(h0, high, h1));
    }
    for (; rows > 0; rows--, tile += tile_stride) {
        const __m512i q[4] = {_mm512_loadu_si512(tile), _mm512_loadu_si512(tile + 16), _mm512_loadu_si512(tile + 32),
                              _mm512_loadu_si512(tile + 48)};
        const __m512i q01_low = _mm512_shuffle_i32x4(q[0], q[1], 0x44), q01_high = _mm512_shuffle_i32x4(q[0], q[1], 0xee);
        const __m512i q23_low = _mm512_shuffle_i32x4(q[2], q[3], 0x44), q23_high = _mm512_shuffle_i32x4(q[2], q[3], 0xee);
        const __m512i v0 = _mm512_shuffle_i32x4(q01_low, q23_low, 0x88), v1 = _mm512_shuffle_i32x4(q01_low, q23_low, 0xdd);
        const __m512i v2 = _mm512_shuffle_i32x4(q01_high, q23_high, 0x88), v3 = _mm512_shuffle_i32x4(q01_high, q23_high, 0xdd);
        _mm512_storeu_si512(tile, v0);
        _mm512_storeu_si512(tile + 16, v1);
        _mm512_storeu_si512(tile + 32, v2);
        _mm512_storeu_si512(tile + 48, v3);
    }
}

/* ---- saturating accumulation; rows of which only `count` may be looked at, for the sake of the flag ---- */

INLINE __m512i bounded(__m512i x, __m512i low, __m512i high) { return _mm512_min_epi32(_mm512_max_epi32(x, low), high); }

/* Collects in `changed` the bits in which two vectors differ. */
INLINE void note_difference(__m512i *changed, __m512i a, __m512i b)
{
    *changed = _mm512_ternarylogic_epi64(*changed, a, b, 0xf6); /* changed | (a ^ b) */
}

INLINE __m512i add_saturating(__m512i sum, __m512i term, __m512i low, __m512i high, __m512i *changed)
{
    const __m512i next = _mm512_add_epi32(sum, term), kept = bounded(next, low, high);
    note_difference(changed, next, kept);
    return kept;
}

/* Weights: (steps, 16 channels, 2). */
INLINE void wide_block(const uint8_t *rows, ptrdiff_t row_bytes, const __m512i *weights, int steps, const int32_t *start,
                       qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, __m512i *changed, const int count)
{
    const __m512i low = _mm512_set1_epi32(limits.low), high = _mm512_set1_epi32(limits.high);
    const __m512i even = _mm512_set1_epi32(0xffff), odd = _mm512_slli_epi32(even, 16);
    __m512i sum[4];
    int r, s;
    UNROLL for (r = 0; r < count; r++) sum[r] = _mm512_loadu_si512(start);
    for (s = 0; s < steps; s++) {
        const __m512i w = _mm512_loadu_si512(weights + s);
        UNROLL for (r = 0; r < count; r++) {
            const __m512i x = _mm512_set1_epi32(load_step(rows + r * row_bytes + 4 * s));
            sum[r] = add_saturating(sum[r], _mm512_madd_epi16(_mm512_and_si512(x, even), w), low, high, changed);
            sum[r] = add_saturating(sum[r], _mm512_madd_epi16(_mm512_and_si512(x, odd), w), low, high, changed);
        }
    }
    UNROLL for (r = 0; r < count; r++) _mm512_storeu_si512(tile + r * tile_stride, sum[r]);
}

INLINE void pairs_block(const uint8_t *rows, ptrdiff_t row_bytes, const __m512i *weights, int steps, const int32_t *start,
                        qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, __m512i *changed, const int count,
                        const int wraps)
{
    const __m512i low = _mm512_set1_epi32(limits.low), high = _mm512_set1_epi32(limits.high);
    const __m512i pair_low = _mm512_set1_epi32(limits.pair_low), pair_high = _mm512_set1_epi32(limits.pair_high);
    __m512i sum[4];
    int r, s;
    UNROLL for (r = 0; r < count; r++) sum[r] = _mm512_loadu_si512(start);
    for (s = 0; s < steps; s++) {
        const __m512i w = _mm512_loadu_si512(weights + s);
        UNROLL for (r = 0; r < count; r++) {
            const __m512i x = _mm512_set1_epi32(load_step(rows + r * row_bytes + 4 * s));
            const __m512i exact = _mm512_madd_epi16(x, w), pair = bounded(exact, pair_low, pair_high);
            note_difference(changed, exact, pair);
            sum[r] = wraps ? _mm512_add_epi32(sum[r], pair) : add_saturating(sum[r], pair, low, high, changed);
        }
    }
    UNROLL for (r = 0; r < count; r++) _mm512_storeu_si512(tile + r * tile_stride, sum[r]);
}

/* Weights: (depth, 32 channels) int16. */
INLINE void narrow_block(const uint8_t *rows, ptrdiff_t row_bytes, const int16_t *weights, int depth, const int32_t *start,
                         qi_limits limits, int32_t *tile, ptrdiff_t tile_stride, __m512i *changed, const int count,
                         const int full)
{
    const __m512i low = _mm512_set1_epi16((int16_t)limits.low), high = _mm512_set1_epi16((int16_t)limits.high);
    __m512i sum[4];
    int r, k;
    UNROLL for (r = 0; r < count; r++)
        sum[r] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_loadu_si512(start))),
                                    _mm512_cvtepi32_epi16(_mm512_loadu_si512(start + 16)), 1);
    for (k = 0; k < depth; k++) {
        const __m512i w = _mm512_loadu_si512(weights + k * 32);
        UNROLL for (r = 0; r < count; r++) {
            const __m512i x = _mm512_set1_epi16(((const int16_t *)(rows + r * row_bytes))[k]);
            const __m512i product = _mm512_mullo_epi16(x, w), next = _mm512_add_epi16(sum[r], product);
            __m512i kept = _mm512_adds_epi16(sum[r], product);
            if (!full) kept = _mm512_min_epi16(_mm512_max_epi16(kept, low), high);
            note_difference(changed, next, kept);
            sum[r] = kept;
        }
    }
    UNROLL for (r = 0; r < count; r++) {
        _mm512_storeu_si512(tile + r * tile_stride, _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum[r])));
        _mm512_storeu_si512(tile + r * tile_stride + 16, _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum[r], 1)));
    }
}

/* Rows in fours, the rest one by one. */
#define ORDERED_ROWS(block, ...)                                                                                      \
    __m512i changed = _mm512_setzero_si512();                                                                         \
    int r = 0;                                                                                                        \
    for (; r + 4 <= count; r += 4)                                                                                    \
        block(rows + r * row_bytes, row_bytes, weights, steps, start, limits, tile + r * tile_stride, tile_stride,    \
              &changed, 4 __VA_ARGS__);                                                                               \
    for (; r < count; r++)                                                                                            \
        block(rows + r * row_bytes, row_bytes, weights, steps, start, limits, tile + r * tile_stride, tile_stride,    \
              &changed, 1 __VA_ARGS__);                                                                               \
    *overflowed |= _mm512_test_epi32_mask(changed, changed) != 0;

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

/* ---- tables ---- */

#define WITH_VBMI __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))

static inline __attribute__((always_inline)) WITH_VBMI __m512i look_up_64(const __m512i table[4], __m512i codes)
{
    const __m512i low = _mm512_permutex2var_epi8(table[0], codes, table[1]);
    const __m512i high = _mm512_permutex2var_epi8(table[2], codes, table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
}

WITH_VBMI static void permute_bytes(const uint8_t *table,
                                                                                          const uint8_t *x, ptrdiff_t n,
                                                                                          uint8_t *out)
{
    const __m512i parts[4] = {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64), _mm512_loadu_si512(table + 128),
                              _mm512_loadu_si512(table + 192)};
    ptrdiff_t i;
    for (i = 0; i < n; i += 64) {
        const __mmask64 mask = n - i < 64 ? ~0ull >> (64 - (n - i)) : ~0ull;
        _mm512_mask_storeu_epi8(out + i, mask, look_up_64(parts, _mm512_maskz_loadu_epi8(mask, x + i)));
    }
}

static inline __attribute__((always_inline)) WITH_VBMI __m512i sixteen(__m512i bytes, const int part, const int x_type)
{
    const __m128i codes = part == 0   ? _mm512_castsi512_si128(bytes)
                          : part == 1 ? _mm512_extracti32x4_epi32(bytes, 1)
                          : part == 2 ? _mm512_extracti32x4_epi32(bytes, 2)
                                      : _mm512_extracti32x4_epi32(bytes, 3);
    return x_type == QI_I8 ? _mm512_cvtepi8_epi32(codes) : _mm512_cvtepu8_epi32(codes);
}

static inline __attribute__((always_inline)) WITH_VBMI void add_and_requantize(
    const uint8_t *x, const uint8_t *y, ptrdiff_t n, const int32_t slopes[2], int32_t c, const int8_t *d, const int8_t *e,
    const qi_requantizer *with, uint8_t *out, const int x_type, const int out_type)
{
    const qi_high_half *half = &with->high_half;
    const __m512i doubled = _mm512_loadu_si512(half->doubled), odd_doubled = _mm512_srli_epi64(doubled, 32);
    const __m512i lift = _mm512_loadu_si512(half->lift), top = _mm512_loadu_si512(half->top);
    const __m512i rest = _mm512_loadu_si512(half->rest), nudge = _mm512_set1_epi32(with->nudge);
    const __m512i a = _mm512_set1_epi32(slopes[0]), b = _mm512_set1_epi32(slopes[1]);
    const __m512i start = _mm512_add_epi32(_mm512_set1_epi32(c), lift);
    const byte_store store = byte_store_of(with, out_type);
    __m512i first[4], second[4];
    ptrdiff_t i;
    int q;
    UNROLL for (q = 0; q < 4; q++) {
        first[q] = _mm512_loadu_si512(d + 64 * q);
        second[q] = _mm512_loadu_si512(e + 64 * q);
    }
    for (i = 0; i < n; i += 64) {
        const __mmask64 mask = n - i < 64 ? ~0ull >> (64 - (n - i)) : ~0ull;
        const __m512i xs = _mm512_maskz_loadu_epi8(mask, x + i), ys = _mm512_maskz_loadu_epi8(mask, y + i);
        const __m512i rests = _mm512_add_epi8(look_up_64(first, xs), look_up_64(second, ys));
        __m512i sum[4];
        UNROLL for (q = 0; q < 4; q++) {
            const __m512i ax = _mm512_mullo_epi32(a, sixteen(xs, q, x_type)), by = _mm512_mullo_epi32(b, sixteen(ys, q, x_type));
            const __m512i lifted = _mm512_add_epi32(_mm512_add_epi32(ax, by), _mm512_add_epi32(start, sixteen(rests, q, QI_I8)));
            const __m512i high = _mm512_add_epi32(high_half(lifted, doubled, odd_doubled), top);
            const __mmask16 negative = _mm512_cmplt_epu32_mask(lifted, lift);
            sum[q] = _mm512_srav_epi32(_mm512_mask_add_epi32(high, negative, high, nudge), rest);
        }
        _mm512_mask_storeu_epi8(out + i, mask,
                                _mm512_permutexvar_epi32(store.by_row, pack_four(sum, &store, out_type, 1, BELOW_AND_ABOVE)));
    }
}

WITH_VBMI static int add_fused(const uint8_t *x, const uint8_t *y, int x_type, ptrdiff_t n, const int32_t slopes[2], int32_t c,
                               const int8_t *d, const int8_t *e, const qi_requantizer *with, uint8_t *out, int out_type)
{
    if (with->kind != QI_MULTIPLIER || with->pre || !with->plain[0] || !rows_share(with, out_type)) return 0;
    if (x_type == QI_I8 && out_type == QI_I8)
        add_and_requantize(x, y, n, slopes, c, d, e, with, out, QI_I8, QI_I8);
    else if (x_type == QI_U8 && out_type == QI_U8)
        add_and_requantize(x, y, n, slopes, c, d, e, with, out, QI_U8, QI_U8);
    else
        return 0;
    return 1;
}

static void look_up_with_vbmi(const uint8_t *table, const uint8_t *x, ptrdiff_t n, uint8_t *out)
{
    if (qi_has_vbmi)
        permute_bytes(table, x, n, out);
    else
        look_up_bytes(table, x, n, out);
}

const qi_isa qi_avx512vnni = {
    .name = "avx512vnni", .block = 64, .lanes = LANES, .column_lanes = COLUMN_LANES, .narrow_lanes = 32, .gather = gather,
    .bytes = gemm_bytes, .words = gemm_words, .depthwise = depthwise, .depthwise_columns = depthwise_columns,
    .depthwise_fused = depthwise_fused, .depthwise_pair = depthwise_pair, .gemm_fused = gemm_fused, .natural_order = natural_order, .requantize = requantize,
    .requantize_quarters = requantize_quarters, .requantize_tail = requantize_tail, .wide = wide, .pairs = pairs, .narrow = narrow, .depthwise_ordered = depthwise_ordered,
    .run_stages = run_stages, .widen = widen, .combine = combine,
    .fold = fold, .quantize = quantize, .look_up_bytes = look_up_with_vbmi, .add_lines = add_lines,
    .add_fused = add_fused,
    .permutes_bytes = &qi_has_vbmi,
};
#endif
