/* The session's memory: calls that fail, entries that are dropped or make room, and the statistics.
 */
#include "session_calls.h"

/* ---- calls that do not end well -------------------------------------------------------------- */

static void aborted_computation_leaves_no_entry(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    assert_int_equal(decide(session, &call, different), WS_ACTION_COMPUTE);
    ws_session_abort(session, &call);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

static void commit_after_abort_changes_nothing(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPUTE);
    assert_int_equal(decide(session, &call, similar), WS_ACTION_COMPUTE);
    ws_session_abort(session, &call);
    ws_session_commit(session, &call);
    ws_session_begin_evaluation(session);
    (void)open_call(session, &key, 1, WS_INTENT_COMPUTE);
    ws_session_free(session);
}

static void uncommitted_computation_is_not_reused(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    ws_session_begin_evaluation(session);
    ws_call lost = open_call(session, &key, 1, WS_INTENT_COMPUTE);
    assert_int_equal(decide(session, &lost, similar), WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPUTE);
    ws_session_commit(session,
                      &call); /* never decided: must not adopt what the lost call was building */
    ws_session_begin_evaluation(session);
    (void)open_call(session, &key, 1, WS_INTENT_COMPUTE);
    ws_session_free(session);
}

static void abort_keeps_entries_that_were_not_rebuilt(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call undecided = open_call(session, &key, 1, WS_INTENT_COMPARE);
    ws_session_abort(session, &undecided);
    ws_session_begin_evaluation(session);
    ws_call reused = open_call(session, &key, 1, WS_INTENT_COMPARE);
    assert_int_equal(decide(session, &reused, similar), WS_ACTION_REUSE);
    ws_session_abort(session, &reused);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

static void forgotten_entries_are_computed(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[2] = {key_of(1), key_of(2)};
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, keys, 2, WS_INTENT_COMPARE);
    ws_session_forget(session, &call);
    assert_int_equal(call.intent, WS_INTENT_COMPUTE);
    const ws_measurement measurement = measured(0.0, 5.0); /* ignored now */
    assert_int_equal(ws_session_decide(session, &call, &measurement), WS_ACTION_COMPUTE);
    ws_session_commit(session, &call);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.reasons[WS_REASON_NO_ENTRY], 2);
    assert_int_equal(statistics.compared, 0);
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_free(session);
}

static void forgotten_follower_computes_alone(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[2] = {key_of(1), key_of(2)};
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_call call = open_call(session, &keys[1], 1, WS_INTENT_REUSE);
    ws_session_forget(session, &call);
    assert_int_equal(decide(session, &call, similar), WS_ACTION_COMPUTE);
    ws_session_commit(session, &call);
    assert_int_equal(statistics_of(session).reused, 0);
    ws_session_free(session);
}

static void forget_all_drops_every_entry_and_keeps_statistics(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[2] = {key_in_window(1, 1), key_in_window(1, 2)};
    ws_session_begin_evaluation(session);
    run_call(session, &keys[0], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, &keys[1], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_session_forget_all(session);
    assert_int_equal(statistics_of(session).reused, 1);
    ws_session_begin_evaluation(session);
    run_call(session, &keys[0], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_call(session, &keys[1], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_free(session);
}

static void forget_all_during_a_call(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    ws_session_begin_evaluation(session);
    ws_call measured_call = open_call(session, &key, 1, WS_INTENT_COMPARE);
    ws_session_forget_all(session); /* before the decision: nothing is left to reuse */
    assert_int_equal(decide(session, &measured_call, 0.0), WS_ACTION_COMPUTE);
    assert_int_equal(statistics_of(session).compared, 0);
    assert_int_equal(statistics_of(session).reasons[WS_REASON_NO_ENTRY], 2);
    ws_session_forget_all(session); /* after it: what is being built is gone too */
    ws_session_commit(session, &measured_call);
    ws_session_begin_evaluation(session);
    (void)open_call(session, &key, 1, WS_INTENT_COMPUTE);
    ws_session_free(session);
}

static void forget_all_before_a_follower_decides(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[2] = {key_of(1), key_of(2)};
    run_evaluation(session, keys, 2, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &keys[0], 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    ws_call follower = open_call(session, &keys[1], 1, WS_INTENT_REUSE);
    ws_session_forget_all(session);
    assert_int_equal(decide(session, &follower, similar), WS_ACTION_COMPUTE);
    ws_session_free(session);
}

/* ---- the tables ------------------------------------------------------------------------------ */

/* Runs one evaluation with the keys first .. first + count - 1, each in a call and a window of its
 * own. */
static void use_keys(ws_session *session, uint64_t first, uint64_t count) {
    ws_session_begin_evaluation(session);
    for (uint64_t i = first; i < first + count; ++i) {
        const ws_key key = key_in_window(i, i);
        ws_call call = open_call(session, &key, 1, WS_INTENT_COMPUTE);
        (void)decide(session, &call, similar);
        ws_session_commit(session, &call);
    }
}

static void entry_unused_longest_makes_room(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    use_keys(session, 0, 100);
    use_keys(session, 100, 156); /* full */
    const ws_key old = key_in_window(7, 7);
    run_evaluation(session, &old, 1, similar, WS_INTENT_COMPARE,
                   WS_ACTION_REUSE); /* 7 is young again */
    ws_session_begin_evaluation(session);
    bool taken[WS_SESSION_SLOTS] = {false};
    for (uint64_t i = 1000; i < 1099; ++i) { /* replaces the other 99 of the first evaluation */
        const ws_key key = key_in_window(i, i);
        const ws_call call = open_call(session, &key, 1, WS_INTENT_COMPUTE);
        assert_true(call.recycled[0]);
        assert_in_range(call.slot[0], 0, WS_SESSION_SLOTS - 1);
        assert_false(taken[call.slot[0]]);
        taken[call.slot[0]] = true;
    }
    run_evaluation(session, &old, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    const ws_key survivor = key_in_window(100, 100);
    run_call(session, &survivor, 1, similar, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    const ws_key replaced = key_in_window(8, 8);
    const ws_call call = open_call(session, &replaced, 1, WS_INTENT_COMPUTE);
    assert_true(call.recycled[0]);
    ws_session_free(session);
}

static void recycled_is_told_once(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    ws_session_begin_evaluation(session);
    assert_false(open_call(session, &key, 1, WS_INTENT_COMPUTE).recycled[0]); /* a free slot */
    use_keys(session, 1000, WS_SESSION_SLOTS);
    ws_session_begin_evaluation(session);
    assert_true(open_call(session, &key, 1, WS_INTENT_COMPUTE).recycled[0]);
    ws_session_begin_evaluation(session);
    assert_false(open_call(session, &key, 1, WS_INTENT_COMPUTE).recycled[0]);
    ws_session_free(session);
}

static void full_table_is_a_limit_and_recovers(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    use_keys(session, 0, WS_SESSION_SLOTS);
    const ws_key one_more = key_of(9999);
    ws_call call;
    ws_error error = {WS_OK, 0, ""};
    assert_int_equal(ws_session_open(session, &one_more, 1, &call, &error), WS_ERROR_LIMIT);
    assert_int_equal(error.code, WS_ERROR_LIMIT);
    assert_string_equal(error.text,
                        "One evaluation has more than 256 conds; that many can be kept.");
    ws_session_begin_evaluation(session);
    assert_true(open_call(session, &one_more, 1, WS_INTENT_COMPUTE).recycled[0]);
    ws_session_free(session);
}

/* A call that fails half-way has taken slots; their new owner must still be told to drop the old
 * tensors. */
static void failed_open_does_not_hide_a_recycled_slot(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    use_keys(session, 0, WS_SESSION_SLOTS);
    ws_session_begin_evaluation(session);
    for (uint64_t i = 0; i < WS_SESSION_SLOTS - 1; ++i) {
        const ws_key key = key_in_window(i, i);
        (void)open_call(session, &key, 1, WS_INTENT_COMPARE);
    }
    const ws_key keys[2] = {key_of(5000), key_of(5001)}; /* one slot is left for the two */
    ws_call call;
    assert_int_equal(ws_session_open(session, keys, 2, &call, NULL), WS_ERROR_LIMIT);
    ws_session_begin_evaluation(session);
    assert_true(open_call(session, &keys[0], 1, WS_INTENT_COMPUTE).recycled[0]);
    ws_session_free(session);
}

/* The window table overflows as well; a window that comes back has no past, so its entries are not
 * reused. */
static void shifting_windows_never_run_out(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    for (uint64_t shift = 0; shift < 20; ++shift) {
        use_keys(session, shift * 100, 100);
    }
    const ws_key gone = key_in_window(0, 0);
    ws_session_begin_evaluation(session);
    (void)open_call(session, &gone, 1, WS_INTENT_COMPUTE);
    assert_int_equal(statistics_of(session).evaluations, 20);
    ws_session_free(session);
}

/* ---- statistics ------------------------------------------------------------------------------ */

static void fresh_statistics_are_empty(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.evaluations, 0);
    assert_int_equal(statistics.compared, 0);
    assert_true(statistics.change_sum == 0.0);
    assert_true(isinf(statistics.change_min) && statistics.change_min > 0.0);
    assert_true(isinf(statistics.change_max) && statistics.change_max < 0.0);
    ws_session_free(session);
}

static void evaluations_without_decision_are_not_counted(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    ws_session_begin_evaluation(session);
    ws_session_begin_evaluation(session);
    ws_call call = open_call(session, &key, 1, WS_INTENT_COMPUTE);
    ws_session_abort(session, &call);
    ws_session_begin_evaluation(session);
    assert_int_equal(statistics_of(session).evaluations, 0);
    ws_session_free(session);
}

static void statistics_include_the_evaluation_in_progress(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key keys[2] = {key_of(1), key_of(2)};
    ws_session_begin_evaluation(session);
    run_call(session, &keys[0], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    assert_int_equal(statistics_of(session).computed, 1);
    run_call(session, &keys[1], 1, similar, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    assert_int_equal(statistics_of(session).computed, 1);
    ws_session_begin_evaluation(session);
    assert_int_equal(statistics_of(session).evaluations, 1);
    ws_session_free(session);
}

static void changes_are_summed_up(void **state) {
    (void)state;
    ws_session *const session = new_session(NO_LIMIT);
    const ws_key key = key_of(1);
    run_evaluation(session, &key, 1, 0.0, WS_INTENT_COMPUTE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, 0.03125, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    run_evaluation(session, &key, 1, 0.5, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, (double)NAN, WS_INTENT_COMPARE, WS_ACTION_COMPUTE);
    run_evaluation(session, &key, 1, 0.0625, WS_INTENT_COMPARE, WS_ACTION_REUSE);
    const ws_statistics statistics = statistics_of(session);
    assert_int_equal(statistics.evaluations, 5);
    assert_int_equal(statistics.computed, 3);
    assert_int_equal(statistics.reused, 2);
    assert_int_equal(statistics.compared, 3);
    assert_true(statistics.change_sum == 0.59375);
    assert_true(statistics.change_min == 0.03125);
    assert_true(statistics.change_max == 0.5);
    assert_int_equal(statistics.reasons[WS_REASON_NO_ENTRY], 1);
    assert_int_equal(statistics.reasons[WS_REASON_CHANGED], 1);
    assert_int_equal(statistics.reasons[WS_REASON_NOT_FINITE], 1);
    ws_session_free(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aborted_computation_leaves_no_entry),
        cmocka_unit_test(commit_after_abort_changes_nothing),
        cmocka_unit_test(uncommitted_computation_is_not_reused),
        cmocka_unit_test(abort_keeps_entries_that_were_not_rebuilt),
        cmocka_unit_test(forgotten_entries_are_computed),
        cmocka_unit_test(forgotten_follower_computes_alone),
        cmocka_unit_test(forget_all_drops_every_entry_and_keeps_statistics),
        cmocka_unit_test(forget_all_during_a_call),
        cmocka_unit_test(forget_all_before_a_follower_decides),
        cmocka_unit_test(entry_unused_longest_makes_room),
        cmocka_unit_test(recycled_is_told_once),
        cmocka_unit_test(full_table_is_a_limit_and_recovers),
        cmocka_unit_test(failed_open_does_not_hide_a_recycled_slot),
        cmocka_unit_test(shifting_windows_never_run_out),
        cmocka_unit_test(fresh_statistics_are_empty),
        cmocka_unit_test(evaluations_without_decision_are_not_counted),
        cmocka_unit_test(statistics_include_the_evaluation_in_progress),
        cmocka_unit_test(changes_are_summed_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
