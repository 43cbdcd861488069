/* The limits of the node's numbers and the sentences a user reads. */
#include "wavespeed/options.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const ws_cache_options usual = {
    .residual_diff_threshold = 0.12, .start = 0.0, .end = 1.0, .max_consecutive_cache_hits = -1};

static void expect_sentence(ws_cache_options options, const char *sentence) {
    ws_error error = {WS_OK, 0, ""};
    assert_int_equal(ws_cache_options_check(&options, &error), WS_ERROR_RANGE);
    assert_int_equal(error.code, WS_ERROR_RANGE);
    assert_int_equal(error.offset, -1);
    assert_string_equal(error.text, sentence);
    assert_int_equal(ws_cache_options_check(&options, NULL), WS_ERROR_RANGE);
}

static void limits_are_inclusive(void **state) {
    (void)state;
    const ws_cache_options accepted[] = {
        usual,
        {0.0, 0.0, 0.0, -1, 0.0},
        {1.0, 1.0, 1.0, 0, 1.0},
        {0.5, 0.9, 0.1, INT64_MAX, 2.0}, /* start after end: nothing is reused, as in Comfy-WaveSpeed */
        {-0.0, -0.0, 1.0, 1, -0.0},
    };
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); ++i) {
        ws_error error = {WS_OK, 0, "untouched"};
        assert_int_equal(ws_cache_options_check(&accepted[i], &error), WS_OK);
        assert_string_equal(error.text, "untouched");
    }
}

static void threshold_outside(void **state) {
    (void)state;
    ws_cache_options options = usual;
    options.residual_diff_threshold = 1.5;
    expect_sentence(options, "residual_diff_threshold is 1.5; it must be between 0 and 1.");
    options.residual_diff_threshold = -0.1;
    expect_sentence(options, "residual_diff_threshold is -0.1; it must be between 0 and 1.");
    options.residual_diff_threshold = nextafter(1.0, 2.0);
    expect_sentence(options,
                    "residual_diff_threshold is 1.0000000000000002; it must be between 0 and 1.");
    options.residual_diff_threshold = (double)NAN;
    expect_sentence(options,
                    "residual_diff_threshold is not a number; it must be between 0 and 1.");
    options.residual_diff_threshold = (double)INFINITY;
    expect_sentence(options, "residual_diff_threshold is inf; it must be between 0 and 1.");
}

static void start_and_end_outside(void **state) {
    (void)state;
    ws_cache_options options = usual;
    options.start = 2.0;
    expect_sentence(options, "start is 2; it must be between 0 and 1.");
    options = usual;
    options.end = -1e-9;
    expect_sentence(options, "end is -1e-09; it must be between 0 and 1.");
    options.end = -(double)NAN;
    expect_sentence(options, "end is not a number; it must be between 0 and 1.");
}

static void hits_outside(void **state) {
    (void)state;
    ws_cache_options options = usual;
    options.max_consecutive_cache_hits = -2;
    expect_sentence(options, "max_consecutive_cache_hits is -2; it must be -1 (no limit) or more.");
    options.max_consecutive_cache_hits = INT64_MIN;
    expect_sentence(
        options,
        "max_consecutive_cache_hits is -9223372036854775808; it must be -1 (no limit) or more.");
}

static void speedup_outside(void **state) {
    (void)state;
    ws_cache_options options = usual;
    const double accepted[] = {0.0, -0.0, 1.0, 2.5, 10.0};
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); ++i) {
        options.speedup = accepted[i];
        assert_int_equal(ws_cache_options_check(&options, NULL), WS_OK);
        assert_int_equal(ws_speedup_check(accepted[i], NULL), accepted[i] == 0.0 ? WS_ERROR_RANGE : WS_OK);
    }
    options.speedup = 0.5;
    expect_sentence(options, "speedup is 0.5; it must be between 1 and 10, or 0 to let the threshold decide.");
    options.speedup = (double)NAN;
    expect_sentence(options, "speedup is not a number; it must be between 1 and 10, or 0 to let the threshold decide.");
    options.speedup = (double)INFINITY;
    expect_sentence(options, "speedup is inf; it must be between 1 and 10, or 0 to let the threshold decide.");
    ws_error error = {WS_OK, 0, ""};
    assert_int_equal(ws_speedup_check(0.5, &error), WS_ERROR_RANGE);
    assert_string_equal(error.text, "speedup is 0.5; it must be between 1 and 10.");
}

static void first_wrong_widget_is_reported(void **state) {
    (void)state;
    ws_cache_options options = {2.0, 3.0, 4.0, -5, 6.0};
    expect_sentence(options, "residual_diff_threshold is 2; it must be between 0 and 1.");
    options.residual_diff_threshold = 0.0;
    expect_sentence(options, "start is 3; it must be between 0 and 1.");
    options.start = 0.0;
    expect_sentence(options, "end is 4; it must be between 0 and 1.");
    options.end = 1.0;
    expect_sentence(options, "max_consecutive_cache_hits is -5; it must be -1 (no limit) or more.");
}

static void enabled_unless_threshold_or_hits_are_zero(void **state) {
    (void)state;
    ws_cache_options options = usual;
    assert_true(ws_cache_options_enabled(&options));
    options.max_consecutive_cache_hits = 1;
    assert_true(ws_cache_options_enabled(&options));
    options.max_consecutive_cache_hits = 0;
    assert_false(ws_cache_options_enabled(&options));
    options = usual;
    options.residual_diff_threshold = 0.0;
    assert_false(ws_cache_options_enabled(&options));
    options.speedup = 2.0;
    assert_true(ws_cache_options_enabled(&options));
    options.max_consecutive_cache_hits = 0;
    assert_false(ws_cache_options_enabled(&options));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_inclusive),
        cmocka_unit_test(threshold_outside),
        cmocka_unit_test(start_and_end_outside),
        cmocka_unit_test(hits_outside),
        cmocka_unit_test(speedup_outside),
        cmocka_unit_test(first_wrong_widget_is_reported),
        cmocka_unit_test(enabled_unless_threshold_or_hits_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
