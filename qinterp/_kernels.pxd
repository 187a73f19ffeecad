from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, int8_t, uint32_t, uint8_t

cdef extern from "_c/codes.h" nogil:
    int QINTERP_PLANTED_BUG

    cpdef enum Rounding "qi_rounding":
        TIES_TO_EVEN "QI_TIES_TO_EVEN"
        TIES_TO_AWAY "QI_TIES_TO_AWAY"
        TIES_TOWARD_POSITIVE "QI_TIES_TOWARD_POSITIVE"
        TIES_TOWARD_NEGATIVE "QI_TIES_TOWARD_NEGATIVE"
        TIES_TOWARD_ZERO "QI_TIES_TOWARD_ZERO"
        TOWARD_NEGATIVE "QI_TOWARD_NEGATIVE"
        TOWARD_ZERO "QI_TOWARD_ZERO"
        TOWARD_POSITIVE "QI_TOWARD_POSITIVE"
        AWAY_FROM_ZERO "QI_AWAY_FROM_ZERO"

    cpdef enum Overflow "qi_overflow":
        WRAP "QI_WRAP"
        SATURATE "QI_SATURATE"
        ERROR "QI_ERROR"
        INDEFINITE "QI_INDEFINITE"

    cpdef enum Check "qi_check":
        AT_END "QI_AT_END"
        EACH_STEP "QI_EACH_STEP"

    cpdef enum Operands "qi_operands":
        ZERO_POINT_SUBTRACTED "QI_ZERO_POINT_SUBTRACTED"
        RAW "QI_RAW"

    cpdef enum Padding "qi_padding":
        SKIP "QI_SKIP"
        ZERO_POINT "QI_ZERO_POINT"
        ZERO "QI_ZERO"

    cpdef enum BiasOrder "qi_bias_order":
        LAST "QI_BIAS_LAST"
        FIRST "QI_BIAS_FIRST"

    cpdef enum Amount "qi_amount":
        LITERAL "QI_LITERAL"
        LEFT "QI_LEFT"
        RIGHT "QI_RIGHT"
        TOTAL "QI_TOTAL"
        PRE "QI_PRE"
        POST "QI_POST"

    cpdef enum Opcode "qi_opcode":
        SHIFT_LEFT "QI_SHIFT_LEFT"
        MULTIPLY "QI_MULTIPLY"
        MULTIPLY_HIGH "QI_MULTIPLY_HIGH"
        SHIFT_RIGHT "QI_SHIFT_RIGHT"
        TO_FLOAT "QI_TO_FLOAT"
        SCALE "QI_SCALE"
        SCALE_RATIO "QI_SCALE_RATIO"
        DIVIDE_SCALE "QI_DIVIDE_SCALE"
        ROUND "QI_ROUND"
        ADD_ZERO_POINT "QI_ADD_ZERO_POINT"
        SUBTRACT_ZERO_POINT "QI_SUBTRACT_ZERO_POINT"
        FIT "QI_FIT"
        CLAMP "QI_CLAMP"
        CLAMP_FLOAT "QI_CLAMP_FLOAT"

    cpdef enum Fused "qi_fused":
        DR "QI_FUSED_DR"
        DU "QI_FUSED_DU"
        SR "QI_FUSED_SR"
        FLOAT32 "QI_FUSED_FLOAT32"
        FLOAT64 "QI_FUSED_FLOAT64"

    cpdef enum Combination "qi_combination":
        COMBINE_ADD "QI_COMBINE_ADD"
        COMBINE_SUBTRACT "QI_COMBINE_SUBTRACT"
        COMBINE_MULTIPLY "QI_COMBINE_MULTIPLY"
        COMBINE_MAX "QI_COMBINE_MAX"
        COMBINE_MIN "QI_COMBINE_MIN"

    cpdef enum Folding "qi_folding":
        FOLD_SUM "QI_FOLD_SUM"
        FOLD_MAX "QI_FOLD_MAX"
        FOLD_MIN "QI_FOLD_MIN"

    enum ElementType "qi_type":
        I8 "QI_I8"
        U8 "QI_U8"
        I16 "QI_I16"
        I32 "QI_I32"
        I64 "QI_I64"
        F32 "QI_F32"
        F64 "QI_F64"

cdef extern from "_c/integers.h" nogil:
    int64_t qi_fit(int64_t x, int bits, int overflow, int *overflowed)
    int64_t qi_add_fit(int64_t a, int64_t b, int bits, int overflow, int *overflowed)
    int64_t qi_wrapping_add(int64_t a, int64_t b)
    int64_t qi_wrapping_multiply(int64_t a, int64_t b)
    void qi_round_shifts(const int64_t *x, const int64_t *amount, ptrdiff_t n, int rounding, int64_t *out)
    void qi_fits(const int64_t *x, ptrdiff_t n, int bits, int overflow, int64_t *out)

cdef extern from "_c/ordered.h" nogil:
    ctypedef struct qi_policy:
        int bits, overflow, check, operands, padding, bias, group_size, group_bits, group_overflow

    int64_t qi_sum_in_order(
        const int32_t *x, const int32_t *w, ptrdiff_t taps, int64_t w_zero_point, int64_t start, const qi_policy *policy,
        int *overflowed,
    )
    void qi_add_products(float *total, const float *w, float x, ptrdiff_t n)

cdef extern from "_c/stages.h" nogil:
    int QI_STAGE_WIDTH
    int QI_MAX_STAGES

    ctypedef struct qi_parameters:
        const int64_t *multiplier
        const int64_t *shift
        const int64_t *ratio
        const int64_t *pre
        const int64_t *post
        const double *scale
        ptrdiff_t multiplier_stride, shift_stride, ratio_stride, pre_stride, post_stride, scale_stride
        int64_t zero_point, lo, hi

    ctypedef int qi_run_stages(
        const int64_t *program, int stages, const void *x, int x_type, size_t rows, size_t channels,
        const qi_parameters *parameters, void *out, int out_type,
    )

cdef extern from "_c/packed.h" nogil:
    int QI_MULTIPLIER, QI_FLOAT32, QI_FLOAT64
    int QI_COPY_BYTES, QI_FLIP_BYTES, QI_WIDEN_SIGNED, QI_WIDEN_UNSIGNED, QI_COPY_WORDS

    ctypedef struct qi_high_half:
        const uint32_t *doubled
        const uint32_t *lift
        const int32_t *top
        const int32_t *rest

    ctypedef struct qi_arranged:
        qi_high_half high_half
        const float *scale32

    ctypedef struct qi_requantizer:
        const uint8_t *arrangeable
        qi_arranged quarters, tail
        qi_high_half high_half
        int32_t nudge
        int adds, clips
        int kind
        int32_t zero_point, low, high
        const int32_t *pre
        const int32_t *left
        const int32_t *multiplier
        const int64_t *above
        const int64_t *below
        const int64_t *shift
        const uint8_t *plain
        const float *scale32
        const double *scale64

    ctypedef struct qi_limits:
        int32_t low, high, pair_low, pair_high

    ctypedef struct qi_in_order:
        int subtract
        qi_limits limits
        const int32_t *order
        const int64_t *correction
        const int64_t *last_bias
        int bits, overflow, each_step

    ctypedef void qi_gemm
    ctypedef void qi_depthwise_columns
    ctypedef void qi_depthwise_pair
    ctypedef void qi_ordered_gemm
    ctypedef void qi_requantize_tile "qi_requantize"(
        const int32_t *tile, ptrdiff_t tile_stride, int rows, int first, int channels, const qi_requantizer *with_, void *out,
        int out_type, ptrdiff_t out_stride,
    )

    ctypedef void qi_natural_order(int32_t *tile, ptrdiff_t tile_stride, int rows)

    ctypedef struct qi_isa:
        const char *name
        int block, lanes, column_lanes, narrow_lanes
        qi_gemm *bytes
        qi_gemm *words
        qi_depthwise_columns *depthwise_columns
        qi_depthwise_pair *depthwise_pair
        qi_requantize_tile *requantize
        qi_natural_order *natural_order
        qi_ordered_gemm *wide
        qi_ordered_gemm *pairs
        qi_ordered_gemm *narrow
        qi_run_stages *run_stages

    const qi_isa *const *qi_available_isas()

    ctypedef struct qi_conv:
        const qi_isa *isa
        int x_type, conversion
        int32_t x_zero_point
        ptrdiff_t height, width, channels, out_height, out_width, out_channels, kernel_height, kernel_width, groups
        const int32_t *rows
        const int32_t *columns
        const uint8_t *contiguous
        int direct
        ptrdiff_t row_bytes
        int arranged, step_bytes, segments
        const int32_t *segment_steps
        const uint8_t *weights
        const int32_t *bias
        const int64_t *wide_bias
        qi_ordered_gemm *ordered
        int ordered_block
        qi_in_order in_order

    ctypedef struct qi_depthwise_conv:
        const qi_isa *isa
        int x_type
        ptrdiff_t height, width, channels, out_height, out_width, multiplier, kernel_height, kernel_width
        const int32_t *rows
        const int32_t *columns
        const uint8_t *padding
        const void *weights
        const void *below
        const int32_t *bias
        int shared_stride, ordered
        ptrdiff_t left
        qi_in_order in_order

    int qi_run_conv(
        const qi_conv *conv, const void *x, ptrdiff_t batch, int32_t *accumulators, int64_t *wide,
        const qi_requantizer *with_, void *out, int out_type,
    )
    int qi_run_depthwise(
        const qi_depthwise_conv *conv, const void *x, ptrdiff_t batch, int32_t *accumulators, const qi_requantizer *with_,
        void *out, int out_type,
    )

cdef extern from "_c/elementwise.h" nogil:
    ctypedef struct qi_operand:
        int type
        const int32_t *table
        int32_t zero_point

    ctypedef struct qi_pairs:
        const qi_isa *isa
        qi_operand operands[2]
        int combine
        int32_t slopes[2]
        int32_t start
        const int8_t *rest[2]
        int rests_add

    void qi_run_pairs(
        const qi_pairs *pairs, const void *const x[2], const ptrdiff_t sizes[2], ptrdiff_t n, int32_t *accumulators,
        const qi_requantizer *with_, void *out, int out_type,
    )
    void qi_requantize_flat(
        const qi_isa *isa, const int32_t *x, ptrdiff_t n, const qi_requantizer *with_, void *out, int out_type,
    )
    void qi_look_up(
        const qi_isa *isa, const void *table, const void *x, int x_bytes, ptrdiff_t n, void *out, int out_bytes,
    )
    void qi_look_up_pairs(
        const void *table, const uint8_t *a, const uint8_t *b, ptrdiff_t n, void *out, int out_bytes,
    )

    ctypedef struct qi_windows:
        const qi_isa *isa
        int x_type, fold
        int32_t zero_point, low, high
        ptrdiff_t height, width, channels, out_height, out_width
        const int32_t *rows
        const int32_t *columns

    int qi_run_windows(
        const qi_windows *windows, const void *x, ptrdiff_t batch, int32_t *accumulators, const qi_requantizer *with_,
        void *out, int out_type,
    )

    ctypedef struct qi_quantization:
        float scale, before, after, low, high
        int divide, to_even

    ctypedef struct qi_quantizer:
        const qi_isa *isa
        qi_quantization fast
        const int64_t *program
        int stages
        qi_parameters parameters

    int qi_run_quantizer(const qi_quantizer *quantizer, const float *x, ptrdiff_t n, void *out, int out_type)

cdef extern from "_c/softmax.h" nogil:
    ctypedef struct qi_softmax:
        const qi_isa *isa
        int x_type, out_type
        const int32_t *exponentials
        const int32_t *terms
        int sum_bits, extra_shift
        const float *floats
        float unit, offset
        const int64_t *program
        int stages
        qi_parameters parameters
        int direct, to_even, may_fail

    int qi_run_softmax(
        const qi_softmax *softmax, const void *x, ptrdiff_t rows, ptrdiff_t depth, void *out, int64_t *totals,
    )

cdef extern from "_c/chain.h" nogil:
    enum:
        QI_OPERANDS

    ctypedef struct qi_piece:
        int64_t to, operand, bytes
        int64_t from_ "from"

    ctypedef struct qi_task:
        int (*run)(const qi_task *task, const void *const *x, void *out)
        const void *self
        const uint8_t *fill
        const qi_requantizer *with_ "with"
        const qi_isa *isa
        ptrdiff_t sizes[3]
        int x_bytes, out_type

    int qi_task_conv(const qi_task *task, const void *const *x, void *out)
    int qi_task_depthwise(const qi_task *task, const void *const *x, void *out)
    int qi_task_pairs(const qi_task *task, const void *const *x, void *out)
    int qi_task_windows(const qi_task *task, const void *const *x, void *out)
    int qi_task_softmax(const qi_task *task, const void *const *x, void *out)
    int qi_task_look_up(const qi_task *task, const void *const *x, void *out)
    int qi_task_move(const qi_task *task, const void *const *x, void *out)

    ctypedef struct qi_places:
        int x[QI_OPERANDS]
        int out

    ptrdiff_t qi_run_chain(const qi_task *const *tasks, const qi_places *places, ptrdiff_t count, void *const *memory)
