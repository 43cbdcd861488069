/* Stands for the toolkit's header of this name. */
#ifndef WAVESPEED_TESTS_EMULATED_CUDA_FP16_H
#define WAVESPEED_TESTS_EMULATED_CUDA_FP16_H

#include "cpu/float16.h"

struct __half {
    uint16_t bits;
};

static inline __half __ushort_as_half(uint16_t bits) {
    return {bits};
}

static inline uint16_t __half_as_ushort(__half value) {
    return value.bits;
}

static inline float __half2float(__half value) {
    return ws_f32_from_f16(value.bits);
}

static inline __half __float2half_rn(float value) {
    return {ws_f16_from_f32(value)};
}

#endif
