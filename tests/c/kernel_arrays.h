/* Arrays of any dtype with reproducible content, for the tests of the kernels. */
#ifndef WAVESPEED_TESTS_KERNEL_ARRAYS_H
#define WAVESPEED_TESTS_KERNEL_ARRAYS_H

#include "wavespeed/kernels.h"

#include "cpu/float16.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_state = 1;

/* xorshift: the same numbers on every machine. */
static inline uint32_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* Roughly normal: what hidden states look like. */
static inline float random_value(float scale) {
    float sum = 0.0f;
    for (int i = 0; i < 6; ++i) {
        sum += (float)(random_bits() >> 8) * 0x1p-24f - 0.5f;
    }
    return sum * 1.4142135f * scale;
}

static inline size_t size_of(ws_dtype dtype) {
    return dtype == WS_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

static inline void set(ws_dtype dtype, void *array, size_t i, float value) {
    if (dtype == WS_DTYPE_F32) {
        ((float *)array)[i] = value;
    } else {
        ((uint16_t *)array)[i] =
            dtype == WS_DTYPE_BF16 ? ws_bf16_from_f32(value) : ws_f16_from_f32(value);
    }
}

static inline float get(ws_dtype dtype, const void *array, size_t i) {
    if (dtype == WS_DTYPE_F32) {
        return ((const float *)array)[i];
    }
    const uint16_t bits = ((const uint16_t *)array)[i];
    return dtype == WS_DTYPE_BF16 ? ws_f32_from_bf16(bits) : ws_f32_from_f16(bits);
}

/* n random elements, exactly as large as needed: the sanitizer watches both ends. */
static inline void *new_array(ws_dtype dtype, size_t n, float scale) {
    void *const array = malloc(n * size_of(dtype) + (n == 0));
    assert_non_null(array);
    for (size_t i = 0; i < n; ++i) {
        set(dtype, array, i, random_value(scale));
    }
    return array;
}

static inline float *new_floats(size_t n, float scale) {
    return new_array(WS_DTYPE_F32, n, scale);
}

static inline void *copy_of(const void *array, size_t bytes) {
    void *const copy = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, array, bytes);
    return copy;
}

static inline void assert_near(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-6 * fabs(expected))) {
        fail_msg("%.17g instead of %.17g", value, expected);
    }
}

static inline void assert_same_double(double value, double expected) {
    if (memcmp(&value, &expected, sizeof(value)) != 0) {
        fail_msg("%.17g instead of exactly %.17g", value, expected);
    }
}

#endif
