#ifndef QINTERP_FLOATS_H
#define QINTERP_FLOATS_H

#include <stddef.h>

/* total[i] += x * w[i], the product rounded first; total and w do not overlap. */
static inline void qi_add_products(float *total, const float *w, float x, ptrdiff_t n)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) {
        float product = x * w[i];
        total[i] = total[i] + product;
    }
}

#endif
