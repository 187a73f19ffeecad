/* Gathers the rows of a product; for inclusion by each instruction set, which has defined INLINE, TARGET and

       INLINE void convert(uint8_t *to, const uint8_t *from, ptrdiff_t n, const uint8_t *limit, const int conversion)

   of n elements: it may write up to 64 bytes too many, and read nothing from `limit` on. */
#include <string.h>

enum {
    MAX_HEIGHT = 16,    /* of kernels whose rows are gathered several pixels at a time */
    LONGEST_SHORT = 192 /* bytes of a window's row */
};

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
    ptrdiff_t kh, kw;
    for (kh = 0; kh < conv->kernel_height; kh++) {
        const uint8_t *row = image + (row_of[kh] * conv->width * conv->channels + group * depth) * in;
        if (row_of[kh] < 0) {
            gather_padding(to, conv->kernel_width * depth, conv->x_zero_point, conversion);
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

/* Short rows of windows, `size` bytes each at a time: what is written too many the next ones overwrite. */
INLINE void gather_short(uint8_t *to, ptrdiff_t row_bytes, ptrdiff_t n, ptrdiff_t count, const uint8_t *const *row_at,
                         const ptrdiff_t *steps, const int height, const uint64_t flip, const int size)
{
    ptrdiff_t i;
    int kh, b;
    for (i = 0; i < count; i++, to += row_bytes) {
        for (kh = 0; kh < height; kh++) {
            const uint8_t *from = row_at[kh] + i * steps[kh];
            for (b = 0; b < size; b += 16) {
                uint64_t halves[2];
                memcpy(halves, from + b, sizeof halves);
                halves[0] ^= flip;
                halves[1] ^= flip;
                memcpy(to + kh * n + b, halves, sizeof halves);
            }
        }
    }
}

/* The windows of `count` output pixels from (oy, ox) on whose columns follow each other, `step` bytes apart. */
INLINE void gather_run(const qi_conv *conv, const uint8_t *image, const uint8_t *limit, ptrdiff_t oy, ptrdiff_t ox,
                       ptrdiff_t count, ptrdiff_t step, uint8_t *to, const int conversion)
{
    const ptrdiff_t in = conversion == QI_COPY_WORDS ? 2 : 1, out = conversion >= QI_WIDEN_SIGNED ? 2 : 1;
    const ptrdiff_t pixel = conv->channels * in, n = conv->kernel_width * conv->channels, height = conv->kernel_height;
    const ptrdiff_t row_bytes = conv->row_bytes;
    const int32_t zero_point = conv->x_zero_point;
    const uint8_t *row_at[MAX_HEIGHT], *short_at[MAX_HEIGHT];
    ptrdiff_t steps[MAX_HEIGHT], i, kh;
    uint8_t padding[LONGEST_SHORT];
    int is_short = conversion <= QI_FLIP_BYTES && n <= (ptrdiff_t)sizeof padding;
    for (kh = 0; kh < height; kh++) {
        const int32_t iy = conv->rows[oy * height + kh];
        row_at[kh] = iy < 0 ? NULL : image + (iy * conv->width + conv->columns[ox * conv->kernel_width]) * pixel;
        short_at[kh] = iy < 0 ? padding : row_at[kh];
        steps[kh] = iy < 0 ? 0 : step;
        if (iy >= 0 && limit - row_at[kh] < (count - 1) * step + (n + 15) / 16 * 16) is_short = 0;
    }
    if (is_short) {
        const uint64_t flip = conversion == QI_FLIP_BYTES ? 0x8080808080808080u : 0;
        memset(padding, (uint8_t)(QINTERP_PLANTED_BUG == 10 ? 0 : zero_point), sizeof padding);
        switch (height == 3 ? (n + 15) / 16 : 0) {
        case 1: gather_short(to, row_bytes, n, count, short_at, steps, 3, flip, 16); break;
        case 2: gather_short(to, row_bytes, n, count, short_at, steps, 3, flip, 32); break;
        case 3: gather_short(to, row_bytes, n, count, short_at, steps, 3, flip, 48); break;
        case 6: gather_short(to, row_bytes, n, count, short_at, steps, 3, flip, 96); break;
        case 12: gather_short(to, row_bytes, n, count, short_at, steps, 3, flip, 192); break;
        default: gather_short(to, row_bytes, n, count, short_at, steps, (int)height, flip, (int)((n + 15) / 16 * 16)); break;
        }
        return;
    }
    for (i = 0; i < count; i++, to += row_bytes) {
        for (kh = 0; kh < height; kh++) {
            if (row_at[kh])
                convert(to + kh * n * out, row_at[kh] + i * step, n, limit, conversion);
            else
                gather_padding(to + kh * n * out, n, zero_point, conversion);
        }
    }
}

/* How many of the output pixels from ox on have windows of consecutive columns, each `stride` columns after the last. */
INLINE ptrdiff_t run_length(const qi_conv *conv, ptrdiff_t ox, ptrdiff_t most, ptrdiff_t *stride)
{
    const int32_t *column = conv->columns + ox * conv->kernel_width;
    ptrdiff_t i = 1;
    if (conv->groups != 1 || !conv->contiguous[ox] || conv->kernel_height > MAX_HEIGHT) return 0;
    if (most == 1) return 1;
    *stride = column[conv->kernel_width] - column[0];
    while (i < most && conv->contiguous[ox + i] && column[i * conv->kernel_width] - column[0] == i * *stride) i++;
    return i;
}

INLINE void gather_rows(const qi_conv *conv, const uint8_t *x, ptrdiff_t batch, ptrdiff_t group, ptrdiff_t first,
                        ptrdiff_t count, uint8_t *rows, const int conversion)
{
    const ptrdiff_t in = conversion == QI_COPY_WORDS ? 2 : 1, pixels = conv->out_height * conv->out_width;
    const ptrdiff_t image = conv->height * conv->width * conv->channels * in;
    const uint8_t *limit = x + batch * image;
    ptrdiff_t n, oy, ox, i, run;
    if (conv->direct && conv->row_bytes == conv->channels * (conversion >= QI_WIDEN_SIGNED ? 2 : 1)) {
        convert(rows, x + first * conv->channels * in, count * conv->channels, limit, conversion);
        return;
    }
    if (conv->direct) {
        for (i = 0; i < count; i++)
            convert(rows + i * conv->row_bytes, x + (first + i) * conv->channels * in, conv->channels, limit, conversion);
        return;
    }
    n = first / pixels;
    oy = first % pixels / conv->out_width;
    ox = first % conv->out_width;
    for (i = 0; i < count; i += run) {
        ptrdiff_t stride = 0;
        run = conv->out_width - ox < count - i ? conv->out_width - ox : count - i;
        run = run_length(conv, ox, run, &stride);
        if (run) {
            gather_run(conv, x + n * image, limit, oy, ox, run, stride * conv->channels * in, rows + i * conv->row_bytes,
                       conversion);
        } else {
            run = 1;
            gather_window(conv, x + n * image, limit, oy, ox, group, rows + i * conv->row_bytes, conversion);
        }
        ox += run;
        if (ox == conv->out_width) {
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
