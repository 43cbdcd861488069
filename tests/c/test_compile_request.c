/* What "Compile Model+" accepts, what it refuses, and in which words. */
#include "wavespeed/compile_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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
    const ws_status status = ws_compile_request_read(&inputs, &request, &error);
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
    assert_int_not_equal(ws_compile_request_read(&inputs, &request, &error), WS_OK);
    assert_string_equal(error.text, sentence);
    assert_memory_equal(&request, &before, sizeof(request));
    assert_int_not_equal(ws_compile_request_read(&inputs, &request, NULL), WS_OK);
}

static void refuses(const char *options, const char *sentence) { expect_sentence(with_options(options), sentence); }

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
    assert_string_equal(accepted(inputs).canonical,
                        "backend=inductor;fullgraph=0;dynamic=0;coordinate_descent_tuning=1;max_autotune=1;triton.cudagraphs=0");
}

static void names_outside_the_tables(void **state) {
    (void)state;
    ws_compile_inputs inputs = with_options("");
    inputs.compiler = "input.evil.f";
    expect_sentence(inputs, "compiler is \"input.evil.f\", which is not one of the names this node knows. The nearest is \"torch.compile\".");
    inputs = with_options("");
    inputs.backend = "inductr";
    expect_sentence(inputs, "backend is \"inductr\", which is not one of the names this node knows. The nearest is \"inductor\".");
    inputs = with_options("");
    inputs.mode = "max-autotun";
    expect_sentence(inputs, "mode is \"max-autotun\", which is not one of the names this node knows. The nearest is \"max-autotune\".");
}

static void options_outside_the_table(void **state) {
    (void)state;
    refuses("{\"cpp.cxx\": [\"sh -c 'id'\"]}", "options: \"cpp.cxx\" is refused, because it chooses a compiler or a command line. "
            "The nearest option that is allowed is \"cpp.threads\".");
    refuses("{\"freezing\": true}", "options: \"freezing\" is refused, because it burns the weights into the code, so that LoRA and "
            "offloading would do nothing. The nearest option that is allowed is \"dce\".");
    refuses("{\"max_autotun\": true}", "options: \"max_autotun\" is refused, because it is not on the list of options that a workflow "
            "may set. The nearest option that is allowed is \"max_autotune\".");
    refuses("{\"\": true}", "options: \"\" is refused, because it is not on the list of options that a workflow may set. "
            "The nearest option that is allowed is \"dce\".");
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
    refuses("{\"max_autotune_gemm_backends\": \"ATEN,CUTLASS\"}", "options: \"max_autotune_gemm_backends\" is \"ATEN,CUTLASS\", which is "
            "not allowed. The nearest word is \"ATEN\".");
    refuses("{\"max_autotune_gemm_backends\": \"ATEN,\"}", "options: \"max_autotune_gemm_backends\" is \"ATEN,\", which is not allowed. "
            "The nearest word is \"ATEN\".");
    refuses("{\"mixed_mm_choice\": \"\"}", "options: \"mixed_mm_choice\" is \"\", which is not allowed. The nearest word is \"aten\".");
}

static void texts_of_the_wrong_shape(void **state) {
    (void)state;
    refuses("[1]", "options must be a JSON object, for example {\"max_autotune\": true}.");
    refuses("{\"dce\": true, \"dce\": false}", "options: \"dce\" stands there twice.");
    refuses("{\"max_autotune\": true, \"max-autotune\": true}", "options: \"max_autotune\" stands there twice.");
    refuses("{\"dce\": true,}", "options: the text stops being JSON at byte 14 of 14.");
    refuses("{\"dce\": NaN}", "options: the text stops being JSON at byte 8 of 12.");
    refuses("{\"dce\\u0000\": true}", "options: byte 5 begins a NUL character.");
    refuses("{\"dce\": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", "options: byte 23 is nested deeper than 16 levels.");
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
    expect_sentence(inputs, "The backend \"cudagraphs\" takes neither a mode nor options. Leave both empty, or use the backend \"inductor\".");
    inputs = with_options("");
    inputs.backend = "eager";
    inputs.mode = "max-autotune";
    expect_sentence(inputs, "The backend \"eager\" takes neither a mode nor options. Leave both empty, or use the backend \"inductor\".");
}

/* All options with their longest values: the canonical text must not be cut, or two requests could look like one. */
static void the_longest_request_fits(void **state) {
    (void)state;
    char text[WS_COMPILE_CANONICAL_SIZE * 2] = "{";
    for (size_t i = 0; i < ws_compile_option_count(); ++i) {
        const ws_compile_option option = ws_compile_option_get(NULL, i);
        assert_true(i == 0 || strcmp(ws_compile_option_get(NULL, i - 1).name, option.name) < 0);
        if (option.kind == WS_COMPILE_BOOLEAN) {
            strcat(strcat(strcat(text, strlen(text) > 1 ? ",\"" : "\""), option.name), "\":true");
        }
    }
    strcat(text, "}");
    const ws_compile_request request = accepted(with_options(text));
    const size_t of_the_others = 40 * ws_compile_option_count();
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
        cmocka_unit_test(the_longest_request_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
