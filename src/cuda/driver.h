/* The functions of the NVIDIA driver that the executor calls, found at run time. Private to src/cuda.
 *
 * Declared here, because the pack is built without the CUDA toolkit; names, types and values are those of its cuda.h. */
#ifndef WAVESPEED_CUDA_DRIVER_H
#define WAVESPEED_CUDA_DRIVER_H

#include "wavespeed/status.h"

#include <stddef.h>
#include <stdint.h>

typedef int ws_cu_result;
typedef int ws_cu_device;
typedef struct CUctx_st *ws_cu_context;
typedef struct CUmod_st *ws_cu_module;
typedef struct CUfunc_st *ws_cu_function;
typedef struct CUstream_st *ws_cu_stream;
typedef uint64_t ws_cu_pointer;

enum {
    WS_CU_SUCCESS = 0,
    WS_CU_OUT_OF_MEMORY = 2,
    WS_CU_NOT_READY = 600,
    WS_CU_CAPTURE_IMPLICIT = 906, /* another stream is being captured, and the default stream would join it */
    WS_CU_HOST_PORTABLE = 1,      /* of cuMemHostAlloc: for all contexts */
    WS_CU_HOST_MAPPED = 2,        /* of cuMemHostAlloc: seen by the GPU */
    WS_CU_CAPTURE_NONE = 0,
    WS_CU_OLDEST_DRIVER = 11000 /* CUDA 11.0, which knows the PTX of cmake/embed_cuda_images.cmake */
};

/* X(member, symbol, parameters) */
#define WS_CUDA_DRIVER(X)                                                                                                   \
    X(driver_get_version, cuDriverGetVersion, (int *version))                                                               \
    X(device_get, cuDeviceGet, (ws_cu_device * device, int ordinal))                                                        \
    X(primary_context_retain, cuDevicePrimaryCtxRetain, (ws_cu_context * context, ws_cu_device device))                     \
    X(context_get_current, cuCtxGetCurrent, (ws_cu_context * context))                                                      \
    X(context_get_device, cuCtxGetDevice, (ws_cu_device * device))                                                          \
    X(context_push, cuCtxPushCurrent_v2, (ws_cu_context context))                                                           \
    X(context_pop, cuCtxPopCurrent_v2, (ws_cu_context * context))                                                           \
    X(module_load_data, cuModuleLoadData, (ws_cu_module * module, const void *image))                                       \
    X(module_get_function, cuModuleGetFunction, (ws_cu_function * function, ws_cu_module module, const char *name))         \
    X(launch_kernel, cuLaunchKernel,                                                                                        \
      (ws_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,      \
       unsigned block_z, unsigned shared_bytes, ws_cu_stream stream, void **parameters, void **extra))                      \
    X(stream_is_capturing, cuStreamIsCapturing, (ws_cu_stream stream, int *status))                                         \
    X(stream_query, cuStreamQuery, (ws_cu_stream stream))                                                                   \
    X(set_32_async, cuMemsetD32Async, (ws_cu_pointer memory, unsigned value, size_t count, ws_cu_stream stream))            \
    X(host_allocate, cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                                         \
    X(host_device_pointer, cuMemHostGetDevicePointer_v2, (ws_cu_pointer * device_pointer, void *memory, unsigned flags))    \
    X(allocate, cuMemAlloc_v2, (ws_cu_pointer * memory, size_t bytes))                                                      \
    X(release, cuMemFree_v2, (ws_cu_pointer memory))                                                                        \
    X(copy_to_device_async, cuMemcpyHtoDAsync_v2, (ws_cu_pointer to, const void *from, size_t bytes, ws_cu_stream stream))  \
    X(copy_to_host_async, cuMemcpyDtoHAsync_v2, (void *to, ws_cu_pointer from, size_t bytes, ws_cu_stream stream))

#define WS_CUDA_DRIVER_MEMBER(member, symbol, parameters) ws_cu_result(*member) parameters;
typedef struct ws_cuda_driver {
    WS_CUDA_DRIVER(WS_CUDA_DRIVER_MEMBER)
} ws_cuda_driver;
#undef WS_CUDA_DRIVER_MEMBER

/* WS_ERROR_LIBRARY with a sentence's ending ("..., because ") when there is no driver or it is too old. */
ws_status ws_cuda_driver_load(ws_cuda_driver *driver, ws_error *error);

#endif
