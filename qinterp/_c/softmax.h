/* Softmax of rows of 8-bit codes by tables of exponentials. */
#ifndef QINTERP_SOFTMAX_H
#define QINTERP_SOFTMAX_H

#include <stddef.h>
#include <stdint.h>

#include "packed.h"

/* Tables are indexed by the distance to the row's maximum. In fixed point a row's total, modulo 2^32, becomes a factor and
   a shift of its own; in floats the result is exponential * (1 / (total * unit)) + offset. Stages follow. */
typedef struct {
    const qi_isa *isa;
    int x_type, out_type;
    const int32_t *exponentials, *terms; /* fixed point: Q0.31, and what is added up */
    int sum_bits;                        /* integer bits of the total */
    int extra_shift;                     /* of every row */
    const float *floats;                 /* floats: both; else NULL */
    float unit, offset;
    const int64_t *program;
    int stages;
    qi_parameters parameters; /* without multiplier and shift */
    int direct;               /* the stages are gemmlowp's without a left shift, or round, add, clamp */
    int to_even;              /* of floats, if direct */
    int may_fail;             /* a stage may report an overflow */
} qi_softmax;

/* totals: (rows), of fixed point; NULL where they are not wanted. Returns what run_stages does, -1 without memory. */
int qi_run_softmax(const qi_softmax *softmax, const void *x, ptrdiff_t rows, ptrdiff_t depth, void *out, int64_t *totals);

#endif
