/* What the files that check architectures.json share. Private to src/core. */
#ifndef WAVESPEED_ARCHITECTURE_INTERNAL_H
#define WAVESPEED_ARCHITECTURE_INTERNAL_H

#include "core/json_internal.h"

/* names: a string or an array, of which only the strings count. */
bool ws_architecture_names_(const cJSON *names, const char *name);

/* Fields that may be absent. choices: NULL-terminated. */
ws_status ws_architecture_check_optional_text_(const cJSON *object, const char *key,
                                               const ws_json_place *place, ws_error *error);
ws_status ws_architecture_check_optional_choice_(const cJSON *object, const char *key,
                                                 const char *const *choices,
                                                 const ws_json_place *place, ws_error *error);

/* architecture_stage.c */
ws_status ws_architecture_check_stage_(const cJSON *stage, const ws_json_place *place,
                                       ws_error *error);

#endif
