#include "ordered.h"

#include "integers.h"

int64_t qi_sum_in_order(const int32_t *x, const int32_t *w, ptrdiff_t taps, int64_t w_zero_point, int64_t start,
                        const qi_policy *policy, int *overflowed)
{
    const int each_step = policy->check == QI_EACH_STEP, step_in_group = each_step && policy->group_size > 2;
    const int bits = policy->bits, overflow = policy->overflow;
    ptrdiff_t t, left = policy->group_size;
    int64_t total = start, group = 0;
    if (policy->group_size == 0 && !each_step) {
        for (t = 0; t < taps; t++) total = qi_wrapping_add(total, x[t] * (w[t] - w_zero_point));
        return total;
    }
    if (policy->group_size == 0) {
        for (t = 0; t < taps; t++) total = qi_add_fit(total, x[t] * (w[t] - w_zero_point), bits, overflow, overflowed);
        return total;
    }
    for (t = 0; t < taps; t++) {
        const int64_t product = x[t] * (w[t] - w_zero_point);
        if (step_in_group)
            group = qi_add_fit(group, product, policy->group_bits, policy->group_overflow, overflowed);
        else
            group = qi_wrapping_add(group, product);
        left -= 1;
        if (left == 0 || t == taps - 1) {
            group = qi_fit(group, policy->group_bits, policy->group_overflow, overflowed);
            total = each_step ? qi_add_fit(total, group, bits, overflow, overflowed) : qi_wrapping_add(total, group);
            group = 0;
            left = policy->group_size;
        }
    }
    return total;
}

void qi_add_products(float *total, const float *w, float x, ptrdiff_t n)
{
    ptrdiff_t i;
    for (i = 0; i < n; i++) {
        const float product = x * w[i];
        total[i] = total[i] + product;
    }
}
