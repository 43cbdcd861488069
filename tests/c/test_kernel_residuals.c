/* Storing a residual and adding it: finish, subtract and apply against what they promise in kernels.h. */
#include "kernel_runs.h"

static void check_finish_subtracts_and_sums(ws_dtype dtype, size_t n) {
    float *const base = new_floats(n, 3.0f);
    float *const before = copy_of(base, n * sizeof(float));
    void *const end = new_array(dtype, n, 3.0f);
    const double sum = ws_residual_finish(&executor, dtype, base, end, n);
    double expected = 0.0;
    for (size_t i = 0; i < n; ++i) {
        const float residual = get(dtype, end, i) - before[i];
        assert_true(base[i] == residual);
        expected += fabs((double)residual);
    }
    assert_near(sum, expected);
    assert_same_double(sum, sum_in_order(base_term, base, n));
    free(base);
    free(before);
    free(end);
}

static void finish_subtracts_and_sums(void **state) {
    (void)state;
    check_every_length(check_finish_subtracts_and_sums);
}

static void check_subtract_leaves_both_states_and_sums(ws_dtype dtype, size_t n) {
    void *const start = new_array(dtype, n, 3.0f);
    void *const end = new_array(dtype, n, 3.0f);
    void *const start_before = copy_of(start, n * size_of(dtype));
    void *const end_before = copy_of(end, n * size_of(dtype));
    float *const residual = new_floats(n, 3.0f);
    const double sum = ws_residual_subtract(&executor, dtype, residual, start, end, n);
    double expected = 0.0;
    for (size_t i = 0; i < n; ++i) {
        const float difference = get(dtype, end, i) - get(dtype, start, i);
        assert_true(residual[i] == difference);
        expected += fabs((double)difference);
    }
    assert_near(sum, expected);
    assert_same_double(sum, sum_in_order(base_term, residual, n));
    assert_memory_equal(start, start_before, n * size_of(dtype));
    assert_memory_equal(end, end_before, n * size_of(dtype));
    free(start);
    free(end);
    free(start_before);
    free(end_before);
    free(residual);
}

static void subtract_leaves_both_states_and_sums(void **state) {
    (void)state;
    check_every_length(check_subtract_leaves_both_states_and_sums);
}

static void check_apply_adds_and_rounds_once(ws_dtype dtype, size_t n) {
    void *const hidden = new_array(dtype, n, 3.0f);
    void *const before = copy_of(hidden, n * size_of(dtype));
    float *const residual = new_floats(n, 3.0f);
    void *const out = new_array(dtype, n, 0.0f);
    void *const expected = new_array(dtype, n, 0.0f);
    for (size_t i = 0; i < n; ++i) {
        set(dtype, expected, i, get(dtype, hidden, i) + residual[i]);
    }
    ws_residual_apply(&executor, dtype, out, hidden, residual, n);
    assert_memory_equal(hidden, before, n * size_of(dtype));
    assert_memory_equal(out, expected, n * size_of(dtype));
    ws_residual_apply(&executor, dtype, hidden, hidden, residual, n);
    assert_memory_equal(hidden, expected, n * size_of(dtype));
    free(hidden);
    free(before);
    free(residual);
    free(out);
    free(expected);
}

static void apply_adds_and_rounds_once(void **state) {
    (void)state;
    check_every_length(check_apply_adds_and_rounds_once);
}

/* Every 16-bit pattern as hidden state. */
static void apply_of_zero_changes_nothing(void **state) {
    (void)state;
    enum { PATTERNS = 65536 };
    float *const zero = new_floats(PATTERNS, 0.0f);
    memset(zero, 0, PATTERNS * sizeof(float));
    uint16_t *const hidden = new_array(WS_DTYPE_BF16, PATTERNS, 0.0f);
    uint16_t *const out = new_array(WS_DTYPE_BF16, PATTERNS, 0.0f);
    for (size_t i = 0; i < PATTERNS; ++i) {
        hidden[i] = (uint16_t)i;
    }
    for (int type = WS_DTYPE_BF16; type <= WS_DTYPE_F16; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        ws_residual_apply(&executor, dtype, out, hidden, zero, PATTERNS);
        for (size_t i = 0; i < PATTERNS; ++i) {
            if (isnan(get(dtype, hidden, i))) {
                assert_true(isnan(get(dtype, out, i)));
            } else {
                assert_true(get(dtype, out, i) == get(dtype, hidden, i)); /* -0 + 0 is 0 */
            }
        }
    }
    free(zero);
    free(hidden);
    free(out);
}

/* How many times larger than its end a residual may be for the end to come back bit for bit: the
 * two fp32 roundings then stay below half the distance between neighbours of the dtype. */
static const float exact_ratio[WS_DTYPE_COUNT] = {0.0f, 0x1p14f, 0x1p11f};

/* The promise behind "a hit with unchanged input shows the computed picture". */
static void check_reproduction(ws_dtype dtype, float hidden_scale, float end_scale) {
    void *const hidden = new_array(dtype, LARGEST, hidden_scale);
    void *const end = new_array(dtype, LARGEST, end_scale);
    void *const out = new_array(dtype, LARGEST, 0.0f);
    float *const residual = new_floats(LARGEST, 0.0f);
    size_t exact = 0;
    for (size_t i = 0; i < LARGEST; ++i) {
        residual[i] = get(dtype, hidden, i);
    }
    (void)ws_residual_finish(&executor, dtype, residual, end, LARGEST);
    ws_residual_apply(&executor, dtype, out, hidden, residual, LARGEST);
    for (size_t i = 0; i < LARGEST; ++i) {
        const float wanted = get(dtype, end, i);
        const float distance = fabsf(get(dtype, out, i) - wanted);
        assert_true(distance <= 0x1p-23f * (fabsf(residual[i]) + fabsf(wanted)));
        if (fabsf(residual[i]) <= exact_ratio[dtype] * fabsf(wanted)) {
            assert_true(distance == 0.0f);
            ++exact;
        }
    }
    if (dtype != WS_DTYPE_F32) {
        assert_true(exact > LARGEST - LARGEST / 100);
    }
    free(hidden);
    free(end);
    free(out);
    free(residual);
}

static void finish_then_apply_reproduces_the_end(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        check_reproduction((ws_dtype)type, 2.0f, 40.0f);
        check_reproduction((ws_dtype)type, 40.0f, 40.0f);
        check_reproduction((ws_dtype)type, 100.0f, 10.0f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finish_subtracts_and_sums),
        cmocka_unit_test(subtract_leaves_both_states_and_sums),
        cmocka_unit_test(apply_adds_and_rounds_once),
        cmocka_unit_test(apply_of_zero_changes_nothing),
        cmocka_unit_test(finish_then_apply_reproduces_the_end),
    };
    return run_at_every_level(tests, sizeof(tests) / sizeof(tests[0]));
}
