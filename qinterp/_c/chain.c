#include "chain.h"

#include <string.h>

int qi_task_conv(const qi_task *task, const void *const *x, void *out)
{
    return qi_run_conv(task->self, x[0], task->sizes[0], NULL, NULL, task->with, out, task->out_type);
}

int qi_task_depthwise(const qi_task *task, const void *const *x, void *out)
{
    return qi_run_depthwise(task->self, x[0], task->sizes[0], NULL, task->with, out, task->out_type);
}

int qi_task_pairs(const qi_task *task, const void *const *x, void *out)
{
    qi_run_pairs(task->self, x, task->sizes, task->sizes[2], NULL, task->with, out, task->out_type);
    return 0;
}

int qi_task_windows(const qi_task *task, const void *const *x, void *out)
{
    return qi_run_windows(task->self, x[0], task->sizes[0], NULL, task->with, out, task->out_type);
}

int qi_task_softmax(const qi_task *task, const void *const *x, void *out)
{
    return qi_run_softmax(task->self, x[0], task->sizes[0], task->sizes[1], out, NULL);
}

int qi_task_look_up(const qi_task *task, const void *const *x, void *out)
{
    qi_look_up(task->isa, task->self, x[0], task->x_bytes, task->sizes[0], out, task->out_type);
    return 0;
}

int qi_task_move(const qi_task *task, const void *const *x, void *out)
{
    const qi_piece *piece = task->self;
    ptrdiff_t i;
    int64_t k;
    for (i = 0; i < task->sizes[0]; i++, piece++) {
        uint8_t *to = (uint8_t *)out + piece->to;
        if (piece->operand >= 0)
            memcpy(to, (const uint8_t *)x[piece->operand] + piece->from, (size_t)piece->bytes);
        else if (task->out_type == 1)
            memset(to, task->fill[0], (size_t)piece->bytes);
        else
            for (k = 0; k < piece->bytes; k += task->out_type) memcpy(to + k, task->fill, (size_t)task->out_type);
    }
    return 0;
}

ptrdiff_t qi_run_chain(const qi_task *const *tasks, const qi_places *places, ptrdiff_t count, void *const *memory)
{
    const void *x[QI_OPERANDS];
    ptrdiff_t i;
    int k;
    for (i = 0; i < count; i++) {
        for (k = 0; k < QI_OPERANDS; k++) x[k] = memory[places[i].x[k]];
        if (tasks[i]->run(tasks[i], x, memory[places[i].out]) < 0) return i;
    }
    return -1;
}
