/* Sums in the order of their terms. */
#ifndef QINTERP_ORDERED_H
#define QINTERP_ORDERED_H

#include <stddef.h>
#include <stdint.h>

/* The order and the widths in which one output is accumulated; see conv_2d in _kernels.pyi. */
typedef struct {
    int bits, overflow, check, operands, padding, bias, group_size, group_bits, group_overflow;
} qi_policy;

/* Adds the products x[t] * (w[t] - w_zero_point) to `start`, group by group, fitting where the policy says so. */
int64_t qi_sum_in_order(const int32_t *x, const int32_t *w, ptrdiff_t taps, int64_t w_zero_point, int64_t start,
                        const qi_policy *policy, int *overflowed);

/* total[i] += x * w[i], the product rounded first; total and w do not overlap. */
void qi_add_products(float *total, const float *w, float x, ptrdiff_t n);

#endif
