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
    OF_ALL_DTYPES(distance),
    OF_ALL_DTYPES(moments),
    OF_ALL_DTYPES(finish),
    OF_ALL_DTYPES(subtract),
    OF_ALL_DTYPES(advance),
    OF_ALL_DTYPES(apply),
    OF_ALL_DTYPES(extrapolate),
    {"wavespeed_read", call<ws_cuda_reading, wavespeed_read>},
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
constexpr uint32_t WARP_THREADS = 32;

enum class State { RUNS, WAITS_FOR_WARP, WAITS_FOR_BLOCK, IS_DONE };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    State state = State::RUNS;
    uint32_t shuffles = 0;
    uint32_t shuffled[2] = {}; /* of its last two shuffles: others may still read the one before */
};

std::vector<Fiber> fibers(EMULATED_MOST_THREADS);
ucontext_t scheduler;
Fiber *running = nullptr;
const Kernel *of_fibers = nullptr;
const void *operands_of_fibers = nullptr;

void run_fiber() {
    of_fibers->call(operands_of_fibers);
    running->state = State::IS_DONE;
    swapcontext(&running->context, &scheduler);
}

void wait_for(State whom) {
    running->state = whom;
    swapcontext(&running->context, &scheduler);
}

void start(Fiber &fiber) {
    fiber.state = State::RUNS;
    fiber.shuffles = 0;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
}

bool all_are(State state, uint32_t first, uint32_t count) {
    for (uint32_t thread = first; thread < first + count; ++thread) {
        if (fibers[thread].state != state) {
            return false;
        }
    }
    return true;
}

/* Lets the threads go on when all of them wait for each other. */
bool release(State waiting, uint32_t first, uint32_t count) {
    const bool is_complete = all_are(waiting, first, count);
    for (uint32_t thread = first; is_complete && thread < first + count; ++thread) {
        fibers[thread].state = State::RUNS;
    }
    return is_complete;
}

/* From one meeting of the threads to the next. Returns whether any may go on. */
bool run_until_meeting(uint32_t threads, emulated_order order) {
    for (uint32_t turn = 0; turn < threads; ++turn) {
        threadIdx.x = order == EMULATED_FORWARD ? turn : threads - 1 - turn;
        running = &fibers[threadIdx.x];
        if (running->state == State::RUNS) {
            swapcontext(&scheduler, &running->context);
        }
    }
    bool any = release(State::WAITS_FOR_BLOCK, 0, threads);
    for (uint32_t first = 0; first < threads; first += WARP_THREADS) {
        any = release(State::WAITS_FOR_WARP, first, WARP_THREADS) || any;
    }
    return any;
}

} // namespace

static void __syncthreads() {
    wait_for(State::WAITS_FOR_BLOCK);
}

static uint32_t __shfl_xor_sync(uint32_t, uint32_t value, int bits) {
    const uint32_t partner = threadIdx.x ^ static_cast<uint32_t>(bits);
    const uint32_t place = running->shuffles++ % 2;
    running->shuffled[place] = value;
    wait_for(State::WAITS_FOR_WARP);
    return fibers[partner].shuffled[place];
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
        if (!all_are(State::IS_DONE, 0, threads)) { /* some wait for others that never come */
            return false;
        }
    }
    return true;
}
