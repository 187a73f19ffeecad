/* Gathers the rows of a product; for inclusion by each instruction set, which has defined INLINE, TARGET and

       INLINE void convert(uint8_t *to, const uint8_t *from, ptrdiff_t n, const uint8_t *limit, const int conversion)

   of n elements: it may write up to 64 bytes too many, and read nothing from `limit` on. */
#include <string.h>

INLINE void gather_padding(uint8_t *to, ptrdiff_t n, int32_t value, const int conversion)
{
    ptrdiff_t i;
#if QINTERP_PLANTED_BUG == 10
    value = 0;
#endif
    if (conversion <= QI_FLIP_BYTES)
        memset(to, (uint8_t)(value ^ (conversion == QI_FLIP_BYTES ? 0x80 : 0)), (size_t)n);
    else
        for (i = 0; i < n; i++) ((int16_t *)to)[i] = (int16_t)value;
}

/* The window of output pixel (oy, ox) of an image. */
INLINE void gather_window(const qi_conv *conv, const uint8_t *image, const uint8_t *limit, ptrdiff_t oy, ptrdiff_t ox,
                          ptrdiff_t group, uint8_t *to, const int conversion)
{
    const ptrdiff_t in = conversion == QI_COPY_WORDS ? 2 : 1, out = conversion >= QI_WIDEN_SIGNED ? 2 : 1;
    const ptrdiff_t depth = conv->channels / conv->groups, pixel = conv->channels * in;
    const int32_t *row_of = conv->rows + oy * conv->kernel_height, *column = conv->columns + ox * conv->kernel_width;
    const int contiguous = conv->groups == 1 && conv->contiguous[ox];
    ptrdiff_t kh, kw;
    for (kh = 0; kh < conv->kernel_height; kh++) {
        const uint8_t *row = image + (row_of[kh] * conv->width * conv->channels + group * depth) * in;
        if (row_of[kh] < 0) {
            gather_padding(to, conv->kernel_width * depth, conv->x_zero_point, conversion);
        } else if (contiguous) {
            convert(to, row + column[0] * pixel, conv->kernel_width * depth, limit, conversion);
        } else {
            for (kw = 0; kw < conv->kernel_width; kw++) {
                if (column[kw] < 0)
                    gather_padding(to + kw * depth * out, depth, conv->x_zero_point, conversion);
                else
                    convert(to + kw * depth * out, row + column[kw] * pixel, depth, limit, conversion);
            }
        }
        to += conv->kernel_width * depth * out;
    }
}

INLINE void gather_rows(const qi_conv *conv, const uint8_t *x, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t first,
                        ptrdiff_t count, uint8_t *rows, const int conversion)
{
    const ptrdiff_t in = conversion == QI_COPY_WORDS ? 2 : 1, pixels = conv->out_height * conv->out_width;
    const ptrdiff_t image = conv->height * conv->width * conv->channels * in;
    const uint8_t *limit = x + batch * image;
    ptrdiff_t n, oy, ox, i;
    if (conv->direct) {
        for (i = 0; i < count; i++)
            convert(rows + i * conv->row_bytes, x + (first + i) * conv->channels * in, conv->channels, limit, conversion);
        return;
    }
    n = first / pixels;
    oy = first % pixels / conv->out_width;
    ox = first % conv->out_width;
    for (i = 0; i < count; i++) {
        gather_window(conv, x + n * image, limit, oy, ox, group, rows + i * conv->row_bytes, conversion);
        if (++ox == conv->out_width) {
            ox = 0;
            if (++oy == conv->out_height) {
                oy = 0;
                n++;
            }
        }
    }
}

TARGET static void gather(const qi_conv *conv, const uint8_t *x, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t first,
                          ptrdiff_t count, uint8_t *rows)
{
    switch (conv->conversion) {
    case QI_COPY_BYTES: gather_rows(conv, x, batch, group, first, count, rows, QI_COPY_BYTES); break;
    case QI_FLIP_BYTES: gather_rows(conv, x, batch, group, first, count, rows, QI_FLIP_BYTES); break;
    case QI_WIDEN_SIGNED: gather_rows(conv, x, batch, group, first, count, rows, QI_WIDEN_SIGNED); break;
    case QI_WIDEN_UNSIGNED: gather_rows(conv, x, batch, group, first, count, rows, QI_WIDEN_UNSIGNED); break;
    default: gather_rows(conv, x, batch, group, first, count, rows, QI_COPY_WORDS); break;
    }
}
