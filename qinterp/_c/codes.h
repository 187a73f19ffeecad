/* The codes of rounding, overflow, accumulation and stages. _kernels.pxd makes Python enums of them. */
#ifndef QINTERP_CODES_H
#define QINTERP_CODES_H

enum qi_rounding {
    QI_TIES_TO_EVEN = 0,
    QI_TIES_TO_AWAY = 1,
    QI_TIES_TOWARD_POSITIVE = 2,
    QI_TIES_TOWARD_NEGATIVE = 3,
    QI_TIES_TOWARD_ZERO = 4,
    QI_TOWARD_NEGATIVE = 5,
    QI_TOWARD_ZERO = 6,
    QI_TOWARD_POSITIVE = 7,
    QI_AWAY_FROM_ZERO = 8
};

enum qi_overflow { QI_WRAP = 0, QI_SATURATE = 1, QI_ERROR = 2, QI_INDEFINITE = 3 };

enum qi_check { QI_AT_END = 0, QI_EACH_STEP = 1 };

enum qi_operands { QI_ZERO_POINT_SUBTRACTED = 0, QI_RAW = 1 };

enum qi_padding { QI_SKIP = 0, QI_ZERO_POINT = 1, QI_ZERO = 2 };

enum qi_bias_order { QI_BIAS_LAST = 0, QI_BIAS_FIRST = 1 };

enum qi_amount {
    QI_LITERAL = 0,
    QI_LEFT = 1,
    QI_RIGHT = 2,
    QI_TOTAL = 3,
    QI_PRE = 4,
    QI_POST = 5
};

enum qi_opcode {
    QI_SHIFT_LEFT = 0,
    QI_MULTIPLY = 1,
    QI_MULTIPLY_HIGH = 2,
    QI_SHIFT_RIGHT = 3,
    QI_TO_FLOAT = 4,
    QI_SCALE = 5,
    QI_SCALE_RATIO = 6,
    QI_DIVIDE_SCALE = 7,
    QI_ROUND = 8,
    QI_ADD_ZERO_POINT = 9,
    QI_SUBTRACT_ZERO_POINT = 10,
    QI_FIT = 11,
    QI_CLAMP = 12,
    QI_CLAMP_FLOAT = 13
};

/* What a Requantizer does; _kernels.pyi has the stages that each of them equals. */
enum qi_fused { QI_FUSED_DR = 0, QI_FUSED_DU = 1, QI_FUSED_SR = 2, QI_FUSED_FLOAT32 = 3, QI_FUSED_FLOAT64 = 4 };

/* How two operands make an accumulator. */
enum qi_combination {
    QI_COMBINE_ADD = 0,
    QI_COMBINE_SUBTRACT = 1,
    QI_COMBINE_MULTIPLY = 2,
    QI_COMBINE_MAX = 3,
    QI_COMBINE_MIN = 4
};

/* How a window makes one element. */
enum qi_folding { QI_FOLD_SUM = 0, QI_FOLD_MAX = 1, QI_FOLD_MIN = 2 };

/* Element types. */
enum qi_type { QI_I8, QI_U8, QI_I16, QI_I32, QI_I64, QI_F32, QI_F64 };

/* A number n > 0 plants the n-th small bug: the tests must notice each of them. */
#ifndef QINTERP_PLANTED_BUG
#define QINTERP_PLANTED_BUG 0
#endif

#endif
