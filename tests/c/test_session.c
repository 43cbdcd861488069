/* The session's decisions: who decides, for whom, and why an evaluation is computed. */
#include "session_calls.h"

/* ---- creation -------------------------------------------------------------------------------- */

static void settings_without_sense_are_refused(void **state) {
    (void)state;
    const ws_session_settings good = {.threshold = 0.1,
                                      .sigma_start = 10.0,
                                      .sigma_end = 1.0,
                                      .max_consecutive_hits = NO_LIMIT};
    ws_session_settings bad[7] = {good, good, good, good, good, good, good};
    bad[0].threshold = 0.0;
    bad[1].threshold = -0.1;
    bad[2].threshold = (double)NAN;
    bad[3].sigma_start = (double)NAN;
    bad[4].sigma_end = (double)NAN;
    bad[5].max_consecutive_hits = -2;
    bad[6].max_consecutive_hits = INT64_MIN;
    const char *const sentences[7] = {
        "threshold is 0; it must be above 0.",
        "threshold is -0.1; it must be above 0.",
        "threshold is not a number; it must be above 0.",
        "sigma_start is not a number; it must be a noise level.",
        "sigma_end is not a number; it must be a noise level.",
        "max_consecutive_hits is -2; it must be -1 (no limit) or more.",
        "max_consecutive_hits is -9223372036854775808; it must be -1 (no limit) or more.",
    };
    for (size_t i = 0; i < 7; ++i) {
        ws_session *session = (ws_session *)&bad; /* must become NULL */
        ws_error error = {WS_OK, 0, ""};
        assert_int_equal(ws_session_create(&bad[i], &session, &error), WS_ERROR_RANGE);
        assert_null(session);
        assert_string_equal(error.text, sentences[i]);
    }
}

static void infinite_sigma_limits_are_allowed(void **state) {
    (void)state;
    const ws_session_settings settings = {.threshold = (double)INFINITY,
                                      .sigma_start = (double)INFINITY,
                                      .sigma_end = -(double)INFINITY,
                                      .max_consecutive_hits = 0};
    ws_session *session = NULL;
    assert_int_equal(ws_session_create(&settings, &session, NULL), WS_OK);
    ws_session_free(session);
    ws_session_free(NULL);
}

/* ---- one cond, one call ---------------------------------------------------------------------- */

static void computes_then_reuses_then_computes(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &key, 1, different, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

static void open_begins_the_first_evaluation_itself(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_call(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    assert_int_equal(statistics_of(session).evaluations, 2);
    ws_session_free(session);
}

static void threshold_itself_is_computed(void **state) {
    (void)state;
    const ws_session_settings settings = {.threshold = 0.125,
                                      .sigma_start = 10.0,
                                      .sigma_end = 1.0,
                                      .max_consecutive_hits = NO_LIMIT};
    ws_session *session = NULL;
    assert_int_equal(ws_session_create(&settings, &session, NULL), WS_OK);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, 0.125, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, nextafter(0.125, 0.0), WS_INTENT_COMPARE, WS_ACTION_REUSE);
    assert_int_equal(statistics_of(session).reasons[WS_REASON_CHANGED], 1);
    ws_session_free(session);
}

static void second_decide_repeats_the_first(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    assert_int_equal(decide(session, &call, similar), WS_ACTION_REUSE);
    assert_int_equal(decide(session, &call, different), WS_ACTION_REUSE);
    assert_int_equal(statistics_of(session).compared, 1);
    ws_session_begin_evaluation(session);
    call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    assert_int_equal(decide(session, &call, different), WS_ACTION_COMPUTE);
    ws_session_commit(session, &call);
    assert_int_equal(decide(session, &call, different),
                     WS_ACTION_COMPUTE); /* what was stored stays valid */
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

static void missing_measurement_is_computed(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    assert_int_equal(ws_session_decide(session, &call, NULL), WS_ACTION_COMPUTE);
    ws_session_free(session);
}

static void number_of_conds_is_limited(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    ws_key keys[WS_CALL_CONDS + 1];
    for (size_t i = 0; i <= WS_CALL_CONDS; ++i) {
        keys[i] = key_of(i);
    }
    ws_call call;
    ws_error error = {WS_OK, 0, ""};
    assert_int_equal(ws_session_open(session, keys, 0, &call, &error), WS_ERROR_LIMIT);
    assert_string_equal(error.text, "A call carries 0 conds; it must carry 1 to 32.");
    assert_int_equal(ws_session_open(session, keys, WS_CALL_CONDS + 1, &call, &error),
                     WS_ERROR_LIMIT);
    run_evaluation(session, keys, WS_CALL_CONDS, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, keys, WS_CALL_CONDS, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void every_field_of_the_key_counts(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key base = key_of(1);
    ws_key keys[6] = {base, base, base, base, base, base};
    keys[1].uuid_high ^= 1;
    keys[2].uuid_low ^= UINT64_C(1) << 63;
    keys[3].window ^= 1;
    keys[4].fingerprint ^= 1;
    keys[5].cond_index = -1;
    run_evaluation(session, &base, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    for (size_t i = 1; i < 6; ++i) {
        ws_session_begin_evaluation(session);
        (void)open_call(session, &keys[i], 1, WS_INTENT_COMPUTE);
    }
    ws_session_begin_evaluation(session);
    (void)open_call(session, &base, 1, WS_INTENT_COMPARE);
    ws_session_free(session);
}

static void repeated_keys_get_entries_of_their_own(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[3] = {key_of(1), key_of(1), key_of(1)};
    ws_session_begin_evaluation(session);
    ws_call both = open_call(session, keys, 2, WS_INTENT_COMPUTE); /* within one call */
    assert_int_not_equal(both.slot[0], both.slot[1]);
    (void)decide(session, &both, similar);
    ws_session_commit(session, &both);
    ws_call third = open_call(session, keys, 1, WS_INTENT_COMPUTE); /* and across calls */
    assert_int_not_equal(third.slot[0], both.slot[0]);
    assert_int_not_equal(third.slot[0], both.slot[1]);
    (void)decide(session, &third, similar);
    ws_session_commit(session, &third);

    ws_session_begin_evaluation(
        session); /* the order of the evaluation tells them apart, whatever the split */
    const ws_call first = open_call(session, keys, 1, WS_INTENT_COMPARE);
    const ws_call rest = open_call(session, keys, 2, WS_INTENT_COMPARE);
    assert_int_equal(first.slot[0], both.slot[0]);
    assert_int_equal(rest.slot[0], both.slot[1]);
    assert_int_equal(rest.slot[1], third.slot[0]);
    const ws_call fourth = open_call(session, keys, 1, WS_INTENT_COMPUTE);
    assert_int_not_equal(fourth.slot[0], third.slot[0]);
    ws_session_free(session);
}

/* ---- cond and uncond ------------------------------------------------------------------------- */

static void changing_splits_find_their_entries(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key pair[2] = {key_of(1), key_of(2)};
    const ws_key turned[2] = {key_of(2), key_of(1)};
    run_evaluation(session, pair, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &pair[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, &pair[1], 1, different, WS_INTENT_REUSE, WS_ACTION_REUSE);
    run_evaluation(session, turned, 2, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &pair[1], 1, different, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_call(session, &pair[0], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, pair, 2, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.evaluations, 5);
    assert_int_equal(statistics.computed, 2);
    assert_int_equal(statistics.reused, 3);
    assert_int_equal(statistics.compared, 4);
    ws_session_free(session);
}

static void first_call_decides_for_the_others(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[3] = {key_of(1), key_of(2), key_of(3)};
    run_evaluation(session, keys, 3, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, &keys[1], 1, different, WS_INTENT_REUSE, WS_ACTION_REUSE);
    run_call(session, &keys[2], 1, (double)NAN, WS_INTENT_REUSE, WS_ACTION_REUSE);
    run_evaluation(session, &keys[1], 1, different, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_call(session, &keys[0], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, &keys[2], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_free(session);
}

/* A follower without an entry computes, and neither turns the decision nor makes its entry
 * reusable: it is of another age. */
static void follower_without_entry_computes_alone(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[3] = {key_of(1), key_of(2), key_of(3)};
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, &keys[2], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, &keys[1], 1, similar, WS_INTENT_REUSE, WS_ACTION_REUSE);
    ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.computed, 2);
    assert_int_equal(statistics.reused, 0);
    assert_int_equal(statistics.reasons[WS_REASON_NO_ENTRY], 2);

    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, &keys[2], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    (void)open_call(session, keys, 3, WS_INTENT_COMPUTE); /* ages differ within one call */
    run_evaluation(session, keys, 3, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[2], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, keys, 2, similar, WS_INTENT_REUSE, WS_ACTION_REUSE);
    ws_session_free(session);
}

/* The cond that was left out of the last computed evaluation must not be paired with younger
 * residuals. */
static void entry_older_than_the_last_computed_evaluation_is_not_reused(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[2] = {key_of(1), key_of(2)};
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[0], 1, different, WS_INTENT_COMPARE,
                   WS_ACTION_COMPUTE); /* without keys[1] */
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, &keys[1], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    (void)open_call(session, keys, 2, WS_INTENT_COMPUTE);
    ws_session_free(session);
}

/* ---- context windows ------------------------------------------------------------------------- */

static void windows_decide_apart(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key left[2] = {key_in_window(1, 100), key_in_window(2, 100)};
    const ws_key right[2] = {key_in_window(1, 200), key_in_window(2, 200)};
    ws_session_begin_evaluation(session);
    run_call(session, left, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, right, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    run_call(session, &left[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, &right[0], 1, different, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_call(session, &left[1], 1, different, WS_INTENT_REUSE, WS_ACTION_REUSE);
    run_call(session, &right[1], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    run_call(session, left, 2, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_call(session, right, 2, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.evaluations, 3);
    assert_int_equal(statistics.computed, 2); /* the second one in its right window only */
    assert_int_equal(statistics.reasons[WS_REASON_CHANGED], 1);
    assert_int_equal(statistics.compared, 4);
    ws_session_free(session);
}

static void first_reason_of_an_evaluation_is_reported(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key left = key_in_window(1, 100);
    const ws_key right = key_in_window(1, 200);
    ws_session_begin_evaluation(session);
    run_call(session, &left, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, &right, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    run_call(session, &left, 1, different, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_call(session, &right, 1, (double)NAN, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.reasons[WS_REASON_CHANGED], 1);
    assert_int_equal(statistics.reasons[WS_REASON_NOT_FINITE], 0);
    ws_session_free(session);
}

static void windows_count_their_hits_apart(void **state) {
    (void)state;
    ws_session *const session = new_session(1);
    const ws_key left = key_in_window(1, 100);
    const ws_key right = key_in_window(1, 200);
    ws_session_begin_evaluation(session);
    run_call(session, &left, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, &right, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &left, 1, similar, WS_INTENT_COMPARE,
                   WS_ACTION_REUSE); /* without right */
    ws_session_begin_evaluation(session);
    run_call(session, &left, 1, similar, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_call(session, &right, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void hits_in_a_row_are_limited(void **state) {
    (void)state;
    ws_session *const session = new_session(2);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    for (int round = 0; round < 3; ++round) {
        run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
        run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
        run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    }
    assert_int_equal(statistics_of(session).reasons[WS_REASON_HITS], 3);
    ws_session_free(session);
}

static void hits_count_evaluations_not_calls(void **state) {
    (void)state;
    ws_session *const session = new_session(2);
    const ws_key keys[2] = {key_of(1), key_of(2)};
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    for (int step = 0; step < 2; ++step) {
        run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
        run_call(session, &keys[1], 1, similar, WS_INTENT_REUSE, WS_ACTION_REUSE);
    }
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    ws_session_free(session);
}

static void computed_evaluation_resets_the_hits(void **state) {
    (void)state;
    ws_session *const session = new_session(2);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &key, 1, different, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    ws_session_free(session);
}

static void no_hits_allowed_means_always_computed(void **state) {
    (void)state;
    ws_session *const session = new_session(0);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, 0.0, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    assert_int_equal(statistics_of(session).reasons[WS_REASON_HITS], 1);
    ws_session_free(session);
}

/* One evaluation with this sigma after a computed one. */
static ws_action action_at_sigma(double sigma) {
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    const ws_measurement measurement = measured(similar, sigma);
    const ws_action action = ws_session_decide(session, &call, &measurement);
    assert_int_equal(statistics_of(session).reasons[WS_REASON_SIGMA],
                     action == WS_ACTION_COMPUTE ? 1 : 0);
    ws_session_free(session);
    return action;
}

static void sigma_limits_are_inclusive(void **state) {
    (void)state;
    assert_int_equal(action_at_sigma(10.0), WS_ACTION_REUSE);
    assert_int_equal(action_at_sigma(1.0), WS_ACTION_REUSE);
    assert_int_equal(action_at_sigma(nextafter(10.0, 11.0)), WS_ACTION_COMPUTE);
    assert_int_equal(action_at_sigma(nextafter(1.0, 0.0)), WS_ACTION_COMPUTE);
    assert_int_equal(action_at_sigma((double)INFINITY), WS_ACTION_COMPUTE);
    assert_int_equal(action_at_sigma((double)NAN), WS_ACTION_COMPUTE);
}

static void sigma_limit_resets_the_hits(void **state) {
    (void)state;
    ws_session *const session = new_session(1);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_begin_evaluation(session);
    ws_call outside = open_call(session, &key, 1, WS_INTENT_COMPARE);
    const ws_measurement measurement = measured(similar, 20.0);
    assert_int_equal(ws_session_decide(session, &outside, &measurement), WS_ACTION_COMPUTE);
    ws_session_commit(session, &outside);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

/* Everything forbids reuse at once; what is removed from the front reveals the next reason. */
static void reasons_have_an_order(void **state) {
    (void)state;
    const struct {
        ws_measurement measurement;
        ws_reason reason;
    } cases[] = {
        {{.difference_sum = (double)NAN, .reference_sum = 1024.0, .residual_sum = 1.0, .sigma = 20.0}, WS_REASON_NOT_FINITE},
        {{.difference_sum = 512.0, .reference_sum = 1024.0, .residual_sum = (double)INFINITY, .sigma = 20.0},
         WS_REASON_NOT_FINITE},
        {{.difference_sum = 0.0, .reference_sum = 0.0, .residual_sum = 1.0, .sigma = 20.0}, WS_REASON_NOT_FINITE},
        {{.difference_sum = 512.0, .reference_sum = 1024.0, .residual_sum = 1.0, .sigma = 20.0}, WS_REASON_CHANGED},
        {{.difference_sum = 1.0, .reference_sum = 1024.0, .residual_sum = 1.0, .sigma = 20.0}, WS_REASON_SIGMA},
        {{.difference_sum = 1.0, .reference_sum = 1024.0, .residual_sum = 1.0, .sigma = 5.0}, WS_REASON_HITS},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        ws_session *const session = new_session(0);
        const ws_key key = key_of(1);
        run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
        ws_session_begin_evaluation(session);
        ws_call call = open_call(session, &key, 1, WS_INTENT_COMPARE);
        assert_int_equal(ws_session_decide(session, &call, &cases[i].measurement),
                         WS_ACTION_COMPUTE);
        assert_int_equal(statistics_of(session).reasons[cases[i].reason], 1);
        ws_session_free(session);
    }
}

static void residual_that_is_not_finite_is_replaced(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    const ws_measurement measurement = {
        .difference_sum = 0.0, .reference_sum = 1024.0, .residual_sum = (double)NAN, .sigma = 5.0};
    assert_int_equal(ws_session_decide(session, &call, &measurement), WS_ACTION_COMPUTE);
    ws_session_commit(session, &call);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.compared, 0);
    assert_true(statistics.change_sum == 0.0);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_without_sense_are_refused),
        cmocka_unit_test(infinite_sigma_limits_are_allowed),
        cmocka_unit_test(computes_then_reuses_then_computes),
        cmocka_unit_test(open_begins_the_first_evaluation_itself),
        cmocka_unit_test(threshold_itself_is_computed),
        cmocka_unit_test(second_decide_repeats_the_first),
        cmocka_unit_test(missing_measurement_is_computed),
        cmocka_unit_test(number_of_conds_is_limited),
        cmocka_unit_test(every_field_of_the_key_counts),
        cmocka_unit_test(repeated_keys_get_entries_of_their_own),
        cmocka_unit_test(changing_splits_find_their_entries),
        cmocka_unit_test(first_call_decides_for_the_others),
        cmocka_unit_test(follower_without_entry_computes_alone),
        cmocka_unit_test(entry_older_than_the_last_computed_evaluation_is_not_reused),
        cmocka_unit_test(windows_decide_apart),
        cmocka_unit_test(first_reason_of_an_evaluation_is_reported),
        cmocka_unit_test(windows_count_their_hits_apart),
        cmocka_unit_test(hits_in_a_row_are_limited),
        cmocka_unit_test(hits_count_evaluations_not_calls),
        cmocka_unit_test(computed_evaluation_resets_the_hits),
        cmocka_unit_test(no_hits_allowed_means_always_computed),
        cmocka_unit_test(sigma_limits_are_inclusive),
        cmocka_unit_test(sigma_limit_resets_the_hits),
        cmocka_unit_test(reasons_have_an_order),
        cmocka_unit_test(residual_that_is_not_finite_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
