/* Requantization programs; what the stages mean is in _kernels.pyi. */
#ifndef QINTERP_STAGES_H
#define QINTERP_STAGES_H

#include <stddef.h>
#include <stdint.h>

#include "codes.h"

enum { QI_STAGE_WIDTH = 6, QI_MAX_STAGES = 64 };

/* One value (stride 0), or one a channel. NULL: not given, the program does not use it. */
typedef struct {
    const int64_t *multiplier, *shift, *ratio, *pre, *post;
    const double *scale;
    ptrdiff_t multiplier_stride, shift_stride, ratio_stride, pre_stride, post_stride, scale_stride;
    int64_t zero_point, lo, hi;
} qi_parameters;

/* The program has been validated. Returns whether a stage with overflow QI_ERROR left its range. */
typedef int qi_run_stages(const int64_t *program, int stages, const void *x, int x_type, size_t rows, size_t channels,
                          const qi_parameters *parameters, void *out, int out_type);

#endif
