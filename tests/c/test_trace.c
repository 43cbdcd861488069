/* Traces: written, read back, cut at every byte and damaged at every byte, and replayed. */
#include "wavespeed/trace.h"

#include "session_calls.h"
#include "source_text.h"

enum { STEPS = 8, WIDTH = 5, CONDS = 2 };

static const double schedule[] = {1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0};

/* Values on a line, so that a forecast meets them exactly. */
static void fill(float values[WIDTH], size_t step, float slope) {
    for (size_t i = 0; i < WIDTH; ++i) {
        values[i] = 1.0F + (float)i + slope * (float)step;
    }
}

/* A trace of STEPS evaluations of one call of CONDS conds. The caller frees it. */
static unsigned char *new_trace(size_t *size) {
    unsigned char *const bytes = malloc(1 << 16);
    assert_non_null(bytes);
    *size = ws_trace_write_begin(bytes, schedule, STEPS + 1);
    for (size_t step = 0; step < STEPS; ++step) {
        float probe[WIDTH], residual[WIDTH];
        fill(probe, step, 0.05F);
        fill(residual, step, 0.5F);
        ws_trace_call call = {.evaluation = (int64_t)step + 1, .conds = CONDS, .measurement = {.sigma = schedule[step]}};
        for (size_t i = 0; i < CONDS; ++i) {
            call.key[i] = key_of(i);
            call.probe[i] = (ws_sketch){WIDTH, WIDTH, probe};
            call.residual[i] = (ws_sketch){WIDTH, WIDTH, residual};
        }
        const size_t expected = ws_trace_write_call(NULL, &call);
        assert_int_equal(ws_trace_write_call(bytes + *size, &call), expected);
        *size += expected;
    }
    *size += ws_trace_write_end(bytes + *size, STEPS);
    assert_true(*size < 1 << 16);
    return bytes;
}

static ws_session_settings policy(ws_strategy strategy, double threshold, double speedup) {
    return (ws_session_settings){.threshold = threshold,
                                 .speedup = speedup,
                                 .strategy = strategy,
                                 .sigma_start = HUGE_VAL,
                                 .max_consecutive_hits = NO_LIMIT};
}

static void what_was_written_is_read(void **state) {
    (void)state;
    size_t size = 0;
    unsigned char *const bytes = new_trace(&size);
    ws_trace trace;
    assert_int_equal(ws_trace_read(bytes, size, &trace, NULL), WS_OK);
    assert_int_equal(trace.calls, STEPS);
    assert_int_equal(trace.evaluations, STEPS);
    double found[STEPS + 1];
    assert_int_equal(trace.schedule_length, STEPS + 1);
    ws_trace_schedule(&trace, found);
    assert_memory_equal(found, schedule, sizeof(schedule));
    ws_trace_call call;
    size_t calls = 0;
    for (size_t offset = ws_trace_next(&trace, trace.first, &call); offset != 0;
         offset = ws_trace_next(&trace, offset, &call)) {
        float probe[WIDTH];
        fill(probe, calls++, 0.05F);
        assert_int_equal(call.evaluation, calls);
        assert_int_equal(call.conds, CONDS);
        assert_int_equal(call.key[1].uuid_low, 1);
        assert_int_equal(call.probe[1].n, WIDTH);
        assert_memory_equal(call.probe[1].values, probe, sizeof(probe));
    }
    assert_int_equal(calls, STEPS);
    free(bytes);
}

static void every_cut_is_refused(void **state) {
    (void)state;
    size_t size = 0;
    unsigned char *const bytes = new_trace(&size);
    for (size_t kept = 0; kept < size; ++kept) {
        char *const cut = exact_copy((const char *)bytes, kept);
        ws_trace trace;
        ws_error error = {WS_OK, -1, ""};
        assert_int_equal(ws_trace_read(cut, kept, &trace, &error), WS_ERROR_RANGE);
        assert_true(strlen(error.text) > 0);
        free(cut);
    }
    free(bytes);
}

/* Whatever a byte becomes, the trace is refused, or replayed without touching memory that is not its own. */
static void every_damaged_byte_is_refused_or_harmless(void **state) {
    (void)state;
    size_t size = 0;
    unsigned char *const bytes = new_trace(&size);
    const ws_session_settings forecast = policy(WS_STRATEGY_FORECAST, 0.0, 2.0);
    size_t refused = 0;
    for (size_t place = 0; place < size; ++place) {
        char *const damaged = exact_copy((const char *)bytes, size);
        damaged[place] = (char)(damaged[place] ^ (char)0xFF);
        ws_trace trace;
        ws_replayed out[STEPS];
        if (ws_trace_read(damaged, size, &trace, NULL) != WS_OK) {
            ++refused;
        } else {
            assert_int_equal(trace.evaluations, STEPS);
            assert_int_equal(ws_trace_replay(&trace, &forecast, out, NULL), WS_OK);
        }
        free(damaged);
    }
    assert_true(refused > STEPS * 8);
    free(bytes);
}

static void a_forecast_meets_a_line_and_reuse_does_not(void **state) {
    (void)state;
    size_t size = 0;
    unsigned char *const bytes = new_trace(&size);
    ws_trace trace;
    assert_int_equal(ws_trace_read(bytes, size, &trace, NULL), WS_OK);
    ws_replayed reused[STEPS], forecast[STEPS];
    const ws_session_settings classic = policy(WS_STRATEGY_CLASSIC, 0.0, 2.0),
                              better = policy(WS_STRATEGY_FORECAST, 0.0, 2.0);
    assert_int_equal(ws_trace_replay(&trace, &classic, reused, NULL), WS_OK);
    assert_int_equal(ws_trace_replay(&trace, &better, forecast, NULL), WS_OK);
    for (size_t i = 0; i < STEPS; ++i) {
        assert_true(forecast[i].sigma == schedule[i]);
        assert_int_equal(forecast[i].computed, reused[i].computed);
        assert_true(forecast[i].computed ? forecast[i].actual == 0.0 : forecast[i].actual < 0.01);
        assert_true(reused[i].computed || reused[i].actual > 0.05);
        assert_true(i == 0 ? isnan(forecast[i].predicted) : forecast[i].predicted > 0.0);
    }
    free(bytes);
}

static void policies_that_make_no_sense_are_refused(void **state) {
    (void)state;
    size_t size = 0;
    unsigned char *const bytes = new_trace(&size);
    ws_trace trace;
    assert_int_equal(ws_trace_read(bytes, size, &trace, NULL), WS_OK);
    ws_replayed out[STEPS];
    const ws_session_settings nonsense = policy(WS_STRATEGY_FORECAST, 0.0, 0.5);
    assert_int_equal(ws_trace_replay(&trace, &nonsense, out, NULL), WS_ERROR_RANGE);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(every_damaged_byte_is_refused_or_harmless),
        cmocka_unit_test(a_forecast_meets_a_line_and_reuse_does_not),
        cmocka_unit_test(policies_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
