/* architectures.json: the real file is accepted, and every broken variant is refused with the
 * family and the field. */
#include "wavespeed/architecture.h"

#include "source_text.h"

static char *real_text;

static int load(void **state) {
    (void)state;
    real_text = read_source("python/wavespeed/architectures.json");
    return 0;
}

static int unload(void **state) {
    (void)state;
    free(real_text);
    return 0;
}

static ws_status check(const char *text, size_t length, size_t *count, ws_error *error) {
    char *const copy = exact_copy(text, length);
    const ws_status status = ws_architectures_check(copy, length, count, error);
    free(copy);
    return status;
}

static void expect_refused(const char *text, size_t length, const char *words) {
    ws_error error = {WS_OK, -2, ""};
    const ws_status status = check(text, length, NULL, &error);
    if (status != WS_ERROR_JSON || strstr(error.text, words) == NULL) {
        fail_msg("status %s, \"%s\" instead of \"%s\"", ws_status_name(status), error.text, words);
    }
    assert_memory_equal(error.text, "architectures.json", strlen("architectures.json"));
    assert_int_equal(check(text, length, NULL, NULL), WS_ERROR_JSON);
}

static void expect_accepted(const char *text, size_t families) {
    ws_error error = {WS_OK, -1, ""};
    size_t count = 99;
    if (check(text, strlen(text), &count, &error) != WS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(count, families);
}

/* One family, with this text in the place of its stages. */
#define FAMILY(stages)                                                                             \
    "{\"architectures\":[{\"family\":\"F\",\"classes\":[\"C\"],\"metric\":\"residual\","           \
    "\"stages\":" stages ",\"final\":[\"head\"],\"source\":\"s\",\"verified\":\"v\"}]}"
#define STAGE(hidden, returns, main)                                                               \
    "{\"path\":\"blocks\",\"hidden\":" hidden ",\"returns\":" returns ",\"main\":" main "}"

/* ---- what is accepted ------------------------------------------------------------------------ */

static void real_file_is_accepted(void **state) {
    (void)state;
    size_t families = 0;
    for (const char *at = real_text; (at = strstr(at, "\"family\"")) != NULL; ++at) {
        ++families;
    }
    assert_true(families > 0);
    expect_accepted(real_text, families);
    assert_int_equal(ws_architectures_check(real_text, strlen(real_text), NULL, NULL), WS_OK);
}

static void smallest_and_largest(void **state) {
    (void)state;
    expect_accepted("{\"architectures\":[]}", 0);
    expect_accepted(FAMILY("[" STAGE("[[\"x\",0]]", "\"x\"", "\"x\"") "]"), 1);
    expect_accepted(FAMILY("[" STAGE("[[\"x\",0]]", "[\"x\"]", "\"x\"") "]"), 1);
#define LARGEST                                                                                    \
    STAGE("[[\"a\",3],[\"b\",63],[\"c\",0],[\"d\",1]]", "[\"d\",\"b\",\"c\",\"a\"]", "\"b\"")
    expect_accepted(FAMILY("[" LARGEST "," LARGEST "," LARGEST "," LARGEST "]"), 1);
}

/* ---- what is not JSON ------------------------------------------------------------------------ */

static void every_prefix_is_refused(void **state) {
    (void)state;
    size_t length = strlen(real_text);
    while (real_text[length - 1] != '}') {
        --length;
    }
    for (size_t n = 0; n < length; ++n) {
        expect_refused(real_text, n, "the text stops being JSON at byte");
    }
}

static void every_flipped_bit_is_survived(void **state) {
    (void)state;
    const size_t length = strlen(real_text);
    for (size_t i = 0; i < length; ++i) {
        char *const copy = exact_copy(real_text, length);
        copy[i] = (char)(copy[i] ^ (1 << (i % 7)));
        (void)ws_architectures_check(copy, length, NULL, NULL);
        free(copy);
    }
}

static void failure_counts_no_family(void **state) {
    (void)state;
    size_t count = 99;
    assert_int_equal(check("{\"architectures\":[{}]}", 22, &count, NULL), WS_ERROR_JSON);
    assert_int_equal(count, 0);
    count = 99;
    assert_int_equal(check("{", 1, &count, NULL), WS_ERROR_JSON);
    assert_int_equal(count, 0);
}

/* ---- JSON of the wrong shape ----------------------------------------------------------------- */

typedef struct variant {
    const char *old;
    const char *by;
    const char *words;
} variant;

static void expect_variants_refused(const char *text, const variant *variants, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        char *const broken = replaced(text, variants[i].old, variants[i].by);
        expect_refused(broken, strlen(broken), variants[i].words);
        free(broken);
    }
}

static void root_of_the_wrong_shape(void **state) {
    (void)state;
    static const variant texts[] = {
        {"", "[]", "architectures.json is not an object."},
        {"", "{}", "architectures.json has no field \"architectures\"; it must be an array."},
        {"", "{\"architectures\":[],\"architectures\":[]}",
         "has the field \"architectures\" twice."},
        {"", "{\"architectures\":[],\"version\":1}",
         "has the field \"version\", which is not known."},
        {"", "{\"architectures\":{}}", "the field \"architectures\" must be an array."},
        {"", "{\"architectures\":[[]]}", "family 1 is not an object."},
        {"", "{\"architectures\":[{}]}", "family 1 has no field \"family\""},
    };
    expect_variants_refused("", texts, sizeof(texts) / sizeof(texts[0]));
}

static void families_of_the_wrong_shape(void **state) {
    (void)state;
    static const char good[] = FAMILY("[" STAGE("[[\"x\",0]]", "\"x\"", "\"x\"") "]");
    static const variant variants[] = {
        {"\"F\"", "\"\"", "family 1: the field \"family\" must be a string that is not empty."},
        {"\"F\"", "3", "family 1: the field \"family\" must be a string that is not empty."},
        {"\"metric\"", "\"Metric\"", "family \"F\" has the field \"Metric\", which is not known."},
        {"\"source\":\"s\"", "\"source\":\"s\",\"source\":\"s\"",
         "family \"F\" has the field \"source\" twice."},
        {"[\"C\"]", "\"C\"",
         "family \"F\": the field \"classes\" must be an array of one or more strings."},
        {"[\"C\"]", "[]", "the field \"classes\" must be an array of one or more strings."},
        {"[\"C\"]", "{\"a\":\"C\"}",
         "the field \"classes\" must be an array of one or more strings."},
        {"[\"C\"]", "[\"\"]",
         "the field \"classes\" must be an array of strings that are not empty."},
        {"[\"C\"]", "[\"C\",1]",
         "the field \"classes\" must be an array of strings that are not empty."},
        {"[\"C\"]", "[\"C\",\"D\",\"C\"]", "the field \"classes\" has \"C\" twice."},
        {"\"residual\"", "\"Output\"",
         "the field \"metric\" is \"Output\"; it must be \"output\" or \"residual\"."},
        {"\"residual\"", "null", "the field \"metric\" must be a string"},
        {"[\"head\"]", "[]", "the field \"final\" must be an array of one or more strings."},
        {"\"final\":[\"head\"],", "", "family \"F\" has no field \"final\""},
        {"\"source\":\"s\",", "", "family \"F\" has no field \"source\""},
        {"\"verified\":\"v\"", "\"verified\":\"\"",
         "the field \"verified\" must be a string that is not empty."},
        {"\"verified\":\"v\"", "\"verified\":\"v\",\"remarks\":1",
         "the field \"remarks\" must be a string"},
        {"\"stages\":", "\"stages\":3,\"stages\":", "family \"F\" has the field \"stages\" twice."},
    };
    expect_variants_refused(good, variants, sizeof(variants) / sizeof(variants[0]));
}

static void stages_of_the_wrong_shape(void **state) {
    (void)state;
    static const char good[] =
        FAMILY("[" STAGE("[[\"x\",0],[\"y\",1]]", "[\"x\",\"y\"]", "\"x\"") "]");
    static const variant variants[] = {
        {"\"path\":\"blocks\"", "\"path\":7",
         "family \"F\", stage 1: the field \"path\" must be a string"},
        {"\"path\":\"blocks\",", "", "family \"F\", stage 1 has no field \"path\""},
        {"\"path\":\"blocks\"", "\"path\":\"blocks\",\"ends\":1",
         "family \"F\", stage \"blocks\" has the field \"ends\""},
        {"\"path\":\"blocks\"", "\"path\":\"blocks\",\"skip\":0",
         "stage \"blocks\": the field \"skip\" must be a string"},
        {"[[\"x\",0],[\"y\",1]]", "[]", "the field \"hidden\" has 0 pairs; it must have 1 to 4."},
        {"[[\"x\",0],[\"y\",1]]", "{\"x\":0}", "the field \"hidden\" must be an array."},
        {"[\"y\",1]", "[\"y\",1],[\"a\",2],[\"b\",3],[\"c\",4]",
         "the field \"hidden\" has 5 pairs; it must have 1 to 4."},
        {"[\"y\",1]", "\"y\"", "must be an array of [name, position]"},
        {"[\"y\",1]", "[]", "must be an array of [name, position]"},
        {"[\"y\",1]", "[\"y\"]", "must be an array of [name, position]"},
        {"[\"y\",1]", "[\"y\",1,2]", "must be an array of [name, position]"},
        {"[\"y\",1]", "[1,\"y\"]", "must be an array of [name, position]"},
        {"[\"y\",1]", "[\"\",1]", "must be an array of [name, position]"},
        {"[\"y\",1]", "[\"y\",\"1\"]", "must be an array of [name, position]"},
        {"[\"y\",1]", "[\"y\",-1]", "whole positions from 0 to 63."},
        {"[\"y\",1]", "[\"y\",1.5]", "whole positions from 0 to 63."},
        {"[\"y\",1]", "[\"y\",64]", "whole positions from 0 to 63."},
        {"[\"y\",1]", "[\"y\",1e999]", "whole positions from 0 to 63."},
        {"[\"y\",1]", "{\"y\":1,\"z\":2}", "must be an array of [name, position]"},
        {"[\"y\",1]", "[\"x\",1]", "the field \"hidden\" has \"x\" twice."},
        {"[\"y\",1]", "[\"y\",0]", "the field \"hidden\" has \"x\" and \"y\" at one position."},
        {"[\"x\",\"y\"]", "\"z\"",
         "the field \"returns\" has \"z\", which \"hidden\" does not name."},
        {"[\"x\",\"y\"]", "[\"x\",\"z\"]",
         "the field \"returns\" has \"z\", which \"hidden\" does not name."},
        {"[\"x\",\"y\"]", "[\"x\",\"x\"]", "the field \"returns\" has \"x\" twice."},
        {"[\"x\",\"y\"]", "[]", "the field \"returns\" must be an array of one or more strings."},
        {"[\"x\",\"y\"]", "null", "the field \"returns\" must be an array of one or more strings."},
        {"\"returns\":[\"x\",\"y\"],", "", "stage \"blocks\" has no field \"returns\""},
        {"\"main\":\"x\"", "\"main\":\"z\"",
         "the field \"main\" has \"z\", which \"hidden\" does not name."},
        {"\"main\":\"x\"", "\"main\":[\"x\"]", "the field \"main\" must be a string"},
        {"[\"x\",\"y\"]", "[\"y\"]",
         "the field \"main\" is \"x\", which \"returns\" does not contain."},
        {"[\"x\",\"y\"]", "\"y\"",
         "the field \"main\" is \"x\", which \"returns\" does not contain."},
        {"[{\"path\"", "{\"a\":{\"path\"", "the text stops being JSON"},
    };
    expect_variants_refused(good, variants, sizeof(variants) / sizeof(variants[0]));
    static const char none[] = FAMILY("[]");
    expect_refused(none, strlen(none), "the field \"stages\" has 0 stages; it must have 1 to 4.");
#define ONE STAGE("[[\"x\",0]]", "\"x\"", "\"x\"")
    static const char five[] = FAMILY("[" ONE "," ONE "," ONE "," ONE "," ONE "]");
    expect_refused(five, strlen(five), "the field \"stages\" has 5 stages; it must have 1 to 4.");
    static const char second[] = FAMILY("[" ONE ",7]");
    expect_refused(second, strlen(second), "family \"F\", stage 2 is not an object.");
}

static void class_is_described_once(void **state) {
    (void)state;
    char *const text =
        replaced(real_text, "\"classes\": [\"Chroma\"]", "\"classes\": [\"Chroma\", \"Flux\"]");
    expect_refused(text, strlen(text),
                   "family \"Chroma\": the field \"classes\" has \"Flux\", which the family "
                   "\"Flux\" describes already.");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_file_is_accepted),
        cmocka_unit_test(smallest_and_largest),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(failure_counts_no_family),
        cmocka_unit_test(root_of_the_wrong_shape),
        cmocka_unit_test(families_of_the_wrong_shape),
        cmocka_unit_test(stages_of_the_wrong_shape),
        cmocka_unit_test(class_is_described_once),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
