/* The plan of a set speedup: which evaluations are computed when a share of them is asked for. Pure functions, no state. */
#ifndef WAVESPEED_PLAN_H
#define WAVESPEED_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Index of the step that an evaluation at sigma belongs to: the last sigma of the schedule that is not below it.
 * 0 for one above all. */
size_t ws_schedule_index(const double *schedule, size_t n, double sigma);

/* Evaluations per step. Samplers do not say how often they evaluate per step, so it is learnt: the most visits that any
 * step of the schedule has had by now. visits: per step, n - 1 of them, this evaluation included. */
int64_t ws_evaluations_per_step(size_t n, const int64_t *visits);

/* How many evaluations will follow this one. per_step: as learnt. All of ComfyUI's samplers with several evaluations per
 * step make only one in the step to sigma 0; where the others reach ahead (Heun evaluates the end of its step) it shows
 * as a first step with a single visit. */
size_t ws_evaluations_left(const double *schedule, size_t n, const int64_t *visits, int64_t per_step, size_t index);

/* What leaving out an evaluation in each step costs: sqrt(length of the step) * exp(sigma / largest sigma), in noise shares;
 * the same for all where no step costs more than twice the mean: true then. out: n - 1. */
bool ws_plan_costs(const double *schedule, size_t n, double *out);

/* Where a run with a set speedup stands. */
typedef struct ws_plan {
    double speedup;      /* evaluations per computed one, at least 1 */
    int64_t evaluations; /* that came before this one */
    int64_t computed;    /* of those */
    int64_t gap;         /* evaluations since the last computed one, this one included: 1 directly behind it */
    int64_t left;        /* evaluations that will follow this one */
    const double *costs; /* per step of the schedule */
    bool even;           /* they are the same for all steps */
    size_t steps;
    size_t step;         /* of this evaluation */
    int64_t place;       /* of this evaluation within its step, from 0 */
    int64_t per_step;    /* evaluations */
} ws_plan;

/* True where the evaluation should be left out. What may still be computed is spread over what is left so that the
 * evaluations left out in each gap cost the same, anew at every evaluation; so whatever was computed beyond the plan is
 * saved later. The first two and the last evaluation are always computed, and never fewer than four. */
bool ws_plan_leaves_out(const ws_plan *plan);

/* True when evaluations may be computed besides the last one: without any, a forecast that falls behind must do. */
bool ws_plan_has_budget(const ws_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
