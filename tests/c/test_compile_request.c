/* What "Compile Model+" accepts, what it refuses, and in which words. */
#include "wavespeed/compile_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static ws_compile_inputs with_options(const char *options) {
    const ws_compile_inputs inputs = {"torch.compile", "inductor", "", options, strlen(options), false, false};
    return inputs;
}

static ws_compile_request accepted(ws_compile_inputs inputs) {
    ws_compile_request request;
    ws_error error = {WS_OK, 0, ""};
    const ws_status status = ws_compile_request_read(&inputs, NULL, &request, &error);
    if (status != WS_OK) {
        fail_msg("refused: %s", error.text);
    }
    return request;
}

static void expect_sentence(ws_compile_inputs inputs, const char *sentence) {
    ws_compile_request request;
    ws_error error = {WS_OK, 0, ""};
    memset(&request, 0x5a, sizeof(request));
    const ws_compile_request before = request;
    assert_int_not_equal(ws_compile_request_read(&inputs, NULL, &request, &error), WS_OK);
    assert_string_equal(error.text, sentence);
    assert_memory_equal(&request, &before, sizeof(request));
    assert_int_not_equal(ws_compile_request_read(&inputs, NULL, &request, NULL), WS_OK);
}

static void refuses(const char *options, const char *sentence) { expect_sentence(with_options(options), sentence); }

#define MORE " Only the file wavespeed_compile.json can allow more."

static void empty_widgets_are_torchs_defaults(void **state) {
    (void)state;
    const ws_compile_inputs empty = {"", "", "", " \n", 2, false, false};
    assert_string_equal(accepted(empty).canonical, "backend=inductor;fullgraph=0;dynamic=0");
    assert_string_equal(accepted(with_options("{}")).canonical, accepted(empty).canonical);
}

static void two_spellings_are_one_request(void **state) {
    (void)state;
    ws_compile_inputs by_mode = with_options("");
    by_mode.mode = "max-autotune-no-cudagraphs";
    assert_string_equal(accepted(by_mode).canonical,
                        accepted(with_options("{\"max_autotune\": true, \"coordinate-descent-tuning\": true}")).canonical);
    assert_string_equal(accepted(with_options("{\"max_autotune_gemm_backends\": \"CPP,ATEN\", \"dce\": true}")).canonical,
                        accepted(with_options("{\"dce\":true,\"max_autotune_gemm_backends\":\"ATEN,CPP\"}")).canonical);
    assert_string_not_equal(accepted(with_options("{\"dce\": true}")).canonical,
                            accepted(with_options("{\"dce\": false}")).canonical);
}

static void a_typed_option_wins_over_the_mode(void **state) {
    (void)state;
    ws_compile_inputs inputs = with_options("{\"triton.cudagraphs\": false}");
    inputs.mode = "max-autotune";
    assert_string_equal(
        accepted(inputs).canonical,
        "backend=inductor;fullgraph=0;dynamic=0;coordinate_descent_tuning=1;max_autotune=1;triton.cudagraphs=0");
}

static void names_outside_the_tables(void **state) {
    (void)state;
    ws_compile_inputs inputs = with_options("");
    inputs.compiler = "input.evil.f";
    expect_sentence(
        inputs,
        "compiler is \"input.evil.f\", which is not one of the names this node knows. The nearest is \"torch.compile\".");
    inputs = with_options("");
    inputs.backend = "inductr";
    expect_sentence(inputs,
                    "backend is \"inductr\", which is not one of the names this node knows. The nearest is \"inductor\".");
    inputs = with_options("");
    inputs.mode = "max-autotun";
    expect_sentence(
        inputs, "mode is \"max-autotun\", which is not one of the names this node knows. The nearest is \"max-autotune\".");
}

static void options_outside_the_table(void **state) {
    (void)state;
    refuses("{\"cpp.cxx\": [\"sh -c 'id'\"]}",
            "options: \"cpp.cxx\" is refused, because it chooses a compiler or a command line. "
            "The nearest option that is allowed is \"cpp.threads\"." MORE);
    refuses("{\"freezing\": true}",
            "options: \"freezing\" is refused, because it burns the weights into the code, so that LoRA and "
            "offloading would do nothing. The nearest option that is allowed is \"dce\"." MORE);
    refuses("{\"max_autotun\": true}",
            "options: \"max_autotun\" is refused, because it is not on the list of options that a workflow "
            "may set. The nearest option that is allowed is \"max_autotune\"." MORE);
    refuses("{\"\": true}", "options: \"\" is refused, because it is not on the list of options that a workflow may set. "
            "The nearest option that is allowed is \"dce\"." MORE);
}

static void values_of_the_wrong_type(void **state) {
    (void)state;
    refuses("{\"max_autotune\": 1}", "options: \"max_autotune\" must be true or false.");
    refuses("{\"max_autotune\": \"true\"}", "options: \"max_autotune\" must be true or false.");
    refuses("{\"max_autotune\": {\"a\": 1}}", "options: \"max_autotune\" must be true or false.");
    refuses("{\"compile_threads\": true}", "options: \"compile_threads\" must be a whole number.");
    refuses("{\"compile_threads\": 1.5}", "options: \"compile_threads\" must be a whole number.");
    refuses("{\"compile_threads\": 1e999}", "options: \"compile_threads\" must be a whole number.");
    refuses("{\"compile_threads\": 65}", "options: \"compile_threads\" is 65; it must be between 1 and 64.");
    refuses("{\"max_autotune_gemm_backends\": 3}", "options: \"max_autotune_gemm_backends\" must be a text.");
    refuses("{\"max_autotune_gemm_backends\": \"ATEN,CUTLASS\"}",
            "options: \"max_autotune_gemm_backends\" is \"ATEN,CUTLASS\", which is "
            "not allowed. The nearest word is \"ATEN\".");
    refuses("{\"max_autotune_gemm_backends\": \"ATEN,\"}",
            "options: \"max_autotune_gemm_backends\" is \"ATEN,\", which is not allowed. "
            "The nearest word is \"ATEN\".");
    refuses("{\"mixed_mm_choice\": \"\"}",
            "options: \"mixed_mm_choice\" is \"\", which is not allowed. The nearest word is \"aten\".");
}

static void texts_of_the_wrong_shape(void **state) {
    (void)state;
    refuses("[1]", "options must be a JSON object, for example {\"max_autotune\": true}.");
    refuses("{\"dce\": true, \"dce\": false}", "options: \"dce\" stands there twice.");
    refuses("{\"max_autotune\": true, \"max-autotune\": true}", "options: \"max_autotune\" stands there twice.");
    refuses("{\"dce\": true,}", "options: the text stops being JSON at byte 14 of 14.");
    refuses("{\"dce\": NaN}", "options: the text stops being JSON at byte 8 of 12.");
    refuses("{\"dce\\u0000\": true}", "options: byte 5 begins a NUL character.");
    refuses("{\"dce\": {\"a\": 1}}", "options: \"dce\" must be true or false.");
    refuses("{\"dce\": {\"a\": [1]}}", "options: byte 14 is nested deeper than 2 levels.");
    refuses("{\"dce\": [[1]]}", "options: byte 9 is nested deeper than 2 levels.");
}

static void texts_that_are_too_long(void **state) {
    (void)state;
    const size_t size = WS_COMPILE_OPTIONS_SIZE_MAX + 1;
    char *const text = malloc(size);
    assert_non_null(text);
    memset(text, ' ', size);
    ws_compile_inputs inputs = {"", "", "", text, size - 1, false, false};
    (void)accepted(inputs);
    inputs.options_length = size;
    expect_sentence(inputs, "options are 65537 bytes long; at most 65536 are read.");
    free(text);
}

static void other_backends_take_no_options(void **state) {
    (void)state;
    ws_compile_inputs inputs = with_options("{}");
    inputs.backend = "cudagraphs";
    expect_sentence(
        inputs,
        "The backend \"cudagraphs\" takes neither a mode nor options. Leave both empty, or use the backend \"inductor\".");
    inputs = with_options("");
    inputs.backend = "eager";
    inputs.mode = "max-autotune";
    expect_sentence(
        inputs,
        "The backend \"eager\" takes neither a mode nor options. Leave both empty, or use the backend \"inductor\".");
}

/* ---- the file that allows further options ---------------------------------------------------- */

static const char file[] = "{\"options\": [{\"name\": \"freezing\", \"type\": \"boolean\"},"
                           "{\"name\": \"cpp.simdlen\", \"type\": \"integer\", \"minimum\": 0, \"maximum\": 512},"
                           "{\"name\": \"cpu_backend\", \"type\": \"word\", \"words\": [\"cpp\", \"halide\"]}]}";

static ws_compile_allowed *allowed_by(const char *text) {
    ws_compile_allowed *allowed = NULL;
    ws_error error = {WS_OK, 0, ""};
    if (ws_compile_allowed_read(text, strlen(text), &allowed, &error) != WS_OK) {
        fail_msg("refused: %s", error.text);
    }
    return allowed;
}

static void a_file_allows_more_and_no_more_than_it_says(void **state) {
    (void)state;
    ws_compile_allowed *const allowed = allowed_by(file);
    ws_compile_inputs inputs =
        with_options("{\"cpu-backend\": \"halide\", \"freezing\": true, \"cpp.simdlen\": 256, \"dce\": true}");
    ws_compile_request request;
    assert_int_equal(ws_compile_request_read(&inputs, allowed, &request, NULL), WS_OK);
    assert_string_equal(request.canonical,
                        "backend=inductor;fullgraph=0;dynamic=0;dce=1;freezing=1;cpp.simdlen=256;cpu_backend=halide");
    const size_t last = ws_compile_option_count(allowed) - 1;
    assert_int_equal(last + 1, ws_compile_option_count(NULL) + 3);
    assert_string_equal(ws_compile_option_get(allowed, &request, last).name, "cpu_backend");
    assert_string_equal(ws_compile_option_get(allowed, &request, last).text, "halide");
    ws_error error;
    inputs = with_options("{\"cpp.simdlen\": 513}");
    assert_int_equal(ws_compile_request_read(&inputs, allowed, &request, &error), WS_ERROR_RANGE);
    assert_string_equal(error.text, "options: \"cpp.simdlen\" is 513; it must be between 0 and 512.");
    inputs = with_options("{\"cpu_backend\": \"sh\"}");
    assert_int_equal(ws_compile_request_read(&inputs, allowed, &request, &error), WS_ERROR_RANGE);
    assert_string_equal(error.text,
                        "options: \"cpu_backend\" is \"sh\", which is not allowed. The nearest word is \"cpp\".");
    inputs = with_options("{\"cpp.cxx\": \"sh\"}");
    assert_int_equal(ws_compile_request_read(&inputs, allowed, &request, &error), WS_ERROR_RANGE);
    ws_compile_allowed_free(allowed);
    ws_compile_allowed_free(NULL);
}

static void refuses_file(const char *text, const char *sentence) {
    ws_compile_allowed *allowed = NULL;
    ws_error error = {WS_OK, 0, ""};
    assert_int_not_equal(ws_compile_allowed_read(text, strlen(text), &allowed, &error), WS_OK);
    assert_null(allowed);
    assert_string_equal(error.text, sentence);
}

static void files_with_mistakes(void **state) {
    (void)state;
#define FILE_NAME "wavespeed_compile.json"
#define ONE(fields) "{\"options\": [{\"name\": \"a\", " fields "}]}"
    refuses_file("", FILE_NAME ": the text stops being JSON at byte 0 of 0.");
    refuses_file("[]", FILE_NAME " is not an object.");
    refuses_file("{}", FILE_NAME " has no field \"options\"; it must be an array.");
    refuses_file("{\"option\": []}", FILE_NAME " has the field \"option\", which is not known.");
    refuses_file("{\"options\": [1]}", FILE_NAME ", option 1 has no field \"name\"; it must be a string that is not empty.");
    refuses_file("{\"options\": [{\"name\": \"dce\", \"type\": \"boolean\"}]}",
                 FILE_NAME ", option \"dce\" is allowed already.");
    refuses_file("{\"options\": [{\"name\": \"a b\"}]}",
                 FILE_NAME ", option \"a b\": a name has letters, digits, \"_\" and \".\", and is shorter than 64.");
    refuses_file(ONE("\"type\": \"path\""),
                 FILE_NAME ", option \"a\": the type is \"path\"; it must be boolean, integer or word.");
    refuses_file(ONE("\"type\": \"boolean\", \"words\": [\"x\"]"),
                 FILE_NAME ", option \"a\" has the field \"words\", which is not known.");
    refuses_file(ONE("\"type\": \"integer\", \"minimum\": 2, \"maximum\": 1"),
                 FILE_NAME ", option \"a\": the minimum is above the maximum.");
    refuses_file(ONE("\"type\": \"integer\", \"minimum\": 0.5, \"maximum\": 1"),
                 FILE_NAME ", option \"a\": the field \"minimum\" must be a whole number between -1073741824 "
                           "and 1073741824.");
    refuses_file(ONE("\"type\": \"word\", \"words\": []"),
                 FILE_NAME ", option \"a\": the field \"words\" must be an array of one or more strings.");
}

static void a_file_with_too_many_options(void **state) {
    (void)state;
    char text[4096] = "{\"options\": [";
    for (int i = 0; i <= WS_COMPILE_ALLOWED_MAX; ++i) {
        char entry[64];
        (void)snprintf(entry, sizeof(entry), "%s{\"name\": \"a%d\", \"type\": \"boolean\"}", i > 0 ? "," : "", i);
        strcat(text, entry);
    }
    strcat(text, "]}");
    refuses_file(text, FILE_NAME ": there may be 32 options.");
}

/* All options with their longest values: the canonical text must not be cut, or two requests could look like one. */
static void the_longest_request_fits(void **state) {
    (void)state;
    char text[WS_COMPILE_CANONICAL_SIZE * 2] = "{";
    for (size_t i = 0; i < ws_compile_option_count(NULL); ++i) {
        const ws_compile_option option = ws_compile_option_get(NULL, NULL, i);
        assert_true(i == 0 || strcmp(ws_compile_option_get(NULL, NULL, i - 1).name, option.name) < 0);
        if (option.kind == WS_COMPILE_BOOLEAN) {
            strcat(strcat(strcat(text, strlen(text) > 1 ? ",\"" : "\""), option.name), "\":true");
        }
    }
    strcat(text, "}");
    const ws_compile_request request = accepted(with_options(text));
    const size_t of_the_others = 40 * ws_compile_option_count(NULL);
    assert_true(strlen(request.canonical) + of_the_others / 4 < WS_COMPILE_CANONICAL_SIZE);
    assert_non_null(strstr(request.canonical, "use_static_cuda_launcher=1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_widgets_are_torchs_defaults),
        cmocka_unit_test(two_spellings_are_one_request),
        cmocka_unit_test(a_typed_option_wins_over_the_mode),
        cmocka_unit_test(names_outside_the_tables),
        cmocka_unit_test(options_outside_the_table),
        cmocka_unit_test(values_of_the_wrong_type),
        cmocka_unit_test(texts_of_the_wrong_shape),
        cmocka_unit_test(texts_that_are_too_long),
        cmocka_unit_test(other_backends_take_no_options),
        cmocka_unit_test(a_file_allows_more_and_no_more_than_it_says),
        cmocka_unit_test(files_with_mistakes),
        cmocka_unit_test(a_file_with_too_many_options),
        cmocka_unit_test(the_longest_request_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
