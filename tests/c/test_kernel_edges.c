/* The kernels at their edges: arrays that begin anywhere, nothing at all, and values that are not ordinary. */
#include "kernel_runs.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* Tensors may be views that begin at any element. */
static void any_element_is_a_good_beginning(void **state) {
    (void)state;
    const size_t n = 4097;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        const size_t size = size_of(dtype);
        unsigned char *const a = new_array(dtype, n + 17, 3.0f);
        unsigned char *const b = new_array(dtype, n + 17, 3.0f);
        float *const residual = new_floats(n + 17, 3.0f);
        for (size_t shift = 0; shift < 17; ++shift) {
            void *const aligned_a = copy_of(a + shift * size, n * size);
            void *const aligned_b = copy_of(b + 3 * size, n * size);
            ws_sums shifted = {0};
            ws_sums aligned = {0};
            ws_residual_distance(&executor, dtype, a + shift * size, b + 3 * size, n, &shifted);
            ws_residual_distance(&executor, dtype, aligned_a, aligned_b, n, &aligned);
            assert_same_double(shifted.difference, aligned.difference);
            assert_same_double(shifted.reference, aligned.reference);

            float *const shifted_base = new_floats(n + 17, 0.0f);
            memcpy(shifted_base + shift, residual + 5, n * sizeof(float));
            float *const aligned_base = copy_of(residual + 5, n * sizeof(float));
            assert_same_double(ws_residual_finish(&executor, dtype, shifted_base + shift, a + shift * size, n),
                               ws_residual_finish(&executor, dtype, aligned_base, aligned_a, n));
            assert_memory_equal(shifted_base + shift, aligned_base, n * sizeof(float));

            const double sum = ws_residual_subtract(&executor, dtype, aligned_base, aligned_b, aligned_a, n);
            assert_same_double(
                ws_residual_subtract(&executor, dtype, shifted_base + shift, b + 3 * size, a + shift * size, n), sum);
            assert_memory_equal(shifted_base + shift, aligned_base, n * sizeof(float));

            void *const shifted_out = copy_of(a, (n + 17) * size);
            unsigned char *const target = (unsigned char *)shifted_out + shift * size;
            ws_residual_apply(&executor, dtype, target, target, residual + 5, n);
            ws_residual_apply(&executor, dtype, aligned_b, aligned_a, residual + 5, n);
            assert_memory_equal(target, aligned_b, n * size);
            assert_memory_equal(shifted_out, a, shift * size);
            assert_memory_equal(target + n * size, a + (shift + n) * size, (17 - shift) * size);
            free(aligned_a);
            free(aligned_b);
            free(shifted_base);
            free(aligned_base);
            free(shifted_out);
        }
        free(a);
        free(b);
        free(residual);
    }
}

/* One bad element anywhere, full rows and tails alike, must reach the sums. */
static void nan_and_infinity_reach_the_sums(void **state) {
    (void)state;
    const size_t n = 4096 + 33;
    const size_t places[] = {0, 31, 32, 4095, 4096, 4128};
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); ++p) {
            const float bad[] = {(float)NAN, (float)INFINITY, -(float)INFINITY};
            for (size_t v = 0; v < 3; ++v) {
                void *const good = new_array(dtype, n, 1.0f);
                void *const array = new_array(dtype, n, 1.0f);
                float *const base = new_floats(n, 1.0f);
                set(dtype, array, places[p], bad[v]);
                ws_sums sums = {0};
                ws_residual_distance(&executor, dtype, array, good, n, &sums);
                assert_true(!isfinite(sums.difference));
                assert_true(isfinite(sums.reference));
                ws_residual_distance(&executor, dtype, good, array, n, &sums);
                assert_true(!isfinite(sums.difference));
                assert_true(!isfinite(sums.reference));
                assert_true(!isfinite(ws_residual_subtract(&executor, dtype, base, array, good, n)));
                assert_true(!isfinite(base[places[p]]));
                assert_true(isfinite(base[(places[p] + 1) % n]));
                assert_true(!isfinite(ws_residual_subtract(&executor, dtype, base, good, array, n)));
                assert_true(!isfinite(ws_residual_finish(&executor, dtype, base, array, n)));
                ws_residual_apply(&executor, dtype, good, good, base, n);
                assert_true(!isfinite(get(dtype, good, places[p])));
                assert_true(isfinite(get(dtype, good, (places[p] + 1) % n)));
                free(good);
                free(array);
                free(base);
            }
        }
    }
}

static void denormals_are_kept(void **state) {
    (void)state;
    const float tiny[WS_DTYPE_COUNT] = {0x1p-149f, 0x1p-133f,
                                        0x1p-24f}; /* the smallest of each dtype */
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        const size_t n = 100;
        void *const zero = new_array(dtype, n, 0.0f);
        void *const array = new_array(dtype, n, 0.0f);
        float *const base = new_floats(n, 0.0f);
        for (size_t i = 0; i < n; ++i) {
            set(dtype, zero, i, 0.0f);
            set(dtype, array, i, tiny[dtype]);
            base[i] = 0.0f;
        }
        ws_sums sums = {0};
        ws_residual_distance(&executor, dtype, zero, array, n, &sums);
        assert_true(sums.difference == 100.0 * (double)tiny[dtype]);
        assert_true(sums.reference == 100.0 * (double)tiny[dtype]);
        assert_true(ws_residual_subtract(&executor, dtype, base, array, zero, n) == 100.0 * (double)tiny[dtype]);
        for (size_t i = 0; i < n; ++i) {
            assert_true(base[i] == -tiny[dtype]);
            base[i] = 0.0f;
        }
        assert_true(ws_residual_finish(&executor, dtype, base, array, n) == 100.0 * (double)tiny[dtype]);
        ws_residual_apply(&executor, dtype, zero, zero, base, n);
        assert_memory_equal(zero, array, n * size_of(dtype));
        free(zero);
        free(array);
        free(base);
    }
}

/* As torch.set_flush_denormal() sets it. It belongs to the thread, and threads of a pool may have it set differently. */
static void flushing_of_denormals_by_the_thread_changes_nothing(void **state) {
    (void)state;
#if defined(__SSE2__)
    const size_t n = 100;
    const float tiny = 0x1p-149f;
    float *const zero = new_floats(n, 0.0f);
    float *const array = new_floats(n, 0.0f);
    float *const out = new_floats(n, 0.0f);
    for (size_t i = 0; i < n; ++i) {
        zero[i] = 0.0f;
        array[i] = tiny;
    }
    const unsigned before = _mm_getcsr();
    const unsigned flushing = before | 0x8040; /* flush to zero, denormals are zero */
    ws_sums sums = {0};
    _mm_setcsr(flushing);
    ws_residual_distance(&executor, WS_DTYPE_F32, zero, array, n, &sums);
    ws_residual_apply(&executor, WS_DTYPE_F32, out, zero, array, n);
    const double sum = ws_residual_finish(&executor, WS_DTYPE_F32, zero, array, n);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    assert_int_equal(after, flushing);
    assert_same_double(sums.difference, 100.0 * (double)tiny);
    assert_same_double(sums.reference, 100.0 * (double)tiny);
    assert_same_double(sum, 100.0 * (double)tiny);
    assert_memory_equal(out, array, n * sizeof(float));
    assert_memory_equal(zero, array, n * sizeof(float));
    free(zero);
    free(array);
    free(out);
#else
    skip();
#endif
}

static void overflow_of_a_half_is_infinity(void **state) {
    (void)state;
    uint16_t hidden[3];
    const float residual[3] = {20000.0f, 15.0f, 16.0f};
    set(WS_DTYPE_F16, hidden, 0, 60000.0f);
    set(WS_DTYPE_F16, hidden, 1, 65504.0f);
    set(WS_DTYPE_F16, hidden, 2, 65504.0f);
    ws_residual_apply(&executor, WS_DTYPE_F16, hidden, hidden, residual, 3);
    assert_int_equal(hidden[0], 0x7C00);
    assert_int_equal(hidden[1], 0x7BFF);
    assert_int_equal(hidden[2], 0x7C00);
}

static void no_elements_touch_no_memory(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        ws_sums sums = {5.0, 5.0};
        ws_residual_distance(&executor, dtype, NULL, NULL, 0, &sums);
        assert_true(sums.difference == 0.0 && sums.reference == 0.0);
        assert_true(ws_residual_finish(&executor, dtype, NULL, NULL, 0) == 0.0);
        assert_true(ws_residual_subtract(&executor, dtype, NULL, NULL, NULL, 0) == 0.0);
        float nothing[WS_DIFFERENCES] = {0.0f, 0.0f};
        const float *const differences[WS_DIFFERENCES] = {nothing, nothing};
        assert_true(ws_residual_advance(&executor, dtype, NULL, nothing, NULL, NULL, 0) == 0.0);
        ws_residual_extrapolate(&executor, dtype, NULL, NULL, NULL, differences, nothing, 0);
        ws_residual_apply(&executor, dtype, NULL, NULL, NULL, 0);
    }
}

static void table_is_complete_and_works_on_chunks(void **state) {
    (void)state;
    const ws_kernels *const kernels = executor.kernels;
    const size_t n = WS_KERNEL_CHUNK;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        void *const a = new_array(dtype, n, 3.0f);
        void *const b = new_array(dtype, n, 3.0f);
        void *const out = new_array(dtype, n, 0.0f);
        float *const base = new_floats(n, 3.0f);
        float *const same = copy_of(base, n * sizeof(float));
        ws_sums whole = {0};
        ws_residual_distance(&executor, dtype, a, b, n, &whole);
        const ws_sums chunk = kernels->distance[dtype](a, b, n);
        assert_same_double(chunk.difference, whole.difference);
        assert_same_double(chunk.reference, whole.reference);
        assert_same_double(kernels->finish[dtype](base, a, n),
                           ws_residual_finish(&executor, dtype, same, a, n));
        assert_same_double(kernels->subtract[dtype](same, a, b, n),
                           ws_residual_subtract(&executor, dtype, same, a, b, n));
        kernels->apply[dtype](out, a, base, n);
        ws_residual_apply(&executor, dtype, a, a, base, n);
        assert_memory_equal(out, a, n * size_of(dtype));
        free(a);
        free(b);
        free(out);
        free(base);
        free(same);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_element_is_a_good_beginning),
        cmocka_unit_test(nan_and_infinity_reach_the_sums),
        cmocka_unit_test(denormals_are_kept),
        cmocka_unit_test(flushing_of_denormals_by_the_thread_changes_nothing),
        cmocka_unit_test(overflow_of_a_half_is_infinity),
        cmocka_unit_test(no_elements_touch_no_memory),
        cmocka_unit_test(table_is_complete_and_works_on_chunks),
    };
    return run_at_every_level(tests, sizeof(tests) / sizeof(tests[0]));
}
