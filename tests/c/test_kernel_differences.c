/* Differences in 8 bits: what advance makes of them and extrapolate of what it made. */
#include "kernel_runs.h"

static size_t groups_of(size_t n) {
    return (n + WS_KERNEL_GROUP - 1) / WS_KERNEL_GROUP;
}

static const int8_t *values_of(const float *difference, size_t n) {
    return (const int8_t *)(difference + groups_of(n));
}

/* A difference of ordinary residuals, made by the kernel itself. */
static float *new_difference(size_t n) {
    float *const difference = new_floats(ws_difference_size(n), 0.0f);
    float *const residual = new_floats(n, 3.0f);
    float *const start = new_floats(n, 3.0f);
    float *const end = new_floats(n, 3.0f);
    (void)ws_residual_advance(&executor, WS_DTYPE_F32, residual, difference, start, end, n);
    free(residual);
    free(start);
    free(end);
    return difference;
}

static void check_group(const float *exact, size_t n, float scale, const int8_t *values) {
    float largest = 0.0f;
    for (size_t i = 0; i < n; ++i) {
        largest = fmaxf(largest, fabsf(exact[i]));
    }
    assert_true(scale == largest / 127.0f);
    for (size_t i = 0; i < n; ++i) {
        assert_true(fabs((double)scale * values[i] - (double)exact[i]) <= 0.5001 * (double)scale);
        if (fabsf(exact[i]) == largest) {
            assert_int_equal(abs(values[i]), 127);
        }
    }
}

static void check_advance_keeps_the_residual_and_how_it_changed(ws_dtype dtype, size_t n) {
    void *const start = new_array(dtype, n, 3.0f);
    void *const end = new_array(dtype, n, 3.0f);
    float *const residual = new_floats(n, 3.0f);
    float *const exact = copy_of(residual, n * sizeof(float));
    float *const expected = new_floats(n, 0.0f);
    float *const difference = new_floats(ws_difference_size(n), 0.0f);
    const double sum = ws_residual_advance(&executor, dtype, residual, difference, start, end, n);
    assert_same_double(sum, ws_residual_subtract(&executor, dtype, expected, start, end, n));
    assert_memory_equal(residual, expected, n * sizeof(float));
    for (size_t i = 0; i < n; ++i) {
        exact[i] = residual[i] - exact[i];
    }
    for (size_t group = 0; group < groups_of(n); ++group) {
        const size_t first = group * WS_KERNEL_GROUP;
        const size_t length = n - first < WS_KERNEL_GROUP ? n - first : WS_KERNEL_GROUP;
        check_group(exact + first, length, difference[group], values_of(difference, n) + first);
    }
    free(start);
    free(end);
    free(residual);
    free(exact);
    free(expected);
    free(difference);
}

static void advance_keeps_the_residual_and_how_it_changed(void **state) {
    (void)state;
    check_every_length(check_advance_keeps_the_residual_and_how_it_changed);
}

static void check_extrapolate_adds_in_order_and_rounds_once(ws_dtype dtype, size_t n) {
    const float weights[WS_DIFFERENCES] = {1.75f, -0.625f};
    const float none[WS_DIFFERENCES] = {0.0f, 0.0f};
    void *const hidden = new_array(dtype, n, 1.0f);
    void *const out = new_array(dtype, n, 1.0f);
    void *const expected = new_array(dtype, n, 1.0f);
    float *const residual = new_floats(n, 2.0f);
    float *const newer = new_difference(n);
    float *const older = new_difference(n);
    const float *const differences[WS_DIFFERENCES] = {newer, older};
    ws_residual_extrapolate(&executor, dtype, out, hidden, residual, differences, weights, n);
    for (size_t i = 0; i < n; ++i) {
        const size_t group = i / WS_KERNEL_GROUP;
        float sum = get(dtype, hidden, i) + residual[i];
        sum += (weights[0] * newer[group]) * (float)values_of(newer, n)[i];
        sum += (weights[1] * older[group]) * (float)values_of(older, n)[i];
        set(dtype, expected, i, sum);
    }
    assert_memory_equal(out, expected, n * size_of(dtype));
    /* Without its differences it is plain reuse, and it works in place. */
    ws_residual_apply(&executor, dtype, expected, hidden, residual, n);
    ws_residual_extrapolate(&executor, dtype, hidden, hidden, residual, differences, none, n);
    assert_memory_equal(hidden, expected, n * size_of(dtype));
    free(hidden);
    free(out);
    free(expected);
    free(residual);
    free(newer);
    free(older);
}

static void extrapolate_adds_in_order_and_rounds_once(void **state) {
    (void)state;
    check_every_length(check_extrapolate_adds_in_order_and_rounds_once);
}

/* What one bad element does to its group and to no other; n ends within a row. */
static void a_group_that_is_not_finite_says_so(void **state) {
    (void)state;
    const size_t n = 3 * WS_KERNEL_GROUP + 7;
    const size_t places[] = {0, WS_KERNEL_GROUP - 1, WS_KERNEL_GROUP, n - 1};
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); ++p) {
        for (size_t v = 0; v < sizeof(bad) / sizeof(bad[0]); ++v) {
            float *const start = new_floats(n, 1.0f);
            float *const end = new_floats(n, 1.0f);
            float *const residual = new_floats(n, 1.0f);
            float *const difference = new_floats(ws_difference_size(n), 1.0f);
            const float *const differences[WS_DIFFERENCES] = {difference, difference};
            const float weights[WS_DIFFERENCES] = {1.0f, 1.0f};
            end[places[p]] = bad[v];
            assert_true(!isfinite(ws_residual_advance(&executor, WS_DTYPE_F32, residual, difference, start, end, n)));
            for (size_t group = 0; group < groups_of(n); ++group) {
                assert_true(isnan(difference[group]) == (group == places[p] / WS_KERNEL_GROUP));
            }
            ws_residual_extrapolate(&executor, WS_DTYPE_F32, start, start, residual, differences, weights, n);
            assert_true(isnan(start[places[p]]));
            assert_true(isfinite(start[(places[p] + WS_KERNEL_GROUP) % n]));
            free(start);
            free(end);
            free(residual);
            free(difference);
        }
    }
}

static void a_difference_of_nearly_nothing_is_zero(void **state) {
    (void)state;
    const size_t n = 40;
    const float tiny[] = {0.0f, 0x1p-149f, 0x1p-101f};
    for (size_t k = 0; k < sizeof(tiny) / sizeof(tiny[0]); ++k) {
        float *const start = new_floats(n, 0.0f);
        float *const residual = new_floats(n, 0.0f);
        float *const end = new_floats(n, 0.0f);
        float *const difference = new_floats(ws_difference_size(n), 1.0f);
        for (size_t i = 0; i < n; ++i) {
            start[i] = residual[i] = 0.0f;
            end[i] = tiny[k];
        }
        (void)ws_residual_advance(&executor, WS_DTYPE_F32, residual, difference, start, end, n);
        assert_true(residual[n - 1] == tiny[k]);
        assert_true(difference[0] == 0.0f);
        for (size_t i = 0; i < n; ++i) {
            assert_int_equal(values_of(difference, n)[i], 0);
        }
        free(start);
        free(residual);
        free(end);
        free(difference);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advance_keeps_the_residual_and_how_it_changed),
        cmocka_unit_test(extrapolate_adds_in_order_and_rounds_once),
        cmocka_unit_test(a_group_that_is_not_finite_says_so),
        cmocka_unit_test(a_difference_of_nearly_nothing_is_zero),
    };
    return run_at_every_level(tests, sizeof(tests) / sizeof(tests[0]));
}
