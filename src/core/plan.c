/* The plan of a set speedup: evaluations that remain, and how the computed ones are spread over them. */
#include "wavespeed/plan.h"

#include "wavespeed/policy.h"

#include <math.h>

size_t ws_schedule_index(const double *schedule, size_t n, double sigma) {
    size_t index = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
        /* What a sampler computes may differ from the schedule in the last bits. */
        if (schedule[i] >= sigma * (1.0 - 1e-6)) {
            index = i;
        }
    }
    return index;
}

int64_t ws_evaluations_per_step(size_t n, const int64_t *visits) {
    int64_t per_step = 1;
    for (size_t i = 0; i + 1 < n; ++i) {
        per_step = visits[i] > per_step ? visits[i] : per_step;
    }
    return per_step;
}

size_t ws_evaluations_left(const double *schedule, size_t n, const int64_t *visits, int64_t per_step, size_t index) {
    if (n < 2) {
        return 0;
    }
    const size_t steps = n - 1;
    int64_t left = per_step * (int64_t)(steps - index) - visits[index];
    const bool reaches_ahead = index > 0 && visits[0] < per_step;
    if (schedule[steps] == 0.0 && !reaches_ahead) {
        left -= per_step - 1;
    }
    return left > 0 ? (size_t)left : 0;
}

/* Below this many times the mean, unequal costs only moved the odd gaps about: measured to be worse than even gaps. */
static const double uneven = 2.0;

bool ws_plan_costs(const double *schedule, size_t n, double *out) {
    const double largest = n > 0 ? ws_noise_share(schedule[0], schedule[0]) : 0.0;
    double dearest = 0.0;
    double total = 0.0;
    for (size_t i = 0; i + 1 < n; ++i) {
        const double from = ws_noise_share(schedule[i], schedule[0]);
        const double to = ws_noise_share(schedule[i + 1], schedule[0]);
        out[i] = largest > 0.0 ? sqrt(fabs(from - to)) * exp(from / largest) : 0.0;
        dearest = fmax(dearest, out[i]);
        total += out[i];
    }
    const bool even = !(dearest * (double)(n - 1) > uneven * total);
    for (size_t i = 0; even && i + 1 < n; ++i) {
        out[i] = 1.0;
    }
    return even;
}

/* Of the evaluation `offset` after this one, or before it where that is negative. */
static double cost_at(const ws_plan *plan, int64_t offset) {
    const int64_t number = (int64_t)plan->step * plan->per_step + plan->place + offset;
    const int64_t step = number < 0 ? 0 : number / plan->per_step;
    const int64_t last = (int64_t)plan->steps - 1;
    return plan->costs[step > last ? last : step];
}

/* The cost of the evaluations from `first` to `last`, each of them counted up to the limit. */
static double limited_cost(const ws_plan *plan, int64_t first, int64_t last, double limit) {
    double total = 0.0;
    for (int64_t offset = first; offset <= last; ++offset) {
        total += fmin(cost_at(plan, offset), limit);
    }
    return total;
}

/* What each of the gaps may cost that the budget divides the rest into. A step that costs more than that is computed on
 * its own, and what it costs beyond is no reason for longer gaps elsewhere. */
static double gap_cost(const ws_plan *plan, int64_t budget) {
    enum { ROUNDS = 20 };
    double share = INFINITY;
    for (int round = 0; round < ROUNDS; ++round) {
        const double next = limited_cost(plan, 1 - plan->gap, plan->left, share) / (double)(budget + 1);
        if (next == share) {
            break;
        }
        share = next;
    }
    return share;
}

/* Where the even gap is no whole number, gaps of both neighbouring lengths take turns. Rounding to the nearest (0.5)
 * leaves the long ones to the end, where steps are long and errors were measured to be dearer; with less they come
 * earlier. */
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
    if (budget <= 0) {
        return true;
    }
    const double share = gap_cost(plan, budget);
    return limited_cost(plan, 1 - plan->gap, 0, share) < share - earliness * fmin(cost_at(plan, 0), share);
}
