/* The table of functions that the extension hands to the libtorch shim.
 *
 * The shim is a library of its own, because the extension must load where libtorch is absent or too old. It links nothing of
 * the core; it calls through this table, so there is one copy of the kernels in a process. */
#ifndef WAVESPEED_CORE_API_H
#define WAVESPEED_CORE_API_H

#include "wavespeed/kernels.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { WS_CORE_API_VERSION = 3 };

/* Append only; raise the version when a meaning changes. size and version come first for ever. */
typedef struct ws_core_api {
    uint32_t size;
    uint32_t version;
    void (*residual_distance)(const ws_cpu_executor *executor, ws_dtype dtype, const void *a, const void *b, size_t n,
                              ws_sums *out);
    double (*residual_finish)(const ws_cpu_executor *executor, ws_dtype dtype, float *base, const void *end, size_t n);
    void (*residual_apply)(const ws_cpu_executor *executor, ws_dtype dtype, void *out, const void *hidden,
                           const float *residual, size_t n);
    void (*residual_moments)(const ws_cpu_executor *executor, ws_dtype dtype, const void *probe,
                             const void *const stored[WS_HISTORY], size_t n, ws_moments *out);
    double (*residual_subtract)(const ws_cpu_executor *executor, ws_dtype dtype, float *residual, const void *start,
                                const void *end, size_t n);
    double (*residual_advance)(const ws_cpu_executor *executor, ws_dtype dtype, float *residual, float *difference,
                               const void *start, const void *end, size_t n);
    void (*residual_extrapolate)(const ws_cpu_executor *executor, ws_dtype dtype, void *out, const void *hidden,
                                 const float *residual, const float *const differences[WS_DIFFERENCES],
                                 const float weights[WS_DIFFERENCES], size_t n);
    size_t (*difference_size)(size_t n);
} ws_core_api;

typedef enum ws_torch_result {
    WS_TORCH_REGISTERED = 0, /* the operators belong to this copy of the pack */
    WS_TORCH_TAKEN = 1,      /* another copy of the pack has registered them: use those */
    WS_TORCH_FAILED = 2      /* see error */
} ws_torch_result;

/* Exported by the shim under this name. Registers torch.ops.wavespeed.*; calling it again does nothing.
 * error: at least one byte; receives a sentence when the result is WS_TORCH_FAILED. The table must outlive the process. */
typedef ws_torch_result (*ws_torch_register_function)(const ws_core_api *api, char *error, size_t error_size);
#define WS_TORCH_REGISTER_NAME "ws_torch_register"

#ifdef __cplusplus
}
#endif

#endif
