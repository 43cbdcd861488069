/* Distance and moments against a float64 oracle and against the summation order that kernels.h promises. */
#include "kernel_runs.h"

typedef struct operands {
    ws_dtype dtype;
    const void *a;
    const void *b;
} operands;

static float difference_term(const void *context, size_t i) {
    const operands *const of = context;
    return fabsf(get(of->dtype, of->a, i) - get(of->dtype, of->b, i));
}

static float reference_term(const void *context, size_t i) {
    const operands *const of = context;
    return fabsf(get(of->dtype, of->b, i));
}

static void check_distance_agrees_with_float64(ws_dtype dtype, size_t n) {
    void *const a = new_array(dtype, n, 3.0f);
    void *const b = new_array(dtype, n, 3.0f);
    ws_sums sums = {-1.0, -1.0};
    ws_residual_distance(&executor, dtype, a, b, n, &sums);
    double difference = 0.0;
    double reference = 0.0;
    for (size_t i = 0; i < n; ++i) {
        difference += fabs((double)get(dtype, a, i) - (double)get(dtype, b, i));
        reference += fabs((double)get(dtype, b, i));
    }
    assert_near(sums.difference, difference);
    assert_near(sums.reference, reference);
    free(a);
    free(b);
}

static void distance_agrees_with_float64(void **state) {
    (void)state;
    check_every_length(check_distance_agrees_with_float64);
}

static void check_distance_has_the_promised_order(ws_dtype dtype, size_t n) {
    void *const a = new_array(dtype, n, 3.0f);
    void *const b = new_array(dtype, n, 1.0f);
    const operands both = {dtype, a, b};
    ws_sums sums = {-1.0, -1.0};
    ws_residual_distance(&executor, dtype, a, b, n, &sums);
    assert_same_double(sums.difference, sum_in_order(difference_term, &both, n));
    assert_same_double(sums.reference, sum_in_order(reference_term, &both, n));
    free(a);
    free(b);
}

static void distance_has_the_promised_order(void **state) {
    (void)state;
    check_every_length(check_distance_has_the_promised_order);
}

/* One power of two for each lane of each block, so that fp64 additions of their sums round: in any
 * other order they have other bits. */
static int exponent_of_lane(size_t i) {
    const size_t lane = i / WS_KERNEL_BLOCK * WS_KERNEL_LANES + i % WS_KERNEL_LANES;
    return (int)(lane * 2654435761U % 83) - 41;
}

static void order_holds_where_additions_round(void **state) {
    (void)state;
    for (int type = WS_DTYPE_F32; type <= WS_DTYPE_BF16; ++type) { /* fp16 has no such range */
        const ws_dtype dtype = (ws_dtype)type;
        const size_t n = 200001;
        void *const a = new_array(dtype, n, 1.0f);
        void *const b = new_array(dtype, n, 1.0f);
        float *const base = new_floats(n, 1.0f);
        for (size_t i = 0; i < n; ++i) {
            set(dtype, a, i, ldexpf(random_value(1.0f), exponent_of_lane(i)));
            set(dtype, b, i, ldexpf(random_value(1.0f), exponent_of_lane(i)));
            base[i] = get(dtype, b, i);
        }
        const operands both = {dtype, a, b};
        ws_sums sums = {-1.0, -1.0};
        ws_residual_distance(&executor, dtype, a, b, n, &sums);
        assert_same_double(sums.difference, sum_in_order(difference_term, &both, n));
        assert_same_double(sums.reference, sum_in_order(reference_term, &both, n));
        const double sum = ws_residual_finish(&executor, dtype, base, a, n);
        assert_same_double(sum, sum_in_order(base_term, base, n));
        assert_same_double(ws_residual_subtract(&executor, dtype, base, b, a, n), sum);
        free(a);
        free(b);
        free(base);
    }
}

static void equal_operands_have_no_distance(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        void *const a = new_array((ws_dtype)type, 5000, 3.0f);
        ws_sums sums = {-1.0, -1.0};
        ws_residual_distance(&executor, (ws_dtype)type, a, a, 5000, &sums);
        assert_true(sums.difference == 0.0);
        assert_true(sums.reference > 0.0);
        free(a);
    }
}

static void check_moments_agree_with_float64(ws_dtype dtype, size_t n) {
    void *arrays[1 + WS_HISTORY];
    for (size_t i = 0; i < 1 + WS_HISTORY; ++i) {
        arrays[i] = new_array(dtype, n, 1.0f);
    }
    const void *const stored[WS_HISTORY] = {arrays[1], arrays[2], arrays[3]};
    ws_moments sums, oracle = {0};
    ws_residual_moments(&executor, dtype, arrays[0], stored, n, &sums);
    double magnitude = 0.0; /* products may cancel: their error is relative to what was added */
    for (size_t i = 0; i < n; ++i) {
        const double newest = (double)get(dtype, arrays[1], i);
        const double middle = (double)get(dtype, arrays[2], i);
        const double e = (double)get(dtype, arrays[0], i) - newest;
        const double d1 = newest - middle;
        const double d2 = middle - (double)get(dtype, arrays[3], i);
        oracle.ee += e * e;
        oracle.ed1 += e * d1;
        oracle.ed2 += e * d2;
        oracle.d1d1 += d1 * d1;
        oracle.d1d2 += d1 * d2;
        oracle.d2d2 += d2 * d2;
        magnitude += e * e + d1 * d1 + d2 * d2;
    }
    const double results[] = {sums.ee, sums.ed1, sums.ed2, sums.d1d1, sums.d1d2, sums.d2d2};
    const double expected[] = {oracle.ee,   oracle.ed1,  oracle.ed2,
                               oracle.d1d1, oracle.d1d2, oracle.d2d2};
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); ++i) {
        assert_true(fabs(results[i] - expected[i]) <= 1e-6 * magnitude);
    }
    ws_sums distance;
    ws_residual_distance(&executor, dtype, arrays[0], arrays[1], n, &distance);
    assert_same_double(sums.difference, distance.difference);
    assert_same_double(sums.reference, distance.reference);
    for (size_t i = 0; i < 1 + WS_HISTORY; ++i) {
        free(arrays[i]);
    }
}

static void moments_agree_with_float64(void **state) {
    (void)state;
    check_every_length(check_moments_agree_with_float64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distance_agrees_with_float64),
        cmocka_unit_test(distance_has_the_promised_order),
        cmocka_unit_test(order_holds_where_additions_round),
        cmocka_unit_test(equal_operands_have_no_distance),
        cmocka_unit_test(moments_agree_with_float64),
    };
    return run_at_every_level(tests, sizeof(tests) / sizeof(tests[0]));
}
