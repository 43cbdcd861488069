/* Short forms for the tests of the session: they play its owner. No tensor is needed for that. */
#ifndef WAVESPEED_TESTS_SESSION_CALLS_H
#define WAVESPEED_TESTS_SESSION_CALLS_H

#include "wavespeed/session.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NO_LIMIT (-1)

static const double similar = 0.01;
static const double different = 0.5;

static inline ws_session *new_session(int64_t max_hits) {
    const ws_session_settings settings = {
        .threshold = 0.1, .sigma_start = 10.0, .sigma_end = 1.0, .max_consecutive_hits = max_hits};
    ws_session *session = NULL;
    assert_int_equal(ws_session_create(&settings, &session, NULL), WS_OK);
    return session;
}

static inline ws_key key_of(uint64_t uuid) {
    return (ws_key){
        .uuid_high = 1, .uuid_low = uuid, .window = 3, .fingerprint = 4, .cond_index = 0};
}

static inline ws_key key_in_window(uint64_t uuid, uint64_t window) {
    ws_key key = key_of(uuid);
    key.window = window;
    return key;
}

static inline ws_measurement measured(double change, double sigma) {
    return (ws_measurement){.difference_sum = change * 1024.0,
                            .reference_sum = 1024.0,
                            .residual_sum = 1.0,
                            .sigma = sigma};
}

static inline ws_call open_call(ws_session *session, const ws_key *keys, size_t conds,
                                ws_intent intent) {
    ws_call call;
    memset(&call, 0xAA, sizeof(call)); /* open must fill everything */
    assert_int_equal(ws_session_open(session, keys, conds, &call, NULL), WS_OK);
    assert_int_equal(call.conds, conds);
    assert_int_equal(call.intent, intent);
    assert_false(call.decided);
    return call;
}

static inline ws_action decide(ws_session *session, ws_call *call, double change) {
    const ws_measurement measurement = measured(change, 5.0);
    const ws_action action =
        ws_session_decide(session, call, call->intent == WS_INTENT_COMPARE ? &measurement : NULL);
    assert_true(call->decided);
    assert_int_equal(call->action, action);
    return action;
}

/* A whole call that ends well. */
static inline void run_call(ws_session *session, const ws_key *keys, size_t conds, double change,
                            ws_intent intent, ws_action action) {
    ws_call call = open_call(session, keys, conds, intent);
    assert_int_equal(decide(session, &call, change), action);
    ws_session_commit(session, &call);
}

/* An evaluation of one call. */
static inline void run_evaluation(ws_session *session, const ws_key *keys, size_t conds,
                                  double change, ws_intent intent, ws_action action) {
    ws_session_begin_evaluation(session);
    run_call(session, keys, conds, change, intent, action);
}

static inline ws_statistics statistics_of(const ws_session *session) {
    ws_statistics statistics;
    memset(&statistics, 0xAA, sizeof(statistics));
    ws_session_statistics(session, &statistics);
    int64_t reasons = 0;
    for (int i = 0; i < WS_REASON_COUNT; ++i) {
        reasons += statistics.reasons[i];
    }
    assert_int_equal(statistics.evaluations, statistics.computed + statistics.reused);
    assert_int_equal(reasons, statistics.computed);
    assert_int_equal(statistics.reasons[WS_REASON_NONE], 0);
    return statistics;
}

#endif
