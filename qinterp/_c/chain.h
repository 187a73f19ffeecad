/* Calls prepared in advance, made one after the other. */
#ifndef QINTERP_CHAIN_H
#define QINTERP_CHAIN_H

#include "elementwise.h"
#include "packed.h"
#include "softmax.h"

enum { QI_OPERANDS = 8 }; /* of a task, at most */

/* A run of bytes that a data movement copies, or fills. */
typedef struct {
    int64_t to, operand /* -1: the fill value */, from, bytes;
} qi_piece;

/* One call: of operands x to out. Returns -1 when there is no memory. */
typedef struct qi_task {
    int (*run)(const struct qi_task *task, const void *const *x, void *out);
    const void *self; /* what was prepared: a qi_conv, qi_pairs, ... */
    const uint8_t *fill; /* of a movement: an element */
    const qi_requantizer *with;
    const qi_isa *isa;
    ptrdiff_t sizes[3]; /* a batch; or rows and their length; or elements of both operands and of out; or pieces */
    int x_bytes, out_type; /* of a look-up and a movement: bytes of an element of out */
} qi_task;

int qi_task_conv(const qi_task *task, const void *const *x, void *out);
int qi_task_depthwise(const qi_task *task, const void *const *x, void *out);
int qi_task_pairs(const qi_task *task, const void *const *x, void *out);
int qi_task_windows(const qi_task *task, const void *const *x, void *out);
int qi_task_softmax(const qi_task *task, const void *const *x, void *out);
int qi_task_look_up(const qi_task *task, const void *const *x, void *out);
int qi_task_move(const qi_task *task, const void *const *x, void *out);

/* Where a task's operands and its output are among the memory. */
typedef struct {
    int x[QI_OPERANDS], out;
} qi_places;

/* Returns the number of the task that had no memory, -1 if none lacked any. */
ptrdiff_t qi_run_chain(const qi_task *const *tasks, const qi_places *places, ptrdiff_t count, void *const *memory);

#endif
