/* Loops for inclusion by each instruction set, which has defined TARGET: plain C that the compiler's vectorizer makes of
   what the instruction set allows. */
#include <math.h>
#include <string.h>

#ifdef _MSC_VER
#define RESTRICT __restrict
#else
#define RESTRICT restrict
#endif

/* ---- operands as 32-bit integers ---- */

#define WIDEN(type)                                                                               \
    {                                                                                             \
        const type *from = x;                                                                     \
        for (i = 0; i < n; i++) to[i] = from[i] - zero_point;                                     \
        break;                                                                                    \
    }

TARGET static void widen(const void *x, int x_type, ptrdiff_t n, int32_t zero_point, int32_t *to)
{
    ptrdiff_t i;
    switch (x_type) {
    case QI_I8: WIDEN(int8_t)
    case QI_U8: WIDEN(uint8_t)
    default: WIDEN(int16_t)
    }
}

TARGET static void combine(const int32_t *RESTRICT a, const int32_t *RESTRICT b, ptrdiff_t n, int how, int32_t *RESTRICT to)
{
    ptrdiff_t i;
    switch (how) {
    case QI_COMBINE_ADD:
        for (i = 0; i < n; i++) to[i] = a[i] + b[i];
        break;
    case QI_COMBINE_SUBTRACT:
        for (i = 0; i < n; i++) to[i] = a[i] - b[i];
        break;
    case QI_COMBINE_MULTIPLY:
        for (i = 0; i < n; i++) to[i] = a[i] * b[i];
        break;
    case QI_COMBINE_MAX:
        for (i = 0; i < n; i++) to[i] = a[i] > b[i] ? a[i] : b[i];
        break;
    default:
        for (i = 0; i < n; i++) to[i] = a[i] < b[i] ? a[i] : b[i];
        break;
    }
}

/* ---- windows: blocks of neighbouring channels, then what is left of them ---- */

enum { FOLD_BLOCK = 64 };

typedef void fold_block(const void *x, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns, ptrdiff_t column_stride,
                        ptrdiff_t n, int32_t start, void *result);

#define PLUS(a, b) ((a) + (b))
#define GREATER(a, b) ((a) > (b) ? (a) : (b))
#define LESS(a, b) ((a) < (b) ? (a) : (b))

/* `acc_type acc[FOLD_BLOCK]` of n <= FOLD_BLOCK channels over the pixels of a window. */
#define FOLD(name, type, acc_type, op)                                                                                  \
    TARGET static void name(const void *x, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns,                     \
                            ptrdiff_t column_stride, ptrdiff_t n, int32_t start, void *result)                          \
    {                                                                                                                   \
        acc_type acc[FOLD_BLOCK];                                                                                       \
        ptrdiff_t r, k, c;                                                                                              \
        if (n == FOLD_BLOCK) {                                                                                          \
            for (c = 0; c < FOLD_BLOCK; c++) acc[c] = (acc_type)start;                                                  \
            for (r = 0; r < rows; r++)                                                                                  \
                for (k = 0; k < columns; k++) {                                                                         \
                    const type *from = (const type *)x + r * row_stride + k * column_stride;                            \
                    for (c = 0; c < FOLD_BLOCK; c++) acc[c] = (acc_type)op(acc[c], from[c]);                            \
                }                                                                                                       \
        } else if (n == 1 && column_stride == 1) {                                                                      \
            acc_type one = (acc_type)start;                                                                             \
            for (r = 0; r < rows; r++) {                                                                                \
                const type *from = (const type *)x + r * row_stride;                                                    \
                for (k = 0; k < columns; k++) one = (acc_type)op(one, from[k]);                                         \
            }                                                                                                           \
            acc[0] = one;                                                                                               \
        } else {                                                                                                        \
            for (c = 0; c < n; c++) acc[c] = (acc_type)start;                                                           \
            for (r = 0; r < rows; r++)                                                                                  \
                for (k = 0; k < columns; k++) {                                                                         \
                    const type *from = (const type *)x + r * row_stride + k * column_stride;                            \
                    for (c = 0; c < n; c++) acc[c] = (acc_type)op(acc[c], from[c]);                                     \
                }                                                                                                       \
        }                                                                                                               \
        memcpy(result, acc, (size_t)n * sizeof *acc);                                                                   \
    }

FOLD(sum_i8, int8_t, int32_t, PLUS)
FOLD(sum_u8, uint8_t, int32_t, PLUS)
FOLD(sum_i16, int16_t, int32_t, PLUS)
FOLD(max_i8, int8_t, int8_t, GREATER)
FOLD(max_u8, uint8_t, uint8_t, GREATER)
FOLD(max_i16, int16_t, int16_t, GREATER)
FOLD(min_i8, int8_t, int8_t, LESS)
FOLD(min_u8, uint8_t, uint8_t, LESS)
FOLD(min_i16, int16_t, int16_t, LESS)

/* Of any number of channels. */
TARGET static void fold(const void *x, int x_type, int how, ptrdiff_t rows, ptrdiff_t row_stride, ptrdiff_t columns,
                        ptrdiff_t column_stride, ptrdiff_t n, int32_t start, void *result)
{
    static fold_block *const folds[3][3] = {
        {sum_i8, sum_u8, sum_i16}, {max_i8, max_u8, max_i16}, {min_i8, min_u8, min_i16}};
    const ptrdiff_t in = x_type == QI_I16 ? 2 : 1, out = how == QI_FOLD_SUM ? 4 : in;
    ptrdiff_t c;
    for (c = 0; c < n; c += FOLD_BLOCK)
        folds[how][x_type]((const uint8_t *)x + c * in, rows, row_stride, columns, column_stride,
                           n - c < FOLD_BLOCK ? n - c : FOLD_BLOCK, start, (uint8_t *)result + c * out);
}

/* ---- floats to codes ---- */

enum { QUANTIZE_BLOCK = 512 };

/* One simple loop a step: a vectorizer takes no other. */
TARGET static int quantize_block(const qi_quantization *q, const float *RESTRICT x, int n, int32_t *RESTRICT to)
{
    const float limit = 4194304.0f; /* a float below it has halves, and so have its sums with a zero point */
    const float scale = q->scale, before = q->before, after = q->after, low = q->low, high = q->high;
    float v[QUANTIZE_BLOCK];
    int32_t far = 0;
    int i;
    if (q->divide)
        for (i = 0; i < n; i++) v[i] = x[i] / scale;
    else
        for (i = 0; i < n; i++) v[i] = x[i] * scale;
    for (i = 0; i < n; i++) v[i] = v[i] + before;
    for (i = 0; i < n; i++) far |= !(fabsf(v[i]) < limit);
    if (far) return 1;
    if (q->to_even)
        for (i = 0; i < n; i++) v[i] = (v[i] + 12582912.0f) - 12582912.0f; /* 2^23 + 2^22 */
    else /* the largest float below 1/2: the sum reaches the next integer only if the fraction is 1/2 or more */
        for (i = 0; i < n; i++) v[i] = (float)(int32_t)(v[i] + copysignf(0.49999997f, v[i]));
    for (i = 0; i < n; i++) v[i] = v[i] + after;
    for (i = 0; i < n; i++) v[i] = v[i] < low ? low : v[i];
    for (i = 0; i < n; i++) v[i] = v[i] > high ? high : v[i];
    for (i = 0; i < n; i++) to[i] = (int32_t)v[i];
    return 0;
}

TARGET static int quantize(const qi_quantization *q, const float *x, ptrdiff_t n, int32_t *to)
{
    ptrdiff_t i;
    int far = 0;
    for (i = 0; i < n && !far; i += QUANTIZE_BLOCK)
        far = quantize_block(q, x + i, (int)(n - i < QUANTIZE_BLOCK ? n - i : QUANTIZE_BLOCK), to + i);
    return far;
}

/* ---- tables ---- */

TARGET static void look_up_bytes(const uint8_t *table, const uint8_t *x, ptrdiff_t n, uint8_t *out)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) out[i] = table[x[i]];
}

#define ADD_LINES(type)                                                                                              \
    for (i = 0; i < n; i++)                                                                                          \
        to[i] = (int32_t)(a * (uint32_t)(int32_t)((const type *)x)[i] + b * (uint32_t)(int32_t)((const type *)y)[i] +   \
                          (uint32_t)c + (uint32_t)(d[i] + e[i]));

TARGET static void add_lines(const uint8_t *x, const uint8_t *y, int x_type, ptrdiff_t n, const int32_t slopes[2], int32_t c,
                             const int8_t *d, const int8_t *e, int32_t *RESTRICT to)
{
    const uint32_t a = (uint32_t)slopes[0], b = (uint32_t)slopes[1];
    ptrdiff_t i;
    if (x_type == QI_I8)
        ADD_LINES(int8_t)
    else
        ADD_LINES(uint8_t)
}
