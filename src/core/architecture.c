/* The check of architectures.json. Nothing is kept: Python reads the same text, and may then rely
 * on every field being present, of the right type and consistent with the others. */
#include "wavespeed/architecture.h"

#include "core/json_internal.h"
#include "core/status_internal.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { /* what the hooks have room for */
       STAGES_MAX = 4,
       HIDDEN_MAX = 4,
       POSITION_MAX = 63
};

/* names: a string or an array of strings. */
static bool contains(const cJSON *names, const char *name) {
    if (cJSON_IsString(names)) {
        return strcmp(names->valuestring, name) == 0;
    }
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, names) {
        if (strcmp(item->valuestring, name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- a stage --------------------------------------------------------------------------------- */

/* [name, position] */
static bool is_pair(const cJSON *pair) {
    if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2) {
        return false;
    }
    const cJSON *const name = pair->child;
    const cJSON *const position = name->next;
    return cJSON_IsString(name) && name->valuestring[0] != '\0' && cJSON_IsNumber(position) &&
           position->valuedouble >= 0.0 && position->valuedouble <= POSITION_MAX &&
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
    if (!contains(cJSON_GetObjectItemCaseSensitive(stage, "returns"), name)) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"main\" is \"%s\", which \"returns\" does not contain.",
                       place->text, name);
    }
    return WS_OK;
}

static ws_status check_stage(const cJSON *stage, const ws_json_place *place, ws_error *error) {
    static const char *const fields[] = {"path", "hidden", "returns", "main", "skip", NULL};
    const char *text = NULL;
    const cJSON *hidden = NULL;
    WS_TRY_(ws_json_check_keys_(stage, fields, place, error));
    WS_TRY_(ws_json_text_(stage, "path", place, &text, error));
    WS_TRY_(check_hidden(stage, place, &hidden, error));
    WS_TRY_(check_returns(stage, hidden, place, error));
    WS_TRY_(check_main(stage, hidden, place, error));
    return ws_json_has_(stage, "skip") ? ws_json_text_(stage, "skip", place, &text, error) : WS_OK;
}

/* ---- a family -------------------------------------------------------------------------------- */

static ws_status check_stages(const cJSON *family, const ws_json_place *place, ws_error *error) {
    const cJSON *stages = NULL;
    WS_TRY_(ws_json_array_(family, "stages", place, &stages, error));
    const int count = cJSON_GetArraySize(stages);
    if (count < 1 || count > STAGES_MAX) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"stages\" has %d stages; it must have 1 to %d.", place->text,
                       count, STAGES_MAX);
    }
    size_t index = 0;
    const cJSON *stage = NULL;
    cJSON_ArrayForEach(stage, stages) {
        const ws_json_place stage_place = ws_json_place_of_(place, "stage", stage, "path", index++);
        WS_TRY_(check_stage(stage, &stage_place, error));
    }
    return WS_OK;
}

static ws_status check_metric(const cJSON *family, const ws_json_place *place, ws_error *error) {
    const char *metric = NULL;
    WS_TRY_(ws_json_text_(family, "metric", place, &metric, error));
    if (strcmp(metric, "output") != 0 && strcmp(metric, "residual") != 0) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"metric\" is \"%s\"; it must be \"output\" or \"residual\".",
                       place->text, metric);
    }
    return WS_OK;
}

/* Families before this one are checked already. */
static ws_status check_classes(const cJSON *families, const cJSON *family,
                               const ws_json_place *place, ws_error *error) {
    const cJSON *classes = NULL;
    WS_TRY_(ws_json_texts_(family, "classes", place, &classes, error));
    for (const cJSON *earlier = families->child; earlier != family; earlier = earlier->next) {
        const cJSON *const described = cJSON_GetObjectItemCaseSensitive(earlier, "classes");
        const cJSON *name = NULL;
        cJSON_ArrayForEach(name, classes) {
            if (contains(described, name->valuestring)) {
                const cJSON *const owner = cJSON_GetObjectItemCaseSensitive(earlier, "family");
                return ws_fail(error, WS_ERROR_JSON,
                               "%s: the field \"classes\" has \"%s\", which the family \"%s\" "
                               "describes already.",
                               place->text, name->valuestring, owner->valuestring);
            }
        }
    }
    return WS_OK;
}

static ws_status check_family(const cJSON *families, const cJSON *family,
                              const ws_json_place *place, ws_error *error) {
    static const char *const fields[] = {"family", "classes",  "metric",  "stages", "final",
                                         "source", "verified", "remarks", NULL};
    const char *text = NULL;
    const cJSON *final = NULL;
    WS_TRY_(ws_json_check_keys_(family, fields, place, error));
    WS_TRY_(ws_json_text_(family, "family", place, &text, error));
    WS_TRY_(check_classes(families, family, place, error));
    WS_TRY_(check_metric(family, place, error));
    WS_TRY_(check_stages(family, place, error));
    WS_TRY_(ws_json_texts_(family, "final", place, &final, error));
    WS_TRY_(ws_json_text_(family, "source", place, &text, error));
    WS_TRY_(ws_json_text_(family, "verified", place, &text, error));
    return ws_json_has_(family, "remarks") ? ws_json_text_(family, "remarks", place, &text, error)
                                           : WS_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static ws_status check_root(const cJSON *root, const ws_json_place *place, size_t *count,
                            ws_error *error) {
    static const char *const fields[] = {"architectures", NULL};
    const cJSON *families = NULL;
    WS_TRY_(ws_json_check_keys_(root, fields, place, error));
    WS_TRY_(ws_json_array_(root, "architectures", place, &families, error));
    size_t index = 0;
    const cJSON *family = NULL;
    cJSON_ArrayForEach(family, families) {
        const ws_json_place family_place =
            ws_json_place_of_(place, "family", family, "family", index++);
        WS_TRY_(check_family(families, family, &family_place, error));
    }
    *count = index;
    return WS_OK;
}

ws_status ws_architectures_check(const char *text, size_t length, size_t *count, ws_error *error) {
    static const ws_json_place place = {"architectures.json"};
    cJSON *root = NULL;
    size_t families = 0;
    ws_status status = ws_json_parse_(text, length, &place, &root, error);
    if (status == WS_OK) {
        status = check_root(root, &place, &families, error);
        cJSON_Delete(root);
    }
    if (count != NULL) {
        *count = families;
    }
    return status;
}
