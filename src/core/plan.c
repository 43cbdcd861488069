/* The plan of a set speedup: evaluations that remain, and how the computed ones are spread over them. */
#include "wavespeed/plan.h"

#include <math.h>

size_t ws_schedule_index(const double *schedule, size_t n, double sigma) {
    size_t index = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
        if (schedule[i] >= sigma * (1.0 - 1e-6)) { /* what a sampler computes may differ from the schedule in the last bits */
            index = i;
        }
    }
    return index;
}

size_t ws_evaluations_left(const double *schedule, size_t n, const int64_t *visits, size_t index) {
    if (n < 2) {
        return 0;
    }
    const size_t steps = n - 1;
    int64_t per_step = 1;
    for (size_t i = 0; i < steps; ++i) {
        per_step = visits[i] > per_step ? visits[i] : per_step;
    }
    int64_t left = per_step * (int64_t)(steps - index) - visits[index];
    const bool reaches_ahead = index > 0 && visits[0] < per_step;
    if (schedule[steps] == 0.0 && !reaches_ahead) {
        left -= per_step - 1;
    }
    return left > 0 ? (size_t)left : 0;
}

/* Where the even gap is no whole number, gaps of both neighbouring lengths take turns. Rounding to the nearest (0.5) leaves the long ones
 * to the end, where steps are long and errors were measured to be dearer; with less they come earlier. */
static const double earliness = 0.25;

/* Evaluations that may be computed after this one or at it, without the last. */
static int64_t plan_budget(const ws_plan *plan) {
    const double all = (double)(plan->evaluations + 1 + plan->left);
    const double budget = fmax(4.0, floor(all / plan->speedup + 0.5));
    return (int64_t)budget - plan->computed - 1;
}

bool ws_plan_has_budget(const ws_plan *plan) {
    return plan_budget(plan) > 0;
}

bool ws_plan_leaves_out(const ws_plan *plan) {
    const int64_t budget = plan_budget(plan);
    if (plan->evaluations < 2 || plan->left == 0 || budget >= plan->left) {
        return false;
    }
    return budget <= 0 ||
           (double)plan->gap < (double)(plan->left + plan->gap) / (double)(budget + 1) - earliness;
}
