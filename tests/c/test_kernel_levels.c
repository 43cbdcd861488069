/* Every level of the vector units that this machine has gives the bits of the portable one: at any length, from any address
 * and for every value there is. A NaN is a NaN: which one is nobody's promise. */
#include "kernel_arrays.h"

enum {
    CASES = 400,       /* random ones per test and dtype */
    LONGEST_SHIFT = 19 /* elements that an array begins behind an address from malloc() */
};

/* ---- Arrays ----------------------------------------------------------------------------------------------------------- */

/* Lengths around the rows, blocks and chunks of kernels.h and around the vectors of every level; short ones most often. */
static size_t length_of_case(size_t i) {
    static const size_t edges[] = {WS_KERNEL_BLOCK, 2 * WS_KERNEL_BLOCK, WS_KERNEL_CHUNK};
    enum { SHORT = 4 * WS_KERNEL_LANES + 2, EDGES = sizeof(edges) / sizeof(edges[0]) };
    if (i < SHORT) {
        return i;
    }
    if (i < SHORT + 3 * EDGES) {
        return edges[(i - SHORT) / 3] - 1 + (i - SHORT) % 3;
    }
    return random_bits() % (random_bits() % 8 == 0 ? 3 * WS_KERNEL_BLOCK : 10 * WS_KERNEL_LANES);
}

typedef enum content {
    ORDINARY, /* as hidden states are */
    SPECIAL,  /* a few ordinary ones between zeros of both signs, denormals, the largest, infinities and NaN */
    ANY_BITS, /* mostly huge or tiny, some not finite */
    CONTENTS
} content;

static float value_of(content of) {
    if (of == ANY_BITS) {
        return ws_f32_of_bits(random_bits());
    }
    return of == SPECIAL && random_bits() % 4 != 0 ? special_value() : random_value(3.0f);
}

typedef struct operand {
    void *memory;
    void *first; /* element */
} operand;

static operand new_case(ws_dtype dtype, size_t n, content of) {
    const size_t shift = random_bits() % (LONGEST_SHIFT + 1);
    unsigned char *const memory = new_array(dtype, n + shift, 0.0f);
    void *const first = memory + shift * size_of(dtype);
    for (size_t i = 0; i < n; ++i) {
        set(dtype, first, i, value_of(of));
    }
    return (operand){memory, first};
}

/* ---- Properties ------------------------------------------------------------------------------------------------------- */

static void check_sums(ws_dtype dtype, size_t n, content of) {
    const ws_cpu_executor scalar = portable();
    const operand states[] = {new_case(dtype, n, of), new_case(dtype, n, of), new_case(dtype, n, of),
                              new_case(dtype, n, of)};
    const void *const stored[WS_HISTORY] = {states[1].first, states[2].first, states[3].first};
    ws_sums expected;
    ws_moments expected_moments;
    ws_residual_distance(&scalar, dtype, states[0].first, states[1].first, n, &expected);
    ws_residual_moments(&scalar, dtype, states[0].first, stored, n, &expected_moments);
    ws_cpu_executor executor = {0};
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        const char *const level = executor.kernels->name;
        ws_sums sums;
        ws_moments moments;
        ws_residual_distance(&executor, dtype, states[0].first, states[1].first, n, &sums);
        assert_same_sum(level, sums.difference, expected.difference);
        assert_same_sum(level, sums.reference, expected.reference);
        ws_residual_moments(&executor, dtype, states[0].first, stored, n, &moments);
        assert_same_sum(level, moments.difference, expected.difference);
        assert_same_sum(level, moments.reference, expected.reference);
        assert_same_sum(level, moments.ee, expected_moments.ee);
        assert_same_sum(level, moments.ed1, expected_moments.ed1);
        assert_same_sum(level, moments.ed2, expected_moments.ed2);
        assert_same_sum(level, moments.d1d1, expected_moments.d1d1);
        assert_same_sum(level, moments.d1d2, expected_moments.d1d2);
        assert_same_sum(level, moments.d2d2, expected_moments.d2d2);
    }
    for (size_t i = 0; i < 1 + WS_HISTORY; ++i) {
        free(states[i].memory);
    }
}

static void check_finish(ws_dtype dtype, size_t n, content of) {
    const ws_cpu_executor scalar = portable();
    const operand base = new_case(WS_DTYPE_F32, n, of);
    const operand end = new_case(dtype, n, of);
    float *const expected = copy_of(base.first, n * sizeof(float));
    const double expected_sum = ws_residual_finish(&scalar, dtype, expected, end.first, n);
    float *const before = copy_of(base.first, n * sizeof(float));
    ws_cpu_executor executor = {0};
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        memcpy(base.first, before, n * sizeof(float));
        const double sum = ws_residual_finish(&executor, dtype, base.first, end.first, n);
        assert_same_sum(executor.kernels->name, sum, expected_sum);
        assert_same_array(executor.kernels->name, WS_DTYPE_F32, base.first, expected, n);
    }
    free(base.memory);
    free(end.memory);
    free(expected);
    free(before);
}

static void check_subtract(ws_dtype dtype, size_t n, content of) {
    const ws_cpu_executor scalar = portable();
    const operand start = new_case(dtype, n, of);
    const operand end = new_case(dtype, n, of);
    const operand residual = new_case(WS_DTYPE_F32, n, of);
    float *const expected = new_floats(n, 0.0f);
    const double expected_sum = ws_residual_subtract(&scalar, dtype, expected, start.first, end.first, n);
    ws_cpu_executor executor = {0};
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        const double sum = ws_residual_subtract(&executor, dtype, residual.first, start.first, end.first, n);
        assert_same_sum(executor.kernels->name, sum, expected_sum);
        assert_same_array(executor.kernels->name, WS_DTYPE_F32, residual.first, expected, n);
    }
    free(start.memory);
    free(end.memory);
    free(residual.memory);
    free(expected);
}

/* One difference per level, byte by byte; then both extrapolated by the portable one. */
static void check_advance_and_extrapolate(ws_dtype dtype, size_t n, content of) {
    const ws_cpu_executor scalar = portable();
    const float weights[WS_DIFFERENCES] = {random_value(2.0f), random_value(2.0f)};
    const operand start = new_case(dtype, n, of);
    const operand end = new_case(dtype, n, of);
    const operand residual = new_case(WS_DTYPE_F32, n, of);
    const size_t size = ws_difference_size(n);
    const size_t scales = (n + WS_KERNEL_GROUP - 1) / WS_KERNEL_GROUP;
    float *const before = copy_of(residual.first, n * sizeof(float));
    float *const expected = copy_of(residual.first, n * sizeof(float));
    float *const expected_difference = new_floats(size, 0.0f);
    float *const difference = new_floats(size, 0.0f);
    void *const expected_out = new_array(dtype, n, 0.0f);
    void *const out = new_array(dtype, n, 0.0f);
    const float *const differences[WS_DIFFERENCES] = {expected_difference, expected_difference};
    const double expected_sum =
        ws_residual_advance(&scalar, dtype, expected, expected_difference, start.first, end.first, n);
    ws_residual_extrapolate(&scalar, dtype, expected_out, start.first, expected, differences, weights, n);
    ws_cpu_executor executor = {0};
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        const char *const level = executor.kernels->name;
        memcpy(residual.first, before, n * sizeof(float));
        const double sum = ws_residual_advance(&executor, dtype, residual.first, difference, start.first, end.first, n);
        assert_same_sum(level, sum, expected_sum);
        assert_same_array(level, WS_DTYPE_F32, residual.first, expected, n);
        assert_same_array(level, WS_DTYPE_F32, difference, expected_difference, scales);
        assert_memory_equal(difference + scales, expected_difference + scales, n);
        ws_residual_extrapolate(&executor, dtype, out, start.first, expected, differences, weights, n);
        assert_same_array(level, dtype, out, expected_out, n);
        void *const in_place = copy_of(start.first, n * size_of(dtype));
        ws_residual_extrapolate(&executor, dtype, in_place, in_place, expected, differences, weights, n);
        assert_same_array(level, dtype, in_place, expected_out, n);
        free(in_place);
    }
    free(start.memory);
    free(end.memory);
    free(residual.memory);
    free(before);
    free(expected);
    free(expected_difference);
    free(difference);
    free(expected_out);
    free(out);
}

static void check_apply(ws_dtype dtype, size_t n, content of) {
    const ws_cpu_executor scalar = portable();
    const operand hidden = new_case(dtype, n, of);
    const operand out = new_case(dtype, n, of);
    const operand residual = new_case(WS_DTYPE_F32, n, of);
    void *const applied = new_array(dtype, n, 0.0f);
    ws_residual_apply(&scalar, dtype, applied, hidden.first, residual.first, n);
    ws_cpu_executor executor = {0};
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        const char *const level = executor.kernels->name;
        ws_residual_apply(&executor, dtype, out.first, hidden.first, residual.first, n);
        assert_same_array(level, dtype, out.first, applied, n);
        void *const in_place = copy_of(hidden.first, n * size_of(dtype));
        ws_residual_apply(&executor, dtype, in_place, in_place, residual.first, n);
        assert_same_array(level, dtype, in_place, applied, n);
        free(in_place);
    }
    free(hidden.memory);
    free(out.memory);
    free(residual.memory);
    free(applied);
}

static void check_cases(void (*check)(ws_dtype dtype, size_t n, content of)) {
    for (int dtype = 0; dtype < WS_DTYPE_COUNT; ++dtype) {
        for (size_t i = 0; i < CASES; ++i) {
            check((ws_dtype)dtype, length_of_case(i), (content)(random_bits() % CONTENTS));
        }
    }
}

static void sums_have_the_same_bits(void **state) {
    (void)state;
    check_cases(check_sums);
}

static void finish_has_the_same_bits(void **state) {
    (void)state;
    check_cases(check_finish);
}

static void subtract_has_the_same_bits(void **state) {
    (void)state;
    check_cases(check_subtract);
}

static void advance_and_extrapolate_have_the_same_bits(void **state) {
    (void)state;
    check_cases(check_advance_and_extrapolate);
}

static void apply_has_the_same_bits(void **state) {
    (void)state;
    check_cases(check_apply);
}

static void apply_at_level(const void *context, ws_dtype dtype, void *out, const void *hidden, const float *residual,
                           size_t n) {
    ws_residual_apply(context, dtype, out, hidden, residual, n);
}

static void every_value_is_rounded_alike(void **state) {
    (void)state;
    ws_cpu_executor executor = {0};
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        check_rounding(executor.kernels->name, apply_at_level, &executor);
    }
}

static void every_machine_has_the_portable_level_last(void **state) {
    (void)state;
    assert_string_equal(portable().kernels->name, "scalar");
    for (size_t i = 0; ws_kernels_level(i) != NULL; ++i) {
        for (size_t k = 0; k < i; ++k) {
            assert_string_not_equal(ws_kernels_level(i)->name, ws_kernels_level(k)->name);
        }
    }
}

static void the_level_in_use_is_one_of_them(void **state) {
    (void)state;
    size_t found = 0;
    for (size_t i = 0; ws_kernels_level(i) != NULL; ++i) {
        found += ws_kernels_level(i) == ws_kernels_cpu() ? 1 : 0;
    }
    assert_int_equal(found, 1);
    assert_ptr_equal(ws_kernels_cpu(), ws_kernels_cpu());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_machine_has_the_portable_level_last),
        cmocka_unit_test(the_level_in_use_is_one_of_them),
        cmocka_unit_test(sums_have_the_same_bits),
        cmocka_unit_test(finish_has_the_same_bits),
        cmocka_unit_test(subtract_has_the_same_bits),
        cmocka_unit_test(advance_and_extrapolate_have_the_same_bits),
        cmocka_unit_test(apply_has_the_same_bits),
        cmocka_unit_test(every_value_is_rounded_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
