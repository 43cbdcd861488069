/* The file in which whoever runs the machine allows workflows further options of torch._inductor.config:
 *
 *     {"options": [{"name": "freezing", "type": "boolean"},
 *                  {"name": "cpp.simdlen", "type": "integer", "minimum": 0, "maximum": 512},
 *                  {"name": "cpu_backend", "type": "word", "words": ["cpp", "halide"]}]}
 *
 * A text is always one of the words that stand in the file, so that a workflow chooses and never writes. */
#include "core/compile_options_internal.h"
#include "core/json_internal.h"
#include "core/status_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 64, NUMBER_MAX = 1 << 30 };

static bool is_name(const char *text) {
    for (const char *at = text; *at != '\0'; ++at) {
        if (!isalnum((unsigned char)*at) && *at != '_' && *at != '.') {
            return false;
        }
    }
    return strlen(text) < NAME_SIZE;
}

static ws_status read_name(const ws_compile_allowed *allowed, const cJSON *item, const ws_json_place *place,
                           const char **out, ws_error *error) {
    WS_TRY_(ws_json_text_(item, "name", place, out, error));
    if (!is_name(*out)) {
        return ws_fail(error, WS_ERROR_JSON, "%s: a name has letters, digits, \"_\" and \".\", and is shorter than %d.",
                       place->text, NAME_SIZE);
    }
    if (ws_option_find_(allowed, *out) >= 0) {
        return ws_fail(error, WS_ERROR_JSON, "%s is allowed already.", place->text);
    }
    return WS_OK;
}

static ws_status read_bound(const cJSON *item, const char *key, const ws_json_place *place, int64_t *out, ws_error *error) {
    double number = 0;
    WS_TRY_(ws_json_number_(item, key, place, &number, error));
    if (floor(number) != number || fabs(number) > (double)NUMBER_MAX) {
        return ws_fail(error, WS_ERROR_RANGE, "%s: the field \"%s\" must be a whole number between -%d and %d.", place->text,
                       key, (int)NUMBER_MAX, (int)NUMBER_MAX);
    }
    *out = (int64_t)number;
    return WS_OK;
}

static ws_status read_integer(const cJSON *item, const ws_json_place *place, ws_option_entry *entry, ws_error *error) {
    WS_TRY_(read_bound(item, "minimum", place, &entry->minimum, error));
    WS_TRY_(read_bound(item, "maximum", place, &entry->maximum, error));
    if (entry->minimum > entry->maximum) {
        return ws_fail(error, WS_ERROR_RANGE, "%s: the minimum is above the maximum.", place->text);
    }
    return WS_OK;
}

static ws_status read_words(const cJSON *item, const ws_json_place *place, const char **words, ws_error *error) {
    const cJSON *array = NULL;
    WS_TRY_(ws_json_texts_(item, "words", place, &array, error));
    size_t count = 0;
    const cJSON *word = NULL;
    cJSON_ArrayForEach(word, array) {
        if (count == WS_COMPILE_WORDS_MAX || strlen(word->valuestring) >= WS_COMPILE_TEXT_SIZE) {
            return ws_fail(error, WS_ERROR_LIMIT, "%s: there may be %d words, each shorter than %d bytes.", place->text,
                           (int)WS_COMPILE_WORDS_MAX, (int)WS_COMPILE_TEXT_SIZE);
        }
        words[count++] = word->valuestring;
    }
    words[count] = NULL;
    return WS_OK;
}

static ws_status read_entry(ws_compile_allowed *allowed, const cJSON *item, const ws_json_place *place, ws_error *error) {
    static const char *const of_boolean[] = {"name", "type", NULL};
    static const char *const of_integer[] = {"name", "type", "minimum", "maximum", NULL};
    static const char *const of_word[] = {"name", "type", "words", NULL};
    ws_option_entry entry = {NULL, WS_COMPILE_BOOLEAN, 0, 1, NULL};
    const char *type = NULL;
    WS_TRY_(read_name(allowed, item, place, &entry.name, error));
    WS_TRY_(ws_json_text_(item, "type", place, &type, error));
    if (strcmp(type, "boolean") == 0) {
        WS_TRY_(ws_json_check_keys_(item, of_boolean, place, error));
    } else if (strcmp(type, "integer") == 0) {
        entry.kind = WS_COMPILE_INTEGER;
        WS_TRY_(ws_json_check_keys_(item, of_integer, place, error));
        WS_TRY_(read_integer(item, place, &entry, error));
    } else if (strcmp(type, "word") == 0) {
        entry.kind = WS_COMPILE_WORD;
        entry.words = allowed->words[allowed->count];
        WS_TRY_(ws_json_check_keys_(item, of_word, place, error));
        WS_TRY_(read_words(item, place, allowed->words[allowed->count], error));
    } else {
        return ws_fail(error, WS_ERROR_RANGE, "%s: the type is \"%.*s\"; it must be boolean, integer or word.", place->text,
                       NAME_SIZE, type);
    }
    allowed->entries[allowed->count++] = entry;
    return WS_OK;
}

static ws_status read_file(ws_compile_allowed *allowed, const cJSON *root, ws_error *error) {
    static const char *const fields[] = {"options", NULL};
    static const ws_json_place place = {WS_COMPILE_FILE};
    const cJSON *array = NULL;
    WS_TRY_(ws_json_check_keys_(root, fields, &place, error));
    WS_TRY_(ws_json_array_(root, "options", &place, &array, error));
    size_t index = 0;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, array) {
        const ws_json_place inner = ws_json_place_of_(&place, "option", item, "name", index++);
        if (allowed->count == WS_COMPILE_ALLOWED_MAX) {
            return ws_fail(error, WS_ERROR_LIMIT, "%s: there may be %d options.", place.text, (int)WS_COMPILE_ALLOWED_MAX);
        }
        WS_TRY_(read_entry(allowed, item, &inner, error));
    }
    return WS_OK;
}

ws_status ws_compile_allowed_read(const char *text, size_t length, ws_compile_allowed **out, ws_error *error) {
    static const ws_json_place place = {WS_COMPILE_FILE};
    cJSON *root = NULL;
    WS_TRY_(ws_json_parse_(text, length, WS_JSON_NESTING, &place, &root, error));
    ws_compile_allowed *const allowed = calloc(1, sizeof(*allowed));
    if (allowed == NULL) {
        cJSON_Delete(root);
        return ws_fail(error, WS_ERROR_NO_MEMORY, "There is no memory for what " WS_COMPILE_FILE " allows.");
    }
    allowed->text = root;
    const ws_status status = read_file(allowed, root, error);
    if (status != WS_OK) {
        ws_compile_allowed_free(allowed);
        return status;
    }
    *out = allowed;
    return WS_OK;
}

void ws_compile_allowed_free(ws_compile_allowed *allowed) {
    if (allowed != NULL) {
        cJSON_Delete(allowed->text);
        free(allowed);
    }
}
