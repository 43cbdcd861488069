#include "cuda/driver.h"

#include <dlfcn.h>

#define LIBRARY "libcuda.so.1"

/* torch has the driver in the process before there is a tensor on a GPU, so this finds that copy. It stays open. */
ws_status ws_cuda_driver_load(ws_cuda_driver *driver, ws_error *error) {
    void *const library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return ws_fail(error, WS_ERROR_LIBRARY, "there is no NVIDIA driver (" LIBRARY ")");
    }
    /* POSIX defines the conversion that ISO C leaves out; the unions avoid the pedantic warning. */
#define FIND(member, symbol, parameters)                                                                                    \
    {                                                                                                                       \
        union {                                                                                                             \
            void *object;                                                                                                   \
            ws_cu_result(*function) parameters;                                                                             \
        } found = {.object = dlsym(library, #symbol)};                                                                      \
        if (found.object == NULL) {                                                                                         \
            return ws_fail(error, WS_ERROR_LIBRARY, "the NVIDIA driver is too old: it has no " #symbol);                    \
        }                                                                                                                   \
        driver->member = found.function;                                                                                    \
    }
    WS_CUDA_DRIVER(FIND)
#undef FIND
    int version = 0;
    const ws_cu_result result = driver->driver_get_version(&version);
    if (result != WS_CU_SUCCESS) {
        return ws_fail(error, WS_ERROR_LIBRARY, "the NVIDIA driver does not tell its version (cuDriverGetVersion: %d)",
                       result);
    }
    if (version < WS_CU_OLDEST_DRIVER) {
        return ws_fail(error, WS_ERROR_LIBRARY, "the NVIDIA driver is for CUDA %d.%d, and %d.%d or newer is needed",
                       version / 1000, version % 1000 / 10, WS_CU_OLDEST_DRIVER / 1000, WS_CU_OLDEST_DRIVER % 1000 / 10);
    }
    return WS_OK;
}
