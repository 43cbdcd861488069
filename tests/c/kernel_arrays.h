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

/* The level that every machine has. */
static inline ws_cpu_executor portable(void) {
    size_t last = 0;
    while (ws_kernels_level(last + 1) != NULL) {
        ++last;
    }
    return (ws_cpu_executor){ws_kernels_level(last), NULL};
}

/* Zeros of both signs, denormals, what rounds to another 16-bit number, the largest, infinities, NaN, and a few ordinary
 * ones. */
static inline float special_value(void) {
    static const float values[] = {0.0f,          -0.0f,          0x1p-149f,   -0x1p-149f, 0x1p-133f,
                                   0x1p-126f,     -0x1.fp-127f,   0x1p-24f,    0x1p-25f,   -0x1.8p-24f,
                                   0x1p-14f,      0x1.ffcp-15f,   65504.0f,    65520.0f,   -65519.0f,
                                   3.4028235e38f, -3.4028235e38f, 0x1.ffp127f, 0x1.008p0f, 0x1.018p0f,
                                   1.0f,          -1.0f,          INFINITY,    -INFINITY,  NAN};
    return values[random_bits() % (sizeof(values) / sizeof(values[0]))];
}

/* A NaN is a NaN: which one is nobody's promise. of: what gave the value. */
static inline void assert_same_sum(const char *of, double value, double expected) {
    if (!(isnan(value) && isnan(expected)) && memcmp(&value, &expected, sizeof(value)) != 0) {
        fail_msg("%s: %.17g instead of exactly %.17g", of, value, expected);
    }
}

static inline void assert_same_array(const char *of, ws_dtype dtype, const void *array, const void *expected, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        const float value = get(dtype, array, i);
        const float wanted = get(dtype, expected, i);
        if (!(isnan(value) && isnan(wanted)) && ws_bits_of_f32(value) != ws_bits_of_f32(wanted)) {
            fail_msg("%s: element %zu of %zu is %a instead of %a", of, i, n, (double)value, (double)wanted);
        }
    }
}

/* Adds residuals to hidden states, as ws_residual_apply() does. context: what the test needs. */
typedef void apply_function(const void *context, ws_dtype dtype, void *out, const void *hidden, const float *residual,
                            size_t n);

/* Every fp32 number whose lowest bits are one of a few patterns, which covers every way to round to 16 bits, is rounded as
 * the portable level does. of: what rounds. */
static inline void check_rounding(const char *of, apply_function *apply, const void *context) {
    enum { PATTERNS = 65536 };
    static const uint32_t lowest[] = {0x0000, 0x0001, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    const ws_cpu_executor scalar = portable();
    float *const residual = new_floats(PATTERNS, 0.0f);
    uint16_t *const hidden = new_array(WS_DTYPE_BF16, PATTERNS, 0.0f);
    uint16_t *const out = new_array(WS_DTYPE_BF16, PATTERNS, 0.0f);
    uint16_t *const expected = new_array(WS_DTYPE_BF16, PATTERNS, 0.0f);
    memset(hidden, 0, PATTERNS * sizeof(*hidden));
    for (size_t k = 0; k < sizeof(lowest) / sizeof(lowest[0]); ++k) {
        for (uint32_t i = 0; i < PATTERNS; ++i) {
            residual[i] = ws_f32_of_bits(i << 16 | lowest[k]);
        }
        for (int dtype = WS_DTYPE_BF16; dtype <= WS_DTYPE_F16; ++dtype) {
            ws_residual_apply(&scalar, (ws_dtype)dtype, expected, hidden, residual, PATTERNS);
            apply(context, (ws_dtype)dtype, out, hidden, residual, PATTERNS);
            assert_same_array(of, (ws_dtype)dtype, out, expected, PATTERNS);
        }
    }
    free(residual);
    free(hidden);
    free(out);
    free(expected);
}

#endif
