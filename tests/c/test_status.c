/* Names of statuses, and error texts that always are whole, terminated UTF-8. */
#include "wavespeed/status.h"

#include "core/status_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_status_has_its_own_name(void **state) {
    (void)state;
    assert_string_equal(ws_status_name(WS_OK), "WS_OK");
    assert_string_equal(ws_status_name(WS_ERROR_RANGE), "WS_ERROR_RANGE");
    assert_string_equal(ws_status_name(WS_ERROR_JSON), "WS_ERROR_JSON");
    assert_string_equal(ws_status_name(WS_ERROR_LIMIT), "WS_ERROR_LIMIT");
    assert_string_equal(ws_status_name(WS_ERROR_NO_MEMORY), "WS_ERROR_NO_MEMORY");
    assert_string_equal(ws_status_name(WS_ERROR_LIBRARY), "WS_ERROR_LIBRARY");
}

static void unknown_status_has_a_name(void **state) {
    (void)state;
    assert_string_equal(ws_status_name((ws_status)(WS_ERROR_LIBRARY + 1)), "unknown status");
}

static void fail_fills_the_error_and_returns_the_code(void **state) {
    (void)state;
    ws_error error = {WS_OK, 7, "old"};
    assert_int_equal(ws_fail(&error, WS_ERROR_RANGE, "%s is %d.", "start", 3), WS_ERROR_RANGE);
    assert_int_equal(error.code, WS_ERROR_RANGE);
    assert_int_equal(error.offset, -1);
    assert_string_equal(error.text, "start is 3.");
}

static void fail_at_keeps_the_offset(void **state) {
    (void)state;
    ws_error error = {WS_OK, -1, ""};
    assert_int_equal(ws_fail_at(&error, WS_ERROR_JSON, INT64_C(5000000000), "x"), WS_ERROR_JSON);
    assert_int_equal(error.code, WS_ERROR_JSON);
    assert_true(error.offset == INT64_C(5000000000));
    assert_string_equal(error.text, "x");
}

static void error_may_be_null(void **state) {
    (void)state;
    assert_int_equal(ws_fail(NULL, WS_ERROR_LIMIT, "%d", 1), WS_ERROR_LIMIT);
    assert_int_equal(ws_fail_at(NULL, WS_ERROR_JSON, 0, "%d", 1), WS_ERROR_JSON);
}

static void longest_fitting_text_is_not_cut(void **state) {
    (void)state;
    char text[WS_ERROR_TEXT_SIZE];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text + sizeof(text) - 3, "\xC3\xA9", 2); /* é in the last two bytes */
    ws_error error;
    (void)ws_fail(&error, WS_ERROR_JSON, "%s", text);
    assert_string_equal(error.text, text);
}

/* A character of 1 to 4 bytes begins at each distance from the end of the buffer. */
static void cut_is_at_a_character_boundary(void **state) {
    (void)state;
    const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < 4; ++c) {
        const size_t bytes = strlen(characters[c]);
        for (size_t shift = 0; shift < 8; ++shift) {
            char text[2 * WS_ERROR_TEXT_SIZE] = "";
            memset(text, '.', shift);
            size_t length = shift;
            while (length + bytes < sizeof(text)) {
                memcpy(text + length, characters[c], bytes);
                length += bytes;
            }
            ws_error error;
            (void)ws_fail(&error, WS_ERROR_JSON, "%s", text);
            const size_t room = WS_ERROR_TEXT_SIZE - 1;
            assert_int_equal(strlen(error.text), room - (room - shift) % bytes);
            assert_memory_equal(error.text, text, strlen(error.text));
        }
    }
}

static void cut_of_broken_utf8_stays_in_bounds(void **state) {
    (void)state;
    char text[2 * WS_ERROR_TEXT_SIZE];
    memset(text, 0x80, sizeof(text)); /* continuation bytes only */
    text[sizeof(text) - 1] = '\0';
    ws_error error;
    (void)ws_fail(&error, WS_ERROR_JSON, "%s", text);
    assert_int_equal(strlen(error.text), WS_ERROR_TEXT_SIZE - 1);
    char one[1];
    ws_format_(one, sizeof(one), "%s", "\xC3\xA9");
    assert_string_equal(one, "");
    char two[2];
    ws_format_(two, sizeof(two), "%s", "\xC3\xA9");
    assert_string_equal(two, "");
}

static void numbers_are_short_but_exact(void **state) {
    (void)state;
    assert_string_equal(ws_number_text_(1.5).text, "1.5");
    assert_string_equal(ws_number_text_(-1.0).text, "-1");
    assert_string_equal(ws_number_text_(0.12).text, "0.12");
    assert_string_equal(ws_number_text_(1e300).text, "1e+300");
    assert_string_equal(ws_number_text_(1.0000001).text, "1.0000001");
    assert_string_equal(ws_number_text_(nextafter(1.0, 2.0)).text, "1.0000000000000002");
    assert_string_equal(ws_number_text_((double)INFINITY).text, "inf");
    assert_string_equal(ws_number_text_(-(double)INFINITY).text, "-inf");
    assert_string_equal(ws_number_text_((double)NAN).text, "not a number");
    assert_string_equal(ws_number_text_(-(double)NAN).text, "not a number");
    assert_string_equal(ws_number_text_(-2.2250738585072014e-308).text,
                        "-2.2250738585072014e-308"); /* the longest */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_own_name),
        cmocka_unit_test(unknown_status_has_a_name),
        cmocka_unit_test(fail_fills_the_error_and_returns_the_code),
        cmocka_unit_test(fail_at_keeps_the_offset),
        cmocka_unit_test(error_may_be_null),
        cmocka_unit_test(longest_fitting_text_is_not_cut),
        cmocka_unit_test(cut_is_at_a_character_boundary),
        cmocka_unit_test(cut_of_broken_utf8_stays_in_bounds),
        cmocka_unit_test(numbers_are_short_but_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
