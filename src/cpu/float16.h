/* bfloat16 and IEEE half, to and from fp32, in portable C. Private to src/cpu.
 *
 * Exact upwards; downwards rounded to nearest even, NaN stays NaN and what is too large becomes
 * infinity. Every case is computed and selected by masks: with `?:` gcc moves the arithmetic into
 * branches and gives up on vector code. No fp32 denormal is ever an operand or a result that
 * matters: threads in which torch flushes denormals get the same bits. */
#ifndef WAVESPEED_CPU_FLOAT16_H
#define WAVESPEED_CPU_FLOAT16_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ws_bits_of_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float ws_f32_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* All ones where a < b, else 0; for a and b below 2^31, since the oldest vector units compare only
 * signed integers. */
static inline uint32_t ws_mask_less(uint32_t a, uint32_t b) {
    return 0 - (uint32_t)((int32_t)a < (int32_t)b);
}

static inline uint32_t ws_select(uint32_t mask, uint32_t yes, uint32_t no) {
    return (yes & mask) | (no & ~mask);
}

static inline float ws_f32_from_bf16(uint16_t half) {
    return ws_f32_of_bits((uint32_t)half << 16);
}

static inline uint16_t ws_bf16_from_f32(float value) {
    const uint32_t infinity = 0x7F800000;
    const uint32_t bits = ws_bits_of_f32(value);
    const uint32_t rounded =
        bits + 0x7FFF + ((bits >> 16) & 1);       /* a carry into the exponent is right */
    const uint32_t quiet_nan = bits | 0x00400000; /* its payload may be in the lost bits alone */
    return (uint16_t)(ws_select(ws_mask_less(infinity, bits & 0x7FFFFFFF), quiet_nan, rounded) >>
                      16);
}

static inline float ws_f32_from_f16(uint16_t half) {
    const uint32_t smallest_normal = 0x0400;
    const uint32_t infinity = 0x7C00;
    const uint32_t rebias = (uint32_t)(127 - 15) << 23;
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t magnitude = half & 0x7FFF;
    const uint32_t normal = (magnitude << 13) + rebias;
    /* A denormal is its integer times 2^-24, which fp32 holds as a normal number. */
    const uint32_t denormal = ws_bits_of_f32((float)(int32_t)magnitude * 0x1p-24f);
    /* Exponent 31 means infinity or NaN and becomes 255: the same amount once more. */
    const uint32_t extended = normal + (ws_mask_less(infinity - 1, magnitude) & rebias);
    return ws_f32_of_bits(sign |
                          ws_select(ws_mask_less(magnitude, smallest_normal), denormal, extended));
}

static inline uint16_t ws_f16_from_f32(float value) {
    const uint32_t smallest_normal = 0x38800000; /* 2^-14 */
    const uint32_t rounds_to_infinity =
        0x477FF000; /* 65520, half-way between the largest half and 2^16 */
    const uint32_t infinity = 0x7F800000;
    const uint32_t rebias = (uint32_t)(127 - 15) << 23;
    const uint32_t bits = ws_bits_of_f32(value);
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    const uint32_t normal = (magnitude - rebias + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
    /* Below 2^-14 the results are multiples of 2^-24, the distance between floats around one half:
     * this addition rounds, and the low bits of the sum are the answer. */
    const uint32_t denormal =
        ws_bits_of_f32(ws_f32_of_bits(magnitude) + 0.5f) - ws_bits_of_f32(0.5f);
    const uint32_t finite = ws_select(ws_mask_less(magnitude, smallest_normal), denormal, normal);
    const uint32_t quiet_nan = 0x0200 | ((magnitude >> 13) & 0x03FF);
    const uint32_t not_finite = 0x7C00 | (ws_mask_less(infinity, magnitude) & quiet_nan);
    return (uint16_t)(sign |
                      ws_select(ws_mask_less(magnitude, rounds_to_infinity), finite, not_finite));
}

#endif
