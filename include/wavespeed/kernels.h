/* The arithmetic of the cache over flat arrays: one table of functions per level of the CPU's vector units, and loops over
 * whole arrays that may share the work among threads.
 *
 * Numerics, the same for every level and thread count: a sum is formed in fp32 in WS_KERNEL_LANES virtual lanes over
 * blocks of WS_KERNEL_BLOCK elements, folded into fp64 after each block, and chunks of WS_KERNEL_CHUNK elements are added in
 * index order in fp64. Element k of a block belongs to lane k % WS_KERNEL_LANES; a block's lanes are added to 32 fp64
 * lanes, and a chunk ends by adding these 32 in index order. 16-bit inputs are converted exactly. NaN and infinity propagate
 * into the sums; a NaN's sign and payload are nobody's promise. The functions for whole arrays keep denormals and round to
 * nearest whatever the calling thread is set to. */
#ifndef WAVESPEED_KERNELS_H
#define WAVESPEED_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WS_KERNEL_LANES = 32,
    WS_KERNEL_BLOCK = 4096,
    WS_KERNEL_CHUNK = 65536,
    WS_KERNEL_GROUP = 512 /* elements of a difference that share a scale */
};

typedef enum ws_dtype {
    WS_DTYPE_F32 = 0,
    WS_DTYPE_BF16,
    WS_DTYPE_F16,
    WS_DTYPE_COUNT
} ws_dtype;

typedef struct ws_sums {
    double difference; /* sum |a - b| */
    double reference;  /* sum |b| */
} ws_sums;

enum { WS_HISTORY = 3 }; /* computed evaluations that a forecast looks back on */

/* Where a probe lies relative to the last three stored ones, newest first: e = probe - stored[0],
 * d1 = stored[0] - stored[1], d2 = stored[1] - stored[2]. From these, the norm of any e - w1 d1 - w2 d2 follows without
 * another pass. */
typedef struct ws_moments {
    double difference; /* sum |e| */
    double reference;  /* sum |stored[0]| */
    double ee, ed1, ed2, d1d1, d1d2, d2d2;
} ws_moments;

/* The differences between neighbouring ones of them, newest first. Each is kept in 8 bits: element i is
 * scales[i / WS_KERNEL_GROUP] * values[i], where the largest magnitude of a group has the value 127. A group with something
 * that is not finite has the scale NaN; one whose magnitudes are all below 2^-100 is zero. */
enum { WS_DIFFERENCES = WS_HISTORY - 1 };

/* One level. Each function handles one chunk, n <= WS_KERNEL_CHUNK elements; pointers need only the alignment of their
 * element type. */
typedef struct ws_kernels {
    const char *name;

    ws_sums (*distance[WS_DTYPE_COUNT])(const void *a, const void *b, size_t n);

    ws_moments (*moments[WS_DTYPE_COUNT])(const void *probe, const void *const stored[WS_HISTORY], size_t n);

    /* base[i] = end[i] - base[i]; returns sum |base| of the result. */
    double (*finish[WS_DTYPE_COUNT])(float *base, const void *end, size_t n);

    /* out[i] = hidden[i] + residual[i], added in fp32 and rounded once to the dtype (nearest even). out may equal hidden. */
    void (*apply[WS_DTYPE_COUNT])(void *out, const void *hidden, const float *residual, size_t n);

    /* residual[i] = end[i] - start[i] in fp32; returns sum |residual|. */
    double (*subtract[WS_DTYPE_COUNT])(float *residual, const void *start, const void *end, size_t n);

    /* The same where residual holds the residual before: how it changed goes to scales and values. */
    double (*advance[WS_DTYPE_COUNT])(float *residual, float *scales, int8_t *values, const void *start, const void *end,
                                      size_t n);

    /* out[i] = ((hidden[i] + residual[i]) + (w[0] scale) value) + (w[1] scale) value of the two differences, in fp32 and
     * rounded once. out may equal hidden. */
    void (*extrapolate[WS_DTYPE_COUNT])(void *out, const void *hidden, const float *residual,
                                        const float *const scales[WS_DIFFERENCES],
                                        const int8_t *const values[WS_DIFFERENCES], const float weights[WS_DIFFERENCES],
                                        size_t n);
} ws_kernels;

/* The levels that this machine can run, best first ("avx512", "avx2", "neon", "scalar"); NULL from the last one on. */
const ws_kernels *ws_kernels_level(size_t index);

/* The level that is used: the one that the environment variable WAVESPEED_CPU_LEVEL names when this machine can run it, else
 * the best. Asked once per process. */
const ws_kernels *ws_kernels_cpu(void);

/* body(begin, end, context) does the work of the indices [begin, end). It may run in several threads at once. */
typedef void ws_loop_body(int64_t begin, int64_t end, void *context);

/* Calls body so that every index of [0, n) is in one of the calls, and returns when all of them are done. */
typedef void ws_parallel_for(int64_t n, ws_loop_body *body, void *context);

typedef struct ws_cpu_executor {
    const ws_kernels *kernels;    /* NULL: ws_kernels_cpu() */
    ws_parallel_for *parallel_for; /* NULL: everything in the calling thread */
} ws_cpu_executor;

/* Whole arrays, any n, chunk by chunk.
 *
 * ws_residual_distance: how far is probe a from the stored probe b?
 * ws_residual_finish: base holds the hidden state after the first block in fp32 (exact for 16-bit models) and becomes
 *   the residual end - base, also fp32. hidden + residual is end again: for 16-bit models bit for bit while |residual| is
 *   at most 2^14 (bf16) or 2^11 (fp16) times |end|, else within 2^-23 of |residual| + |end|. base and end must not
 *   overlap. Returns sum |residual|.
 * ws_residual_subtract: the same from a hidden state that was kept in the model's dtype. residual must not overlap the
 *   others.
 * ws_residual_apply: out of place, or in place when out == hidden.
 * ws_residual_moments: the same as the distance for a forecast from three stored evaluations.
 * ws_residual_advance, ws_residual_extrapolate: a history of the newest residual and its differences, of
 *   ws_difference_size(n) floats each. residual and difference must not overlap the others. */
void ws_residual_distance(const ws_cpu_executor *executor, ws_dtype dtype, const void *a, const void *b, size_t n,
                          ws_sums *out);
double ws_residual_finish(const ws_cpu_executor *executor, ws_dtype dtype, float *base, const void *end, size_t n);
void ws_residual_apply(const ws_cpu_executor *executor, ws_dtype dtype, void *out, const void *hidden, const float *residual,
                       size_t n);
void ws_residual_moments(const ws_cpu_executor *executor, ws_dtype dtype, const void *probe,
                         const void *const stored[WS_HISTORY], size_t n, ws_moments *out);
double ws_residual_subtract(const ws_cpu_executor *executor, ws_dtype dtype, float *residual, const void *start,
                            const void *end, size_t n);
double ws_residual_advance(const ws_cpu_executor *executor, ws_dtype dtype, float *residual, float *difference,
                           const void *start, const void *end, size_t n);
void ws_residual_extrapolate(const ws_cpu_executor *executor, ws_dtype dtype, void *out, const void *hidden,
                             const float *residual, const float *const differences[WS_DIFFERENCES],
                             const float weights[WS_DIFFERENCES], size_t n);

/* The memory of one difference of n elements, in floats: the scales, then the values, four in the place of a float. */
size_t ws_difference_size(size_t n);

#ifdef __cplusplus
}
#endif

#endif
