/* x86-64 with AVX2 and F16C: eight floats per vector. F16C rounds as it is told and ignores the thread's rounding and
 * flushing of denormals; fused multiply-add, which most of these processors have, would give other bits. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m256 vector;

enum { WIDTH = 8 };

#define TABLE ws_kernels_avx2
#define LEVEL "avx2"

static inline vector zero(void) {
    return _mm256_setzero_ps();
}

static inline vector broadcast(float value) {
    return _mm256_set1_ps(value);
}

static inline vector add(vector a, vector b) {
    return _mm256_add_ps(a, b);
}

static inline vector subtract(vector a, vector b) {
    return _mm256_sub_ps(a, b);
}

static inline vector multiply(vector a, vector b) {
    return _mm256_mul_ps(a, b);
}

static inline vector magnitude(vector a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline vector larger(vector a, vector b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

static inline vector load_f32(const float *source) {
    return _mm256_loadu_ps(source);
}

static inline vector load_bf16(const uint16_t *source) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)source));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

static inline vector load_f16(const uint16_t *source) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)source));
}

static inline void store_f32(float *target, vector value) {
    _mm256_storeu_ps(target, value);
}

/* As ws_bf16_from_f32() in float16.h. */
static inline void store_bf16(uint16_t *target, vector value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i last_kept_bit = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(last_kept_bit, _mm256_set1_epi32(0x7FFF)));
    const __m256i quiet_nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    const __m256i is_nan =
        _mm256_cmpgt_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF)), _mm256_set1_epi32(0x7F800000));
    const __m256i wide = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet_nan, is_nan), 16);
    const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128((__m128i *)target, narrow);
}

static inline void store_f16(uint16_t *target, vector value) {
    _mm_storeu_si128((__m128i *)target, _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

static inline vector load_i8(const int8_t *source) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)source)));
}

static inline void store_i8(int8_t *target, vector value) {
    const __m256i wide = _mm256_cvtps_epi32(value);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)target, _mm_packs_epi16(narrow, narrow));
}

#include "cpu/kernels_level.h"
