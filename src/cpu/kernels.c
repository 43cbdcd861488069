/* Whole arrays, chunk by chunk. The chunks' sums are added in index order, so that an executor
 * which runs chunks in parallel and adds them afterwards gets the same bits. */
#include "wavespeed/kernels.h"

static const size_t element_size[WS_DTYPE_COUNT] = {
    [WS_DTYPE_F32] = sizeof(float),
    [WS_DTYPE_BF16] = sizeof(uint16_t),
    [WS_DTYPE_F16] = sizeof(uint16_t),
};

static size_t chunk_length(size_t start, size_t n) {
    return n - start < WS_KERNEL_CHUNK ? n - start : WS_KERNEL_CHUNK;
}

const ws_kernels *ws_kernels_cpu(void) {
    return &ws_kernels_scalar;
}

void ws_residual_distance(ws_dtype dtype, const void *a, const void *b, size_t n, ws_sums *out) {
    const size_t size = element_size[dtype];
    const unsigned char *const probe = a;
    const unsigned char *const stored = b;
    ws_sums total = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_CHUNK) {
        const size_t offset = start * size;
        const ws_sums sums = ws_kernels_cpu()->distance[dtype](probe + offset, stored + offset,
                                                               chunk_length(start, n));
        total.difference += sums.difference;
        total.reference += sums.reference;
    }
    *out = total;
}

double ws_residual_finish(ws_dtype dtype, float *base, const void *end, size_t n) {
    const unsigned char *const state = end;
    double total = 0.0;
    for (size_t start = 0; start < n; start += WS_KERNEL_CHUNK) {
        const unsigned char *const chunk = state + start * element_size[dtype];
        total += ws_kernels_cpu()->finish[dtype](base + start, chunk, chunk_length(start, n));
    }
    return total;
}

void ws_residual_apply(ws_dtype dtype, void *out, const void *hidden, const float *residual,
                       size_t n) {
    unsigned char *const target = out;
    const unsigned char *const source = hidden;
    for (size_t start = 0; start < n; start += WS_KERNEL_CHUNK) {
        const size_t offset = start * element_size[dtype];
        ws_kernels_cpu()->apply[dtype](target + offset, source + offset, residual + start,
                                       chunk_length(start, n));
    }
}

void ws_residual_moments(ws_dtype dtype, const void *probe, const void *const stored[WS_HISTORY], size_t n, ws_moments *out) {
    const size_t size = element_size[dtype];
    ws_moments total = {0};
    for (size_t start = 0; start < n; start += WS_KERNEL_CHUNK) {
        const size_t offset = start * size;
        const void *history[WS_HISTORY];
        for (size_t i = 0; i < WS_HISTORY; ++i) {
            history[i] = (const unsigned char *)stored[i] + offset;
        }
        const ws_moments part =
            ws_kernels_cpu()->moments[dtype]((const unsigned char *)probe + offset, history, chunk_length(start, n));
        total.difference += part.difference;
        total.reference += part.reference;
        total.ee += part.ee;
        total.ed1 += part.ed1;
        total.ed2 += part.ed2;
        total.d1d1 += part.d1d1;
        total.d1d2 += part.d1d2;
        total.d2d2 += part.d2d2;
    }
    *out = total;
}

void ws_residual_combine(ws_dtype dtype, void *out, const void *hidden, const float *const residuals[WS_HISTORY],
                         const float coefficients[WS_HISTORY], size_t n) {
    unsigned char *const target = out;
    const unsigned char *const source = hidden;
    for (size_t start = 0; start < n; start += WS_KERNEL_CHUNK) {
        const size_t offset = start * element_size[dtype];
        const float *history[WS_HISTORY];
        for (size_t i = 0; i < WS_HISTORY; ++i) {
            history[i] = residuals[i] + start;
        }
        ws_kernels_cpu()->combine[dtype](target + offset, source + offset, history, coefficients, chunk_length(start, n));
    }
}
