#include "emulated_kernels.h"

#include "emulated_cuda.h"

#include "cuda/kernels.cu"

#include <memory>
#include <string>
#include <vector>

#include <ucontext.h>

namespace {

/* ---- Kernels by name ------------------------------------------------------------------------------------------------ */

template <typename Operands, void kernel(Operands)> void call(const void *operands) {
    kernel(*static_cast<const Operands *>(operands));
}

struct Kernel {
    const char *name;
    void (*call)(const void *operands);
};

#define OF_DTYPE(name, dtype) {"wavespeed_" #name "_" #dtype, call<ws_cuda_operands, wavespeed_##name##_##dtype>}
#define OF_ALL_DTYPES(name) OF_DTYPE(name, f32), OF_DTYPE(name, bf16), OF_DTYPE(name, f16)
const Kernel kernels[] = {
    OF_ALL_DTYPES(distance), OF_ALL_DTYPES(moments), OF_ALL_DTYPES(finish),
    OF_ALL_DTYPES(apply),    OF_ALL_DTYPES(combine), {"wavespeed_read", call<ws_cuda_reading, wavespeed_read>},
};

const Kernel *find(const char *name) {
    for (const Kernel &kernel : kernels) {
        if (std::strcmp(kernel.name, name) == 0) {
            return &kernel;
        }
    }
    return nullptr;
}

/* ---- Fibers --------------------------------------------------------------------------------------------------------- */

constexpr size_t STACK = 64 * 1024;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool is_done = false;
};

std::vector<Fiber> fibers(EMULATED_MOST_THREADS);
ucontext_t scheduler;
Fiber *running = nullptr;
const Kernel *of_fibers = nullptr;
const void *operands_of_fibers = nullptr;

void run_fiber() {
    of_fibers->call(operands_of_fibers);
    running->is_done = true;
    swapcontext(&running->context, &scheduler);
}

void start(Fiber &fiber) {
    fiber.is_done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
}

/* From one meeting of the threads to the next. Returns whether any has not ended yet. */
bool run_until_meeting(uint32_t threads, emulated_order order) {
    bool any = false;
    for (uint32_t turn = 0; turn < threads; ++turn) {
        threadIdx.x = order == EMULATED_FORWARD ? turn : threads - 1 - turn;
        running = &fibers[threadIdx.x];
        if (!running->is_done) {
            swapcontext(&scheduler, &running->context);
            any = any || !running->is_done;
        }
    }
    return any;
}

} // namespace

static void __syncthreads() {
    swapcontext(&running->context, &scheduler);
}

bool emulated_kernel_exists(const char *name) {
    return find(name) != nullptr;
}

bool emulated_launch(const char *name, uint32_t blocks, uint32_t threads, const void *operands, emulated_order order) {
    of_fibers = find(name);
    operands_of_fibers = operands;
    if (of_fibers == nullptr || threads > EMULATED_MOST_THREADS) {
        return false;
    }
    gridDim.x = blocks;
    for (uint32_t turn = 0; turn < blocks; ++turn) {
        blockIdx.x = order == EMULATED_FORWARD ? turn : blocks - 1 - turn;
        for (uint32_t thread = 0; thread < threads; ++thread) {
            start(fibers[thread]);
        }
        while (run_until_meeting(threads, order)) {
        }
    }
    return true;
}
