/* The check of architectures.json. Nothing is kept: Python reads the same text, and may then rely
 * on every field of an accepted family being of the right type and consistent with the others. */
#include "wavespeed/architecture.h"

#include "core/architecture_internal.h"
#include "core/status_internal.h"

#include <math.h>
#include <string.h>

enum {
    STAGES_MAX = 4, /* what the hooks have room for */
    BATCH_DIM_MAX = 7,
    LAYERS_MAX = 1000
};

/* ---- fields ---------------------------------------------------------------------------------- */

bool ws_architecture_names_(const cJSON *names, const char *name) {
    if (cJSON_IsString(names)) {
        return strcmp(names->valuestring, name) == 0;
    }
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, names) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, name) == 0) {
            return true;
        }
    }
    return false;
}

ws_status ws_architecture_check_optional_text_(const cJSON *object, const char *key,
                                               const ws_json_place *place, ws_error *error) {
    const char *text = NULL;
    return ws_json_has_(object, key) ? ws_json_text_(object, key, place, &text, error) : WS_OK;
}

/* The text of a required field is one of the choices. */
static ws_status check_choice(const cJSON *object, const char *key, const char *const *choices,
                              const ws_json_place *place, ws_error *error) {
    const char *text = NULL;
    WS_TRY_(ws_json_text_(object, key, place, &text, error));
    char allowed[128] = "";
    for (size_t i = 0, used = 0; choices[i] != NULL; ++i) {
        if (strcmp(choices[i], text) == 0) {
            return WS_OK;
        }
        const char *const joint = i == 0 ? "" : choices[i + 1] == NULL ? " or " : ", ";
        ws_format_(allowed + used, sizeof(allowed) - used, "%s\"%s\"", joint, choices[i]);
        used = strlen(allowed);
    }
    return ws_fail(error, WS_ERROR_JSON, "%s: the field \"%s\" is \"%s\"; it must be %s.", place->text,
                   key, text, allowed);
}

ws_status ws_architecture_check_optional_choice_(const cJSON *object, const char *key,
                                                 const char *const *choices,
                                                 const ws_json_place *place, ws_error *error) {
    return ws_json_has_(object, key) ? check_choice(object, key, choices, place, error) : WS_OK;
}

static ws_status check_optional_texts(const cJSON *object, const char *key,
                                      const ws_json_place *place, ws_error *error) {
    const cJSON *texts = NULL;
    return ws_json_has_(object, key) ? ws_json_texts_(object, key, place, &texts, error) : WS_OK;
}

static bool is_whole(const cJSON *number, double minimum, double maximum) {
    return cJSON_IsNumber(number) && number->valuedouble >= minimum &&
           number->valuedouble <= maximum && floor(number->valuedouble) == number->valuedouble;
}

/* ---- a family of blocks ---------------------------------------------------------------------- */

/* `within` belongs to the later stages of a family whose last block ends the trunk. */
static ws_status check_within(const cJSON *family, const cJSON *stage, size_t index,
                              const ws_json_place *place, ws_error *error) {
    if (!ws_json_has_(stage, "within")) {
        return WS_OK;
    }
    if (index == 0) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"within\" relates a stage to the first one, which this is.",
                       place->text);
    }
    if (ws_json_has_(family, "final")) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"within\" is for families without \"final\".", place->text);
    }
    return WS_OK;
}

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
        const ws_json_place stage_place = ws_json_place_of_(place, "stage", stage, "path", index);
        WS_TRY_(ws_architecture_check_stage_(stage, &stage_place, error));
        WS_TRY_(check_within(family, stage, index++, &stage_place, error));
    }
    return WS_OK;
}

static ws_status check_bypass(const cJSON *family, const ws_json_place *place, ws_error *error) {
    static const char *const fields[] = {"path", "result", NULL};
    static const char *const results[] = {"argument", "zero", "zero_and_argument", "none", NULL};
    const cJSON *modules = NULL;
    WS_TRY_(ws_json_array_(family, "bypass", place, &modules, error));
    size_t index = 0;
    const cJSON *module = NULL;
    cJSON_ArrayForEach(module, modules) {
        const ws_json_place inner = ws_json_place_of_(place, "bypass", module, "path", index++);
        const char *path = NULL;
        WS_TRY_(ws_json_check_keys_(module, fields, &inner, error));
        WS_TRY_(ws_json_text_(module, "path", &inner, &path, error));
        WS_TRY_(check_choice(module, "result", results, &inner, error));
    }
    return WS_OK;
}

static ws_status check_never(const cJSON *family, const ws_json_place *place, ws_error *error) {
    static const char *const fields[] = {"options", "empty_arguments", NULL};
    const cJSON *const never = cJSON_GetObjectItemCaseSensitive(family, "never");
    const ws_json_place inner = ws_json_place_of_(place, "never", never, "", 0);
    WS_TRY_(ws_json_check_keys_(never, fields, &inner, error));
    WS_TRY_(check_optional_texts(never, "options", &inner, error));
    return check_optional_texts(never, "empty_arguments", &inner, error);
}

static ws_status check_blocks(const cJSON *family, const ws_json_place *place, ws_error *error) {
    static const char *const rows[] = {"cond", "whole", NULL};
    static const char *const parts[] = {"head", "tail", NULL};
    WS_TRY_(check_stages(family, place, error));
    WS_TRY_(ws_architecture_check_optional_choice_(family, "final_part", parts, place, error));
    if (ws_json_has_(family, "final_part") && !ws_json_has_(family, "final")) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"final_part\" is for families with \"final\".", place->text);
    }
    WS_TRY_(check_optional_texts(family, "final", place, error));
    WS_TRY_(ws_architecture_check_optional_choice_(family, "rows", rows, place, error));
    if (ws_json_has_(family, "bypass")) {
        WS_TRY_(check_bypass(family, place, error));
    }
    if (ws_json_has_(family, "never")) {
        WS_TRY_(check_never(family, place, error));
    }
    const cJSON *const batch = cJSON_GetObjectItemCaseSensitive(family, "batch_dim");
    if (batch != NULL && !is_whole(batch, 0.0, BATCH_DIM_MAX)) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"batch_dim\" must be a whole number from 0 to %d.",
                       place->text, BATCH_DIM_MAX);
    }
    return WS_OK;
}

/* ---- a family with an early exit ------------------------------------------------------------- */

/* [begin, end]: numbers of layers, half open. */
static ws_status check_first_block(const cJSON *exit, const ws_json_place *place, ws_error *error) {
    const cJSON *range = NULL;
    WS_TRY_(ws_json_array_(exit, "first_block", place, &range, error));
    const cJSON *const begin = range->child;
    const cJSON *const end = begin == NULL ? NULL : begin->next;
    if (cJSON_GetArraySize(range) != 2 || !is_whole(begin, 0.0, LAYERS_MAX) ||
        !is_whole(end, 1.0, LAYERS_MAX) || !(begin->valuedouble < end->valuedouble)) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"first_block\" must be two whole numbers from 0 to %d, the "
                       "second above the first.",
                       place->text, LAYERS_MAX);
    }
    return WS_OK;
}

static ws_status check_early_exit(const cJSON *family, const ws_json_place *place,
                                  ws_error *error) {
    static const char *const fields[] = {"method", "layers", "first_block", "tail", NULL};
    const cJSON *const exit = cJSON_GetObjectItemCaseSensitive(family, "early_exit");
    const ws_json_place inner = ws_json_place_of_(place, "early_exit", exit, "method", 0);
    const char *method = NULL;
    const cJSON *names = NULL;
    WS_TRY_(ws_json_check_keys_(exit, fields, &inner, error));
    WS_TRY_(ws_json_text_(exit, "method", &inner, &method, error));
    WS_TRY_(ws_json_texts_(exit, "layers", &inner, &names, error));
    WS_TRY_(ws_json_texts_(exit, "tail", &inner, &names, error));
    return check_first_block(exit, &inner, error);
}

/* ---- a family -------------------------------------------------------------------------------- */

static ws_status check_classes(const cJSON *families, const cJSON *family,
                               const ws_json_place *place, ws_error *error) {
    const cJSON *classes = NULL;
    WS_TRY_(ws_json_texts_(family, "classes", place, &classes, error));
    for (const cJSON *earlier = families->child; earlier != family; earlier = earlier->next) {
        const cJSON *const described = cJSON_GetObjectItemCaseSensitive(earlier, "classes");
        const cJSON *name = NULL;
        cJSON_ArrayForEach(name, classes) {
            if (ws_architecture_names_(described, name->valuestring)) {
                const cJSON *const owner = cJSON_GetObjectItemCaseSensitive(earlier, "family");
                return ws_fail(error, WS_ERROR_JSON,
                               "%s: the field \"classes\" has \"%s\", which the family \"%s\" "
                               "describes already.",
                               place->text, name->valuestring,
                               cJSON_IsString(owner) ? owner->valuestring : "");
            }
        }
    }
    return WS_OK;
}

/* The fields that belong to one way of describing a family. */
static ws_status check_way(const cJSON *family, const ws_json_place *place, ws_error *error) {
    static const char *const metrics[] = {"output", "residual", NULL};
    const int ways = ws_json_has_(family, "stages") + ws_json_has_(family, "early_exit") +
                     ws_json_has_(family, "excluded");
    if (ways != 1) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s has %d of the fields \"stages\", \"early_exit\" and \"excluded\"; it must "
                       "have one.",
                       place->text, ways);
    }
    if (ws_json_has_(family, "excluded")) {
        return ws_architecture_check_optional_text_(family, "excluded", place, error);
    }
    WS_TRY_(check_choice(family, "metric", metrics, place, error));
    return ws_json_has_(family, "stages") ? check_blocks(family, place, error)
                                          : check_early_exit(family, place, error);
}

static ws_status check_family(const cJSON *families, const cJSON *family,
                              const ws_json_place *place, ws_error *error) {
    static const char *const fields[] = {"family",     "classes", "metric",     "stages",
                                         "final",      "bypass",  "batch_dim",  "rows",
                                         "never",      "source",  "early_exit", "excluded",
                                         "verified",   "remarks", "final_part", NULL};
    const char *text = NULL;
    WS_TRY_(ws_json_check_keys_(family, fields, place, error));
    WS_TRY_(ws_json_text_(family, "family", place, &text, error));
    WS_TRY_(check_classes(families, family, place, error));
    WS_TRY_(check_way(family, place, error));
    WS_TRY_(ws_json_text_(family, "source", place, &text, error));
    WS_TRY_(ws_json_text_(family, "verified", place, &text, error));
    return ws_architecture_check_optional_text_(family, "remarks", place, error);
}

/* ---- the file -------------------------------------------------------------------------------- */

static ws_status check_root(const cJSON *root, const ws_json_place *place,
                            ws_architecture_refusal *refusal, void *context, size_t *count,
                            ws_error *error) {
    static const char *const fields[] = {"architectures", NULL};
    const cJSON *families = NULL;
    WS_TRY_(ws_json_check_keys_(root, fields, place, error));
    WS_TRY_(ws_json_array_(root, "architectures", place, &families, error));
    size_t index = 0;
    const cJSON *family = NULL;
    cJSON_ArrayForEach(family, families) {
        const ws_json_place family_place =
            ws_json_place_of_(place, "family", family, "family", index);
        ws_error found = {WS_OK, -1, ""};
        if (check_family(families, family, &family_place, &found) != WS_OK) {
            refusal(context, index, &found);
        }
        ++index;
    }
    *count = index;
    return WS_OK;
}

ws_status ws_architectures_check(const char *text, size_t length, ws_architecture_refusal *refusal,
                                 void *context, size_t *count, ws_error *error) {
    static const ws_json_place place = {"architectures.json"};
    cJSON *root = NULL;
    *count = 0;
    WS_TRY_(ws_json_parse_(text, length, WS_JSON_NESTING, &place, &root, error));
    const ws_status status = check_root(root, &place, refusal, context, count, error);
    cJSON_Delete(root);
    return status;
}
