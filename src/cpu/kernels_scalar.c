/* The portable level: vectors of one float, in plain C that -O3 turns into whatever vectors the baseline has. */
#include "cpu/float16.h"

#include <math.h>

typedef float vector;

enum { WIDTH = 1 };

#define TABLE ws_kernels_scalar
#define LEVEL "scalar"

static inline vector zero(void) {
    return 0.0f;
}

static inline vector broadcast(float value) {
    return value;
}

static inline vector add(vector a, vector b) {
    return a + b;
}

static inline vector subtract(vector a, vector b) {
    return a - b;
}

static inline vector multiply(vector a, vector b) {
    return a * b;
}

static inline vector magnitude(vector a) {
    return fabsf(a);
}

static inline vector larger(vector a, vector b) {
    return ws_bits_of_f32(a) > ws_bits_of_f32(b) ? a : b;
}

static inline vector load_f32(const float *source) {
    return *source;
}

static inline vector load_bf16(const uint16_t *source) {
    return ws_f32_from_bf16(*source);
}

static inline vector load_f16(const uint16_t *source) {
    return ws_f32_from_f16(*source);
}

static inline void store_f32(float *target, vector value) {
    *target = value;
}

static inline void store_bf16(uint16_t *target, vector value) {
    *target = ws_bf16_from_f32(value);
}

static inline void store_f16(uint16_t *target, vector value) {
    *target = ws_f16_from_f32(value);
}

static inline vector load_i8(const int8_t *source) {
    return (float)*source;
}

/* Adding 1.5 * 2^23 rounds to an integer, which is then in the lower bits of the sum. */
static inline void store_i8(int8_t *target, vector value) {
    const uint32_t bits = ws_bits_of_f32(value + 0x1.8p23f);
    *target = (int8_t)((int32_t)(bits & 0x007FFFFF) - 0x00400000);
}

#include "cpu/kernels_level.h"
