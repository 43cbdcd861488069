/* The check of one stage of a descriptor: a list of blocks and how they take and return their
 * hidden states. */
#include "core/architecture_internal.h"
#include "core/status_internal.h"

#include <math.h>
#include <string.h>

enum { /* what the hooks have room for */
       HIDDEN_MAX = 4,
       POSITION_MAX = 63
};

/* [name, position] */
static bool is_pair(const cJSON *pair) {
    if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2) {
        return false;
    }
    const cJSON *const name = pair->child;
    const cJSON *const position = name->next;
    return cJSON_IsString(name) && name->valuestring[0] != '\0' && cJSON_IsNumber(position) &&
           position->valuedouble >= 0.0 && position->valuedouble <= (double)POSITION_MAX &&
           floor(position->valuedouble) == position->valuedouble;
}

/* pairs before this one are checked already. */
static ws_status check_pair(const cJSON *hidden, const cJSON *pair, const ws_json_place *place,
                            ws_error *error) {
    if (!is_pair(pair)) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"hidden\" must be an array of [name, position] with whole "
                       "positions from 0 to %d.",
                       place->text, POSITION_MAX);
    }
    const char *const name = pair->child->valuestring;
    for (const cJSON *earlier = hidden->child; earlier != pair; earlier = earlier->next) {
        if (strcmp(earlier->child->valuestring, name) == 0) {
            return ws_fail(error, WS_ERROR_JSON, "%s: the field \"hidden\" has \"%s\" twice.",
                           place->text, name);
        }
        if (earlier->child->next->valuedouble == pair->child->next->valuedouble) {
            return ws_fail(error, WS_ERROR_JSON,
                           "%s: the field \"hidden\" has \"%s\" and \"%s\" at one position.",
                           place->text, earlier->child->valuestring, name);
        }
    }
    return WS_OK;
}

static ws_status check_hidden(const cJSON *stage, const ws_json_place *place, const cJSON **out,
                              ws_error *error) {
    const cJSON *hidden = NULL;
    WS_TRY_(ws_json_array_(stage, "hidden", place, &hidden, error));
    const int count = cJSON_GetArraySize(hidden);
    if (count < 1 || count > HIDDEN_MAX) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"hidden\" has %d pairs; it must have 1 to %d.", place->text,
                       count, HIDDEN_MAX);
    }
    const cJSON *pair = NULL;
    cJSON_ArrayForEach(pair, hidden) {
        WS_TRY_(check_pair(hidden, pair, place, error));
    }
    *out = hidden;
    return WS_OK;
}

static ws_status check_is_hidden(const cJSON *hidden, const char *key, const char *name,
                                 const ws_json_place *place, ws_error *error) {
    const cJSON *pair = NULL;
    cJSON_ArrayForEach(pair, hidden) {
        if (strcmp(pair->child->valuestring, name) == 0) {
            return WS_OK;
        }
    }
    return ws_fail(error, WS_ERROR_JSON,
                   "%s: the field \"%s\" has \"%s\", which \"hidden\" does not name.", place->text,
                   key, name);
}

/* The name of one hidden state (a block returns it bare) or an array of names (it returns a tuple).
 */
static ws_status check_returns(const cJSON *stage, const cJSON *hidden, const ws_json_place *place,
                               ws_error *error) {
    const cJSON *const bare = cJSON_GetObjectItemCaseSensitive(stage, "returns");
    if (cJSON_IsString(bare)) {
        return check_is_hidden(hidden, "returns", bare->valuestring, place, error);
    }
    const cJSON *names = NULL;
    WS_TRY_(ws_json_texts_(stage, "returns", place, &names, error));
    const cJSON *name = NULL;
    cJSON_ArrayForEach(name, names) {
        WS_TRY_(check_is_hidden(hidden, "returns", name->valuestring, place, error));
    }
    return WS_OK;
}

static ws_status check_main(const cJSON *stage, const cJSON *hidden, const ws_json_place *place,
                            ws_error *error) {
    const char *name = NULL;
    WS_TRY_(ws_json_text_(stage, "main", place, &name, error));
    WS_TRY_(check_is_hidden(hidden, "main", name, place, error));
    if (!ws_architecture_names_(cJSON_GetObjectItemCaseSensitive(stage, "returns"), name)) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"main\" is \"%s\", which \"returns\" does not contain.",
                       place->text, name);
    }
    return WS_OK;
}

ws_status ws_architecture_check_stage_(const cJSON *stage, const ws_json_place *place,
                                       ws_error *error) {
    static const char *const fields[] = {"path",    "hidden", "returns", "main", "skip",
                                         "streams", "method", "within",  NULL};
    static const char *const streams[] = {"tensor", "tuple", NULL};
    static const char *const within[] = {"head", "tail", NULL};
    const char *text = NULL;
    const cJSON *hidden = NULL;
    WS_TRY_(ws_json_check_keys_(stage, fields, place, error));
    WS_TRY_(ws_json_text_(stage, "path", place, &text, error));
    WS_TRY_(check_hidden(stage, place, &hidden, error));
    WS_TRY_(check_returns(stage, hidden, place, error));
    WS_TRY_(check_main(stage, hidden, place, error));
    WS_TRY_(ws_architecture_check_optional_text_(stage, "skip", place, error));
    WS_TRY_(ws_architecture_check_optional_text_(stage, "method", place, error));
    WS_TRY_(ws_architecture_check_optional_choice_(stage, "streams", streams, place, error));
    return ws_architecture_check_optional_choice_(stage, "within", within, place, error);
}
