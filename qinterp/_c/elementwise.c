#include "elementwise.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 2048, LANES = 16 };

static const ptrdiff_t sizes_of[] = {1, 1, 2, 4, 8, 4, 8}; /* of an element, by qi_type */

static ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

void qi_requantize_flat(const qi_isa *isa, const int32_t *x, ptrdiff_t n, const qi_requantizer *with, void *out,
                        int out_type)
{
    const ptrdiff_t many = (ptrdiff_t)1 << 24; /* rows are an int */
    ptrdiff_t rows = n / LANES, r;
    for (r = 0; r < rows; r += many)
        isa->requantize(x + r * LANES, LANES, (int)least(many, rows - r), 0, LANES, with,
                        (uint8_t *)out + r * LANES * sizes_of[out_type], out_type, LANES);
    if (n % LANES)
        isa->requantize(x + rows * LANES, LANES, 1, 0, (int)(n % LANES), with,
                        (uint8_t *)out + rows * LANES * sizes_of[out_type], out_type, LANES);
}

#define NARROW(type)                                                 \
    {                                                                \
        type *to = out;                                              \
        for (i = 0; i < n; i++) to[i] = (type)x[i];                  \
        break;                                                       \
    }

void qi_narrow(const int32_t *x, ptrdiff_t n, void *out, int out_type)
{
    ptrdiff_t i;
    switch (out_type) {
    case QI_I8: NARROW(int8_t)
    case QI_U8: NARROW(uint8_t)
    default: NARROW(int16_t)
    }
}

/* ---- of two operands ---- */

/* `n` elements from `first` on, in a row. */
static void load_part(const qi_isa *isa, const qi_operand *operand, const void *x, ptrdiff_t first, ptrdiff_t n, int32_t *to)
{
    ptrdiff_t i;
    if (operand->table && operand->type == QI_I16) {
        const uint16_t *codes = (const uint16_t *)x + first;
        for (i = 0; i < n; i++) to[i] = operand->table[codes[i]];
    } else if (operand->table) {
        const uint8_t *codes = (const uint8_t *)x + first;
        for (i = 0; i < n; i++) to[i] = operand->table[codes[i]];
    } else {
        isa->widen((const uint8_t *)x + first * sizes_of[operand->type], operand->type, n, operand->zero_point, to);
    }
}

/* The same of an operand that repeats. */
static void load(const qi_isa *isa, const qi_operand *operand, const void *x, ptrdiff_t size, ptrdiff_t first, ptrdiff_t n,
                 int32_t *to)
{
    ptrdiff_t at = first % size, done = 0;
    if (size == 1) {
        load_part(isa, operand, x, 0, 1, to);
        for (done = 1; done < n; done++) to[done] = to[0];
        return;
    }
    while (done < n) {
        const ptrdiff_t here = least(n - done, size - at);
        if (done >= size) /* it is there already */
            memcpy(to + done, to + done - size, (size_t)here * sizeof *to);
        else
            load_part(isa, operand, x, at, here, to + done);
        done += here;
        at = 0;
    }
}

static void add_tables(const int32_t *first, const int32_t *second, const uint8_t *a, const uint8_t *b, ptrdiff_t n,
                       int32_t *to)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) to[i] = first[a[i]] + second[b[i]];
}

static void add_as_lines(const qi_pairs *pairs, const uint8_t *a, const uint8_t *b, ptrdiff_t n, int32_t *to)
{
    uint8_t rest[2][CHUNK];
    pairs->isa->look_up_bytes((const uint8_t *)pairs->rest[0], a, n, rest[0]);
    pairs->isa->look_up_bytes((const uint8_t *)pairs->rest[1], b, n, rest[1]);
    pairs->isa->add_lines(a, b, pairs->operands[0].type, n, pairs->slopes, pairs->start, (const int8_t *)rest[0],
                          (const int8_t *)rest[1], to);
}

void qi_run_pairs(const qi_pairs *pairs, const void *const x[2], const ptrdiff_t sizes[2], ptrdiff_t n,
                  int32_t *accumulators, const qi_requantizer *with, void *out, int out_type)
{
    int32_t parts[2][CHUNK], total[CHUNK];
    const qi_operand *a = &pairs->operands[0], *b = &pairs->operands[1];
    const int tables = a->table && b->table && a->type != QI_I16 && b->type != QI_I16 && sizes[0] == n && sizes[1] == n && pairs->combine == QI_COMBINE_ADD;
    const int by_lines = tables && pairs->rest[0] && pairs->isa->permutes_bytes && *pairs->isa->permutes_bytes;
    ptrdiff_t chunk = CHUNK, first;
    int k, loaded[2] = {0, 0}, repeats[2];
    if (by_lines && with && pairs->rests_add && pairs->isa->add_fused
        && pairs->isa->add_fused(x[0], x[1], a->type, n, pairs->slopes, pairs->start, pairs->rest[0], pairs->rest[1], with, out,
                                 out_type))
        return;
    for (k = 0; k < 2; k++) { /* a short one is loaded once if every chunk begins where it does */
        if (sizes[k] != n && sizes[k] <= CHUNK && chunk == CHUNK) chunk = CHUNK / sizes[k] * sizes[k];
    }
    for (k = 0; k < 2; k++) repeats[k] = sizes[k] != n && chunk % sizes[k] == 0;
    for (first = 0; first < n; first += chunk) {
        const ptrdiff_t here = least(chunk, n - first);
        int32_t *to = accumulators ? accumulators + first : total;
        if (by_lines) {
            add_as_lines(pairs, (const uint8_t *)x[0] + first, (const uint8_t *)x[1] + first, here, to);
        } else if (tables) {
            add_tables(a->table, b->table, (const uint8_t *)x[0] + first, (const uint8_t *)x[1] + first, here, to);
        } else {
            for (k = 0; k < 2; k++) {
                if (!loaded[k]) load(pairs->isa, &pairs->operands[k], x[k], sizes[k], first, here, parts[k]);
                loaded[k] = repeats[k];
            }
            pairs->isa->combine(parts[0], parts[1], here, pairs->combine, to);
        }
        if (with)
            qi_requantize_flat(pairs->isa, to, here, with, (uint8_t *)out + first * sizes_of[out_type], out_type);
    }
}

/* ---- tables ---- */

#define LOOK_UP(index, type)                                         \
    {                                                                \
        const index *from = x;                                       \
        const type *entries = table;                                 \
        type *to = out;                                              \
        for (i = 0; i < n; i++) to[i] = entries[from[i]];            \
        return;                                                      \
    }

void qi_look_up(const qi_isa *isa, const void *table, const void *x, int x_bytes, ptrdiff_t n, void *out, int out_bytes)
{
    ptrdiff_t i;
    switch (x_bytes * 8 + out_bytes) {
    case 9: isa->look_up_bytes(table, x, n, out); break;
    case 10: LOOK_UP(uint8_t, uint16_t)
    case 12: LOOK_UP(uint8_t, uint32_t)
    case 17: LOOK_UP(uint16_t, uint8_t)
    case 18: LOOK_UP(uint16_t, uint16_t)
    default: LOOK_UP(uint16_t, uint32_t)
    }
}

#define LOOK_UP_PAIRS(type)                                                              \
    {                                                                                    \
        const type *entries = table;                                                     \
        type *to = out;                                                                  \
        for (i = 0; i < n; i++) to[i] = entries[(size_t)a[i] << 8 | b[i]];               \
        return;                                                                          \
    }

void qi_look_up_pairs(const void *table, const uint8_t *a, const uint8_t *b, ptrdiff_t n, void *out, int out_bytes)
{
    ptrdiff_t i;
    switch (out_bytes) {
    case 1: LOOK_UP_PAIRS(uint8_t)
    case 2: LOOK_UP_PAIRS(uint16_t)
    default: LOOK_UP_PAIRS(uint32_t)
    }
}

/* ---- windows ---- */

#define CLAMP(type)                                                                                \
    {                                                                                              \
        type *to = out;                                                                            \
        const type low = (type)windows->low, high = (type)windows->high;                           \
        for (i = 0; i < n; i++) to[i] = to[i] < low ? low : to[i] > high ? high : to[i];           \
        break;                                                                                     \
    }

static void clamp(const qi_windows *windows, void *out, ptrdiff_t n)
{
    static const int32_t limits[3][2] = {{-128, 127}, {0, 255}, {-32768, 32767}};
    ptrdiff_t i;
    if (windows->low == limits[windows->x_type][0] && windows->high == limits[windows->x_type][1]) return;
    switch (windows->x_type) {
    case QI_I8: CLAMP(int8_t)
    case QI_U8: CLAMP(uint8_t)
    default: CLAMP(int16_t)
    }
}

int qi_run_windows(const qi_windows *windows, const void *x, ptrdiff_t batch, int32_t *accumulators,
                   const qi_requantizer *with, void *out, int out_type)
{
    static const int32_t worst[3][2] = {{-128, 127}, {0, 255}, {-32768, 32767}};
    const qi_windows *w = windows;
    const ptrdiff_t in = sizes_of[w->x_type], pixel = w->channels * in, image = w->height * w->width * pixel;
    const ptrdiff_t pixels = w->out_height * w->out_width, size = w->fold == QI_FOLD_SUM ? 4 : in;
    const ptrdiff_t chunk = with ? least(pixels, w->channels < CHUNK ? CHUNK / w->channels : 1) : 1;
    uint8_t *tile = NULL, *to;
    ptrdiff_t n, oy, ox, held = 0, done = 0;
    if (with) {
        tile = malloc((size_t)(chunk * w->channels) * sizeof(int32_t));
        if (!tile) return -1;
    }
    to = tile ? tile : accumulators ? (uint8_t *)accumulators : out;
    for (n = 0; n < batch; n++, x = (const uint8_t *)x + image) {
        for (oy = 0; oy < w->out_height; oy++) {
            for (ox = 0; ox < w->out_width; ox++) {
                const int32_t *row = w->rows + 2 * oy, *column = w->columns + 2 * ox;
                const int32_t start = w->fold == QI_FOLD_SUM ? -row[1] * column[1] * w->zero_point
                                                             : worst[w->x_type][w->fold == QI_FOLD_MIN];
                w->isa->fold((const uint8_t *)x + (row[0] * w->width + column[0]) * pixel, w->x_type, w->fold, row[1],
                             w->width * w->channels, column[1], w->channels, w->channels, start,
                             to + held * w->channels * size);
                held++;
                if (held == chunk) {
                    if (with)
                        qi_requantize_flat(w->isa, (const int32_t *)tile, held * w->channels, with,
                                           (uint8_t *)out + done * w->channels * sizes_of[out_type], out_type);
                    else
                        to += w->channels * size;
                    done += held;
                    held = 0;
                }
            }
        }
    }
    if (with && held)
        qi_requantize_flat(w->isa, (const int32_t *)tile, held * w->channels, with,
                           (uint8_t *)out + done * w->channels * sizes_of[out_type], out_type);
    free(tile);
    if (w->fold != QI_FOLD_SUM) clamp(w, out, batch * pixels * w->channels);
    return 0;
}

/* ---- floats to codes ---- */

int qi_run_quantizer(const qi_quantizer *quantizer, const float *x, ptrdiff_t n, void *out, int out_type)
{
    int32_t codes[CHUNK];
    ptrdiff_t first;
    int error = 0;
    for (first = 0; first < n; first += CHUNK) {
        const ptrdiff_t here = least(CHUNK, n - first);
        uint8_t *to = (uint8_t *)out + first * sizes_of[out_type];
        if (quantizer->isa->quantize(&quantizer->fast, x + first, here, codes))
            error |= quantizer->isa->run_stages(quantizer->program, quantizer->stages, x + first, QI_F32, (size_t)here, 1,
                                                &quantizer->parameters, to, out_type);
        else
            qi_narrow(codes, here, to, out_type);
    }
    return error;
}
