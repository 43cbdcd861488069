/* The chunk functions of kernels.h for one dtype. kernels_scalar.c includes this once per
 * dtype, with these macros defined:
 *
 * - ELEMENT: the stored type
 * - NAME(verb): the name of a function
 * - TO_F32(x): exact
 * - FROM_F32(x): rounded to nearest even
 *
 * Work goes row by row, a row being WS_KERNEL_LANES elements, so that the lanes' loops have a
 * constant length and become a few vector instructions. The last, shorter row takes the same path
 * with its real length. */

static inline void NAME(distance_row)(const ELEMENT *restrict a, const ELEMENT *restrict b,
                                      size_t n, float *restrict difference,
                                      float *restrict reference) {
    for (size_t lane = 0; lane < n; ++lane) {
        const float stored = TO_F32(b[lane]);
        difference[lane] += fabsf(TO_F32(a[lane]) - stored);
        reference[lane] += fabsf(stored);
    }
}

static ws_sums NAME(distance)(const void *a, const void *b, size_t n) {
    const ELEMENT *const probe = a;
    const ELEMENT *const stored = b;
    double difference_total[WS_KERNEL_LANES] = {0};
    double reference_total[WS_KERNEL_LANES] = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        float difference[WS_KERNEL_LANES] = {0};
        float reference[WS_KERNEL_LANES] = {0};
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(distance_row)(probe + i, stored + i, WS_KERNEL_LANES, difference, reference);
        }
        NAME(distance_row)(probe + i, stored + i, end - i, difference, reference);
        fold(difference_total, difference);
        fold(reference_total, reference);
    }
    return (ws_sums){.difference = sum_lanes(difference_total),
                     .reference = sum_lanes(reference_total)};
}

/* lanes[k] are the lanes of the k-th member of ws_moments. */
static inline void NAME(moments_row)(const ELEMENT *restrict probe, const ELEMENT *restrict first, const ELEMENT *restrict second,
                                     const ELEMENT *restrict third, size_t n, float (*restrict lanes)[WS_KERNEL_LANES]) {
    for (size_t lane = 0; lane < n; ++lane) {
        const float newest = TO_F32(first[lane]);
        const float middle = TO_F32(second[lane]);
        const float e = TO_F32(probe[lane]) - newest;
        const float d1 = newest - middle;
        const float d2 = middle - TO_F32(third[lane]);
        lanes[0][lane] += fabsf(e);
        lanes[1][lane] += fabsf(newest);
        lanes[2][lane] += e * e;
        lanes[3][lane] += e * d1;
        lanes[4][lane] += e * d2;
        lanes[5][lane] += d1 * d1;
        lanes[6][lane] += d1 * d2;
        lanes[7][lane] += d2 * d2;
    }
}

static ws_moments NAME(moments)(const void *probe, const void *const stored[WS_HISTORY], size_t n) {
    const ELEMENT *const current = probe;
    const ELEMENT *const first = stored[0];
    const ELEMENT *const second = stored[1];
    const ELEMENT *const third = stored[2];
    double totals[MOMENTS][WS_KERNEL_LANES] = {{0}};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        float lanes[MOMENTS][WS_KERNEL_LANES] = {{0}};
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(moments_row)(current + i, first + i, second + i, third + i, WS_KERNEL_LANES, lanes);
        }
        NAME(moments_row)(current + i, first + i, second + i, third + i, end - i, lanes);
        for (size_t k = 0; k < MOMENTS; ++k) {
            fold(totals[k], lanes[k]);
        }
    }
    return (ws_moments){.difference = sum_lanes(totals[0]),
                        .reference = sum_lanes(totals[1]),
                        .ee = sum_lanes(totals[2]),
                        .ed1 = sum_lanes(totals[3]),
                        .ed2 = sum_lanes(totals[4]),
                        .d1d1 = sum_lanes(totals[5]),
                        .d1d2 = sum_lanes(totals[6]),
                        .d2d2 = sum_lanes(totals[7])};
}

static inline void NAME(finish_row)(float *restrict base, const ELEMENT *restrict end, size_t n,
                                    float *restrict sum) {
    for (size_t lane = 0; lane < n; ++lane) {
        base[lane] = TO_F32(end[lane]) - base[lane];
        sum[lane] += fabsf(base[lane]);
    }
}

static double NAME(finish)(float *base, const void *end_state, size_t n) {
    const ELEMENT *const state = end_state;
    double total[WS_KERNEL_LANES] = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        float sum[WS_KERNEL_LANES] = {0};
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(finish_row)(base + i, state + i, WS_KERNEL_LANES, sum);
        }
        NAME(finish_row)(base + i, state + i, end - i, sum);
        fold(total, sum);
    }
    return sum_lanes(total);
}

/* out may equal hidden, so neither is restrict; the row between them lets the compiler vectorise
 * both loops. */
static inline void NAME(apply_row)(ELEMENT *out, const ELEMENT *hidden, const float *residual,
                                   size_t n) {
    float sum[WS_KERNEL_LANES];
    for (size_t lane = 0; lane < n; ++lane) {
        sum[lane] = TO_F32(hidden[lane]) + residual[lane];
    }
    for (size_t lane = 0; lane < n; ++lane) {
        out[lane] = FROM_F32(sum[lane]);
    }
}

static void NAME(apply)(void *out, const void *hidden, const float *residual, size_t n) {
    ELEMENT *const target = out;
    const ELEMENT *const source = hidden;
    size_t i = 0;
    for (; i + WS_KERNEL_LANES <= n; i += WS_KERNEL_LANES) {
        NAME(apply_row)(target + i, source + i, residual + i, WS_KERNEL_LANES);
    }
    NAME(apply_row)(target + i, source + i, residual + i, n - i);
}

static inline void NAME(combine_row)(ELEMENT *out, const ELEMENT *hidden, const float *first, const float *second,
                                     const float *third, const float coefficients[WS_HISTORY], size_t n) {
    float sum[WS_KERNEL_LANES];
    for (size_t lane = 0; lane < n; ++lane) {
        sum[lane] = TO_F32(hidden[lane]) + coefficients[0] * first[lane];
        sum[lane] += coefficients[1] * second[lane];
        sum[lane] += coefficients[2] * third[lane];
    }
    for (size_t lane = 0; lane < n; ++lane) {
        out[lane] = FROM_F32(sum[lane]);
    }
}

static void NAME(combine)(void *out, const void *hidden, const float *const residuals[WS_HISTORY],
                          const float coefficients[WS_HISTORY], size_t n) {
    ELEMENT *const target = out;
    const ELEMENT *const source = hidden;
    const float *const first = residuals[0];
    const float *const second = residuals[1];
    const float *const third = residuals[2];
    size_t i = 0;
    for (; i + WS_KERNEL_LANES <= n; i += WS_KERNEL_LANES) {
        NAME(combine_row)(target + i, source + i, first + i, second + i, third + i, coefficients, WS_KERNEL_LANES);
    }
    NAME(combine_row)(target + i, source + i, first + i, second + i, third + i, coefficients, n - i);
}

#undef ELEMENT
#undef NAME
#undef TO_F32
#undef FROM_F32
