/* The kernels against a float64 oracle and against the summation order that kernels.h promises: at every level that this
 * machine has, and with the chunks run in another order. */
#include "kernel_arrays.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

static const size_t sizes[] = {0, 1, 31, 32, 33, 4095, 4096, 4097, 65535, 65536, 65537, 200001};

enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]), LARGEST = 200001 };

static ws_cpu_executor executor; /* what the tests of a group run on */

/* What threads may do to the order of chunks. */
static void last_index_first(int64_t n, ws_loop_body *body, void *context) {
    while (n-- > 0) {
        body(n, n + 1, context);
    }
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* kernels.h's order, written down once more as plainly as possible. term(context, i) is an fp32
 * number. */
static double sum_in_order(float (*term)(const void *context, size_t i), const void *context,
                           size_t n) {
    double total = 0.0;
    for (size_t chunk = 0; chunk < n; chunk += WS_KERNEL_CHUNK) {
        double lanes[WS_KERNEL_LANES] = {0};
        const size_t chunk_end = n - chunk < WS_KERNEL_CHUNK ? n : chunk + WS_KERNEL_CHUNK;
        for (size_t block = chunk; block < chunk_end; block += WS_KERNEL_BLOCK) {
            for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
                float sum = 0.0f;
                for (size_t k = lane; k < WS_KERNEL_BLOCK && block + k < chunk_end;
                     k += WS_KERNEL_LANES) {
                    sum += term(context, block + k);
                }
                lanes[lane] += (double)sum;
            }
        }
        double of_chunk = 0.0;
        for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
            of_chunk += lanes[lane];
        }
        total += of_chunk;
    }
    return total;
}

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

static float base_term(const void *context, size_t i) {
    return fabsf(((const float *)context)[i]);
}

static void distance_agrees_with_float64(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t s = 0; s < N_SIZES; ++s) {
            const size_t n = sizes[s];
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
    }
}

static void distance_has_the_promised_order(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        for (size_t s = 0; s < N_SIZES; ++s) {
            const ws_dtype dtype = (ws_dtype)type;
            const size_t n = sizes[s];
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
    }
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

static void finish_subtracts_and_sums(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t s = 0; s < N_SIZES; ++s) {
            const size_t n = sizes[s];
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
    }
}

static void subtract_leaves_both_states_and_sums(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t s = 0; s < N_SIZES; ++s) {
            const size_t n = sizes[s];
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
    }
}

/* ---- apply ----------------------------------------------------------------------------------- */

static void apply_adds_and_rounds_once(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t s = 0; s < N_SIZES; ++s) {
            const size_t n = sizes[s];
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
    }
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

/* ---- differences in 8 bits --------------------------------------------------------------------- */

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

static void advance_keeps_the_residual_and_how_it_changed(void **state) {
    (void)state;
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t s = 0; s < N_SIZES; ++s) {
            const size_t n = sizes[s];
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
    }
}

static void extrapolate_adds_in_order_and_rounds_once(void **state) {
    (void)state;
    const float weights[WS_DIFFERENCES] = {1.75f, -0.625f};
    const float none[WS_DIFFERENCES] = {0.0f, 0.0f};
    for (int type = 0; type < WS_DTYPE_COUNT; ++type) {
        const ws_dtype dtype = (ws_dtype)type;
        for (size_t s = 0; s < N_SIZES; ++s) {
            const size_t n = sizes[s];
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
    }
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

/* ---- alignment, values that are not ordinary, the table -------------------------------------- */

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
static void moments_agree_with_float64(void **state) {
    (void)state;
    for (int d = 0; d < WS_DTYPE_COUNT; ++d) {
        const ws_dtype dtype = (ws_dtype)d;
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); ++k) {
            const size_t n = sizes[k];
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
    }
}

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
        cmocka_unit_test(distance_agrees_with_float64),
        cmocka_unit_test(distance_has_the_promised_order),
        cmocka_unit_test(order_holds_where_additions_round),
        cmocka_unit_test(equal_operands_have_no_distance),
        cmocka_unit_test(finish_subtracts_and_sums),
        cmocka_unit_test(subtract_leaves_both_states_and_sums),
        cmocka_unit_test(apply_adds_and_rounds_once),
        cmocka_unit_test(apply_of_zero_changes_nothing),
        cmocka_unit_test(finish_then_apply_reproduces_the_end),
        cmocka_unit_test(any_element_is_a_good_beginning),
        cmocka_unit_test(moments_agree_with_float64),
        cmocka_unit_test(advance_keeps_the_residual_and_how_it_changed),
        cmocka_unit_test(extrapolate_adds_in_order_and_rounds_once),
        cmocka_unit_test(a_group_that_is_not_finite_says_so),
        cmocka_unit_test(a_difference_of_nearly_nothing_is_zero),
        cmocka_unit_test(nan_and_infinity_reach_the_sums),
        cmocka_unit_test(denormals_are_kept),
        cmocka_unit_test(flushing_of_denormals_by_the_thread_changes_nothing),
        cmocka_unit_test(overflow_of_a_half_is_infinity),
        cmocka_unit_test(no_elements_touch_no_memory),
        cmocka_unit_test(table_is_complete_and_works_on_chunks),
    };
    int failed = 0;
    for (size_t i = 0; (executor.kernels = ws_kernels_level(i)) != NULL; ++i) {
        executor.parallel_for = NULL;
        failed += cmocka_run_group_tests_name(executor.kernels->name, tests, NULL, NULL);
        executor.parallel_for = last_index_first;
        failed += cmocka_run_group_tests_name(executor.kernels->name, tests, NULL, NULL);
    }
    return failed;
}
