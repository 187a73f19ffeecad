#include "packed.h"

#include <stdlib.h>
#include <string.h>

#include "integers.h"

enum {
    ROW_MULTIPLE = 48, /* of the rows that a product may touch: they go by 4, 6, 8, 12 and 16 */
    FEW_ROWS = 48,     /* pixels of a chunk with deep rows ... */
    MANY_ROWS = 96,    /* ... and with shallow ones */
    SHALLOW = 256,     /* bytes */
    SLACK = 64,        /* bytes that may be read or written beyond the end */
    PIXELS = 64,       /* of a depthwise chunk */
    FUSED_STEPS = 24,  /* of a product that is fused with its requantization: more cost more than they save */
    FUSED_TAIL_STEPS = 64, /* the same of at most 32 channels */
    MAX_KERNEL = 16,   /* rows of a kernel that is fused */
    ORDERED_LANES = 64 /* channels of an ordered one's block */
};

static size_t sizes[] = {1, 1, 2, 4, 8, 4, 8}; /* of an element, by qi_type */

static void *aligned(void *address) { return (void *)(((uintptr_t)address + 63) & ~(uintptr_t)63); }

static size_t rounded_up(size_t x, size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

/* About `wanted` pixels a chunk, so that no small one is left over, in sixes as the gemm takes them. */
static ptrdiff_t balanced(ptrdiff_t pixels, ptrdiff_t wanted)
{
    const ptrdiff_t chunks = (pixels + wanted / 2) / wanted;
    return chunks <= 1 ? pixels : ((pixels + chunks - 1) / chunks + 5) / 6 * 6;
}

static void store_wide(int64_t *to, const int32_t *tile, ptrdiff_t n, const int64_t *bias)
{
    ptrdiff_t i;
    if (bias)
        for (i = 0; i < n; i++) to[i] = qi_wrapping_add(bias[i], tile[i]);
    else
        for (i = 0; i < n; i++) to[i] = qi_wrapping_add(to[i], tile[i]);
}

/* ---- rows of the product ---- */

/* For ordered accumulation: zero points off, taps in order, zeros up to the end of the last step. */
static void prepare_ordered_rows(const qi_conv *conv, const uint8_t *gathered, ptrdiff_t count, uint8_t *to)
{
    const ptrdiff_t depth = conv->kernel_height * conv->kernel_width * (conv->channels / conv->groups);
    ptrdiff_t i, k;
    for (i = 0; i < count; i++) {
        const int16_t *from = (const int16_t *)(gathered + i * conv->row_bytes);
        int16_t *row = (int16_t *)(to + i * conv->row_bytes);
        if (conv->in_order.order)
            for (k = 0; k < depth; k++) row[k] = (int16_t)(from[conv->in_order.order[k]] - conv->in_order.subtract);
        else
            for (k = 0; k < depth; k++) row[k] = (int16_t)(from[k] - conv->in_order.subtract);
        for (; 2 * k < conv->row_bytes; k++) row[k] = 0;
    }
}

/* ---- blocks of channels ---- */

typedef struct {
    int32_t *accumulators;
    int64_t *wide;
    const qi_requantizer *with;
    void *out;
    int out_type;
} qi_target;

static void *element(void *out, int type, ptrdiff_t index) { return (uint8_t *)out + index * (ptrdiff_t)sizes[type]; }

static int takes_arranged(const qi_isa *isa, const qi_requantizer *with, ptrdiff_t channel, int out_type)
{
    return with && isa->requantize_quarters && out_type != QI_I16 && with->zero_point >= -16384 && with->zero_point <= 16384
           && with->arrangeable[channel / 64];
}

/* Whether a block of so many channels is in an order other than the natural, or can be requantized as if it were. */
static int is_arranged(const qi_conv *conv, ptrdiff_t channels) { return conv->arranged && (channels == 64 || channels <= 32); }

static void store_tile(const qi_conv *conv, int32_t *tile, ptrdiff_t stride, ptrdiff_t first, ptrdiff_t count,
                       ptrdiff_t channel, ptrdiff_t channels, int segment, const qi_target *to)
{
    ptrdiff_t i, at = first * conv->out_channels + channel;
    if (is_arranged(conv, channels)) {
        if (takes_arranged(conv->isa, to->with, channel, to->out_type)) {
            void *out = element(to->out, to->out_type, at);
            if (channels == 64)
                conv->isa->requantize_quarters(tile, stride, (int)count, (int)channel, 64, to->with, out, to->out_type,
                                               conv->out_channels);
            else
                conv->isa->requantize_tail(tile, stride, (int)count, (int)channels, to->with, out, to->out_type,
                                           conv->out_channels);
            return;
        }
        conv->isa->natural_order(tile, stride, (int)count, (int)channels);
    }
    if (to->with) {
        conv->isa->requantize(tile, stride, (int)count, (int)channel, (int)channels, to->with,
                              element(to->out, to->out_type, at), to->out_type, conv->out_channels);
    } else if (to->accumulators) {
        for (i = 0; i < count; i++)
            memcpy(to->accumulators + at + i * conv->out_channels, tile + i * stride, (size_t)channels * sizeof *tile);
    } else {
        for (i = 0; i < count; i++)
            store_wide(to->wide + at + i * conv->out_channels, tile + i * stride, channels,
                       segment ? NULL : conv->wide_bias + channel);
    }
}

static int finish_ordered(const qi_in_order *with, int32_t *tile, ptrdiff_t stride, ptrdiff_t count, ptrdiff_t channel,
                          ptrdiff_t channels)
{
    ptrdiff_t i, c;
    int overflowed = 0;
    for (i = 0; i < count; i++) {
        for (c = 0; c < channels; c++) {
            int64_t sum = tile[i * stride + c], correction = with->correction[channel + c], bias = with->last_bias[channel + c];
            if (with->each_step) {
                sum = qi_add_fit(sum, correction, with->bits, with->overflow, &overflowed);
                sum = qi_add_fit(sum, bias, with->bits, with->overflow, &overflowed);
            } else {
                sum = qi_fit(sum + correction + bias, with->bits, with->overflow, &overflowed);
            }
            tile[i * stride + c] = (int32_t)sum;
        }
    }
    return overflowed;
}

static int run_chunk(const qi_conv *conv, const uint8_t *rows, ptrdiff_t group, ptrdiff_t first, ptrdiff_t count,
                     int32_t *tile, const qi_target *to)
{
    qi_gemm *gemm = conv->conversion <= QI_FLIP_BYTES ? conv->isa->bytes : conv->isa->words;
    const int block = conv->ordered ? conv->ordered_block : conv->isa->block;
    const ptrdiff_t channels = conv->out_channels / conv->groups;
    const ptrdiff_t padded = (ptrdiff_t)rounded_up((size_t)channels, conv->ordered ? (size_t)block : 16);
    const uint8_t *weights = conv->weights;
    int segment, overflowed = 0;
    ptrdiff_t c;
    for (segment = 0; segment < conv->segments; segment++) {
        const int steps = conv->segment_steps[segment];
        const ptrdiff_t channel_bytes = (ptrdiff_t)steps * conv->step_bytes;
        for (c = 0; c < channels; c += block) {
            const ptrdiff_t here = channels - c < block ? channels - c : block, channel = group * channels + c;
            const uint8_t *block_weights = weights + (group * padded + c) * channel_bytes;
            const int32_t *bias = conv->bias + group * padded + c;
            if (is_arranged(conv, here) && steps <= (here == 64 ? FUSED_STEPS : FUSED_TAIL_STEPS)
                && takes_arranged(conv->isa, to->with, c, to->out_type)) {
                conv->isa->gemm_fused(rows, conv->row_bytes, (int)count, block_weights, steps, bias, to->with, (int)c, (int)here,
                                      element(to->out, to->out_type, first * conv->out_channels + c), to->out_type,
                                      conv->out_channels, conv->conversion <= QI_FLIP_BYTES);
                continue;
            }
            if (conv->ordered) {
                conv->ordered(rows, conv->row_bytes, (int)count, block_weights, steps, bias, conv->in_order.limits, tile,
                              block, &overflowed);
                overflowed |= finish_ordered(&conv->in_order, tile, block, count, channel, here);
            } else {
                gemm(rows, conv->row_bytes, (int)count, block_weights, steps, (int)((here + 15) / 16), bias, tile, block);
            }
            store_tile(conv, tile, block, first, count, channel, here, segment, to);
        }
        rows += channel_bytes;
        weights += conv->groups * padded * channel_bytes;
    }
    return overflowed;
}

int qi_run_conv(const qi_conv *conv, const void *x, ptrdiff_t batch, int32_t *accumulators, int64_t *wide,
                const qi_requantizer *with, void *out, int out_type)
{
    const qi_target target = {accumulators, wide, with, out, out_type};
    const ptrdiff_t pixels = batch * conv->out_height * conv->out_width;
    const int block = conv->ordered ? conv->ordered_block : conv->isa->block;
    ptrdiff_t chunk = conv->row_bytes <= SHALLOW ? MANY_ROWS : FEW_ROWS, group, first, count;
    size_t rows, rows_bytes, tile_bytes;
    uint8_t *memory, *prepared, *gathered;
    int32_t *tile;
    int overflowed = 0;
    chunk = balanced(pixels, chunk);
    rows = rounded_up((size_t)chunk, ROW_MULTIPLE);
    rows_bytes = rounded_up(rows * (size_t)conv->row_bytes + SLACK, 64);
    tile_bytes = rows * (size_t)block * sizeof *tile;
    memory = malloc(64 + tile_bytes + rows_bytes * (conv->ordered ? 2 : 1));
    if (!memory) return -1;
    tile = aligned(memory);
    prepared = gathered = (uint8_t *)tile + tile_bytes;
    if (conv->ordered) gathered += rows_bytes;
    for (first = 0; first < pixels; first += chunk) {
        count = pixels - first < chunk ? pixels - first : chunk;
        for (group = 0; group < conv->groups; group++) {
            conv->isa->gather(conv, x, batch, group, first, count, gathered);
            if (conv->ordered) prepare_ordered_rows(conv, gathered, count, prepared);
            overflowed |= run_chunk(conv, prepared, group, first, count, tile, &target);
        }
    }
    free(memory);
    return overflowed;
}

/* ---- depthwise ---- */

/* Every channel of the rows that output row `oy` reads, repeated `multiplier` times. */
static void repeat_channels(const qi_depthwise_conv *conv, const uint8_t *image, ptrdiff_t oy, uint8_t *to)
{
    const ptrdiff_t in = (ptrdiff_t)sizes[conv->x_type], n = conv->width * conv->channels;
    ptrdiff_t kh, i, m;
    for (kh = 0; kh < conv->kernel_height; kh++) {
        const int32_t iy = conv->rows[oy * conv->kernel_height + kh];
        const uint8_t *from = image + iy * n * in;
        for (i = 0; iy >= 0 && i < n; i++)
            for (m = 0; m < conv->multiplier; m++) memcpy(to + (i * conv->multiplier + m) * in, from + i * in, (size_t)in);
        to += n * conv->multiplier * in;
    }
}

/* The addresses of the taps of `count` output pixels of a row. `repeated`: what repeat_channels made, or NULL. */
static void find_taps(const qi_depthwise_conv *conv, const uint8_t *image, const uint8_t *repeated, ptrdiff_t oy,
                      ptrdiff_t ox, ptrdiff_t count, const uint8_t **taps)
{
    const ptrdiff_t pixel = conv->channels * conv->multiplier * (ptrdiff_t)sizes[conv->x_type];
    ptrdiff_t i, kh, kw;
    for (i = 0; i < count; i++, ox++) {
        const int32_t *column = conv->columns + ox * conv->kernel_width;
        for (kh = 0; kh < conv->kernel_height; kh++) {
            const int32_t iy = conv->rows[oy * conv->kernel_height + kh];
            const uint8_t *row = repeated ? repeated + kh * conv->width * pixel : image + iy * conv->width * pixel;
            for (kw = 0; kw < conv->kernel_width; kw++)
                *taps++ = iy < 0 || column[kw] < 0 ? conv->padding : row + column[kw] * pixel;
        }
        if (conv->kernel_height * conv->kernel_width % 2) { /* taps come in pairs; this one's weight is 0 */
            taps[0] = taps[-1];
            taps++;
        }
    }
}

/* One block of channels of `count` neighbouring pixels. */
static void run_pixels(const qi_depthwise_conv *conv, const uint8_t *const *taps, int taps_count, ptrdiff_t count,
                       ptrdiff_t channel, ptrdiff_t channels, const uint8_t *limit, int32_t *tile, int lanes)
{
    const ptrdiff_t row_groups = (conv->kernel_height + 3) / 4;
    if (conv->shared_stride)
        conv->isa->depthwise_columns(taps, taps_count, (int)conv->kernel_height, (int)conv->kernel_width,
                                     conv->shared_stride, (int)count, channel, conv->x_type, (int)channels,
                                     (const int8_t *)conv->weights + channel * row_groups * conv->kernel_width * 4,
                                     conv->bias + channel, tile, lanes);
    else
        conv->isa->depthwise(taps, taps_count, (int)count, channel * (ptrdiff_t)sizes[conv->x_type], conv->x_type,
                             (int)channels, limit, (const int16_t *)conv->weights + channel * taps_count,
                             conv->bias + channel, tile, lanes);
}

/* Whether every block of channels is fused with its requantization. */
static int is_fused(const qi_depthwise_conv *conv, const qi_requantizer *with, int out_type)
{
    const ptrdiff_t rest = conv->channels % 64, at_once = rest >= 1 && rest <= 32 ? 8 : 4;
    ptrdiff_t c;
    if (conv->ordered || !conv->shared_stride || !conv->isa->depthwise_fused || conv->multiplier != 1) return 0;
    if (conv->kernel_height > MAX_KERNEL || conv->out_width < at_once) return 0;
    for (c = 0; c < conv->channels; c += 64)
        if (!takes_arranged(conv->isa, with, c, out_type)) return 0;
    return 1;
}

/* Where row `iy` of an image is: -1 is padding. */
static qi_row row_at(const qi_depthwise_conv *conv, const uint8_t *image, int32_t iy)
{
    const qi_row padding = {conv->padding, 0}, row = {image + iy * conv->width * conv->channels, conv->channels};
    return iy < 0 ? padding : row;
}

static void run_fused(const qi_depthwise_conv *conv, const uint8_t *x, ptrdiff_t batch, const qi_requantizer *with, void *out,
                      int out_type)
{
    const ptrdiff_t row_groups = (conv->kernel_height + 3) / 4, pixel = conv->channels, block = row_groups * conv->kernel_width * 4;
    const int8_t *weights = conv->weights, *below = conv->out_height > 1 ? conv->below : NULL;
    qi_row rows[MAX_KERNEL];
    qi_depthwise_row row = {rows, conv->padding, -conv->left, conv->width, (int)conv->kernel_height, (int)conv->kernel_width,
                            conv->shared_stride, (int)conv->out_width, conv->x_type};
    ptrdiff_t n, oy, kh, c;
    for (n = 0; n < batch; n++, x += conv->height * conv->width * pixel) {
        for (oy = 0; oy < conv->out_height; oy += below ? 2 : 1) {
            const int32_t *row_of;
            if (below && oy == conv->out_height - 1) oy--; /* the row before again */
            row_of = conv->rows + oy * conv->kernel_height;
            for (kh = 0; kh < conv->kernel_height; kh++) rows[kh] = row_at(conv, x, row_of[kh]);
            if (below) rows[kh] = row_at(conv, x, row_of[2 * conv->kernel_height - 1]);
            for (c = 0; c < pixel; c += 64) {
                const int here = (int)(pixel - c < 64 ? pixel - c : 64);
                const ptrdiff_t at = (n * conv->out_height + oy) * conv->out_width * pixel + c;
                if (below)
                    conv->isa->depthwise_pair(&row, c, here, weights + c * block, below + c * block, conv->bias + c, with, (int)c,
                                              element(out, out_type, at), element(out, out_type, at + conv->out_width * pixel),
                                              out_type, pixel);
                else
                    conv->isa->depthwise_fused(&row, c, here, weights + c * block, conv->bias + c, with, (int)c,
                                               element(out, out_type, at), out_type, pixel);
            }
        }
    }
}

static int run_ordered_pixels(const qi_depthwise_conv *conv, const uint8_t *const *taps, int taps_count, ptrdiff_t count,
                              ptrdiff_t channel, ptrdiff_t channels, int32_t *tile)
{
    const ptrdiff_t all = conv->channels * conv->multiplier;
    int overflowed = 0;
    ptrdiff_t i;
    for (i = 0; i < count; i++)
        conv->isa->depthwise_ordered(taps + i * taps_count, &conv->in_order, (int)(conv->kernel_height * conv->kernel_width),
                                     channel * (ptrdiff_t)sizes[conv->x_type], conv->x_type, (int)channels,
                                     (const int16_t *)conv->weights + channel, all, conv->bias + channel,
                                     tile + i * ORDERED_LANES, &overflowed);
    return overflowed | finish_ordered(&conv->in_order, tile, ORDERED_LANES, count, channel, channels);
}

int qi_run_depthwise(const qi_depthwise_conv *conv, const void *x, ptrdiff_t batch, int32_t *accumulators,
                     const qi_requantizer *with, void *out, int out_type)
{
    const ptrdiff_t in = (ptrdiff_t)sizes[conv->x_type], image_bytes = conv->height * conv->width * conv->channels * in;
    const ptrdiff_t channels = conv->channels * conv->multiplier, out_rows = batch * conv->out_height;
    const ptrdiff_t taps_count = (ptrdiff_t)rounded_up((size_t)(conv->kernel_height * conv->kernel_width), 2);
    const ptrdiff_t repeated_bytes = conv->multiplier == 1 ? 0 : conv->kernel_height * conv->width * channels * in;
    const int lanes = conv->ordered ? ORDERED_LANES : conv->shared_stride ? conv->isa->column_lanes : conv->isa->lanes;
    const size_t tile_bytes = PIXELS * (size_t)lanes * sizeof(int32_t), taps_bytes = PIXELS * (size_t)taps_count * sizeof(void *);
    /* a chunk is a part of an output row, or several whole ones */
    const ptrdiff_t chunk_width = conv->out_width < PIXELS ? conv->out_width : PIXELS;
    const ptrdiff_t chunk_rows = conv->out_width == 0 || conv->out_width > PIXELS / 2 || repeated_bytes ? 1 : PIXELS / conv->out_width;
    uint8_t *memory, *repeated = NULL;
    const uint8_t *limit = (const uint8_t *)x + batch * image_bytes, **taps;
    int32_t *tile;
    ptrdiff_t row, ox, c, i;
    int overflowed = 0;
    if (is_fused(conv, with, out_type)) {
        run_fused(conv, x, batch, with, out, out_type);
        return 0;
    }
    memory = malloc(64 + tile_bytes + taps_bytes + (size_t)repeated_bytes + SLACK);
    if (!memory) return -1;
    tile = aligned(memory);
    taps = (const uint8_t **)((uint8_t *)tile + tile_bytes);
    if (repeated_bytes) {
        repeated = (uint8_t *)taps + taps_bytes;
        limit = repeated + repeated_bytes + SLACK;
    }
    for (row = 0; row < out_rows; row += chunk_rows) {
        const ptrdiff_t rows = out_rows - row < chunk_rows ? out_rows - row : chunk_rows;
        const uint8_t *image = (const uint8_t *)x + row / conv->out_height * image_bytes;
        if (repeated) repeat_channels(conv, image, row % conv->out_height, repeated);
        for (ox = 0; ox < conv->out_width; ox += PIXELS) {
            const ptrdiff_t width = conv->out_width - ox < chunk_width ? conv->out_width - ox : chunk_width;
            const ptrdiff_t count = rows * width, pixel = row * conv->out_width + ox;
            for (i = 0; i < rows; i++) {
                image = (const uint8_t *)x + (row + i) / conv->out_height * image_bytes;
                find_taps(conv, image, repeated, (row + i) % conv->out_height, ox, width, taps + i * width * taps_count);
            }
            for (c = 0; c < channels; c += lanes) {
                const ptrdiff_t here = channels - c < lanes ? channels - c : lanes;
                const int quarters = !conv->ordered && conv->shared_stride && takes_arranged(conv->isa, with, c, out_type);
                for (i = 0; i < rows; i++) {
                    int32_t *to = tile + i * width * lanes;
                    const uint8_t **from = taps + i * width * taps_count;
                    if (conv->ordered)
                        overflowed |= run_ordered_pixels(conv, from, (int)taps_count, width, c, here, to);
                    else
                        run_pixels(conv, from, (int)taps_count, width, c, here, limit, to, lanes);
                }
                if (quarters) {
                    conv->isa->requantize_quarters(tile, lanes, (int)count, (int)c, (int)here, with,
                                                   element(out, out_type, pixel * channels + c), out_type, channels);
                    continue;
                }
                if (!conv->ordered && conv->shared_stride && conv->isa->natural_order) conv->isa->natural_order(tile, lanes, (int)count, lanes);
                if (with)
                    conv->isa->requantize(tile, lanes, (int)count, (int)c, (int)here, with,
                                          element(out, out_type, pixel * channels + c), out_type, channels);
                else
                    for (i = 0; i < count; i++)
                        memcpy(accumulators + (pixel + i) * channels + c, tile + i * lanes, (size_t)here * sizeof *tile);
            }
        }
    }
    free(memory);
    return overflowed;
}
