/* From the widgets of "Compile Model+" to a request: lookups in tables, never an import, a path or a command. */
#include "wavespeed/compile_request.h"

#include "core/compile_options_internal.h"
#include "core/json_internal.h"
#include "core/status_internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *const compilers[] = {"torch.compile", NULL};
static const char *const backends[] = {"inductor", "cudagraphs", "aot_eager", "eager", NULL};
static const char *const modes[] = {"default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", NULL};

enum { SHOWN = 48 }; /* characters of a refused text that the sentence repeats */

/* ---- words ----------------------------------------------------------------------------------- */

/* The list's own copy of a text; the first word for an empty text; NULL for a text that is not in the list. */
static const char *look_up(const char *text, const char *const *list) {
    if (text[0] == '\0') {
        return list[0];
    }
    for (size_t i = 0; list[i] != NULL; ++i) {
        if (strcmp(list[i], text) == 0) {
            return list[i];
        }
    }
    return NULL;
}

static ws_status read_word(const char *input, const char *text, const char *const *list, const char **out,
                           ws_error *error) {
    *out = look_up(text, list);
    if (*out == NULL) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "%s is \"%.*s\", which is not one of the names this node knows. The nearest is \"%s\".", input,
                       SHOWN, text, ws_nearest_name_(text, list));
    }
    return WS_OK;
}

/* Position in the list of the word of this length; -1 when it is not there. */
static int word_position(const char *word, size_t length, const char *const *list) {
    for (int i = 0; list[i] != NULL; ++i) {
        if (strlen(list[i]) == length && memcmp(list[i], word, length) == 0) {
            return i;
        }
    }
    return -1;
}

/* "A,B" as bits; 0 when a part is not in the list. The order carries no meaning for torch. */
static int64_t words_as_bits(const char *text, const char *const *list) {
    int64_t bits = 0;
    for (const char *part = text;;) {
        const size_t length = strcspn(part, ",");
        const int position = word_position(part, length, list);
        if (position < 0) {
            return 0;
        }
        bits |= INT64_C(1) << position;
        if (part[length] == '\0') {
            return bits;
        }
        part += length + 1;
    }
}

/* ---- options --------------------------------------------------------------------------------- */

static void set_option(ws_compile_request *request, const char *name, int64_t value) {
    const int index = ws_option_find_(NULL, name);
    request->given[index] = true;
    request->value[index] = value;
}

/* What torch._inductor.list_mode_options says; a test compares. */
static void expand_mode(const char *mode, ws_compile_request *request) {
    if (strncmp(mode, "max-autotune", strlen("max-autotune")) == 0) {
        set_option(request, "max_autotune", 1);
        set_option(request, "coordinate_descent_tuning", 1);
    }
    if (strcmp(mode, "max-autotune") == 0 || strcmp(mode, "reduce-overhead") == 0) {
        set_option(request, "triton.cudagraphs", 1);
    }
}

static ws_status wrong_value(const ws_option_entry *entry, const char *wanted, ws_error *error) {
    return ws_fail(error, WS_ERROR_JSON, "options: \"%s\" must be %s.", entry->name, wanted);
}

static ws_status read_words(const ws_option_entry *entry, const char *text, int64_t *out, ws_error *error) {
    if (entry->kind == WS_COMPILE_WORD) {
        *out = word_position(text, strlen(text), entry->words);
    } else {
        const int64_t bits = words_as_bits(text, entry->words);
        *out = bits == 0 ? -1 : bits;
    }
    if (*out < 0) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "options: \"%s\" is \"%.*s\", which is not allowed. The nearest word is \"%s\".", entry->name,
                       SHOWN, text, ws_nearest_name_(text, entry->words));
    }
    return WS_OK;
}

static ws_status read_value(const ws_option_entry *entry, const cJSON *item, int64_t *out, ws_error *error) {
    switch (entry->kind) {
        case WS_COMPILE_BOOLEAN:
            *out = cJSON_IsTrue(item);
            return cJSON_IsBool(item) ? WS_OK : wrong_value(entry, "true or false", error);
        case WS_COMPILE_INTEGER:
            if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble) || floor(item->valuedouble) != item->valuedouble) {
                return wrong_value(entry, "a whole number", error);
            }
            if (item->valuedouble < (double)entry->minimum || item->valuedouble > (double)entry->maximum) {
                return ws_fail(error, WS_ERROR_RANGE,
                               "options: \"%s\" is %s; it must be between %" PRId64 " and %" PRId64 ".", entry->name,
                               ws_number_text_(item->valuedouble).text, entry->minimum, entry->maximum);
            }
            *out = (int64_t)item->valuedouble;
            return WS_OK;
        case WS_COMPILE_WORD:
        case WS_COMPILE_WORDS:
            break;
    }
    return cJSON_IsString(item) ? read_words(entry, item->valuestring, out, error) : wrong_value(entry, "a text", error);
}

/* torch takes '-' for '_' in the names of its options, so both spellings are one option. */
static void spell_as_torch(char *name) {
    for (; *name != '\0'; ++name) {
        if (*name == '-') {
            *name = '_';
        }
    }
}

static ws_status read_option(const ws_compile_allowed *allowed, cJSON *item, bool *typed, ws_compile_request *request,
                             ws_error *error) {
    spell_as_torch(item->string);
    const int index = ws_option_find_(allowed, item->string);
    if (index < 0) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "options: \"%.*s\" is refused, because %s. The nearest option that is allowed is \"%s\". "
                       "Only the file " WS_COMPILE_FILE " can allow more.",
                       SHOWN, item->string, ws_option_refusal_(item->string), ws_nearest_name_(item->string, NULL));
    }
    if (typed[index]) {
        return ws_fail(error, WS_ERROR_JSON, "options: \"%s\" stands there twice.", item->string);
    }
    typed[index] = request->given[index] = true;
    return read_value(ws_option_at_(allowed, (size_t)index), item, &request->value[index], error);
}

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; ++i) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n') {
            return false;
        }
    }
    return true;
}

static ws_status read_object(const ws_compile_allowed *allowed, cJSON *root, ws_compile_request *request,
                             ws_error *error) {
    bool typed[WS_COMPILE_OPTIONS_MAX] = {false};
    if (!cJSON_IsObject(root)) {
        return ws_fail(error, WS_ERROR_JSON, "options must be a JSON object, for example {\"max_autotune\": true}.");
    }
    cJSON *item = NULL;
    cJSON_ArrayForEach(item, root) {
        WS_TRY_(read_option(allowed, item, typed, request, error));
    }
    return WS_OK;
}

static ws_status read_options(const ws_compile_inputs *inputs, const ws_compile_allowed *allowed,
                              ws_compile_request *request, ws_error *error) {
    static const ws_json_place place = {"options"};
    if (inputs->options_length > WS_COMPILE_OPTIONS_SIZE_MAX) {
        return ws_fail(error, WS_ERROR_LIMIT, "options are %zu bytes long; at most %d are read.", inputs->options_length,
                       (int)WS_COMPILE_OPTIONS_SIZE_MAX);
    }
    if (is_blank(inputs->options, inputs->options_length)) {
        return WS_OK;
    }
    cJSON *root = NULL;
    WS_TRY_(ws_json_parse_(inputs->options, inputs->options_length, WS_COMPILE_NESTING, &place, &root, error));
    const ws_status status = read_object(allowed, root, request, error);
    cJSON_Delete(root);
    return status;
}

/* ---- the request ----------------------------------------------------------------------------- */

ws_compile_option ws_compile_option_get(const ws_compile_allowed *allowed, const ws_compile_request *request,
                                        size_t index) {
    const ws_option_entry *const entry = ws_option_at_(allowed, index);
    ws_compile_option option = {.name = entry->name, .kind = entry->kind, .given = false, .value = 0, .text = ""};
    if (request == NULL || !request->given[index]) {
        return option;
    }
    option.given = true;
    option.value = request->value[index];
    if (entry->kind == WS_COMPILE_WORD) {
        ws_format_(option.text, sizeof(option.text), "%s", entry->words[option.value]);
    } else if (entry->kind == WS_COMPILE_WORDS) {
        size_t used = 0;
        for (int i = 0; entry->words[i] != NULL; ++i) {
            if ((option.value >> i & 1) != 0) {
                ws_format_(option.text + used, sizeof(option.text) - used, "%s%s", used > 0 ? "," : "", entry->words[i]);
                used = strlen(option.text);
            }
        }
    }
    return option;
}

static void write_canonical(const ws_compile_allowed *allowed, ws_compile_request *request) {
    char *const text = request->canonical;
    const size_t size = sizeof(request->canonical);
    ws_format_(text, size, "backend=%s;fullgraph=%d;dynamic=%d", request->backend, request->fullgraph, request->dynamic);
    for (size_t i = 0; i < ws_compile_option_count(allowed); ++i) {
        const ws_compile_option option = ws_compile_option_get(allowed, request, i);
        if (option.given) {
            const size_t used = strlen(text);
            if (option.text[0] != '\0') {
                ws_format_(text + used, size - used, ";%s=%s", option.name, option.text);
            } else {
                ws_format_(text + used, size - used, ";%s=%" PRId64, option.name, option.value);
            }
        }
    }
}

ws_status ws_compile_request_read(const ws_compile_inputs *inputs, const ws_compile_allowed *allowed,
                                  ws_compile_request *out, ws_error *error) {
    ws_compile_request request = {0};
    const char *compiler = NULL;
    const char *mode = NULL;
    WS_TRY_(read_word("compiler", inputs->compiler, compilers, &compiler, error));
    WS_TRY_(read_word("backend", inputs->backend, backends, &request.backend, error));
    WS_TRY_(read_word("mode", inputs->mode, modes, &mode, error));
    request.fullgraph = inputs->fullgraph;
    request.dynamic = inputs->dynamic;
    expand_mode(mode, &request);
    WS_TRY_(read_options(inputs, allowed, &request, error));
    if (strcmp(request.backend, "inductor") != 0 &&
        (strcmp(mode, "default") != 0 || !is_blank(inputs->options, inputs->options_length))) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "The backend \"%s\" takes neither a mode nor options. Leave both empty, or use the backend "
                       "\"inductor\".",
                       request.backend);
    }
    write_canonical(allowed, &request);
    *out = request;
    return WS_OK;
}
