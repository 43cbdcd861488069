/* The forecast strategy in a session: how the history grows, who shares it, and when it is dropped. */
#include "session_calls.h"

static const double schedule[] = {1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0};
enum { STEPS = sizeof(schedule) / sizeof(schedule[0]) - 1 };

static ws_session *new_planned_session(ws_strategy strategy, double threshold, double speedup, int64_t max_hits) {
    const ws_session_settings settings = {.threshold = threshold,
                                          .speedup = speedup,
                                          .sigma_start = 100.0,
                                          .sigma_end = 0.0,
                                          .max_consecutive_hits = max_hits,
                                          .strategy = strategy,
                                          .schedule = schedule,
                                          .schedule_length = STEPS + 1};
    ws_session *session = NULL;
    assert_int_equal(ws_session_create(&settings, &session, NULL), WS_OK);
    return session;
}

static ws_session *new_forecast_session(double threshold) {
    return new_planned_session(WS_STRATEGY_FORECAST, threshold, 0.0, NO_LIMIT);
}

/* One evaluation of one call; the probe moves on straight by `change` of its size. */
static ws_call evaluate_at(ws_session *session, const ws_key *keys, size_t conds, double sigma, double change) {
    const ws_measurement measurement = {.difference_sum = change,
                                        .reference_sum = 1.0,
                                        .residual_sum = 1.0,
                                        .sigma = sigma,
                                        .ee = change * change,
                                        .ed1 = change * change,
                                        .d1d1 = change * change};
    ws_call call;
    ws_session_begin_evaluation(session);
    assert_int_equal(ws_session_open(session, keys, conds, &call, NULL), WS_OK);
    (void)ws_session_decide(session, &call, &measurement);
    ws_session_commit(session, &call);
    return call;
}

static ws_call evaluate(ws_session *session, const ws_key *keys, size_t conds, size_t step, double change) {
    return evaluate_at(session, keys, conds, schedule[step], change);
}

static void two_computed_evaluations_come_before_the_first_hit(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e9);
    const ws_key key = key_of(1);
    const ws_action expected[] = {WS_ACTION_COMPUTE, WS_ACTION_COMPUTE, WS_ACTION_REUSE, WS_ACTION_REUSE};
    for (size_t step = 0; step < 4; ++step) {
        assert_int_equal(evaluate(session, &key, 1, step, similar).action, expected[step]);
    }
    ws_session_free(session);
}

static void history_grows_to_three_points(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e-9); /* nothing is ever reused */
    const ws_key key = key_of(1);
    const size_t points[] = {0, 1, 2, 3, 3};
    for (size_t step = 0; step < 5; ++step) {
        assert_int_equal(evaluate(session, &key, 1, step, similar).points, points[step]);
    }
    ws_session_free(session);
}

static void coefficients_extrapolate_and_add_up_to_one(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e9);
    const ws_key key = key_of(1);
    (void)evaluate(session, &key, 1, 0, similar);
    (void)evaluate(session, &key, 1, 1, similar);
    const ws_call hit = evaluate(session, &key, 1, 2, similar);
    assert_int_equal(hit.action, WS_ACTION_REUSE);
    assert_true(hit.coefficient[0] > 1.9F && hit.coefficient[0] < 2.1F); /* one step further */
    assert_true(fabsf(hit.coefficient[0] + hit.coefficient[1] + hit.coefficient[2] - 1.0F) < 1e-6F);
    assert_true(hit.coefficient[2] == 0.0F); /* there is no third point yet */
    ws_session_free(session);
}

/* How many of all steps are computed when the probe changes by as much in each of them. */
static int computed_steps(double threshold) {
    ws_session *const session = new_forecast_session(threshold);
    const ws_key key = key_of(1);
    int computed = 0;
    for (size_t step = 0; step < STEPS; ++step) {
        computed += evaluate(session, &key, 1, step, 0.02).action == WS_ACTION_COMPUTE;
    }
    ws_session_free(session);
    return computed;
}

static void damage_adds_up_until_an_evaluation_is_computed(void **state) {
    (void)state;
    /* Every single step is as harmless as the others, so only their sum can end a row of hits. */
    assert_int_equal(computed_steps(1e-9), STEPS);
    assert_int_equal(computed_steps(1e9), 3); /* the first two, and where the forecast reaches no further */
    const int strict = computed_steps(0.01);
    const int generous = computed_steps(0.03);
    assert_true(3 < generous && generous < strict && strict < STEPS);
}

static void classic_keeps_its_single_point(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    for (int evaluation = 0; evaluation < 4; ++evaluation) {
        ws_session_begin_evaluation(session);
        ws_call call = open_call(session, &key, 1, evaluation == 0 ? WS_INTENT_COMPUTE : WS_INTENT_COMPARE);
        assert_int_equal(call.points, evaluation == 0 ? 0 : 1);
        (void)decide(session, &call, evaluation == 3 ? similar : different);
        ws_session_commit(session, &call);
        if (evaluation == 3) {
            assert_true(call.coefficient[0] == 1.0F && call.coefficient[1] == 0.0F && call.coefficient[2] == 0.0F);
        }
    }
    ws_session_free(session);
}

static void forgetting_drops_the_whole_history(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e9);
    const ws_key key = key_of(1);
    (void)evaluate(session, &key, 1, 0, similar);
    (void)evaluate(session, &key, 1, 1, similar);
    ws_session_forget_all(session);
    assert_int_equal(evaluate(session, &key, 1, 2, similar).points, 0);
    const ws_call next = evaluate(session, &key, 1, 3, similar);
    assert_int_equal(next.points, 1); /* the points before the gap do not come back */
    assert_int_equal(next.action, WS_ACTION_COMPUTE);
    ws_session_free(session);
}

static void an_aborted_call_drops_the_whole_history(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e-9);
    const ws_key key = key_of(1);
    (void)evaluate(session, &key, 1, 0, similar);
    (void)evaluate(session, &key, 1, 1, similar);
    ws_call call;
    ws_session_begin_evaluation(session);
    assert_int_equal(ws_session_open(session, &key, 1, &call, NULL), WS_OK);
    const ws_measurement measurement = measured(different, schedule[2]);
    assert_int_equal(ws_session_decide(session, &call, &measurement), WS_ACTION_COMPUTE);
    ws_session_abort(session, &call);
    assert_int_equal(evaluate(session, &key, 1, 3, similar).points, 0);
    ws_session_free(session);
}

static void a_cond_with_a_shorter_history_is_computed_while_the_others_follow(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e9);
    const ws_key keys[] = {key_of(1), key_of(2)};
    (void)evaluate(session, keys, 1, 0, similar);
    (void)evaluate(session, keys, 1, 1, similar);
    ws_session_begin_evaluation(session);
    const ws_measurement measurement = {
        .difference_sum = similar, .reference_sum = 1.0, .residual_sum = 1.0, .sigma = schedule[2]};
    ws_call first, second;
    assert_int_equal(ws_session_open(session, &keys[0], 1, &first, NULL), WS_OK);
    assert_int_equal(ws_session_decide(session, &first, &measurement), WS_ACTION_REUSE);
    ws_session_commit(session, &first);
    assert_int_equal(ws_session_open(session, &keys[1], 1, &second, NULL), WS_OK);
    assert_int_equal(second.intent, WS_INTENT_COMPUTE);
    assert_int_equal(ws_session_decide(session, &second, &measurement), WS_ACTION_COMPUTE);
    ws_session_commit(session, &second);
    ws_session_free(session);
}

static void not_a_number_is_computed(void **state) {
    (void)state;
    ws_session *const session = new_forecast_session(1e9);
    const ws_key key = key_of(1);
    (void)evaluate(session, &key, 1, 0, similar);
    (void)evaluate(session, &key, 1, 1, similar);
    assert_int_equal(evaluate(session, &key, 1, 2, (double)NAN).action, WS_ACTION_COMPUTE);
    assert_int_equal(statistics_of(session).reasons[WS_REASON_NOT_FINITE], 1);
    /* The damage of that step does not stay behind. */
    assert_int_equal(evaluate(session, &key, 1, 3, similar).action, WS_ACTION_REUSE);
    ws_session_free(session);
}

/* How many of all steps are computed with a speedup, whatever the probe does. */
static int planned_steps(ws_strategy strategy, double speedup, int64_t max_hits) {
    ws_session *const session = new_planned_session(strategy, 0.0, speedup, max_hits);
    const ws_key key = key_of(1);
    int computed = 0;
    for (size_t step = 0; step < STEPS; ++step) {
        computed += evaluate(session, &key, 1, step, different).action == WS_ACTION_COMPUTE;
    }
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.computed, computed);
    assert_int_equal(statistics.reasons[WS_REASON_CHANGED], 0);
    ws_session_free(session);
    return computed;
}

static void a_speedup_computes_its_share(void **state) {
    (void)state;
    const ws_strategy strategies[] = {WS_STRATEGY_CLASSIC, WS_STRATEGY_FORECAST};
    for (size_t i = 0; i < 2; ++i) {
        assert_int_equal(planned_steps(strategies[i], 1.0, NO_LIMIT), 10);
        assert_int_equal(planned_steps(strategies[i], 1.25, NO_LIMIT), 8);
        assert_int_equal(planned_steps(strategies[i], 2.0, NO_LIMIT), 5);
        assert_int_equal(planned_steps(strategies[i], 10.0, NO_LIMIT), 4);
    }
    assert_int_equal(planned_steps(WS_STRATEGY_FORECAST, 2.0, 1), 6); /* the limit on hits is stronger */
}

/* Unequal costs put the computed evaluations where steps are long, beyond what a forecast from two short steps reaches. */
static void a_plan_of_unequal_costs_leaves_out_short_steps(void **state) {
    (void)state;
    const double uneven[] = {1.0, 0.995, 0.99, 0.985, 0.98, 0.975, 0.97, 0.9, 0.6, 0.0};
    const ws_session_settings settings = {.speedup = 2.0,
                                          .sigma_start = 100.0,
                                          .sigma_end = 0.0,
                                          .max_consecutive_hits = NO_LIMIT,
                                          .strategy = WS_STRATEGY_FORECAST,
                                          .schedule = uneven,
                                          .schedule_length = sizeof(uneven) / sizeof(uneven[0])};
    ws_session *session = NULL;
    assert_int_equal(ws_session_create(&settings, &session, NULL), WS_OK);
    const ws_key key = key_of(1);
    const bool computed[] = {true, true, false, false, false, false, true, true, true};
    for (size_t step = 0; step < sizeof(computed) / sizeof(computed[0]); ++step) {
        const ws_call call = evaluate_at(session, &key, 1, uneven[step], similar);
        assert_int_equal(call.action, computed[step] ? WS_ACTION_COMPUTE : WS_ACTION_REUSE);
    }
    ws_session_free(session);
}

static void a_speedup_pays_back_what_had_to_be_computed(void **state) {
    (void)state;
    ws_session *const session = new_planned_session(WS_STRATEGY_FORECAST, 0.0, 2.0, NO_LIMIT);
    const ws_key key = key_of(1);
    int computed = 0;
    for (size_t step = 0; step < STEPS; ++step) {
        const double change = step == 2 ? (double)NAN : similar; /* step 2 would have been left out */
        computed += evaluate(session, &key, 1, step, change).action == WS_ACTION_COMPUTE;
    }
    assert_int_equal(computed, 5);
    ws_session_free(session);
}

static void a_speedup_that_makes_no_sense_is_refused(void **state) {
    (void)state;
    const double wrong[] = {0.5, -1.0, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); ++i) {
        const ws_session_settings settings = {.threshold = 0.1, .max_consecutive_hits = NO_LIMIT, .speedup = wrong[i]};
        ws_session *session = NULL;
        assert_int_equal(ws_session_create(&settings, &session, NULL), WS_ERROR_RANGE);
        assert_null(session);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_computed_evaluations_come_before_the_first_hit),
        cmocka_unit_test(history_grows_to_three_points),
        cmocka_unit_test(coefficients_extrapolate_and_add_up_to_one),
        cmocka_unit_test(damage_adds_up_until_an_evaluation_is_computed),
        cmocka_unit_test(classic_keeps_its_single_point),
        cmocka_unit_test(forgetting_drops_the_whole_history),
        cmocka_unit_test(an_aborted_call_drops_the_whole_history),
        cmocka_unit_test(a_cond_with_a_shorter_history_is_computed_while_the_others_follow),
        cmocka_unit_test(not_a_number_is_computed),
        cmocka_unit_test(a_speedup_computes_its_share),
        cmocka_unit_test(a_plan_of_unequal_costs_leaves_out_short_steps),
        cmocka_unit_test(a_speedup_pays_back_what_had_to_be_computed),
        cmocka_unit_test(a_speedup_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
