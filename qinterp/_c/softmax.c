#include "softmax.h"

#include <stdlib.h>
#include <string.h>

#include "elementwise.h"
#include "integers.h"

enum { CODES = 256, LANES = 48 };

/* ---- gemmlowp's fixed point, 32-bit integers in 64 bits ---- */

static int64_t bounded(int64_t x) { return x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x; }

static int64_t multiplied(int64_t a, int64_t b)
{
    const int64_t high = (qi_wrapping_multiply(a, b) + (1 << 30)) >> 31;
    return high > INT32_MAX ? INT32_MAX : high;
}

/* 1 / (1 + a) for a in 0 .. 1, both in Q0.31, by three steps of Newton's method. */
static int64_t one_over_one_plus(int64_t a)
{
    const int64_t half = qi_round_shift(a + INT32_MAX, 1, QI_TIES_TO_AWAY);
    int64_t x = 1515870810 + multiplied(half, -1010580540); /* 48/17 - 32/17 * half in Q2.29 */
    int i;
    for (i = 0; i < 3; i++) {
        const int64_t off = (1 << 29) - multiplied(half, x);
        x = qi_wrap(x + bounded(multiplied(x, off) * 4), 32);
    }
    return bounded(x * 2);
}

static void reciprocal(int64_t total, int integer_bits, int64_t *factor, int64_t *over)
{
    int headroom = 0;
    if (total >= 0)
        for (headroom = 32; total >> (32 - headroom); headroom--) continue;
    *factor = one_over_one_plus(qi_wrap((int64_t)((uint64_t)total << headroom) - ((int64_t)1 << 31), 32));
    *over = integer_bits - headroom;
}

/* ---- rows ---- */

/* The distance of each element to the maximum. */
static void find_distances(const qi_softmax *s, const uint8_t *x, ptrdiff_t n, uint8_t *distance)
{
    const uint8_t flip = s->x_type == QI_I8 ? 0x80 : 0; /* in the order of unsigned bytes */
    uint8_t most = 0;
    ptrdiff_t i;
    for (i = 0; i < n; i++) {
        const uint8_t code = x[i] ^ flip;
        most = code > most ? code : most;
    }
    for (i = 0; i < n; i++) distance[i] = (uint8_t)(most - (x[i] ^ flip));
}

/* Codes of n exponentials by a row's own multiplier and shift. */
static int finish_fixed(const qi_softmax *s, const int32_t *values, ptrdiff_t n, int64_t factor, int64_t shift, void *out)
{
    qi_parameters p = s->parameters;
    if (s->direct && factor >= 0 && shift <= 0 && shift >= -30) {
        int32_t left[LANES] = {0}, multiplier[LANES];
        int64_t above[LANES], below[LANES], right[LANES];
        const uint8_t plain[2] = {0, 0}; /* exponentials are too large for that */
        const int64_t half = (int64_t)1 << 30, up = half + (shift < 0 ? half << -shift : 0);
        qi_requantizer with = {.kind = QI_MULTIPLIER, .left = left, .multiplier = multiplier, .above = above,
                               .below = below, .shift = right, .plain = plain};
        int i;
        for (i = 0; i < LANES; i++) {
            multiplier[i] = (int32_t)factor;
            above[i] = up;
            below[i] = up - (shift < 0 ? 2 * half : 0);
            right[i] = 31 - shift;
        }
        with.zero_point = (int32_t)p.zero_point;
        with.low = (int32_t)p.lo;
        with.high = (int32_t)p.hi;
        qi_requantize_flat(s->isa, values, n, &with, out, s->out_type);
        return 0;
    }
    p.multiplier = &factor;
    p.shift = &shift;
    return s->isa->run_stages(s->program, s->stages, values, QI_I32, (size_t)n, 1, &p, out, s->out_type);
}

static int finish_floats(const qi_softmax *s, float *values, ptrdiff_t n, float inverse, int32_t *codes, void *out)
{
    const qi_quantization fast = {inverse, s->offset, (float)s->parameters.zero_point, (float)s->parameters.lo,
                                  (float)s->parameters.hi, 0, s->to_even};
    ptrdiff_t i;
    if (s->direct && !s->isa->quantize(&fast, values, n, codes)) {
        qi_narrow(codes, n, out, s->out_type);
        return 0;
    }
    for (i = 0; i < n; i++) {
        const float product = values[i] * inverse;
        values[i] = product + s->offset;
    }
    return s->isa->run_stages(s->program, s->stages, values, QI_F32, (size_t)n, 1, &s->parameters, out, s->out_type);
}

/* Codes by distance. A deep row has them made for every distance first. */
static int run_row(const qi_softmax *s, const uint8_t *distance, ptrdiff_t depth, int by_table, int32_t *integers,
                   float *floats, uint8_t *table, void *out, int64_t *total)
{
    const ptrdiff_t n = by_table ? CODES : depth;
    void *to = by_table ? table : out;
    int error;
    ptrdiff_t i;
    if (s->floats) {
        float sum = 0;
        for (i = 0; i < depth; i++) sum = sum + s->floats[distance[i]];
        sum = sum * s->unit;
        for (i = 0; i < n; i++) floats[i] = s->floats[by_table ? i : distance[i]];
        error = finish_floats(s, floats, n, 1.0f / sum, integers, to);
    } else {
        uint32_t sum = 0;
        int64_t factor, over;
        for (i = 0; i < depth; i++) sum += (uint32_t)s->terms[distance[i]];
        *total = (int32_t)sum;
        reciprocal(*total, s->sum_bits, &factor, &over);
        for (i = 0; i < n; i++) integers[i] = s->exponentials[by_table ? i : distance[i]];
        error = finish_fixed(s, integers, n, factor, s->extra_shift - over, to);
    }
    if (by_table) qi_look_up(s->isa, table, distance, 1, depth, out, s->out_type == QI_I16 ? 2 : 1);
    return error;
}

int qi_run_softmax(const qi_softmax *softmax, const void *x, ptrdiff_t rows, ptrdiff_t depth, void *out, int64_t *totals)
{
    const int by_table = depth > CODES && !softmax->may_fail;
    const ptrdiff_t n = by_table ? CODES : depth, size = softmax->out_type == QI_I16 ? 2 : 1;
    uint8_t *memory = malloc((size_t)n * (sizeof(int32_t) + sizeof(float)) + (size_t)depth), *distance;
    uint8_t table[2 * CODES];
    int32_t *integers = (int32_t *)memory;
    float *floats = (float *)(integers + n);
    int64_t total = 0;
    ptrdiff_t r;
    int error = 0;
    if (!memory) return -1;
    distance = (uint8_t *)(floats + n);
    for (r = 0; r < rows; r++) {
        find_distances(softmax, (const uint8_t *)x + r * depth, depth, distance);
        error |= run_row(softmax, distance, depth, by_table, integers, floats, table, (uint8_t *)out + r * depth * size, &total);
        if (totals) totals[r] = total;
    }
    free(memory);
    return error;
}
