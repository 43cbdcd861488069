/* A library like libcuda.so.1 that runs the pack's kernels on the CPU, in memory of the host, and misbehaves on demand. It
 * has the functions that src/cuda/driver.h looks for, and it is as strict about contexts as the real one. */
#include "emulated_kernels.h"

#include "cuda/operands.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE_OF_THIS_INDEX = 101,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    CAPTURE_IMPLICIT = 906
};

struct Context {
    int device;
    bool is_primary;
};

struct Module {
    const Context *context;
};

struct Function {
    const Context *context;
    std::string name;
};

constexpr int DEVICES = 2;
Context primary[DEVICES] = {{0, true}, {1, true}};
Context foreign = {0, false};

std::string behaviour;
uint64_t launches = 0;
std::vector<Context *> current; /* the stack of the one thread that tests use */
std::list<Module> modules;
std::list<Function> functions;
std::map<void *, std::unique_ptr<char[]>> memory_in_use; /* what an executor leaves behind goes with the driver */

void *allocate(size_t bytes) {
    std::unique_ptr<char[]> block(new char[bytes]);
    void *const address = block.get();
    memory_in_use[address] = std::move(block);
    return address;
}

bool behaves(const char *what) {
    return behaviour == what;
}

Context *top() {
    return current.empty() ? nullptr : current.back();
}

bool is_of_sums(const std::string &name) {
    return name.find("distance") != std::string::npos || name.find("moments") != std::string::npos ||
           name.find("finish") != std::string::npos || name.find("subtract") != std::string::npos ||
           name.find("advance") != std::string::npos;
}

} // namespace

/* ---- For the tests -------------------------------------------------------------------------------------------------- */

/* "": as it should. The others are looked for below. */
EXPORT void fake_cuda_behave(const char *what) {
    behaviour = what;
    current.clear();
    if (behaves("another context")) {
        current.push_back(&foreign);
    } else if (behaves("another device")) {
        current.push_back(&primary[1]);
    }
}

EXPORT uint64_t fake_cuda_launches() {
    return launches;
}

/* The device of the current context; -1 for none, -2 for the foreign one. */
EXPORT int fake_cuda_current() {
    return top() == nullptr ? -1 : top()->is_primary ? top()->device : -2;
}

/* ---- The driver ----------------------------------------------------------------------------------------------------- */

EXPORT int cuDriverGetVersion(int *version) {
    *version = behaves("old driver") ? 10020 : 13000;
    return behaves("no version") ? INVALID_VALUE : SUCCESS;
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal < DEVICES ? SUCCESS : NO_DEVICE_OF_THIS_INDEX;
}

EXPORT int cuDevicePrimaryCtxRetain(Context **context, int device) {
    *context = &primary[device];
    return SUCCESS;
}

EXPORT int cuCtxGetCurrent(Context **context) {
    *context = top();
    return SUCCESS;
}

EXPORT int cuCtxGetDevice(int *device) {
    if (top() == nullptr) {
        return INVALID_CONTEXT;
    }
    *device = top()->device;
    return SUCCESS;
}

EXPORT int cuCtxPushCurrent_v2(Context *context) {
    current.push_back(context);
    return SUCCESS;
}

EXPORT int cuCtxPopCurrent_v2(Context **context) {
    *context = top();
    if (current.empty()) {
        return INVALID_CONTEXT;
    }
    current.pop_back();
    return SUCCESS;
}

EXPORT int cuModuleLoadData(Module **module, const void *image) {
    const bool is_ptx = std::strstr(static_cast<const char *>(image), ".version") != nullptr;
    if (top() == nullptr) {
        return INVALID_CONTEXT;
    }
    if (behaves("no image") || (behaves("no fatbin") && !is_ptx)) {
        return NO_BINARY_FOR_GPU;
    }
    modules.push_back({top()});
    *module = &modules.back();
    return SUCCESS;
}

EXPORT int cuModuleGetFunction(Function **function, Module *module, const char *name) {
    if (!emulated_kernel_exists(name) || (behaves("a kernel is missing") && std::strcmp(name, "wavespeed_read") == 0)) {
        return NOT_FOUND;
    }
    functions.push_back({module->context, name});
    *function = &functions.back();
    return SUCCESS;
}

EXPORT int cuLaunchKernel(Function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, void *, void **parameters,
                          void **extra) {
    if (function->context != top()) {
        return INVALID_HANDLE;
    }
    if (grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1 || shared_bytes != 0 || extra != nullptr ||
        behaves("capturing")) {
        return INVALID_VALUE;
    }
    if (behaves("no launch")) {
        return LAUNCH_OUT_OF_RESOURCES;
    }
    ++launches;
    if (behaves("silent") || behaves("an accident") || behaves("a lost mark")) {
        return SUCCESS;
    }
    if (!emulated_launch(function->name.c_str(), grid_x, block_x, parameters[0],
                         launches % 2 == 0 ? EMULATED_FORWARD : EMULATED_BACKWARD)) {
        return INVALID_VALUE;
    }
    if (behaves("a wrong sum") && is_of_sums(function->name)) {
        const auto *operands = static_cast<const ws_cuda_operands *>(parameters[0]);
        operands->sums[0] *= 1.0 + 0x1p-52;
    }
    if (behaves("a wrong element") && function->name == "wavespeed_extrapolate_f16") {
        const auto *operands = static_cast<const ws_cuda_operands *>(parameters[0]);
        static_cast<uint16_t *>(operands->out)[operands->n - 1] ^= 1;
    }
    if (behaves("a wrong scale") && function->name == "wavespeed_advance_f32") {
        const auto *operands = static_cast<const ws_cuda_operands *>(parameters[0]);
        operands->difference[0] *= 1.0f + 0x1p-23f;
    }
    return SUCCESS;
}

EXPORT int cuStreamIsCapturing(void *, int *status) {
    *status = behaves("capturing") ? 1 : 0;
    return behaves("capturing elsewhere") ? CAPTURE_IMPLICIT : top() == nullptr ? INVALID_CONTEXT : SUCCESS;
}

EXPORT int cuStreamQuery(void *) {
    return top() == nullptr         ? INVALID_CONTEXT
           : behaves("silent")      ? NOT_READY
           : behaves("an accident") ? ILLEGAL_ADDRESS
                                    : SUCCESS;
}

EXPORT int cuMemsetD32Async(uint64_t memory, unsigned value, size_t count, void *) {
    uint32_t *const words = reinterpret_cast<uint32_t *>(memory);
    for (size_t i = 0; i < count; ++i) {
        words[i] = value;
    }
    return top() == nullptr ? INVALID_CONTEXT : SUCCESS;
}

EXPORT int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
    *memory = flags == 3 ? allocate(bytes) : nullptr;
    return *memory != nullptr ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuMemHostGetDevicePointer_v2(uint64_t *pointer, void *memory, unsigned) {
    *pointer = reinterpret_cast<uint64_t>(memory);
    return SUCCESS;
}

/* Full of ones, which are NaN: nobody may rely on what fresh memory holds. */
EXPORT int cuMemAlloc_v2(uint64_t *memory, size_t bytes) {
    if (behaves("no memory")) {
        return OUT_OF_MEMORY;
    }
    void *const block = allocate(bytes);
    std::memset(block, 0xFF, bytes);
    *memory = reinterpret_cast<uint64_t>(block);
    return SUCCESS;
}

EXPORT int cuMemFree_v2(uint64_t memory) {
    return memory_in_use.erase(reinterpret_cast<void *>(memory)) == 1 ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return SUCCESS;
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
    std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return SUCCESS;
}
