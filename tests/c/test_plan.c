/* The plan of a set speedup: what it learns from the sigmas of a run, and that it computes the share it was asked for. */
#include "wavespeed/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 20, MOST_EVALUATIONS = 3 * STEPS };

static double schedule[STEPS + 1];
static double costs[STEPS];

static int fill_schedule(void **state) {
    (void)state;
    for (int i = 0; i <= STEPS; ++i) {
        schedule[i] = 1.0 - (double)i / (double)STEPS;
    }
    for (int i = 0; i < STEPS; ++i) {
        costs[i] = 1.0;
    }
    return 0;
}

/* The sigmas at which a sampler evaluates; returns how many. */
typedef size_t (*sampler)(double sigmas[MOST_EVALUATIONS]);

static size_t euler(double sigmas[MOST_EVALUATIONS]) {
    memcpy(sigmas, schedule, STEPS * sizeof(*sigmas));
    return STEPS;
}

static size_t heun(double sigmas[MOST_EVALUATIONS]) {
    size_t n = 0;
    for (int i = 0; i < STEPS; ++i) {
        sigmas[n++] = schedule[i];
        if (i + 1 < STEPS) {
            sigmas[n++] = schedule[i + 1];
        }
    }
    return n;
}

/* Evaluations between two sigmas of the schedule, none in the step to zero. */
static size_t with_inner(double sigmas[MOST_EVALUATIONS], int inner) {
    size_t n = 0;
    for (int i = 0; i < STEPS; ++i) {
        sigmas[n++] = schedule[i];
        for (int j = 1; j <= inner && i + 1 < STEPS; ++j) {
            sigmas[n++] = schedule[i] + (schedule[i + 1] - schedule[i]) * j / (inner + 1);
        }
    }
    return n;
}

static size_t dpm_2(double sigmas[MOST_EVALUATIONS]) {
    return with_inner(sigmas, 1);
}

static size_t seeds_3(double sigmas[MOST_EVALUATIONS]) {
    return with_inner(sigmas, 2);
}

static const sampler samplers[] = {euler, heun, dpm_2, seeds_3};
enum { SAMPLERS = sizeof(samplers) / sizeof(samplers[0]) };

static void sigmas_find_their_step(void **state) {
    (void)state;
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, 1.0), 0);
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, 1.5), 0);
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, 0.5), 10);
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, 0.5 * (1.0 + 1e-8)), 10);
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, 0.49), 10);
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, 1e-9), STEPS - 1);
    assert_int_equal(ws_schedule_index(schedule, 0, 0.5), 0);
    assert_int_equal(ws_schedule_index(schedule, STEPS + 1, (double)NAN), 0);
}

static void what_is_left_is_known_from_the_third_step_on(void **state) {
    (void)state;
    for (size_t s = 0; s < SAMPLERS; ++s) {
        double sigmas[MOST_EVALUATIONS];
        int64_t visits[STEPS] = {0};
        const size_t n = samplers[s](sigmas);
        for (size_t i = 0; i < n; ++i) {
            const size_t index = ws_schedule_index(schedule, STEPS + 1, sigmas[i]);
            ++visits[index];
            const int64_t per_step = ws_evaluations_per_step(STEPS + 1, visits);
            const size_t left = ws_evaluations_left(schedule, STEPS + 1, visits, per_step, index);
            if (index >= 2) {
                assert_int_equal(left, n - 1 - i);
            }
        }
    }
}

static void a_schedule_that_ends_above_zero_keeps_the_last_steps_evaluations(void **state) {
    (void)state;
    const double cut[] = {1.0, 0.8, 0.6};
    const int64_t visits[] = {2, 1};
    assert_int_equal(ws_evaluations_left(cut, 3, visits, ws_evaluations_per_step(3, visits), 1), 1);
}

static void without_a_schedule_nothing_is_left(void **state) {
    (void)state;
    const int64_t visits[] = {1};
    assert_int_equal(ws_evaluations_left(schedule, 0, visits, 1, 0), 0);
    assert_int_equal(ws_evaluations_left(schedule, 1, visits, 1, 0), 0);
}

/* Runs a plan to its end. left_out: per evaluation; returns how many were computed. */
static int64_t follow(sampler evaluations_of, double speedup, bool left_out[MOST_EVALUATIONS], size_t *evaluations) {
    double sigmas[MOST_EVALUATIONS];
    int64_t visits[STEPS] = {0};
    int64_t computed = 0;
    int64_t gap = 1;
    *evaluations = evaluations_of(sigmas);
    for (size_t i = 0; i < *evaluations; ++i) {
        const size_t index = ws_schedule_index(schedule, STEPS + 1, sigmas[i]);
        ++visits[index];
        const int64_t per_step = ws_evaluations_per_step(STEPS + 1, visits);
        const ws_plan plan = {.speedup = speedup,
                              .evaluations = (int64_t)i,
                              .computed = computed,
                              .gap = gap,
                              .left = (int64_t)ws_evaluations_left(schedule, STEPS + 1, visits, per_step, index),
                              .costs = costs,
                              .steps = STEPS,
                              .step = index,
                              .place = visits[index] - 1,
                              .per_step = per_step};
        left_out[i] = ws_plan_leaves_out(&plan);
        computed += left_out[i] ? 0 : 1;
        gap = left_out[i] ? gap + 1 : 1;
    }
    return computed;
}

static void the_share_asked_for_is_computed(void **state) {
    (void)state;
    const double speedups[] = {1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0};
    for (size_t s = 0; s < SAMPLERS; ++s) {
        for (size_t i = 0; i < sizeof(speedups) / sizeof(speedups[0]); ++i) {
            bool left_out[MOST_EVALUATIONS];
            size_t n = 0;
            const int64_t computed = follow(samplers[s], speedups[i], left_out, &n);
            assert_true(fabs((double)computed - (double)n / speedups[i]) <= 1.0);
            assert_false(left_out[0] || left_out[1] || left_out[n - 1]);
        }
    }
}

static void gaps_are_even(void **state) {
    (void)state;
    bool left_out[MOST_EVALUATIONS];
    size_t n = 0;
    (void)follow(euler, 2.0, left_out, &n);
    size_t row = 0;
    size_t longest = 0;
    for (size_t i = 0; i < n; ++i) {
        row = left_out[i] ? row + 1 : 0;
        longest = row > longest ? row : longest;
    }
    assert_true(longest <= 2);
}

static void four_are_computed_however_much_is_asked(void **state) {
    (void)state;
    bool left_out[MOST_EVALUATIONS];
    size_t n = 0;
    assert_int_equal(follow(euler, 10.0, left_out, &n), 4);
}

static void what_was_computed_beyond_the_plan_is_saved_later(void **state) {
    (void)state;
    ws_plan plan = {.speedup = 2.0, .evaluations = 10, .computed = 5, .gap = 2, .left = 9,
                    .costs = costs, .steps = STEPS, .step = 10, .per_step = 1};
    assert_false(ws_plan_leaves_out(&plan));
    assert_true(ws_plan_has_budget(&plan));
    plan.computed = 8;
    assert_true(ws_plan_leaves_out(&plan));
    plan.computed = 10; /* all of the budget is gone */
    assert_true(ws_plan_leaves_out(&plan));
    assert_false(ws_plan_has_budget(&plan));
    plan.left = 0;
    assert_false(ws_plan_leaves_out(&plan));
}

/* The last steps of a strongly shifted schedule are so dear that each is computed, and the first ones pay for it. */
static void dear_steps_are_computed_and_cheap_ones_left_out(void **state) {
    (void)state;
    for (int i = 0; i < STEPS; ++i) {
        costs[i] = i < STEPS - 5 ? 1.0 : 100.0;
    }
    bool left_out[MOST_EVALUATIONS];
    size_t n = 0;
    assert_int_equal(follow(euler, 2.0, left_out, &n), STEPS / 2);
    size_t row = 0, longest = 0;
    for (size_t i = 0; i < n; ++i) {
        row = left_out[i] ? row + 1 : 0;
        longest = row > longest ? row : longest;
        assert_false(i >= STEPS - 5 && left_out[i]);
    }
    assert_true(longest <= 5); /* not longer than the steps before the dear ones make necessary */
    (void)fill_schedule(NULL);
}

/* Heun's and other samplers' evaluations have the cost of their step. */
static void the_share_does_not_depend_on_the_costs(void **state) {
    (void)state;
    for (size_t s = 0; s < SAMPLERS; ++s) {
        for (double ratio = 0.5; ratio < 1.6; ratio += 0.25) {
            for (int i = 0; i < STEPS; ++i) {
                costs[i] = pow(ratio, i);
            }
            bool left_out[MOST_EVALUATIONS];
            size_t n = 0;
            const int64_t computed = follow(samplers[s], 2.0, left_out, &n);
            assert_true(fabs((double)computed - (double)n / 2.0) <= 1.0);
        }
    }
    (void)fill_schedule(NULL);
}

static void costs_follow_an_uneven_schedule(void **state) {
    (void)state;
    const double flow[] = {1.0, 0.99, 0.98, 0.97, 0.96, 0.0};
    double found[5];
    assert_false(ws_plan_costs(flow, 6, found));
    assert_true(fabs(found[0] - sqrt(0.01) * exp(1.0)) < 1e-12);
    assert_true(fabs(found[4] - sqrt(0.96) * exp(0.96)) < 1e-12);
    const double edm[] = {99.0, 97.0, 95.0, 93.0, 91.0, 0.0}; /* in shares of noise 0.99 to 0.989, then 0 */
    assert_false(ws_plan_costs(edm, 6, found));
    assert_true(fabs(found[4] - sqrt(91.0 / 92.0) * exp(91.0 / 92.0 / 0.99)) < 1e-12);
}

static void costs_of_a_schedule_without_very_long_steps_are_equal(void **state) {
    (void)state;
    const double flow[] = {1.0, 0.9, 0.75, 0.5, 0.0};
    double found[4];
    assert_true(ws_plan_costs(flow, 5, found));
    for (size_t i = 0; i < 4; ++i) {
        assert_true(found[i] == 1.0);
    }
    const double still[] = {0.0, 0.0, 0.0, 0.0, 0.0};
    assert_true(ws_plan_costs(still, 5, found));
    assert_true(found[0] == 1.0 && found[3] == 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmas_find_their_step),
        cmocka_unit_test(what_is_left_is_known_from_the_third_step_on),
        cmocka_unit_test(a_schedule_that_ends_above_zero_keeps_the_last_steps_evaluations),
        cmocka_unit_test(without_a_schedule_nothing_is_left),
        cmocka_unit_test(the_share_asked_for_is_computed),
        cmocka_unit_test(gaps_are_even),
        cmocka_unit_test(four_are_computed_however_much_is_asked),
        cmocka_unit_test(what_was_computed_beyond_the_plan_is_saved_later),
        cmocka_unit_test(dear_steps_are_computed_and_cheap_ones_left_out),
        cmocka_unit_test(the_share_does_not_depend_on_the_costs),
        cmocka_unit_test(costs_follow_an_uneven_schedule),
        cmocka_unit_test(costs_of_a_schedule_without_very_long_steps_are_equal),
    };
    return cmocka_run_group_tests(tests, fill_schedule, NULL);
}
