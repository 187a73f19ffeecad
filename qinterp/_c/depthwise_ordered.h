/* Depthwise sums that saturate at every product, in the order of `order`; for inclusion by each instruction set, which has
   defined INLINE and TARGET: the loops over channels are plain C, and the compiler's vectorizer makes of them what the
   instruction set allows. */
#include <string.h>

enum { MAX_LANES = 64 };

#define ADD_PRODUCTS(type)                                                                              \
    for (c = 0; c < channels; c++) {                                                                    \
        const int32_t next = sum[c] + (((const type *)at)[c] - in_order->subtract) * w[c];              \
        int32_t kept = next < in_order->limits.low ? in_order->limits.low : next;                       \
        kept = kept > in_order->limits.high ? in_order->limits.high : kept;                             \
        changed[c] |= next ^ kept;                                                                      \
        sum[c] = kept;                                                                                  \
    }

TARGET static void depthwise_ordered(const uint8_t *const *taps, const qi_in_order *in_order, int count, ptrdiff_t offset,
                                     int x_type, int channels, const int16_t *weights, ptrdiff_t weights_stride,
                                     const int32_t *start, int32_t *tile, int *overflowed)
{
    int32_t sum[MAX_LANES], changed[MAX_LANES] = {0}, any = 0;
    int t, c;
    memcpy(sum, start, (size_t)channels * sizeof *sum);
    for (t = 0; t < count; t++) {
        const uint8_t *at = taps[in_order->order[t]] + offset;
        const int16_t *w = weights + t * weights_stride;
        switch (x_type) {
        case QI_I8: ADD_PRODUCTS(int8_t) break;
        case QI_U8: ADD_PRODUCTS(uint8_t) break;
        default: ADD_PRODUCTS(int16_t) break;
        }
    }
    for (c = 0; c < channels; c++) any |= changed[c];
    memcpy(tile, sum, (size_t)channels * sizeof *sum);
    *overflowed |= any != 0;
}
