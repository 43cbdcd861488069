/* The chunk functions of kernels.h for one dtype at one level. kernels_level.h includes this once per dtype, with these
 * macros defined:
 *
 * - ELEMENT: the stored type
 * - NAME(verb): the name of a function
 * - LOAD(pointer): WIDTH elements as a vector, exact
 * - STORE(pointer, vector): the same back, rounded to nearest even
 *
 * Work goes row by row, a row being WS_KERNEL_LANES elements in VECTORS vectors: loops of a constant length that become
 * a few instructions, with the sums in registers. The last, shorter row is copied and filled up with zeros, which leave
 * every sum as it is. */

static inline void NAME(copy_short_row)(ELEMENT row[WS_KERNEL_LANES], const ELEMENT *source, size_t n) {
    memset(row, 0, WS_KERNEL_LANES * sizeof(ELEMENT));
    memcpy(row, source, n * sizeof(ELEMENT));
}

static inline void NAME(distance_row)(const ELEMENT *a, const ELEMENT *b, vector difference[VECTORS],
                                      vector reference[VECTORS]) {
    for (size_t v = 0; v < VECTORS; ++v) {
        const vector stored = LOAD(b + v * WIDTH);
        difference[v] = add(difference[v], magnitude(subtract(LOAD(a + v * WIDTH), stored)));
        reference[v] = add(reference[v], magnitude(stored));
    }
}

static ws_sums NAME(distance)(const void *a, const void *b, size_t n) {
    const ELEMENT *const probe = a;
    const ELEMENT *const stored = b;
    double difference_total[WS_KERNEL_LANES] = {0};
    double reference_total[WS_KERNEL_LANES] = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        vector difference[VECTORS];
        vector reference[VECTORS];
        clear(difference);
        clear(reference);
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(distance_row)(probe + i, stored + i, difference, reference);
        }
        if (i < end) {
            ELEMENT rows[2][WS_KERNEL_LANES];
            NAME(copy_short_row)(rows[0], probe + i, end - i);
            NAME(copy_short_row)(rows[1], stored + i, end - i);
            NAME(distance_row)(rows[0], rows[1], difference, reference);
        }
        fold(difference_total, difference);
        fold(reference_total, reference);
    }
    return (ws_sums){.difference = sum_lanes(difference_total), .reference = sum_lanes(reference_total)};
}

/* sums[k] is the k-th member of ws_moments. */
static inline void NAME(moments_row)(const ELEMENT *probe, const ELEMENT *first, const ELEMENT *second, const ELEMENT *third,
                                     vector sums[MOMENTS][VECTORS]) {
    for (size_t v = 0; v < VECTORS; ++v) {
        const vector newest = LOAD(first + v * WIDTH);
        const vector middle = LOAD(second + v * WIDTH);
        const vector e = subtract(LOAD(probe + v * WIDTH), newest);
        const vector d1 = subtract(newest, middle);
        const vector d2 = subtract(middle, LOAD(third + v * WIDTH));
        sums[0][v] = add(sums[0][v], magnitude(e));
        sums[1][v] = add(sums[1][v], magnitude(newest));
        sums[2][v] = add(sums[2][v], multiply(e, e));
        sums[3][v] = add(sums[3][v], multiply(e, d1));
        sums[4][v] = add(sums[4][v], multiply(e, d2));
        sums[5][v] = add(sums[5][v], multiply(d1, d1));
        sums[6][v] = add(sums[6][v], multiply(d1, d2));
        sums[7][v] = add(sums[7][v], multiply(d2, d2));
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
        vector sums[MOMENTS][VECTORS];
        for (size_t k = 0; k < MOMENTS; ++k) {
            clear(sums[k]);
        }
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(moments_row)(current + i, first + i, second + i, third + i, sums);
        }
        if (i < end) {
            ELEMENT rows[1 + WS_HISTORY][WS_KERNEL_LANES];
            NAME(copy_short_row)(rows[0], current + i, end - i);
            NAME(copy_short_row)(rows[1], first + i, end - i);
            NAME(copy_short_row)(rows[2], second + i, end - i);
            NAME(copy_short_row)(rows[3], third + i, end - i);
            NAME(moments_row)(rows[0], rows[1], rows[2], rows[3], sums);
        }
        for (size_t k = 0; k < MOMENTS; ++k) {
            fold(totals[k], sums[k]);
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

static inline void NAME(finish_row)(float *base, const ELEMENT *end, vector sum[VECTORS]) {
    for (size_t v = 0; v < VECTORS; ++v) {
        const vector residual = subtract(LOAD(end + v * WIDTH), load_f32(base + v * WIDTH));
        store_f32(base + v * WIDTH, residual);
        sum[v] = add(sum[v], magnitude(residual));
    }
}

static double NAME(finish)(float *base, const void *end_state, size_t n) {
    const ELEMENT *const state = end_state;
    double total[WS_KERNEL_LANES] = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        vector sum[VECTORS];
        clear(sum);
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(finish_row)(base + i, state + i, sum);
        }
        if (i < end) {
            float base_row[WS_KERNEL_LANES];
            ELEMENT end_row[WS_KERNEL_LANES];
            copy_short_row_f32(base_row, base + i, end - i);
            NAME(copy_short_row)(end_row, state + i, end - i);
            NAME(finish_row)(base_row, end_row, sum);
            memcpy(base + i, base_row, (end - i) * sizeof(float));
        }
        fold(total, sum);
    }
    return sum_lanes(total);
}

static inline void NAME(subtract_row)(float *residual, const ELEMENT *start, const ELEMENT *end, vector sum[VECTORS]) {
    for (size_t v = 0; v < VECTORS; ++v) {
        const vector difference = subtract(LOAD(end + v * WIDTH), LOAD(start + v * WIDTH));
        store_f32(residual + v * WIDTH, difference);
        sum[v] = add(sum[v], magnitude(difference));
    }
}

static double NAME(subtract)(float *residual, const void *start_state, const void *end_state, size_t n) {
    const ELEMENT *const before = start_state;
    const ELEMENT *const after = end_state;
    double total[WS_KERNEL_LANES] = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        vector sum[VECTORS];
        clear(sum);
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(subtract_row)(residual + i, before + i, after + i, sum);
        }
        if (i < end) {
            float residual_row[WS_KERNEL_LANES];
            ELEMENT rows[2][WS_KERNEL_LANES];
            NAME(copy_short_row)(rows[0], before + i, end - i);
            NAME(copy_short_row)(rows[1], after + i, end - i);
            NAME(subtract_row)(residual_row, rows[0], rows[1], sum);
            memcpy(residual + i, residual_row, (end - i) * sizeof(float));
        }
        fold(total, sum);
    }
    return sum_lanes(total);
}

static inline void NAME(advance_row)(float *residual, float *difference, const ELEMENT *start, const ELEMENT *end,
                                     vector sum[VECTORS], vector largest[VECTORS]) {
    for (size_t v = 0; v < VECTORS; ++v) {
        const vector now = subtract(LOAD(end + v * WIDTH), LOAD(start + v * WIDTH));
        const vector change = subtract(now, load_f32(residual + v * WIDTH));
        store_f32(residual + v * WIDTH, now);
        store_f32(difference + v * WIDTH, change);
        sum[v] = add(sum[v], magnitude(now));
        largest[v] = larger(largest[v], magnitude(change));
    }
}

/* One group, n elements of it. Returns its scale. */
static inline float NAME(advance_group)(float *residual, int8_t *values, const ELEMENT *start, const ELEMENT *end, size_t n,
                                        vector sum[VECTORS]) {
    float difference[WS_KERNEL_GROUP];
    vector largest[VECTORS];
    clear(largest);
    size_t i = 0;
    for (; i + WS_KERNEL_LANES <= n; i += WS_KERNEL_LANES) {
        NAME(advance_row)(residual + i, difference + i, start + i, end + i, sum, largest);
    }
    if (i == n) {
        return pack_group(values, difference, n, largest_of(largest));
    }
    float residual_row[WS_KERNEL_LANES];
    ELEMENT rows[2][WS_KERNEL_LANES];
    int8_t packed[WS_KERNEL_GROUP];
    copy_short_row_f32(residual_row, residual + i, n - i);
    NAME(copy_short_row)(rows[0], start + i, n - i);
    NAME(copy_short_row)(rows[1], end + i, n - i);
    NAME(advance_row)(residual_row, difference + i, rows[0], rows[1], sum, largest);
    memcpy(residual + i, residual_row, (n - i) * sizeof(float));
    const float scale = pack_group(packed, difference, i + WS_KERNEL_LANES, largest_of(largest));
    memcpy(values, packed, n);
    return scale;
}

static double NAME(advance)(float *residual, float *scales, int8_t *values, const void *start_state, const void *end_state,
                            size_t n) {
    const ELEMENT *const before = start_state;
    const ELEMENT *const after = end_state;
    double total[WS_KERNEL_LANES] = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_BLOCK) {
        const size_t end = block_end(start, n);
        vector sum[VECTORS];
        clear(sum);
        for (size_t i = start; i < end; i += WS_KERNEL_GROUP) {
            scales[i / WS_KERNEL_GROUP] =
                NAME(advance_group)(residual + i, values + i, before + i, after + i, group_end(i, end) - i, sum);
        }
        fold(total, sum);
    }
    return sum_lanes(total);
}

/* out may equal hidden: a row is read before it is written. */
static inline void NAME(apply_row)(ELEMENT *out, const ELEMENT *hidden, const float *residual) {
    vector sum[VECTORS];
    for (size_t v = 0; v < VECTORS; ++v) {
        sum[v] = add(LOAD(hidden + v * WIDTH), load_f32(residual + v * WIDTH));
    }
    for (size_t v = 0; v < VECTORS; ++v) {
        STORE(out + v * WIDTH, sum[v]);
    }
}

static void NAME(apply)(void *out, const void *hidden, const float *residual, size_t n) {
    ELEMENT *const target = out;
    const ELEMENT *const source = hidden;
    size_t i = 0;
    for (; i + WS_KERNEL_LANES <= n; i += WS_KERNEL_LANES) {
        NAME(apply_row)(target + i, source + i, residual + i);
    }
    if (i < n) {
        ELEMENT row[WS_KERNEL_LANES];
        float residual_row[WS_KERNEL_LANES];
        NAME(copy_short_row)(row, source + i, n - i);
        copy_short_row_f32(residual_row, residual + i, n - i);
        NAME(apply_row)(row, row, residual_row);
        memcpy(target + i, row, (n - i) * sizeof(ELEMENT));
    }
}

static inline void NAME(extrapolate_row)(ELEMENT *out, const ELEMENT *hidden, const float *residual, const int8_t *newer,
                                         const int8_t *older, vector newer_factor, vector older_factor) {
    vector sum[VECTORS];
    for (size_t v = 0; v < VECTORS; ++v) {
        sum[v] = add(LOAD(hidden + v * WIDTH), load_f32(residual + v * WIDTH));
        sum[v] = add(sum[v], multiply(newer_factor, load_i8(newer + v * WIDTH)));
        sum[v] = add(sum[v], multiply(older_factor, load_i8(older + v * WIDTH)));
    }
    for (size_t v = 0; v < VECTORS; ++v) {
        STORE(out + v * WIDTH, sum[v]);
    }
}

static void NAME(extrapolate)(void *out, const void *hidden, const float *residual,
                              const float *const scales[WS_DIFFERENCES], const int8_t *const values[WS_DIFFERENCES],
                              const float weights[WS_DIFFERENCES], size_t n) {
    ELEMENT *const target = out;
    const ELEMENT *const source = hidden;
    const int8_t *const newer = values[0];
    const int8_t *const older = values[1];
    for (size_t start = 0; start < n; start += WS_KERNEL_GROUP) {
        const size_t end = group_end(start, n);
        const vector newer_factor = broadcast(weights[0] * scales[0][start / WS_KERNEL_GROUP]);
        const vector older_factor = broadcast(weights[1] * scales[1][start / WS_KERNEL_GROUP]);
        size_t i = start;
        for (; i + WS_KERNEL_LANES <= end; i += WS_KERNEL_LANES) {
            NAME(extrapolate_row)(target + i, source + i, residual + i, newer + i, older + i, newer_factor, older_factor);
        }
        if (i < end) {
            ELEMENT row[WS_KERNEL_LANES];
            float residual_row[WS_KERNEL_LANES];
            int8_t values_rows[WS_DIFFERENCES][WS_KERNEL_LANES] = {{0}};
            NAME(copy_short_row)(row, source + i, end - i);
            copy_short_row_f32(residual_row, residual + i, end - i);
            memcpy(values_rows[0], newer + i, end - i);
            memcpy(values_rows[1], older + i, end - i);
            NAME(extrapolate_row)(row, row, residual_row, values_rows[0], values_rows[1], newer_factor, older_factor);
            memcpy(target + i, row, (end - i) * sizeof(ELEMENT));
        }
    }
}

#undef ELEMENT
#undef NAME
#undef LOAD
#undef STORE
