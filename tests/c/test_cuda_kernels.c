/* The CUDA kernels, run on the CPU by tests/c/emulated_cuda, give the bits of the portable level of the CPU's. */
#include "kernel_arrays.h"

#include "cuda/operands.h"
#include "emulated_cuda/emulated_kernels.h"

#include <stdio.h>

enum { RANDOM_CASES = 12 }; /* per kernel and dtype, beside the edges */

static const char *const dtype_names[WS_DTYPE_COUNT] = {"f32", "bf16", "f16"};

/* ---- Cases ---------------------------------------------------------------------------------------------------------- */

/* Lengths around rows, groups (also what a thread has in flight), blocks, chunks, and what the last CUDA block fetches at a
 * time. */
static size_t length_of_case(size_t i) {
    static const size_t edges[] = {WS_KERNEL_LANES, WS_KERNEL_GROUP, WS_LAUNCH_THREADS * WS_LAUNCH_ELEMENTS,
                                   WS_KERNEL_BLOCK, WS_KERNEL_CHUNK,      3 * WS_KERNEL_CHUNK + 5 * WS_KERNEL_BLOCK};
    enum { EDGES = sizeof(edges) / sizeof(edges[0]) };
    if (i < 2) {
        return 1 + i;
    }
    return i - 2 < 3 * EDGES ? edges[(i - 2) / 3] - 1 + (i - 2) % 3 : 1 + random_bits() % (2 * WS_KERNEL_CHUNK);
}

enum { CASES = 2 + 3 * 6 + RANDOM_CASES };

/* A quarter of the cases has values that are no hidden state's. */
static void *new_case(ws_dtype dtype, size_t n, size_t i) {
    void *const array = new_array(dtype, n, 3.0f);
    for (size_t k = 0; i % 4 == 3 && k < n; ++k) {
        if (random_bits() % 8 == 0) {
            set(dtype, array, k, special_value());
        }
    }
    return array;
}

/* ---- Launching ------------------------------------------------------------------------------------------------------ */

static void launch(const char *kernel, ws_dtype dtype, ws_cuda_operands *operands, uint32_t sums, emulated_order order) {
    char name[64];
    (void)snprintf(name, sizeof(name), "wavespeed_%s_%s", kernel, dtype_names[dtype]);
    const ws_launch geometry = ws_launch_for((size_t)operands->n, sums);
    assert_int_not_equal(geometry.blocks, 0);
    /* Exactly as large as promised: the sanitizer watches the end. What a kernel must not rely on is no number. */
    unsigned char *const workspace = malloc(geometry.workspace_bytes + 1);
    assert_non_null(workspace);
    memset(workspace, 0xFF, geometry.workspace_bytes);
    double results[WS_LAUNCH_MOST_SUMS];
    if (sums > 0) {
        memset(workspace, 0, WS_LAUNCH_TICKET_BYTES);
        operands->ticket = (uint32_t *)(void *)workspace;
        operands->parts = (double *)(void *)(workspace + WS_LAUNCH_TICKET_BYTES);
        memset(results, 0xFF, sizeof(results));
    }
    assert_true(emulated_launch(name, geometry.blocks, geometry.threads, operands, order));
    free(workspace);
}

/* ---- Properties ----------------------------------------------------------------------------------------------------- */

static void check_sums(ws_dtype dtype, size_t n, size_t i) {
    const ws_cpu_executor scalar = portable();
    void *states[1 + WS_HISTORY];
    ws_cuda_operands operands = {.n = n};
    for (size_t k = 0; k < 1 + WS_HISTORY; ++k) {
        operands.in[k] = states[k] = new_case(dtype, n, i);
    }
    ws_sums sums;
    ws_moments moments;
    ws_residual_distance(&scalar, dtype, states[0], states[1], n, &sums);
    ws_residual_moments(&scalar, dtype, states[0], &operands.in[1], n, &moments);
    const double expected[] = {moments.difference, moments.reference, moments.ee,   moments.ed1,
                               moments.ed2,        moments.d1d1,      moments.d1d2, moments.d2d2};
    for (int order = EMULATED_FORWARD; order <= EMULATED_BACKWARD; ++order) {
        double results[WS_LAUNCH_MOST_SUMS];
        operands.sums = results;
        launch("distance", dtype, &operands, 2, (emulated_order)order);
        assert_same_sum("CUDA", results[0], sums.difference);
        assert_same_sum("CUDA", results[1], sums.reference);
        launch("moments", dtype, &operands, 8, (emulated_order)order);
        for (size_t k = 0; k < sizeof(expected) / sizeof(expected[0]); ++k) {
            assert_same_sum("CUDA", results[k], expected[k]);
        }
    }
    for (size_t k = 0; k < 1 + WS_HISTORY; ++k) {
        free(states[k]);
    }
}

static void check_finish(ws_dtype dtype, size_t n, size_t i) {
    const ws_cpu_executor scalar = portable();
    float *const base = new_case(WS_DTYPE_F32, n, i);
    void *const end = new_case(dtype, n, i);
    float *const expected = copy_of(base, n * sizeof(float));
    const double expected_sum = ws_residual_finish(&scalar, dtype, expected, end, n);
    for (int order = EMULATED_FORWARD; order <= EMULATED_BACKWARD; ++order) {
        float *const result = copy_of(base, n * sizeof(float));
        double sum;
        ws_cuda_operands operands = {.n = n, .in = {end}, .out = result, .sums = &sum};
        launch("finish", dtype, &operands, 1, (emulated_order)order);
        assert_same_sum("CUDA", sum, expected_sum);
        assert_same_array("CUDA", WS_DTYPE_F32, result, expected, n);
        free(result);
    }
    free(base);
    free(end);
    free(expected);
}

static void check_subtract(ws_dtype dtype, size_t n, size_t i) {
    const ws_cpu_executor scalar = portable();
    void *const start = new_case(dtype, n, i);
    void *const end = new_case(dtype, n, i);
    float *const expected = new_floats(n, 0.0f);
    const double expected_sum = ws_residual_subtract(&scalar, dtype, expected, start, end, n);
    for (int order = EMULATED_FORWARD; order <= EMULATED_BACKWARD; ++order) {
        float *const residual = new_floats(n, 1.0f);
        double sum;
        ws_cuda_operands operands = {.n = n, .in = {start, end}, .out = residual, .sums = &sum};
        launch("subtract", dtype, &operands, 1, (emulated_order)order);
        assert_same_sum("CUDA", sum, expected_sum);
        assert_same_array("CUDA", WS_DTYPE_F32, residual, expected, n);
        free(residual);
    }
    free(start);
    free(end);
    free(expected);
}

/* A group of a residual that does not change, and one that changes by next to nothing: the scales of both are zero. */
static void make_groups_of_nothing(ws_dtype dtype, size_t n, void *start, void *end, float *residual) {
    for (size_t k = 0; k < n && k < 2 * WS_KERNEL_GROUP; ++k) {
        set(dtype, start, k, 0.0f);
        set(dtype, end, k, 1.0f);
        residual[k] = 1.0f;
    }
    for (size_t k = WS_KERNEL_GROUP; k < n && k < 2 * WS_KERNEL_GROUP; ++k) {
        set(dtype, end, k, 0.0f);
        residual[k] = 0x1p-101f;
    }
}

static void check_advance(ws_dtype dtype, size_t n, size_t i) {
    const ws_cpu_executor scalar = portable();
    void *const start = new_case(dtype, n, i);
    void *const end = new_case(dtype, n, i);
    float *const before = new_case(WS_DTYPE_F32, n, i);
    const size_t size = ws_difference_size(n);
    const size_t groups = (n + WS_KERNEL_GROUP - 1) / WS_KERNEL_GROUP;
    if (i % 4 == 1) {
        make_groups_of_nothing(dtype, n, start, end, before);
    }
    float *const expected = copy_of(before, n * sizeof(float));
    float *const before_difference = new_floats(size, 1.0f);
    float *const expected_difference = copy_of(before_difference, size * sizeof(float));
    const double expected_sum = ws_residual_advance(&scalar, dtype, expected, expected_difference, start, end, n);
    for (int order = EMULATED_FORWARD; order <= EMULATED_BACKWARD; ++order) {
        float *const residual = copy_of(before, n * sizeof(float));
        float *const difference = copy_of(before_difference, size * sizeof(float));
        double sum;
        ws_cuda_operands operands = {
            .n = n, .in = {start, end}, .out = residual, .difference = difference, .sums = &sum};
        launch("advance", dtype, &operands, 1, (emulated_order)order);
        assert_same_sum("CUDA", sum, expected_sum);
        assert_same_array("CUDA", WS_DTYPE_F32, residual, expected, n);
        assert_same_array("CUDA", WS_DTYPE_F32, difference, expected_difference, groups);
        /* All that is behind the scales, also what is behind the values and nobody's. */
        assert_memory_equal(difference + groups, expected_difference + groups, (size - groups) * sizeof(float));
        free(residual);
        free(difference);
    }
    free(start);
    free(end);
    free(before);
    free(before_difference);
    free(expected);
    free(expected_difference);
}

/* Scales as those of states, and values of any bits. */
static float *new_difference(size_t n, size_t i) {
    float *const difference = new_case(WS_DTYPE_F32, ws_difference_size(n), i);
    unsigned char *const values = (unsigned char *)(difference + (n + WS_KERNEL_GROUP - 1) / WS_KERNEL_GROUP);
    for (size_t k = 0; k < n; ++k) {
        values[k] = (unsigned char)random_bits();
    }
    return difference;
}

static void check_apply_and_extrapolate(ws_dtype dtype, size_t n, size_t i) {
    const ws_cpu_executor scalar = portable();
    void *const hidden = new_case(dtype, n, i);
    float *const residual = new_case(WS_DTYPE_F32, n, i);
    float *const newer = new_difference(n, i);
    float *const older = new_difference(n, i);
    const float *const differences[WS_DIFFERENCES] = {newer, older};
    void *const applied = new_array(dtype, n, 0.0f);
    void *const extrapolated = new_array(dtype, n, 0.0f);
    void *const out = new_array(dtype, n, 0.0f);
    void *const in_place = copy_of(hidden, n * size_of(dtype));
    ws_cuda_operands operands = {.n = n,
                                 .in = {hidden, residual, newer, older},
                                 .out = out,
                                 .weights = {random_value(2.0f), random_value(2.0f)}};
    ws_residual_apply(&scalar, dtype, applied, hidden, residual, n);
    ws_residual_extrapolate(&scalar, dtype, extrapolated, hidden, residual, differences, operands.weights, n);
    launch("apply", dtype, &operands, 0, EMULATED_FORWARD);
    assert_same_array("CUDA", dtype, out, applied, n);
    launch("extrapolate", dtype, &operands, 0, EMULATED_BACKWARD);
    assert_same_array("CUDA", dtype, out, extrapolated, n);
    operands.in[0] = operands.out = in_place;
    launch("apply", dtype, &operands, 0, EMULATED_BACKWARD);
    assert_same_array("CUDA", dtype, in_place, applied, n);
    memcpy(in_place, hidden, n * size_of(dtype));
    launch("extrapolate", dtype, &operands, 0, EMULATED_FORWARD);
    assert_same_array("CUDA", dtype, in_place, extrapolated, n);
    free(hidden);
    free(residual);
    free(newer);
    free(older);
    free(applied);
    free(extrapolated);
    free(out);
    free(in_place);
}

static void check_cases(void (*check)(ws_dtype dtype, size_t n, size_t i)) {
    for (int dtype = 0; dtype < WS_DTYPE_COUNT; ++dtype) {
        for (size_t i = 0; i < CASES; ++i) {
            check((ws_dtype)dtype, length_of_case(i), i);
        }
    }
}

static void sums_have_the_bits_of_the_cpu(void **state) {
    (void)state;
    check_cases(check_sums);
}

static void finish_has_the_bits_of_the_cpu(void **state) {
    (void)state;
    check_cases(check_finish);
}

static void subtract_has_the_bits_of_the_cpu(void **state) {
    (void)state;
    check_cases(check_subtract);
}

static void advance_has_the_bits_of_the_cpu(void **state) {
    (void)state;
    check_cases(check_advance);
}

static void apply_and_extrapolate_have_the_bits_of_the_cpu(void **state) {
    (void)state;
    check_cases(check_apply_and_extrapolate);
}

/* More chunks than the last CUDA block fetches at a time, twice over. */
static void many_chunks_are_added_in_their_order(void **state) {
    (void)state;
    check_sums(WS_DTYPE_BF16, (size_t)WS_KERNEL_CHUNK * 130 + 17, 0);
}

static void apply_by_cuda(const void *context, ws_dtype dtype, void *out, const void *hidden, const float *residual,
                          size_t n) {
    (void)context;
    ws_cuda_operands operands = {.n = n, .in = {hidden, residual}, .out = out};
    launch("apply", dtype, &operands, 0, EMULATED_FORWARD);
}

static void every_value_is_rounded_as_on_the_cpu(void **state) {
    (void)state;
    check_rounding("CUDA", apply_by_cuda, NULL);
}

static void read_gathers_small_arrays_in_order(void **state) {
    (void)state;
    const double sums[3] = {1.5, -2.25, 1e300};
    const float sigma[2] = {0.1f, 7.0f};
    double values[6] = {0};
    uint32_t done = 0;
    ws_cuda_reading reading = {.parts = {{sums, 3, 1}, {sigma, 2, 0}, {sigma, 0, 0}, {&sums[1], 1, 1}},
                               .count = 4,
                               .sequence = 42,
                               .values = values,
                               .done = &done};
    assert_true(emulated_launch("wavespeed_read", 1, WS_CUDA_READ_MOST, &reading, EMULATED_BACKWARD));
    const double expected[6] = {1.5, -2.25, 1e300, (double)0.1f, 7.0, -2.25};
    assert_memory_equal(values, expected, sizeof(expected));
    assert_int_equal(done, 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_bits_of_the_cpu),
        cmocka_unit_test(finish_has_the_bits_of_the_cpu),
        cmocka_unit_test(subtract_has_the_bits_of_the_cpu),
        cmocka_unit_test(advance_has_the_bits_of_the_cpu),
        cmocka_unit_test(apply_and_extrapolate_have_the_bits_of_the_cpu),
        cmocka_unit_test(many_chunks_are_added_in_their_order),
        cmocka_unit_test(every_value_is_rounded_as_on_the_cpu),
        cmocka_unit_test(read_gathers_small_arrays_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
