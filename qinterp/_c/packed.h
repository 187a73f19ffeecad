/* Convolutions with weights packed once: any order of summation, exact modulo 2^32, several instruction sets.

   A convolution is a matrix product: a row per output pixel (its window, taps in (kh, kw, ic) order, padding taps being
   the input's zero point), a column per output channel. Rows are gathered into scratch, a chunk of pixels at a time; an
   instruction set's kernels multiply a chunk by a block of channels into a tile of accumulators; the tile is stored as it
   is or requantized.

   Operands in rows and weights are either bytes (uint8 rows, int8 weights, four to a step of 32 bits) or words (int16,
   two to a step). Zero points are folded into the weights or the bias, which is exact modulo 2^32:
       sum (x - zx) (w - zw) = sum (x + d) (w - zw) - (zx + d) sum (w - zw),  d = 128 where bytes flip the sign of int8. */
#ifndef QINTERP_PACKED_H
#define QINTERP_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "codes.h"
#include "stages.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define QI_X86 1
#else
#define QI_X86 0
#endif

/* ---- requantization of a tile ----
   One value per output channel in every array, readable 32 channels beyond the last. */

enum qi_requantization {
    QI_MULTIPLIER, /* multiplier and shift: DR, DU and SR differ in the constants only */
    QI_FLOAT32,    /* float32 scale, ties to even, clamped above before the conversion */
    QI_FLOAT64     /* float64 scale, ties away from zero */
};

/* QI_MULTIPLIER in the high half of one product, where left is 0, shift at least 32 and |x| < 2^30:
       y = (high32((x + lift) * doubled) + top + (x < 0 ? nudge : 0)) >> rest
   doubled is 2 multiplier; with a lift that is an odd multiple of 2^30 / (lowest bit of the multiplier), the low half of
   lift * doubled is the 2^31 that the first rounding adds. The factors are unsigned. */
typedef struct {
    const uint32_t *doubled, *lift;
    const int32_t *top, *rest;
} qi_high_half;

/* Constants in the order of a block's accumulators.
   In quarters, a block of 64 channels is four vectors, the q-th of which holds channels 16L + 4q .. 16L + 4q + 3 in its
   L-th 128 bits: as interleaving four rows of bytes leaves them, and as packing to bytes takes them. A depthwise
   convolution's last block of at most 32 channels has them twice, for two pixels side by side.
   In halves, the last block of a product, of 17 .. 32 channels, is two vectors, and channels 8L + 4h .. 8L + 4h + 3 are in
   the h-th one's L-th 128 bits. One of at most 16 channels is a vector in natural order. */
typedef struct {
    qi_high_half high_half;
    const float *scale32;
} qi_arranged;

typedef struct {
    int kind;
    int32_t zero_point, low, high;
    /* QI_MULTIPLIER: xs = wrap32(x << left), or x >> pre where pre is not NULL; p = xs * multiplier (64 bits);
       y = (p + (p < 0 ? below : above)) >> shift, 1 <= shift <= 62; y + zero_point wraps at 32 bits */
    const int32_t *pre, *left, *multiplier;
    const int64_t *above, *below, *shift;
    const uint8_t *plain; /* one for each 16 channels: high_half serves all of them */
    qi_high_half high_half;
    int32_t nudge; /* 0 or -1 */
    int adds;      /* the zero point is to be added: not in top already, or by float */
    int clips;     /* QI_FLOAT32: x * scale may be too large for int32 */
    const float *scale32;
    const double *scale64;
    const uint8_t *arrangeable; /* one for each 64 channels: plain, or by float32 */
    qi_arranged quarters, tail; /* tail: the last block, where it has at most 32 channels */
} qi_requantizer;

/* ---- kernels of an instruction set ---- */

/* tile[r][c] = bias[c] + sum over steps of row r by channel c, modulo 2^32, for 16 * vectors channels.
   Rows are padded: any number up to the next multiple of 48 may be read and written. */
typedef void qi_gemm(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps, int vectors,
                     const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride);

/* tile[p][c] = bias[c] + sum over taps of x at taps[p * count + t] by channel c, for `channels` <= the block's lanes. The
   taps are addresses of the block's first channel; `count` is even, `limit` is where the readable memory ends. */
typedef void qi_depthwise(const uint8_t *const *taps, int count, int pixels, ptrdiff_t offset, int x_type, int channels,
                          const uint8_t *limit, const int16_t *weights, const int32_t *bias, int32_t *tile,
                          ptrdiff_t tile_stride);

/* The same for bytes (x_type int8 or uint8), where neighbouring pixels share columns of taps: taps are (kernel_height,
   kernel_width), and tap (kh, kw + stride) of a pixel is tap (kh, kw) of the next. Rows come in fours. */
typedef void qi_depthwise_columns(const uint8_t *const *taps, int count, int kernel_height, int kernel_width, int stride,
                                  int pixels, ptrdiff_t offset, int x_type, int channels, const int8_t *weights,
                                  const int32_t *bias, int32_t *tile, ptrdiff_t tile_stride);

/* `channels` columns of the tile, the first of which is channel `first`, to out[r * out_stride + c]. */
typedef void qi_requantize(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                           const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride);

/* The same for a tile in quarters, which the requantizer must take (takes_arranged in packed.c). */
typedef void qi_requantize_quarters(const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels,
                                    const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride);

/* The same for the last block of a product, of at most 32 channels; rows are padded as for a gemm. */
typedef void qi_requantize_tail(const int32_t *tile, ptrdiff_t tile_stride, int rows, int channels,
                                const qi_requantizer *with, void *out, int out_type, ptrdiff_t out_stride);

/* A block of 64 channels, or a last one of at most 32, and its requantization from the registers; rows are padded too. */
typedef void qi_gemm_fused(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                           const int32_t *bias, const qi_requantizer *with, int first, int channels, void *out, int out_type,
                           ptrdiff_t out_stride, int bytes);

/* Depthwise sums of a whole output row, and their requantization from the registers; the tile would be in quarters, and the
   requantizer takes them. Row k of the kernel is at rows[k].at, its columns `pitch` bytes apart (0 where it is padding); a
   column that is not within 0 .. width - 1 is padding too. The first pixel's first column is number `left`. At least 4
   pixels, or 8 if there are at most 32 channels: the last ones may be done twice. */
typedef struct {
    const uint8_t *at;
    ptrdiff_t pitch;
} qi_row;

typedef struct {
    const qi_row *rows;
    const uint8_t *padding;
    ptrdiff_t left, width;
    int kernel_height, kernel_width, stride, pixels, x_type;
} qi_depthwise_row;

typedef void qi_depthwise_fused(const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights,
                                const int32_t *bias, const qi_requantizer *with, int first, void *out, int out_type,
                                ptrdiff_t out_stride);

/* Two output rows of a 3 x 3 kernel with stride 1, from four rows: `below` are the weights for the second, moved down by a
   row. At least 2 pixels, or 4 if there are at most 32 channels. */
typedef void qi_depthwise_pair(const qi_depthwise_row *row, ptrdiff_t offset, int channels, const int8_t *weights,
                               const int8_t *below, const int32_t *bias, const qi_requantizer *with, int first, void *out,
                               void *out_below, int out_type, ptrdiff_t out_stride);

/* Rows of 64 accumulators in quarters, or of 32 in halves, in place. */
typedef void qi_natural_order(int32_t *tile, ptrdiff_t tile_stride, int rows, int channels);

struct qi_conv;
/* The rows of `count` output pixels from the `first` on, of one group's input channels; up to 64 bytes beyond the last row
   are written too. */
typedef void qi_gather(const struct qi_conv *conv, const uint8_t *x, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t first,
                       ptrdiff_t count, uint8_t *rows);

/* Saturating accumulation, step by step. */
typedef struct {
    int32_t low, high;             /* the accumulator */
    int32_t pair_low, pair_high;   /* the sum of a pair */
} qi_limits;

typedef void qi_ordered_gemm(const uint8_t *rows, ptrdiff_t row_bytes, int count, const void *weights, int steps,
                             const int32_t *start, qi_limits limits, int32_t *tile, ptrdiff_t tile_stride,
                             int *overflowed);

/* What ordered accumulation needs beyond its operands. */
typedef struct {
    int subtract;                           /* taken from every value of a row, padding included */
    qi_limits limits;
    const int32_t *order;                   /* (taps): their positions, in order; NULL: as they are */
    const int64_t *correction, *last_bias;  /* (out_channels): added when all products are in */
    int bits, overflow, each_step;          /* of these additions */
} qi_in_order;

/* One pixel: tile[c] = start[c] and x at taps[order[t]] + offset by channel c, each step saturated; weights in order. */
typedef void qi_depthwise_ordered(const uint8_t *const *taps, const qi_in_order *in_order, int count, ptrdiff_t offset,
                                  int x_type, int channels, const int16_t *weights, ptrdiff_t weights_stride,
                                  const int32_t *start, int32_t *tile, int *overflowed);

/* ---- loops over elements; see elementwise.h ---- */

/* to[i] = x[i] - zero_point */
typedef void qi_widen(const void *x, int x_type, ptrdiff_t n, int32_t zero_point, int32_t *to);

typedef void qi_combine(const int32_t *a, const int32_t *b, ptrdiff_t n, int how, int32_t *to);

/* Of n channels at (r * row_stride + k * column_stride) elements: sums from `start` on in int32, or extrema in the type. */
typedef void qi_fold(const void *x, int x_type, int how, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns,
                     ptrdiff_t column_stride, ptrdiff_t n, int32_t start, void *result);

/* to[i] = a * x[i] + b * y[i] + c + d[i] + e[i], modulo 2^32, of two operands of 8-bit codes of one type */
typedef void qi_add_lines(const uint8_t *x, const uint8_t *y, int x_type, ptrdiff_t n, const int32_t slopes[2], int32_t c,
                          const int8_t *d, const int8_t *e, int32_t *to);

/* The same requantized, d and e looked up in tables by the codes: 256 bytes each, whose sums fit a byte. Returns 0, and does
   nothing, where it does not take the requantizer. */
typedef int qi_add_fused(const uint8_t *x, const uint8_t *y, int x_type, ptrdiff_t n, const int32_t slopes[2], int32_t c,
                         const int8_t *d, const int8_t *e, const qi_requantizer *with, uint8_t *out, int out_type);

/* out[i] = table[x[i]] of 256 bytes */
typedef void qi_look_up_bytes(const uint8_t *table, const uint8_t *x, ptrdiff_t n, uint8_t *out);

/* y = clamp(round(x * scale + before) + after), or x / scale; every operation in float32. */
typedef struct {
    float scale, before, after, low, high;
    int divide, to_even; /* else ties away from zero */
} qi_quantization;

/* Returns whether a number was too large for this, or none: `to` then has nothing to say. */
typedef int qi_quantize(const qi_quantization *quantization, const float *x, ptrdiff_t n, int32_t *to);

typedef struct {
    const char *name;
    int block; /* channels of a gemm block: 16 * vectors at most */
    int lanes; /* channels of a depthwise block; */
    int column_lanes; /* of one with shared columns */
    int narrow_lanes; /* channels of a narrow block */
    qi_gather *gather;
    qi_gemm *bytes, *words; /* bytes: NULL where there is none */
    qi_depthwise *depthwise;
    qi_depthwise_columns *depthwise_columns; /* NULL where there is none */
    qi_requantize *requantize;
    /* blocks in quarters and halves; NULL where there are none */
    qi_natural_order *natural_order;
    qi_requantize_quarters *requantize_quarters;
    qi_requantize_tail *requantize_tail;
    qi_depthwise_fused *depthwise_fused;
    qi_depthwise_pair *depthwise_pair;
    qi_gemm_fused *gemm_fused;
    /* words, 16 channels a block as for `words` with one vector: */
    qi_ordered_gemm *wide;  /* each step saturated, 17..31 bits */
    qi_ordered_gemm *pairs; /* pairs saturated, then the accumulator (low == INT32_MIN: it wraps) */
    qi_ordered_gemm *narrow; /* each step saturated at <= 16 bits, products fit int16: one int16 a step and channel */
    qi_depthwise_ordered *depthwise_ordered;
    qi_run_stages *run_stages;
    qi_widen *widen;
    qi_combine *combine;
    qi_fold *fold;
    qi_quantize *quantize;
    qi_look_up_bytes *look_up_bytes;
    qi_add_lines *add_lines;
    qi_add_fused *add_fused; /* NULL where there is none */
    const int *permutes_bytes; /* whether look_up_bytes is many times faster than single look-ups; NULL: it is not */
} qi_isa;

extern const qi_isa qi_portable;
#if QI_X86
extern const qi_isa qi_avx2, qi_avx512vnni;
extern int qi_has_vbmi; /* known once qi_available_isas was asked */
#endif

/* The instruction sets that this processor and system can run, the best first; NULL ends the list. */
const qi_isa *const *qi_available_isas(void);

/* ---- prepared convolutions ---- */

/* From the input to the rows. */
enum qi_conversion { QI_COPY_BYTES, QI_FLIP_BYTES, QI_WIDEN_SIGNED, QI_WIDEN_UNSIGNED, QI_COPY_WORDS };

typedef struct qi_conv {
    const qi_isa *isa;
    int x_type, conversion;
    int32_t x_zero_point;
    ptrdiff_t height, width, channels;      /* of the input */
    ptrdiff_t out_height, out_width, out_channels;
    ptrdiff_t kernel_height, kernel_width, groups;
    const int32_t *rows, *columns;          /* (out_height, kernel_height), (out_width, kernel_width): -1 is padding */
    const uint8_t *contiguous;              /* (out_width): the window's columns follow each other */
    int direct;                             /* the rows of the product are the pixels of the input */
    ptrdiff_t row_bytes;
    int arranged;                           /* blocks of 64 channels are packed in quarters, a last one in halves */
    int step_bytes;                         /* of a channel's weights: 4, for a narrow ordered convolution 2 */
    int segments;                           /* of the depth; more than one for 64-bit accumulators */
    const int32_t *segment_steps;           /* (segments) */
    const uint8_t *weights;                 /* (segments, groups, padded channels of a group, steps) in blocks */
    const int32_t *bias;                    /* (groups, padded channels of a group) */
    const int64_t *wide_bias;               /* (out_channels), for 64-bit accumulators */
    /* ordered accumulation: `ordered` is not NULL */
    qi_ordered_gemm *ordered;
    int ordered_block;                      /* channels of a block */
    qi_in_order in_order;
} qi_conv;

typedef struct {
    const qi_isa *isa;
    int x_type;
    ptrdiff_t height, width, channels;      /* of the input */
    ptrdiff_t out_height, out_width, multiplier;
    ptrdiff_t kernel_height, kernel_width;
    const int32_t *rows, *columns;
    const uint8_t *padding;                 /* a pixel of zero points, readable 64 bytes beyond its end */
    const void *weights, *below;            /* below: NULL where output rows are not computed in pairs */
    const int32_t *bias;                    /* (padded channels) */
    int shared_stride;                      /* of pixels that share columns of taps; 0: they do not */
    ptrdiff_t left;                         /* columns of padding on the left */
    int ordered;                            /* weights: (taps in order, channels) int16 */
    qi_in_order in_order;
} qi_depthwise_conv;

/* Exactly one of accumulators, wide (64 bits) and out is not NULL. Return -1 when there is no memory, else whether an
   ordered accumulation left its range. */
int qi_run_conv(const qi_conv *conv, const void *x, ptrdiff_t batch, int32_t *accumulators, int64_t *wide,
                const qi_requantizer *with, void *out, int out_type);
int qi_run_depthwise(const qi_depthwise_conv *conv, const void *x, ptrdiff_t batch, int32_t *accumulators,
                     const qi_requantizer *with, void *out, int out_type);

#endif
