/* Whole arrays, chunk by chunk. Chunks run in rounds, so that their sums have a fixed place on the stack; they are added in
 * index order behind each round, whichever thread ran which chunk. */
#include "wavespeed/kernels.h"

#include <fenv.h>

enum { ROUND = 256 }; /* chunks: 32 MiB of a 16-bit tensor, next to which the wait at the end of a round is nothing */

static const size_t element_size[WS_DTYPE_COUNT] = {
    [WS_DTYPE_F32] = sizeof(float),
    [WS_DTYPE_BF16] = sizeof(uint16_t),
    [WS_DTYPE_F16] = sizeof(uint16_t),
};

static const ws_kernels *kernels_of(const ws_cpu_executor *executor) {
    return executor->kernels != NULL ? executor->kernels : ws_kernels_cpu();
}

static const void *at(const void *array, ws_dtype dtype, size_t i) {
    return (const unsigned char *)array + i * element_size[dtype];
}

static void *writable_at(void *array, ws_dtype dtype, size_t i) {
    return (unsigned char *)array + i * element_size[dtype];
}

/* ---- Rounds ----------------------------------------------------------------------------------------------------------- */

/* chunk() handles the elements [start, start + n); place is the chunk's number within its round. */
typedef struct chunk_loop {
    void (*chunk)(void *operands, size_t place, size_t start, size_t n);
    void *operands;
    size_t n;     /* elements of the whole array */
    size_t first; /* of this round */
} chunk_loop;

/* Rounding and the treatment of denormals belong to the thread, and threads of a pool may differ from the caller's. */
static void run_chunks(int64_t begin, int64_t end, void *context) {
    const chunk_loop *const loop = context;
    fenv_t of_thread;
    (void)fegetenv(&of_thread);
    (void)fesetenv(FE_DFL_ENV);
    for (size_t place = (size_t)begin; place < (size_t)end; ++place) {
        const size_t start = loop->first + place * WS_KERNEL_CHUNK;
        const size_t left = loop->n - start;
        loop->chunk(loop->operands, place, start, left < WS_KERNEL_CHUNK ? left : WS_KERNEL_CHUNK);
    }
    (void)fesetenv(&of_thread);
}

/* Runs the round that begins at element loop->first, moves it on, and returns the number of chunks it had: 0 when all are
 * done. */
static size_t run_round(const ws_cpu_executor *executor, chunk_loop *loop) {
    if (loop->first >= loop->n) {
        return 0;
    }
    const size_t left = (loop->n - loop->first - 1) / WS_KERNEL_CHUNK + 1;
    const size_t chunks = left < ROUND ? left : ROUND;
    if (executor->parallel_for != NULL && chunks > 1) {
        executor->parallel_for((int64_t)chunks, run_chunks, loop);
    } else {
        run_chunks(0, (int64_t)chunks, loop);
    }
    loop->first += chunks * WS_KERNEL_CHUNK;
    return chunks;
}

/* ---- Distance --------------------------------------------------------------------------------------------------------- */

typedef struct distance_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    const void *a, *b;
    ws_sums part[ROUND];
} distance_operands;

static void distance_chunk(void *operands, size_t place, size_t start, size_t n) {
    distance_operands *const of = operands;
    of->part[place] = of->kernels->distance[of->dtype](at(of->a, of->dtype, start), at(of->b, of->dtype, start), n);
}

void ws_residual_distance(const ws_cpu_executor *executor, ws_dtype dtype, const void *a, const void *b, size_t n,
                          ws_sums *out) {
    distance_operands of;
    of.kernels = kernels_of(executor);
    of.dtype = dtype;
    of.a = a;
    of.b = b;
    chunk_loop loop = {distance_chunk, &of, n, 0};
    ws_sums total = {0};
    for (size_t chunks; (chunks = run_round(executor, &loop)) > 0;) {
        for (size_t i = 0; i < chunks; ++i) {
            total.difference += of.part[i].difference;
            total.reference += of.part[i].reference;
        }
    }
    *out = total;
}

/* ---- Moments ---------------------------------------------------------------------------------------------------------- */

typedef struct moments_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    const void *probe;
    const void *const *stored;
    ws_moments part[ROUND];
} moments_operands;

static void moments_chunk(void *operands, size_t place, size_t start, size_t n) {
    moments_operands *const of = operands;
    const void *stored[WS_HISTORY];
    for (size_t i = 0; i < WS_HISTORY; ++i) {
        stored[i] = at(of->stored[i], of->dtype, start);
    }
    of->part[place] = of->kernels->moments[of->dtype](at(of->probe, of->dtype, start), stored, n);
}

void ws_residual_moments(const ws_cpu_executor *executor, ws_dtype dtype, const void *probe,
                         const void *const stored[WS_HISTORY], size_t n, ws_moments *out) {
    moments_operands of;
    of.kernels = kernels_of(executor);
    of.dtype = dtype;
    of.probe = probe;
    of.stored = stored;
    chunk_loop loop = {moments_chunk, &of, n, 0};
    ws_moments total = {0};
    for (size_t chunks; (chunks = run_round(executor, &loop)) > 0;) {
        for (size_t i = 0; i < chunks; ++i) {
            total.difference += of.part[i].difference;
            total.reference += of.part[i].reference;
            total.ee += of.part[i].ee;
            total.ed1 += of.part[i].ed1;
            total.ed2 += of.part[i].ed2;
            total.d1d1 += of.part[i].d1d1;
            total.d1d2 += of.part[i].d1d2;
            total.d2d2 += of.part[i].d2d2;
        }
    }
    *out = total;
}

/* ---- Finish ----------------------------------------------------------------------------------------------------------- */

typedef struct finish_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    float *base;
    const void *end;
    double part[ROUND];
} finish_operands;

static void finish_chunk(void *operands, size_t place, size_t start, size_t n) {
    finish_operands *const of = operands;
    of->part[place] = of->kernels->finish[of->dtype](of->base + start, at(of->end, of->dtype, start), n);
}

double ws_residual_finish(const ws_cpu_executor *executor, ws_dtype dtype, float *base, const void *end, size_t n) {
    finish_operands of;
    of.kernels = kernels_of(executor);
    of.dtype = dtype;
    of.base = base;
    of.end = end;
    chunk_loop loop = {finish_chunk, &of, n, 0};
    double total = 0.0;
    for (size_t chunks; (chunks = run_round(executor, &loop)) > 0;) {
        for (size_t i = 0; i < chunks; ++i) {
            total += of.part[i];
        }
    }
    return total;
}

/* ---- Subtract --------------------------------------------------------------------------------------------------------- */

typedef struct subtract_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    float *residual;
    const void *start, *end;
    double part[ROUND];
} subtract_operands;

static void subtract_chunk(void *operands, size_t place, size_t start, size_t n) {
    subtract_operands *const of = operands;
    of->part[place] = of->kernels->subtract[of->dtype](of->residual + start, at(of->start, of->dtype, start),
                                                       at(of->end, of->dtype, start), n);
}

double ws_residual_subtract(const ws_cpu_executor *executor, ws_dtype dtype, float *residual, const void *start,
                            const void *end, size_t n) {
    subtract_operands of;
    of.kernels = kernels_of(executor);
    of.dtype = dtype;
    of.residual = residual;
    of.start = start;
    of.end = end;
    chunk_loop loop = {subtract_chunk, &of, n, 0};
    double total = 0.0;
    for (size_t chunks; (chunks = run_round(executor, &loop)) > 0;) {
        for (size_t i = 0; i < chunks; ++i) {
            total += of.part[i];
        }
    }
    return total;
}

/* ---- Advance ---------------------------------------------------------------------------------------------------------- */

static size_t groups(size_t n) {
    return n / WS_KERNEL_GROUP + (n % WS_KERNEL_GROUP != 0);
}

size_t ws_difference_size(size_t n) {
    return groups(n) + n / sizeof(float) + (n % sizeof(float) != 0);
}

/* A chunk begins with a group. */
static size_t first_group(size_t start) {
    return start / WS_KERNEL_GROUP;
}

typedef struct advance_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    float *residual, *scales;
    int8_t *values;
    const void *start, *end;
    double part[ROUND];
} advance_operands;

static void advance_chunk(void *operands, size_t place, size_t start, size_t n) {
    advance_operands *const of = operands;
    of->part[place] =
        of->kernels->advance[of->dtype](of->residual + start, of->scales + first_group(start), of->values + start,
                                        at(of->start, of->dtype, start), at(of->end, of->dtype, start), n);
}

double ws_residual_advance(const ws_cpu_executor *executor, ws_dtype dtype, float *residual, float *difference,
                           const void *start, const void *end, size_t n) {
    advance_operands of;
    of.kernels = kernels_of(executor);
    of.dtype = dtype;
    of.residual = residual;
    of.scales = difference;
    of.values = (int8_t *)(difference + groups(n));
    of.start = start;
    of.end = end;
    chunk_loop loop = {advance_chunk, &of, n, 0};
    double total = 0.0;
    for (size_t chunks; (chunks = run_round(executor, &loop)) > 0;) {
        for (size_t i = 0; i < chunks; ++i) {
            total += of.part[i];
        }
    }
    return total;
}

/* ---- Apply ------------------------------------------------------------------------------------------------------------ */

typedef struct apply_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    void *out;
    const void *hidden;
    const float *residual;
} apply_operands;

static void apply_chunk(void *operands, size_t place, size_t start, size_t n) {
    const apply_operands *const of = operands;
    (void)place;
    of->kernels->apply[of->dtype](writable_at(of->out, of->dtype, start), at(of->hidden, of->dtype, start),
                                  of->residual + start, n);
}

void ws_residual_apply(const ws_cpu_executor *executor, ws_dtype dtype, void *out, const void *hidden, const float *residual,
                       size_t n) {
    apply_operands of = {kernels_of(executor), dtype, out, hidden, residual};
    chunk_loop loop = {apply_chunk, &of, n, 0};
    while (run_round(executor, &loop) > 0) {
    }
}

/* ---- Extrapolate ------------------------------------------------------------------------------------------------------ */

typedef struct extrapolate_operands {
    const ws_kernels *kernels;
    ws_dtype dtype;
    void *out;
    const void *hidden;
    const float *residual;
    const float *const *differences;
    const float *weights;
    size_t n;
} extrapolate_operands;

static void extrapolate_chunk(void *operands, size_t place, size_t start, size_t n) {
    const extrapolate_operands *const of = operands;
    (void)place;
    const float *scales[WS_DIFFERENCES];
    const int8_t *values[WS_DIFFERENCES];
    for (size_t i = 0; i < WS_DIFFERENCES; ++i) {
        scales[i] = of->differences[i] + first_group(start);
        values[i] = (const int8_t *)(of->differences[i] + groups(of->n)) + start;
    }
    of->kernels->extrapolate[of->dtype](writable_at(of->out, of->dtype, start), at(of->hidden, of->dtype, start),
                                        of->residual + start, scales, values, of->weights, n);
}

void ws_residual_extrapolate(const ws_cpu_executor *executor, ws_dtype dtype, void *out, const void *hidden,
                             const float *residual, const float *const differences[WS_DIFFERENCES],
                             const float weights[WS_DIFFERENCES], size_t n) {
    extrapolate_operands of = {kernels_of(executor), dtype, out, hidden, residual, differences, weights, n};
    chunk_loop loop = {extrapolate_chunk, &of, n, 0};
    while (run_round(executor, &loop) > 0) {
    }
}
