/* src/cuda/driver.h declares the driver's functions by hand. Compiling this file checks them against the CUDA toolkit's own
 * header: the same names, as many parameters, each of the same kind and size, and the same values. */
#include "cuda/driver.h"

#include <cuda.h>

#include <type_traits>

namespace {

template <typename Type> constexpr size_t pointee_size() {
    if constexpr (std::is_void_v<Type> || std::is_class_v<Type>) {
        return 0; /* the structs are known by their names only */
    } else {
        return sizeof(Type);
    }
}

template <typename Ours, typename Theirs> constexpr bool alike() {
    if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) {
        return pointee_size<std::remove_pointer_t<Ours>>() == pointee_size<std::remove_pointer_t<Theirs>>();
    } else {
        return std::is_pointer_v<Ours> == std::is_pointer_v<Theirs> && sizeof(Ours) == sizeof(Theirs);
    }
}

template <typename Ours, typename Theirs> struct Functions : std::false_type {};

template <typename... Ours, typename... Theirs> struct Functions<ws_cu_result (*)(Ours...), CUresult (*)(Theirs...)> {
    static constexpr bool value = [] {
        if constexpr (sizeof...(Ours) == sizeof...(Theirs)) {
            return (alike<Ours, Theirs>() && ...);
        }
        return false;
    }();
};

#define CHECK(member, symbol, parameters)                                                                                   \
    static_assert(Functions<decltype(ws_cuda_driver::member), decltype(&symbol)>::value, #symbol);
WS_CUDA_DRIVER(CHECK)

static_assert(sizeof(ws_cu_result) == sizeof(CUresult));
static_assert(WS_CU_SUCCESS == static_cast<int>(CUDA_SUCCESS));
static_assert(WS_CU_OUT_OF_MEMORY == static_cast<int>(CUDA_ERROR_OUT_OF_MEMORY));
static_assert(WS_CU_NOT_READY == static_cast<int>(CUDA_ERROR_NOT_READY));
static_assert(WS_CU_CAPTURE_IMPLICIT == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT));
static_assert(WS_CU_HOST_PORTABLE == CU_MEMHOSTALLOC_PORTABLE);
static_assert(WS_CU_HOST_MAPPED == CU_MEMHOSTALLOC_DEVICEMAP);
static_assert(WS_CU_CAPTURE_NONE == static_cast<int>(CU_STREAM_CAPTURE_STATUS_NONE));

} // namespace
