/* 64-bit ARM, where NEON and its conversions of halves belong to the baseline: four floats per vector. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float32x4_t vector;

enum { WIDTH = 4 };

#define TABLE ws_kernels_neon
#define LEVEL "neon"

static inline vector zero(void) {
    return vdupq_n_f32(0.0f);
}

static inline vector broadcast(float value) {
    return vdupq_n_f32(value);
}

static inline vector add(vector a, vector b) {
    return vaddq_f32(a, b);
}

static inline vector subtract(vector a, vector b) {
    return vsubq_f32(a, b);
}

static inline vector multiply(vector a, vector b) {
    return vmulq_f32(a, b);
}

static inline vector magnitude(vector a) {
    return vabsq_f32(a);
}

static inline vector larger(vector a, vector b) {
    return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}

static inline vector load_f32(const float *source) {
    return vld1q_f32(source);
}

static inline vector load_bf16(const uint16_t *source) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(source), 16));
}

static inline vector load_f16(const uint16_t *source) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(source)));
}

static inline void store_f32(float *target, vector value) {
    vst1q_f32(target, value);
}

/* As ws_bf16_from_f32() in float16.h. */
static inline void store_bf16(uint16_t *target, vector value) {
    const uint32x4_t bits = vreinterpretq_u32_f32(value);
    const uint32x4_t last_kept_bit = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(last_kept_bit, vdupq_n_u32(0x7FFF)));
    const uint32x4_t quiet_nan = vorrq_u32(bits, vdupq_n_u32(0x00400000));
    const uint32x4_t is_number = vceqq_f32(value, value);
    vst1_u16(target, vshrn_n_u32(vbslq_u32(is_number, rounded, quiet_nan), 16));
}

static inline void store_f16(uint16_t *target, vector value) {
    vst1_u16(target, vreinterpret_u16_f16(vcvt_f16_f32(value)));
}

static inline vector load_i8(const int8_t *source) {
    int32_t bytes;
    memcpy(&bytes, source, sizeof(bytes));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes))))));
}

static inline void store_i8(int8_t *target, vector value) {
    const int16x4_t narrow = vqmovn_s32(vcvtnq_s32_f32(value));
    const int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(narrow, narrow))), 0);
    memcpy(target, &bytes, sizeof(bytes));
}

#include "cpu/kernels_level.h"
