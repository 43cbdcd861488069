#include "cuda/driver.h"

/* What symbols are found as, before they get their own type. */
typedef void function(void);

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define LIBRARY "nvcuda.dll"

/* In the system's folder alone: a file of this name that lies beside a program is nobody's driver. */
static void *open_library(void) {
    return LoadLibraryExW(L"" LIBRARY, NULL, LOAD_LIBRARY_SEARCH_SYSTEM32);
}

static function *find(void *library, const char *symbol) {
    return (function *)GetProcAddress(library, symbol);
}
#else
#include <dlfcn.h>

#define LIBRARY "libcuda.so.1"

static void *open_library(void) {
    return dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
}

/* POSIX defines the conversion that ISO C leaves out; the union avoids the pedantic warning. */
static function *find(void *library, const char *symbol) {
    const union {
        void *object;
        function *function;
    } found = {.object = dlsym(library, symbol)};
    return found.function;
}
#endif

/* torch has the driver in the process before there is a tensor on a GPU, so this finds that copy. It stays open. */
ws_status ws_cuda_driver_load(ws_cuda_driver *driver, ws_error *error) {
    void *const library = open_library();
    if (library == NULL) {
        return ws_fail(error, WS_ERROR_LIBRARY, "there is no NVIDIA driver (" LIBRARY ")");
    }
#define FIND(member, symbol, parameters)                                                                            \
    driver->member = (ws_cu_result(*) parameters)find(library, #symbol);                                            \
    if (driver->member == NULL) {                                                                                   \
        return ws_fail(error, WS_ERROR_LIBRARY, "the NVIDIA driver is too old: it has no " #symbol);                \
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
