/* Loops over elements: pairs of operands, tables, windows, floats to codes and back.

   Loops that a vectorizer understands are in elementwise_loops.h, once per instruction set; elementwise.c drives them by
   chunks that stay in the nearest cache. */
#ifndef QINTERP_ELEMENTWISE_H
#define QINTERP_ELEMENTWISE_H

#include <stddef.h>
#include <stdint.h>

#include "packed.h"

/* A result and its bounds go from 32 bits to their type. */
void qi_narrow(const int32_t *x, ptrdiff_t n, void *out, int out_type);

/* ---- of two operands ---- */

typedef struct {
    int type;             /* QI_I8, QI_U8 or QI_I16 */
    const int32_t *table; /* of all codes, indexed as if unsigned; NULL: the code less the zero point */
    int32_t zero_point;
} qi_operand;

/* Every result fits 32 bits. */
typedef struct {
    const qi_isa *isa;
    qi_operand operands[2];
    int combine;
    /* a sum of two tables of one type, each of them a line and what is left over by code: first[x] + second[y] =
       slopes[0] * x + slopes[1] * y + start + rest[0][x] + rest[1][y] modulo 2^32; NULL where too much is left over */
    int32_t slopes[2], start;
    const int8_t *rest[2];
    int rests_add; /* their sums fit a byte */
} qi_pairs;

/* Element i of the result is of elements i modulo the operands' sizes, which are positive. Exactly one of accumulators and
   out is not NULL. `with` has 16 channels, all alike. */
void qi_run_pairs(const qi_pairs *pairs, const void *const x[2], const ptrdiff_t sizes[2], ptrdiff_t n,
                  int32_t *accumulators, const qi_requantizer *with, void *out, int out_type);

/* n elements in a row by a requantizer of 16 channels that are all alike. */
void qi_requantize_flat(const qi_isa *isa, const int32_t *x, ptrdiff_t n, const qi_requantizer *with, void *out,
                        int out_type);

/* ---- tables ---- */

/* out[i] = table[x[i]]; x has elements of 1 or 2 bytes, unsigned, the table and out of 1, 2 or 4 bytes. */
void qi_look_up(const qi_isa *isa, const void *table, const void *x, int x_bytes, ptrdiff_t n, void *out,
                int out_bytes);

/* out[i] = table[a[i] * 256 + b[i]], of unsigned bytes. */
void qi_look_up_pairs(const void *table, const uint8_t *a, const uint8_t *b, ptrdiff_t n, void *out, int out_bytes);

/* ---- windows ---- */

/* Windows of an NHWC image; every one has at least one pixel of it. */
typedef struct {
    const qi_isa *isa;
    int x_type, fold;
    int32_t zero_point;                  /* of sums: taken from every term */
    int32_t low, high;                   /* of extrema: bounds of the result */
    ptrdiff_t height, width, channels;
    ptrdiff_t out_height, out_width;
    const int32_t *rows, *columns;       /* (out, 2): the first pixel, and how many */
} qi_windows;

/* Sums go to accumulators, or requantized (16 channels, all alike) to out; extrema to out, in the type of x. Return -1 when
   there is no memory. */
int qi_run_windows(const qi_windows *windows, const void *x, ptrdiff_t batch, int32_t *accumulators,
                   const qi_requantizer *with, void *out, int out_type);

/* ---- floats to codes ---- */

/* A program, and its fast form, which gives the same wherever it gives anything. */
typedef struct {
    const qi_isa *isa;
    qi_quantization fast;
    const int64_t *program;
    int stages;
    qi_parameters parameters;
} qi_quantizer;

/* Returns what run_stages does. */
int qi_run_quantizer(const qi_quantizer *quantizer, const float *x, ptrdiff_t n, void *out, int out_type);

#endif
