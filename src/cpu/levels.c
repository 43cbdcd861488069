/* Which level of the vector units this machine has, and which of them is used. */
#include "cpu/levels.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    LEAF_1_ECX_OSXSAVE = 1 << 27,
    LEAF_1_ECX_F16C = 1 << 29,
    LEAF_7_EBX_AVX2 = 1 << 5,
    LEAF_7_EBX_AVX512F = 1 << 16,
    STATE_AVX = 0x06,   /* XMM and YMM registers */
    STATE_AVX512 = 0xE6 /* and the masks and ZMM registers */
};

/* The registers that the operating system saves when it switches threads: the processor alone having them is not enough.
 * Allowed only behind OSXSAVE. */
static unsigned saved_registers(void) {
    unsigned low;
    unsigned high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* By hand: __builtin_cpu_supports() does not know F16C in every compiler. */
static bool has(unsigned leaf_1_ecx, unsigned leaf_7_ebx, unsigned registers) {
    unsigned eax;
    unsigned ebx;
    unsigned ecx;
    unsigned edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & LEAF_1_ECX_OSXSAVE) == 0 || (ecx & leaf_1_ecx) != leaf_1_ecx) {
        return false;
    }
    if ((saved_registers() & registers) != registers || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) {
        return false;
    }
    return (ebx & leaf_7_ebx) == leaf_7_ebx;
}

static bool has_avx2(void) {
    return has(LEAF_1_ECX_F16C, LEAF_7_EBX_AVX2, STATE_AVX);
}

static bool has_avx512(void) {
    return has(LEAF_1_ECX_F16C, LEAF_7_EBX_AVX2 | LEAF_7_EBX_AVX512F, STATE_AVX512);
}
#endif

static bool always(void) {
    return true;
}

/* Best first. */
static const struct {
    const ws_kernels *kernels;
    bool (*runs_here)(void);
} built[] = {
#if defined(__x86_64__)
    {&ws_kernels_avx512, has_avx512},
    {&ws_kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&ws_kernels_neon, always},
#endif
    {&ws_kernels_scalar, always},
};

const ws_kernels *ws_kernels_level(size_t index) {
    for (size_t i = 0; i < sizeof(built) / sizeof(built[0]); ++i) {
        if (built[i].runs_here() && index-- == 0) {
            return built[i].kernels;
        }
    }
    return NULL;
}

static const ws_kernels *choose(void) {
    const char *const wanted = getenv("WAVESPEED_CPU_LEVEL");
    const ws_kernels *level = NULL;
    for (size_t i = 0; wanted != NULL && (level = ws_kernels_level(i)) != NULL; ++i) {
        if (strcmp(level->name, wanted) == 0) {
            return level;
        }
    }
    return ws_kernels_level(0);
}

/* Threads that come here first at the same time choose the same. */
const ws_kernels *ws_kernels_cpu(void) {
    static _Atomic(const ws_kernels *) chosen = NULL;
    const ws_kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (kernels == NULL) {
        kernels = choose();
        atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
    }
    return kernels;
}
