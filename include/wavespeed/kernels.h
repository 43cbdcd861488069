/* The arithmetic of the cache over flat arrays: one table of functions per executor (scalar now; SIMD levels and CUDA
 * join behind the same table).
 *
 * Numerics, the same for every executor, level and thread count: a sum is formed in fp32 in WS_KERNEL_LANES virtual lanes over
 * blocks of WS_KERNEL_BLOCK elements, folded into fp64 after each block, and chunks of WS_KERNEL_CHUNK elements are added in
 * index order in fp64. Element k of a block belongs to lane k % WS_KERNEL_LANES; a block's lanes are added to 32 fp64
 * lanes, and a chunk ends by adding these 32 in index order. 16-bit inputs are converted exactly. NaN and infinity propagate
 * into the sums. Denormals are kept as long as the calling thread does not flush them. */
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
    WS_KERNEL_CHUNK = 65536
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

/* Where a probe lies relative to the last three stored ones, newest first: e = probe - stored[0], d1 = stored[0] - stored[1],
 * d2 = stored[1] - stored[2]. From these, the norm of any e - w1 d1 - w2 d2 follows without another pass. */
typedef struct ws_moments {
    double difference; /* sum |e| */
    double reference;  /* sum |stored[0]| */
    double ee, ed1, ed2, d1d1, d1d2, d2d2;
} ws_moments;

/* One executor. Each function handles one chunk, n <= WS_KERNEL_CHUNK elements; pointers need only the alignment of their
 * element type. */
typedef struct ws_kernels {
    const char *name;

    ws_sums (*distance[WS_DTYPE_COUNT])(const void *a, const void *b, size_t n);

    ws_moments (*moments[WS_DTYPE_COUNT])(const void *probe, const void *const stored[WS_HISTORY], size_t n);

    /* base[i] = end[i] - base[i]; returns sum |base| of the result. */
    double (*finish[WS_DTYPE_COUNT])(float *base, const void *end, size_t n);

    /* out[i] = hidden[i] + residual[i], added in fp32 and rounded once to the dtype (nearest even). out may equal hidden. */
    void (*apply[WS_DTYPE_COUNT])(void *out, const void *hidden, const float *residual, size_t n);

    /* out[i] = ((hidden[i] + c[0] r[0][i]) + c[1] r[1][i]) + c[2] r[2][i], likewise in fp32 and rounded once. */
    void (*combine[WS_DTYPE_COUNT])(void *out, const void *hidden, const float *const residuals[WS_HISTORY],
                                    const float coefficients[WS_HISTORY], size_t n);
} ws_kernels;

extern const ws_kernels ws_kernels_scalar;

/* The executor used on this machine's CPU. */
const ws_kernels *ws_kernels_cpu(void);

/* Whole arrays, any n, chunk by chunk on the CPU executor.
 *
 * ws_residual_distance: how far is probe a from the stored probe b?
 * ws_residual_finish: base holds the hidden state after the first block in fp32 (exact for 16-bit models) and becomes
 *   the residual end - base, also fp32. hidden + residual is end again: for 16-bit models bit for bit while |residual| is
 *   at most 2^14 (bf16) or 2^11 (fp16) times |end|, else within 2^-23 of |residual| + |end|. base and end must not
 *   overlap. Returns sum |residual|.
 * ws_residual_apply: out of place, or in place when out == hidden.
 * ws_residual_moments, ws_residual_combine: the same two for a forecast from three stored evaluations. */
void ws_residual_distance(ws_dtype dtype, const void *a, const void *b, size_t n, ws_sums *out);
double ws_residual_finish(ws_dtype dtype, float *base, const void *end, size_t n);
void ws_residual_apply(ws_dtype dtype, void *out, const void *hidden, const float *residual, size_t n);
void ws_residual_moments(ws_dtype dtype, const void *probe, const void *const stored[WS_HISTORY], size_t n, ws_moments *out);
void ws_residual_combine(ws_dtype dtype, void *out, const void *hidden, const float *const residuals[WS_HISTORY],
                         const float coefficients[WS_HISTORY], size_t n);

#ifdef __cplusplus
}
#endif

#endif
