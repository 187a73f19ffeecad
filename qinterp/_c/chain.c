#include "chain.h"

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

int qi_run_chain(const qi_task *const *tasks, const qi_places *places, ptrdiff_t count, void *const *memory)
{
    ptrdiff_t i;
    for (i = 0; i < count; i++) {
        const void *const x[2] = {memory[places[i].x[0]], memory[places[i].x[1]]};
        if (tasks[i]->run(tasks[i], x, memory[places[i].out]) < 0) return -1;
    }
    return 0;
}
