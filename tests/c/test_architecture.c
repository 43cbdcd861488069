/* architectures.json: the real file is accepted, and every broken variant is refused with the
 * family and the field. */
#include "wavespeed/architecture.h"

#include <stdbool.h>

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

/* Where the first refusal goes. */
static void keep_first(void *context, size_t index, const ws_error *error) {
    (void)index;
    ws_error *const first = context;
    assert_int_equal(error->code, WS_ERROR_JSON);
    if (first->code == WS_OK) {
        *first = *error;
    }
}

/* The text as a whole, or else the first family with a mistake. */
static ws_status check(const char *text, size_t length, size_t *count, ws_error *error) {
    char *const copy = exact_copy(text, length);
    ws_error first = {WS_OK, -1, ""};
    const ws_status status = ws_architectures_check(copy, length, keep_first, &first, count, error);
    free(copy);
    if (status != WS_OK || first.code == WS_OK) {
        return status;
    }
    *error = first;
    return first.code;
}

static void expect_refused(const char *text, size_t length, const char *words) {
    ws_error error = {WS_OK, -2, ""};
    size_t count = 0;
    const ws_status status = check(text, length, &count, &error);
    if (status != WS_ERROR_JSON || strstr(error.text, words) == NULL) {
        fail_msg("status %s, \"%s\" instead of \"%s\"", ws_status_name(status), error.text, words);
    }
    assert_memory_equal(error.text, "architectures.json", strlen("architectures.json"));
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
        ws_error first = {WS_OK, -1, ""};
        size_t count = 0;
        (void)ws_architectures_check(copy, length, keep_first, &first, &count, NULL);
        free(copy);
    }
}

static void text_that_is_no_table_counts_no_family(void **state) {
    (void)state;
    size_t count = 99;
    ws_error error = {WS_OK, -1, ""};
    assert_int_equal(check("{", 1, &count, &error), WS_ERROR_JSON);
    assert_int_equal(count, 0);
}

static void note_place(void *context, size_t index, const ws_error *error) {
    (void)error;
    bool *const refused = context;
    assert_in_range(index, 0, 2);
    refused[index] = true;
}

static void mistake_in_one_family_does_not_touch_the_others(void **state) {
    (void)state;
#define EXCLUDED(name, classes)                                                                    \
    "{\"family\":\"" name "\",\"classes\":" classes                                                \
    ",\"excluded\":\"it is\",\"source\":\"s\",\"verified\":\"v\"}"
    static const char text[] = "{\"architectures\":[" EXCLUDED("A", "[\"A\"]") "," EXCLUDED(
        "B", "[\"B\",3]") "," EXCLUDED("C", "[\"C\"]") "]}";
    bool refused[3] = {false, false, false};
    size_t count = 0;
    assert_int_equal(
        ws_architectures_check(text, strlen(text), note_place, refused, &count, NULL), WS_OK);
    assert_int_equal(count, 3);
    assert_false(refused[0]);
    assert_true(refused[1]);
    assert_false(refused[2]);
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
        {"\"final\":[\"head\"]", "\"excluded\":\"it is\"", "has 2 of the fields \"stages\""},
        {"\"final\":[\"head\"]", "\"rows\":\"batch\"",
         "the field \"rows\" is \"batch\"; it must be \"cond\" or \"whole\"."},
        {"\"final\":[\"head\"]", "\"final_part\":\"tail\"",
         "the field \"final_part\" is for families with \"final\"."},
        {"\"final\":[\"head\"]", "\"final\":[\"head\"],\"final_part\":\"middle\"",
         "the field \"final_part\" is \"middle\"; it must be \"head\" or \"tail\"."},
        {"\"final\":[\"head\"]", "\"batch_dim\":-1",
         "the field \"batch_dim\" must be a whole number from 0 to 7."},
        {"\"final\":[\"head\"]", "\"batch_dim\":0.5",
         "the field \"batch_dim\" must be a whole number"},
        {"\"final\":[\"head\"]", "\"never\":[]", "never 1 is not an object."},
        {"\"final\":[\"head\"]", "\"never\":{\"options\":[]}",
         "never 1: the field \"options\" must be an array of one or more strings."},
        {"\"final\":[\"head\"]", "\"never\":{\"always\":[\"a\"]}",
         "never 1 has the field \"always\", which is not known."},
        {"\"final\":[\"head\"]", "\"bypass\":{}", "the field \"bypass\" must be an array."},
        {"\"final\":[\"head\"]", "\"bypass\":[\"a\"]", "bypass 1 is not an object."},
        {"\"final\":[\"head\"]", "\"bypass\":[{\"path\":\"a\"}]",
         "bypass \"a\" has no field \"result\""},
        {"\"final\":[\"head\"]", "\"bypass\":[{\"path\":\"a\",\"result\":\"one\"}]",
         "bypass \"a\": the field \"result\" is \"one\"; it must be \"argument\", \"zero\", "
         "\"zero_and_argument\" or \"none\"."},
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
        {"\"path\":\"blocks\"", "\"path\":\"blocks\",\"streams\":\"list\"",
         "the field \"streams\" is \"list\"; it must be \"tensor\" or \"tuple\"."},
        {"\"path\":\"blocks\"", "\"path\":\"blocks\",\"method\":\"\"",
         "the field \"method\" must be a string that is not empty."},
        {"\"path\":\"blocks\"", "\"path\":\"blocks\",\"within\":\"tail\"",
         "the field \"within\" relates a stage to the first one, which this is."},
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

static void early_exits_of_the_wrong_shape(void **state) {
    (void)state;
    static const char good[] =
        "{\"architectures\":[{\"family\":\"F\",\"classes\":[\"C\"],\"metric\":\"residual\","
        "\"early_exit\":{\"method\":\"m\",\"layers\":[\"l\"],\"first_block\":[1,2],\"tail\":[\"t\"]},"
        "\"source\":\"s\",\"verified\":\"v\"}]}";
    expect_accepted(good, 1);
    static const variant variants[] = {
        {"\"metric\":\"residual\",", "", "has no field \"metric\""},
        {"\"method\":\"m\",", "", "early_exit 1 has no field \"method\""},
        {"[\"l\"]", "\"l\"", "the field \"layers\" must be an array of one or more strings."},
        {"[\"t\"]", "[]", "the field \"tail\" must be an array of one or more strings."},
        {"[1,2]", "[2,2]",
         "the field \"first_block\" must be two whole numbers from 0 to 1000, the second"},
        {"[1,2]", "[1]", "the field \"first_block\" must be two whole numbers"},
        {"[1,2]", "[1,2,3]", "the field \"first_block\" must be two whole numbers"},
        {"[1,2]", "[0.5,2]", "the field \"first_block\" must be two whole numbers"},
        {"[1,2]", "2", "the field \"first_block\" must be an array."},
        {"\"method\":\"m\"", "\"keep\":2", "has the field \"keep\", which is not known."},
    };
    expect_variants_refused(good, variants, sizeof(variants) / sizeof(variants[0]));
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
        cmocka_unit_test(text_that_is_no_table_counts_no_family),
        cmocka_unit_test(mistake_in_one_family_does_not_touch_the_others),
        cmocka_unit_test(root_of_the_wrong_shape),
        cmocka_unit_test(families_of_the_wrong_shape),
        cmocka_unit_test(stages_of_the_wrong_shape),
        cmocka_unit_test(early_exits_of_the_wrong_shape),
        cmocka_unit_test(class_is_described_once),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
