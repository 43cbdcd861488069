/* x86-64 with AVX-512: sixteen floats per vector, from its foundation (AVX512F) alone. Its bfloat16 instructions are of no
 * use: they flush denormals. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 vector;

enum { WIDTH = 16 };

#define TABLE ws_kernels_avx512
#define LEVEL "avx512"

static inline vector zero(void) {
    return _mm512_setzero_ps();
}

static inline vector broadcast(float value) {
    return _mm512_set1_ps(value);
}

static inline vector add(vector a, vector b) {
    return _mm512_add_ps(a, b);
}

static inline vector subtract(vector a, vector b) {
    return _mm512_sub_ps(a, b);
}

static inline vector multiply(vector a, vector b) {
    return _mm512_mul_ps(a, b);
}

static inline vector magnitude(vector a) {
    return _mm512_abs_ps(a);
}

static inline vector larger(vector a, vector b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

static inline vector load_f32(const float *source) {
    return _mm512_loadu_ps(source);
}

static inline vector load_bf16(const uint16_t *source) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)source));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline vector load_f16(const uint16_t *source) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)source));
}

static inline void store_f32(float *target, vector value) {
    _mm512_storeu_ps(target, value);
}

/* As ws_bf16_from_f32() in float16.h. */
static inline void store_bf16(uint16_t *target, vector value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i last_kept_bit = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(last_kept_bit, _mm512_set1_epi32(0x7FFF)));
    const __m512i quiet_nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x00400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i wide = _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, is_nan, quiet_nan), 16);
    _mm256_storeu_si256((__m256i *)target, _mm512_cvtepi32_epi16(wide));
}

static inline void store_f16(uint16_t *target, vector value) {
    _mm256_storeu_si256((__m256i *)target, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

static inline vector load_i8(const int8_t *source) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)source)));
}

static inline void store_i8(int8_t *target, vector value) {
    _mm_storeu_si128((__m128i *)target, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(value)));
}

#include "cpu/kernels_level.h"
