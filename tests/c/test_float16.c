/* The 16-bit conversions against their definition, for every pattern and every middle between two
 * neighbours. */
#include "cpu/float16.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

/* The value of a half by definition, without fp32. */
static double half_value(uint16_t half) {
    const int exponent = (half >> 10) & 31;
    const double fraction = (double)(half & 0x3FF);
    double magnitude;
    if (exponent == 0) {
        magnitude = ldexp(fraction, -24);
    } else if (exponent == 31) {
        magnitude = fraction > 0.0 ? (double)NAN : (double)INFINITY;
    } else {
        magnitude = ldexp(fraction + 1024.0, exponent - 25);
    }
    return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

static void check_every_half(void) {
    for (uint32_t pattern = 0; pattern <= 0xFFFF; ++pattern) {
        const uint16_t half = (uint16_t)pattern;
        const float value = ws_f32_from_f16(half);
        const double expected = half_value(half);
        const uint16_t back = ws_f16_from_f32(value);
        if (isnan(expected)) {
            assert_true(isnan(value));
            assert_int_equal(back,
                             half | 0x0200); /* sign and payload stay, the NaN becomes quiet */
        } else {
            assert_true((double)value == expected);
            assert_int_equal(signbit(value) != 0, half >> 15);
            assert_int_equal(back, half);
        }
    }
}

static void every_half_goes_up_exactly_and_back(void **state) {
    (void)state;
    check_every_half();
}

static void every_bfloat16_goes_up_exactly_and_back(void **state) {
    (void)state;
    for (uint32_t pattern = 0; pattern <= 0xFFFF; ++pattern) {
        const float value = ws_f32_from_bf16((uint16_t)pattern);
        assert_int_equal(ws_bits_of_f32(value), pattern << 16);
        const uint32_t back = ws_bf16_from_f32(value);
        assert_int_equal(back, isnan(value) ? (pattern | 0x0040) : pattern);
    }
}

/* Between two neighbours everything is decided by the middle: below it down, above it up, itself to
 * the even one. The middle between the largest number and the power of two that would follow
 * separates it from infinity. */
static void check_every_middle_of_halves(void) {
    for (uint32_t low = 0; low < 0x7C00; ++low) {
        const double low_value = half_value((uint16_t)low);
        const double high_value = low == 0x7BFF ? 65536.0 : half_value((uint16_t)(low + 1));
        const float middle =
            (float)((low_value + high_value) / 2.0); /* one bit more than a half has: exact */
        const uint32_t even = (low & 1) == 0 ? low : low + 1;
        assert_int_equal(ws_f16_from_f32(middle), even);
        assert_int_equal(ws_f16_from_f32(nextafterf(middle, 0.0f)), low);
        assert_int_equal(ws_f16_from_f32(nextafterf(middle, 1e30f)), low + 1);
        assert_int_equal(ws_f16_from_f32(-middle), even | 0x8000);
    }
}

static void halves_round_to_nearest_even(void **state) {
    (void)state;
    check_every_middle_of_halves();
}

static void bfloat16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t low = 0; low < 0x7F80; ++low) {
        const uint32_t even = (low & 1) == 0 ? low : low + 1;
        assert_int_equal(ws_bf16_from_f32(ws_f32_of_bits(low << 16 | 0x8000)), even);
        assert_int_equal(ws_bf16_from_f32(ws_f32_of_bits(low << 16 | 0x7FFF)), low);
        assert_int_equal(ws_bf16_from_f32(ws_f32_of_bits(low << 16 | 0x8001)), low + 1);
        assert_int_equal(ws_bf16_from_f32(ws_f32_of_bits(low << 16 | 0x80008000)), even | 0x8000);
    }
}

static void too_large_becomes_infinity_and_nan_stays_nan(void **state) {
    (void)state;
    assert_int_equal(ws_f16_from_f32(1e30f), 0x7C00);
    assert_int_equal(ws_f16_from_f32(-(float)INFINITY), 0xFC00);
    assert_int_equal(ws_bf16_from_f32(3.4028235e38f), 0x7F80);
    assert_int_equal(ws_bf16_from_f32(-(float)INFINITY), 0xFF80);
    for (uint32_t payload = 1; payload < 0x00800000; payload = payload * 2 + (payload & 1)) {
        const float nan = ws_f32_of_bits(0x7F800000 | payload);
        assert_true(isnan(ws_f32_from_f16(ws_f16_from_f32(nan))));
        assert_true(isnan(ws_f32_from_bf16(ws_bf16_from_f32(nan))));
    }
    assert_true(isnan(ws_f32_from_f16(ws_f16_from_f32(ws_f32_of_bits(0xFFFFFFFF)))));
    assert_true(isnan(ws_f32_from_bf16(ws_bf16_from_f32(ws_f32_of_bits(0xFFFFFFFF)))));
}

static void tiny_values_round_like_others(void **state) {
    (void)state;
    assert_int_equal(ws_f16_from_f32(0x1p-149f), 0);
    assert_int_equal(ws_f16_from_f32(-0x1p-126f), 0x8000);
    assert_int_equal(ws_f16_from_f32(0x1p-25f),
                     0); /* the middle between 0 and the smallest: even */
    assert_int_equal(ws_f16_from_f32(0x1.000002p-25f), 1);
    assert_int_equal(ws_f16_from_f32(0x1.8p-24f), 2);
    assert_int_equal(ws_f16_from_f32(0x1.ffcp-15f), 0x0400); /* rounds up into the normal numbers */
    assert_int_equal(ws_bf16_from_f32(0x1p-149f), 0);
    assert_int_equal(ws_bf16_from_f32(0x1p-133f), 1);
}

/* torch.set_flush_denormal() or a library built with -ffast-math may have set this for the thread.
 */
static void conversions_survive_flushed_denormals(void **state) {
    (void)state;
#if defined(__SSE2__)
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040); /* flush to zero, denormals are zero */
    check_every_half();
    check_every_middle_of_halves();
    _mm_setcsr(saved);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_goes_up_exactly_and_back),
        cmocka_unit_test(every_bfloat16_goes_up_exactly_and_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_even),
        cmocka_unit_test(too_large_becomes_infinity_and_nan_stays_nan),
        cmocka_unit_test(tiny_values_round_like_others),
        cmocka_unit_test(conversions_survive_flushed_denormals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
