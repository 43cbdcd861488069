/* nodes.json: the real file is read as written, and every broken variant is refused with a
 * sentence. */
#include "wavespeed/node_schema.h"

#include "source_text.h"

static char *real_text;

static int load(void **state) {
    (void)state;
    real_text = read_source("python/wavespeed/nodes.json");
    return 0;
}

static int unload(void **state) {
    (void)state;
    free(real_text);
    return 0;
}

/* Parses exactly these bytes, expects failure, and that the sentence contains `words`. */
static void expect_refused(const char *text, size_t length, const char *words, ws_error *error) {
    char *const copy = exact_copy(text, length);
    char anything;
    ws_node_schema_list *list = (ws_node_schema_list *)(void *)&anything; /* must become NULL */
    *error = (ws_error){WS_OK, -2, ""};
    const ws_status status = ws_node_schema_parse(copy, length, &list, error);
    if (status != WS_ERROR_JSON || strstr(error->text, words) == NULL) {
        fail_msg("status %s, \"%s\" instead of \"%s\" for: %.*s", ws_status_name(status),
                 error->text, words, (int)length, copy);
    }
    assert_null(list);
    assert_int_equal(error->code, WS_ERROR_JSON);
    assert_memory_equal(error->text, "nodes.json", strlen("nodes.json"));
    assert_int_equal(ws_node_schema_parse(copy, length, &list, NULL), WS_ERROR_JSON);
    free(copy);
}

static void expect_text_refused(const char *text, const char *words) {
    ws_error error;
    expect_refused(text, strlen(text), words, &error);
}

/* ---- what is accepted ------------------------------------------------------------------------ */

static const ws_node_input *input_named(const ws_node_schema *node, const char *name) {
    for (size_t i = 0; i < node->n_inputs; ++i) {
        if (strcmp(node->inputs[i].name, name) == 0) {
            return &node->inputs[i];
        }
    }
    fail_msg("no input %s", name);
    return NULL;
}

static void real_file_is_read_as_written(void **state) {
    (void)state;
    ws_node_schema_list *list = NULL;
    char *const copy = exact_copy(real_text, strlen(real_text));
    ws_error error = {WS_OK, -1, ""};
    if (ws_node_schema_parse(copy, strlen(real_text), &list, &error) != WS_OK) {
        fail_msg("%s", error.text);
    }
    memset(copy, 'x', strlen(real_text)); /* nothing may point into the caller's text */
    free(copy);
    assert_true(ws_node_schema_count(list) >= 1);
    assert_null(ws_node_schema_get(list, ws_node_schema_count(list)));
    const ws_node_schema *const node = ws_node_schema_get(list, 0);
    assert_string_equal(node->id, "ApplyFBCacheOnModel");
    assert_string_equal(node->category, "wavespeed");
    const ws_node_input *const model = input_named(node, "model");
    assert_string_equal(model->type, "MODEL");
    assert_int_equal(model->widget, WS_WIDGET_NONE);
    assert_true(model->required);
    const ws_node_input *const object = input_named(node, "object_to_patch");
    assert_int_equal(object->widget, WS_WIDGET_STRING);
    assert_string_equal(object->default_string, "diffusion_model");
    const ws_node_input *const threshold = input_named(node, "residual_diff_threshold");
    assert_int_equal(threshold->widget, WS_WIDGET_FLOAT);
    assert_true(threshold->has_minimum && threshold->has_maximum && threshold->has_step);
    assert_true(threshold->minimum == 0.0 && threshold->maximum == 1.0 && threshold->step == 0.001);
    assert_null(threshold->default_string);
    const ws_node_input *const hits = input_named(node, "max_consecutive_cache_hits");
    assert_int_equal(hits->widget, WS_WIDGET_INT);
    assert_false(hits->required);
    assert_true(hits->default_number == -1.0 && hits->minimum == -1.0);
    assert_int_equal(node->n_outputs, 1);
    assert_string_equal(node->outputs[0].type, "MODEL");
    assert_false(node->output_node);
    ws_node_schema_free(list);
}

/* Old workflows hold the widgets' values by position, so the order is a promise. */
static void widgets_keep_the_order_of_comfy_wavespeed(void **state) {
    (void)state;
    static const char *const order[] = {
        "model", "object_to_patch",           "residual_diff_threshold", "start",
        "end",   "max_consecutive_cache_hits"};
    ws_node_schema_list *list = NULL;
    assert_int_equal(ws_node_schema_parse(real_text, strlen(real_text), &list, NULL), WS_OK);
    const ws_node_schema *const node = ws_node_schema_get(list, 0);
    assert_true(node->n_inputs >= 6);
    for (size_t i = 0; i < 6; ++i) {
        assert_string_equal(node->inputs[i].name, order[i]);
    }
    ws_node_schema_free(list);
}

#define NODE(inputs, outputs)                                                                      \
    "{\"nodes\":[{\"id\":\"N\",\"display_name\":\"d\",\"category\":\"c\",\"description\":\"t\","   \
    "\"inputs\":[" inputs "],\"outputs\":[" outputs "]}]}"

static void every_kind_of_input(void **state) {
    (void)state;
    static const char text[] =
        NODE("{\"name\":\"any\",\"type\":\"*\",\"required\":true,\"tooltip\":\"t\"},"
             "{\"name\":\"text\",\"type\":\"STRING\",\"required\":true,\"tooltip\":\"t\","
             "\"default\":\"\"},"
             "{\"name\":\"on\",\"type\":\"BOOLEAN\",\"required\":true,\"tooltip\":\"t\","
             "\"default\":true},"
             "{\"name\":\"off\",\"type\":\"BOOLEAN\",\"required\":false,\"advanced\":true,\"tooltip\":\"t\","
             "\"default\":false},"
             "{\"name\":\"pick\",\"type\":\"COMBO\",\"required\":false,\"tooltip\":\"t\"},"
             "{\"name\":\"free\",\"type\":\"FLOAT\",\"required\":false,\"tooltip\":\"\\u00e9\","
             "\"default\":-2.5e3}",
             "");
    ws_node_schema_list *list = NULL;
    ws_error error = {WS_OK, -1, ""};
    if (ws_node_schema_parse(text, strlen(text), &list, &error) != WS_OK) {
        fail_msg("%s", error.text);
    }
    const ws_node_schema *const node = ws_node_schema_get(list, 0);
    assert_int_equal(node->n_inputs, 6);
    assert_int_equal(node->n_outputs, 0);
    assert_int_equal(node->inputs[0].widget, WS_WIDGET_NONE);
    assert_string_equal(node->inputs[1].default_string, "");
    assert_int_equal(node->inputs[2].widget, WS_WIDGET_BOOLEAN);
    assert_true(node->inputs[2].default_number == 1.0);
    assert_true(node->inputs[3].default_number == 0.0);
    assert_true(node->inputs[3].advanced);
    assert_false(node->inputs[2].advanced);
    assert_int_equal(node->inputs[4].widget, WS_WIDGET_CHOICE);
    assert_true(node->inputs[5].default_number == -2500.0);
    assert_false(node->inputs[5].has_minimum || node->inputs[5].has_maximum ||
                 node->inputs[5].has_step);
    assert_string_equal(node->inputs[5].tooltip, "\xC3\xA9");
    ws_node_schema_free(list);
    ws_node_schema_free(NULL);
}

static void a_node_may_be_an_output_node(void **state) {
    (void)state;
    char *const text = replaced(NODE("", ""), "\"inputs\"", "\"output_node\":true,\"inputs\"");
    ws_node_schema_list *list = NULL;
    assert_int_equal(ws_node_schema_parse(text, strlen(text), &list, NULL), WS_OK);
    assert_true(ws_node_schema_get(list, 0)->output_node);
    ws_node_schema_free(list);
    free(text);
}

static void no_nodes_are_an_empty_list(void **state) {
    (void)state;
    ws_node_schema_list *list = NULL;
    assert_int_equal(ws_node_schema_parse("{\"nodes\": []} \n", 15, &list, NULL), WS_OK);
    assert_int_equal(ws_node_schema_count(list), 0);
    assert_null(ws_node_schema_get(list, 0));
    ws_node_schema_free(list);
}

/* ---- what is not JSON ------------------------------------------------------------------------ */

static void every_prefix_is_refused(void **state) {
    (void)state;
    size_t length = strlen(real_text);
    while (real_text[length - 1] != '}') { /* without the line end it is still complete */
        --length;
    }
    for (size_t n = 0; n < length; ++n) {
        ws_error error;
        expect_refused(real_text, n, "the text stops being JSON at byte", &error);
        assert_true(error.offset >= 0 && error.offset <= (int64_t)n);
    }
}

static void every_flipped_bit_is_survived(void **state) {
    (void)state;
    const size_t length = strlen(real_text);
    for (size_t i = 0; i < length; ++i) {
        char *const copy = exact_copy(real_text, length);
        copy[i] = (char)(copy[i] ^ (1 << (i % 7)));
        ws_node_schema_list *list = NULL;
        if (ws_node_schema_parse(copy, length, &list, NULL) == WS_OK) { /* a letter within a text */
            assert_non_null(list);
        }
        ws_node_schema_free(list);
        free(copy);
    }
}

static void text_that_is_not_json(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "x",
        "nul",
        "{\"nodes\":[]} x",
        "{\"nodes\":[]}{}",
        "{\"nodes\":[],}",
        "{'a'}",
        "{\"nodes\"",
        "{\"nodes\":",
        "{\"nodes\":[}",
        "{\"nodes\":NaN}",
        "{\"nodes\":Infinity}",
        "{nodes:[]}",
        "{\"\\",
        "{\"\\u",
        "{\"\\u000",
        "{\"\\u000\"",
        "{\"\\x\":1}",
        "{\"\\ud800\":1}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); ++i) {
        expect_text_refused(texts[i], "the text stops being JSON at byte");
    }
}

static void offset_is_where_the_text_breaks(void **state) {
    (void)state;
    ws_error error;
    expect_refused("{\"nodes\": [] ! }", 16, "the text stops being JSON at byte 13 of 16.", &error);
    assert_int_equal(error.offset, 13);
}

static void control_characters_are_refused(void **state) {
    (void)state;
    ws_error error;
    expect_refused("{\"nodes\":[]}\0", 13, "byte 12 is a control character", &error);
    assert_int_equal(error.offset, 12);
    expect_refused("{\"no\ndes\":[]}", 13, "byte 4 is a control character", &error);
    expect_refused("{\"no\\u0000\":[]}", 15, "byte 4 begins a NUL character", &error);
    expect_refused("{\v\"nodes\":[]}", 13, "byte 1 is a control character", &error);
}

static void nesting_is_limited(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *const text = malloc(2 * DEPTH);
    assert_non_null(text);
    memset(text, '[', DEPTH);
    memset(text + DEPTH, ']', DEPTH);
    ws_error error;
    expect_refused(text, 2 * DEPTH, "byte 16 is nested deeper than 16 levels", &error);
    assert_int_equal(error.offset, 16);
    expect_refused(text, DEPTH, "nested deeper", &error);
    expect_refused(text + DEPTH - 16, 32, "is not an object", &error); /* 16 levels are JSON */
    expect_refused(text + DEPTH - 17, 34, "nested deeper", &error);
    free(text);
    expect_text_refused("{\"[[[[[[[[[[[[[[[[[[\":1}",
                        "is not known"); /* brackets in a string are no nesting */
    expect_text_refused("{\"\\\"[[[[[[[[[[[[[[[[[[\":1}",
                        "is not known"); /* also after a quote in it */
}

/* ---- JSON of the wrong shape ----------------------------------------------------------------- */

static void root_of_the_wrong_shape(void **state) {
    (void)state;
    expect_text_refused("[]", "nodes.json is not an object.");
    expect_text_refused("null", "nodes.json is not an object.");
    expect_text_refused("{}", "nodes.json has no field \"nodes\"; it must be an array.");
    expect_text_refused("{\"Nodes\":[]}", "has the field \"Nodes\", which is not known.");
    expect_text_refused("{\"nodes\":[],\"nodes\":[]}", "has the field \"nodes\" twice.");
    expect_text_refused("{\"nodes\":{}}", "the field \"nodes\" must be an array.");
    expect_text_refused("{\"nodes\":[1]}", "nodes.json, node 1 is not an object.");
    expect_text_refused(
        "{\"nodes\":[{}]}",
        "nodes.json, node 1 has no field \"id\"; it must be a string that is not empty.");
}

static void broken_variants_of_the_real_file(void **state) {
    (void)state;
    static const struct {
        const char *old;
        const char *by;
        const char *words;
    } variants[] = {
        {"\"id\": \"ApplyFBCacheOnModel\"", "\"id\": \"\"",
         "node 1: the field \"id\" must be a string that is not empty."},
        {"\"display_name\"", "\"displayName\"",
         "node \"ApplyFBCacheOnModel\" has the field \"displayName\""},
        {"\"category\": \"wavespeed\"", "\"category\": 1",
         "node \"ApplyFBCacheOnModel\": the field \"category\" must be"},
        {"\"category\": \"wavespeed\"", "\"category\": \"a\", \"category\": \"b\"",
         "has the field \"category\" twice"},
        {"\"inputs\": [", "\"inputs\": 5, \"outputs\": [", "has the field \"outputs\" twice"},
        {"\"name\": \"model\", ", "",
         "node \"ApplyFBCacheOnModel\", input 1 has no field \"name\""},
        {"\"name\": \"start\"", "\"name\": \"model\"",
         "input \"model\": the node has two inputs of this name."},
        {"\"type\": \"MODEL\"", "\"type\": null",
         "input \"model\": the field \"type\" must be a string"},
        {"\"type\": \"MODEL\"", "\"type\": \"COMBO\", \"default\": 1",
         "input \"model\" has the field \"default\""},
        {"\"type\": \"MODEL\"", "\"type\": \"MODEL\", \"min\": 1",
         "input \"model\" has the field \"min\""},
        {"\"required\": true", "\"required\": 1",
         "input \"model\": the field \"required\" must be true or false."},
        {"\"tooltip\"", "\"tooltips\"", "input \"model\" has the field \"tooltips\""},
        {"\"tooltip\": \"The diffusion", "\"tooltip\": \"\", \"type\": \"",
         "input \"model\" has the field \"type\" twice"},
        {"\"default\": \"diffusion_model\",", "",
         "input \"object_to_patch\" has no field \"default\""},
        {"\"default\": \"diffusion_model\"", "\"default\": 1", "\"default\" must be a string."},
        {"\"default\": \"diffusion_model\"", "\"default\": \"\", \"max\": 1",
         "has the field \"max\""},
        {"\"default\": 0.12,", "",
         "input \"residual_diff_threshold\" has no field \"default\"; it must be a finite number."},
        {"\"default\": 0.12", "\"default\": \"0.12\"", "\"default\" must be a finite number."},
        {"\"default\": 0.12", "\"default\": 1e999", "\"default\" must be a finite number."},
        {"\"default\": 0.12", "\"default\": true", "\"default\" must be a finite number."},
        {"\"default\": 0.12", "\"default\": -0.5",
         "the default is -0.5, which is below the minimum 0."},
        {"\"default\": 0.12", "\"default\": 1.5",
         "the default is 1.5, which is above the maximum 1."},
        {"\"max\": 1.0", "\"max\": 0.1", "the default is 0.12, which is above the maximum 0.1."},
        {"\"max\": 1.0", "\"max\": [1.0]", "\"max\" must be a finite number."},
        {"\"step\": 0.001", "\"step\": 0", "the step is 0; it must be above 0."},
        {"\"step\": 0.001", "\"step\": -1", "the step is -1; it must be above 0."},
        {"\"min\": -1", "\"min\": -1.5", "\"min\" is -1.5; it must be a whole number."},
        {"\"max\": 10000", "\"max\": 1e17", "\"max\" is 1e+17; it must be a whole number."},
        {"\"required\": false, \"default\": 1.0", "\"required\": true, \"default\": 1.0",
         "input \"end\" is required, but stands after the optional input \"start\"."},
        {"\"outputs\": [", "\"outputs\": [1,", "output 1 is not an object."},
        {"{\"name\": \"MODEL\", \"type\"", "{\"name\": \"MODEL\", \"Type\"",
         "output \"MODEL\" has the field \"Type\""},
        {"\"tooltip\": \"The model with", "\"tooltip\": 7, \"name\": \"",
         "output \"MODEL\" has the field \"name\" twice"},
        {"\"id\": \"WaveSpeedDemoPrompt\"", "\"id\": \"ApplyFBCacheOnModel\"",
         "there are two nodes of this id."},
        {"\"output_node\": true", "\"output_node\": 1",
         "node \"WaveSpeedFirstBlockCacheXY\": the field \"output_node\" must be true or false."},
    };
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); ++i) {
        char *const text = replaced(real_text, variants[i].old, variants[i].by);
        expect_text_refused(text, variants[i].words);
        free(text);
    }
}

/* Arrays are counted before they are checked, so their types must not matter to the counting. */
static void wrong_types_where_arrays_belong(void **state) {
    (void)state;
    static const char *const values[] = {"null", "1", "\"x\"", "{}", "true"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); ++i) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "{\"nodes\":[{\"id\":\"N\",\"display_name\":\"d\",\"category\":\"c\","
                       "\"description\":\"t\","
                       "\"inputs\":[],\"outputs\":%s}]}",
                       values[i]);
        expect_text_refused(text, "node \"N\": the field \"outputs\" must be an array.");
    }
    expect_text_refused(NODE("[]", ""), "node \"N\", input 1 has no field \"type\"");
    expect_text_refused(NODE("null", ""), "node \"N\", input 1 has no field \"type\"");
}

static void long_names_are_cut_in_sentences(void **state) {
    (void)state;
    char text[4096] = "{\"nodes\":[{\"id\":\"";
    for (int i = 0; i < 700; ++i) {
        strcat(text, "\xC3\xA9");
    }
    strcat(text, "\"}]}");
    ws_error error;
    expect_refused(text, strlen(text), "nodes.json, node \"\xC3\xA9", &error);
    const unsigned char last = (unsigned char)error.text[strlen(error.text) - 1];
    assert_true(last < 0x80 || last == 0xA9); /* no half character */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_file_is_read_as_written),
        cmocka_unit_test(widgets_keep_the_order_of_comfy_wavespeed),
        cmocka_unit_test(every_kind_of_input),
        cmocka_unit_test(a_node_may_be_an_output_node),
        cmocka_unit_test(no_nodes_are_an_empty_list),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(every_flipped_bit_is_survived),
        cmocka_unit_test(text_that_is_not_json),
        cmocka_unit_test(offset_is_where_the_text_breaks),
        cmocka_unit_test(control_characters_are_refused),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(root_of_the_wrong_shape),
        cmocka_unit_test(broken_variants_of_the_real_file),
        cmocka_unit_test(wrong_types_where_arrays_belong),
        cmocka_unit_test(long_names_are_cut_in_sentences),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
