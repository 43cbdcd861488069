/* Strict JSON over cJSON. What cJSON lets pass is refused here: deep nesting, duplicate and unknown
 * keys, control characters, text after the end, numbers that overflow. cJSON_GetErrorPtr is never
 * used: it is one variable per process. */
#include "core/json_internal.h"

#include "core/status_internal.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ---------------------------------------------------------------------------------- */

static bool is_text(const cJSON *item) {
    return cJSON_IsString(item) && item->valuestring[0] != '\0';
}

ws_json_place ws_json_place_of_(const ws_json_place *outer, const char *word, const cJSON *item,
                                const char *name_key, size_t index) {
    ws_json_place place;
    const cJSON *const name = cJSON_GetObjectItemCaseSensitive(item, name_key);
    if (is_text(name)) {
        ws_format_(place.text, sizeof(place.text), "%s, %s \"%s\"", outer->text, word,
                   name->valuestring);
    } else {
        ws_format_(place.text, sizeof(place.text), "%s, %s %zu", outer->text, word, index + 1);
    }
    return place;
}

/* ---- parsing --------------------------------------------------------------------------------- */

/* One pass over the bytes before cJSON sees them. A limit here keeps cJSON's recursion shallow; NUL
 * characters would silently shorten strings. */
static ws_status check_bytes(const char *text, size_t length, int nesting, const ws_json_place *place,
                             ws_error *error) {
    bool in_string = false;
    int depth = 0;
    for (size_t i = 0; i < length; ++i) {
        const unsigned char byte = (unsigned char)text[i];
        const bool is_space = byte == '\t' || byte == '\n' || byte == '\r';
        if (byte < 0x20 && (in_string || !is_space)) {
            return ws_fail_at(error, WS_ERROR_JSON, (int64_t)i,
                              "%s: byte %zu is a control character.", place->text, i);
        }
        if (in_string) {
            if (byte == '\\') {
                if (length - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0) {
                    return ws_fail_at(error, WS_ERROR_JSON, (int64_t)i,
                                      "%s: byte %zu begins a NUL character.", place->text, i);
                }
                ++i;
            } else if (byte == '"') {
                in_string = false;
            }
        } else if (byte == '"') {
            in_string = true;
        } else if (byte == '{' || byte == '[') {
            if (++depth > nesting) {
                return ws_fail_at(error, WS_ERROR_JSON, (int64_t)i,
                                  "%s: byte %zu is nested deeper than %d levels.", place->text, i,
                                  nesting);
            }
        } else if (byte == '}' || byte == ']') {
            --depth;
        }
    }
    return WS_OK;
}

ws_status ws_json_parse_(const char *text, size_t length, int nesting, const ws_json_place *place,
                         cJSON **out, ws_error *error) {
    WS_TRY_(check_bytes(text, length, nesting, place, error));
    /* A terminated copy: cJSON 1.7.15 looks one byte past the end of some broken texts
     * (CVE-2023-53154). */
    char *const copy = malloc(length + 1);
    if (copy == NULL) {
        return ws_fail(error, WS_ERROR_NO_MEMORY, "%s: there is no memory for %zu bytes of text.",
                       place->text, length);
    }
    if (length > 0) {
        memcpy(copy, text, length);
    }
    copy[length] = '\0';
    const char *end = copy;
    cJSON *const root = cJSON_ParseWithLengthOpts(copy, length + 1, &end, 1);
    ws_status status = WS_OK;
    if (root == NULL) {
        const size_t offset = (size_t)(end - copy);
        status = ws_fail_at(error, WS_ERROR_JSON, (int64_t)offset,
                            "%s: the text stops being JSON at byte %zu of %zu.", place->text,
                            offset, length);
    } else {
        *out = root;
    }
    free(copy);
    return status;
}

ws_status ws_json_check_keys_(const cJSON *item, const char *const *allowed,
                              const ws_json_place *place, ws_error *error) {
    if (!cJSON_IsObject(item)) {
        return ws_fail(error, WS_ERROR_JSON, "%s is not an object.", place->text);
    }
    uint32_t seen = 0; /* bit i: allowed[i] */
    const cJSON *field = NULL;
    cJSON_ArrayForEach(field, item) {
        size_t i = 0;
        while (allowed[i] != NULL && strcmp(allowed[i], field->string) != 0) {
            ++i;
        }
        if (allowed[i] == NULL) {
            return ws_fail(error, WS_ERROR_JSON, "%s has the field \"%s\", which is not known.",
                           place->text, field->string);
        }
        const uint32_t bit = UINT32_C(1) << i;
        if ((seen & bit) != 0) {
            return ws_fail(error, WS_ERROR_JSON, "%s has the field \"%s\" twice.", place->text,
                           field->string);
        }
        seen |= bit;
    }
    return WS_OK;
}

/* ---- fields ---------------------------------------------------------------------------------- */

bool ws_json_has_(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key) != NULL;
}

/* The difference between a missing and a wrong field is the first thing an author wants to know. */
static ws_status wrong_field(const cJSON *item, const char *key, const char *wanted,
                             const ws_json_place *place, ws_error *error) {
    if (item == NULL) {
        return ws_fail(error, WS_ERROR_JSON, "%s has no field \"%s\"; it must be %s.", place->text,
                       key, wanted);
    }
    return ws_fail(error, WS_ERROR_JSON, "%s: the field \"%s\" must be %s.", place->text, key,
                   wanted);
}

ws_status ws_json_string_(const cJSON *object, const char *key, const ws_json_place *place,
                          const char **out, ws_error *error) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(item)) {
        return wrong_field(item, key, "a string", place, error);
    }
    *out = item->valuestring;
    return WS_OK;
}

ws_status ws_json_text_(const cJSON *object, const char *key, const ws_json_place *place,
                        const char **out, ws_error *error) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!is_text(item)) {
        return wrong_field(item, key, "a string that is not empty", place, error);
    }
    *out = item->valuestring;
    return WS_OK;
}

ws_status ws_json_number_(const cJSON *object, const char *key, const ws_json_place *place,
                          double *out, ws_error *error) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble)) {
        return wrong_field(item, key, "a finite number", place, error);
    }
    *out = item->valuedouble;
    return WS_OK;
}

ws_status ws_json_boolean_(const cJSON *object, const char *key, const ws_json_place *place,
                           bool *out, ws_error *error) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsBool(item)) {
        return wrong_field(item, key, "true or false", place, error);
    }
    *out = cJSON_IsTrue(item) != 0;
    return WS_OK;
}

ws_status ws_json_array_(const cJSON *object, const char *key, const ws_json_place *place,
                         const cJSON **out, ws_error *error) {
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsArray(item)) {
        return wrong_field(item, key, "an array", place, error);
    }
    *out = item;
    return WS_OK;
}

ws_status ws_json_texts_(const cJSON *object, const char *key, const ws_json_place *place,
                         const cJSON **out, ws_error *error) {
    const cJSON *const items = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsArray(items) || items->child == NULL) {
        return wrong_field(items, key, "an array of one or more strings", place, error);
    }
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, items) {
        if (!is_text(item)) {
            return wrong_field(items, key, "an array of strings that are not empty", place, error);
        }
        for (const cJSON *other = item->next; other != NULL; other = other->next) {
            if (cJSON_IsString(other) && strcmp(item->valuestring, other->valuestring) == 0) {
                return ws_fail(error, WS_ERROR_JSON, "%s: the field \"%s\" has \"%s\" twice.",
                               place->text, key, item->valuestring);
            }
        }
    }
    *out = items;
    return WS_OK;
}
