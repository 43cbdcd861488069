/* Typed, strict access to JSON text: thin functions over cJSON for the files that ship with the
 * pack. Private to src/core.
 *
 * `place` says where a value stands, e.g. `nodes.json, node "A", input "b"`; every message begins
 * with it. All functions return WS_ERROR_JSON (or WS_ERROR_NO_MEMORY) with a sentence, and leave
 * *out alone then. */
#ifndef WAVESPEED_JSON_INTERNAL_H
#define WAVESPEED_JSON_INTERNAL_H

#include "wavespeed/status.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    WS_JSON_NESTING = 16,    /* levels of arrays and objects */
    WS_JSON_PLACE_SIZE = 256 /* longer places are cut */
};

typedef struct ws_json_place {
    char text[WS_JSON_PLACE_SIZE];
} ws_json_place;

/* A place inside another: `outer, word "name"` where the item has a text under name_key, else
 * `outer, word 3`, counted from 1. By value: outer is still needed. */
ws_json_place ws_json_place_of_(const ws_json_place *outer, const char *word, const cJSON *item,
                                const char *name_key, size_t index);

/* The whole text is one object of at most `nesting` levels, WS_JSON_NESTING if nothing speaks for fewer. *out belongs to
 * the caller: cJSON_Delete. */
ws_status ws_json_parse_(const char *text, size_t length, int nesting, const ws_json_place *place,
                         cJSON **out, ws_error *error);

/* item is an object, has no key twice and none that is not in the NULL-terminated list (at most
 * 32). The getters below are for objects that passed. */
ws_status ws_json_check_keys_(const cJSON *item, const char *const *allowed,
                              const ws_json_place *place, ws_error *error);

bool ws_json_has_(const cJSON *object, const char *key);

/* Required fields. Strings belong to the object; a text is a string that is not empty; numbers are
 * finite. */
ws_status ws_json_string_(const cJSON *object, const char *key, const ws_json_place *place,
                          const char **out, ws_error *error);
ws_status ws_json_text_(const cJSON *object, const char *key, const ws_json_place *place,
                        const char **out, ws_error *error);
ws_status ws_json_number_(const cJSON *object, const char *key, const ws_json_place *place,
                          double *out, ws_error *error);
ws_status ws_json_boolean_(const cJSON *object, const char *key, const ws_json_place *place,
                           bool *out, ws_error *error);
ws_status ws_json_array_(const cJSON *object, const char *key, const ws_json_place *place,
                         const cJSON **out, ws_error *error);

/* A required array of one or more different texts. */
ws_status ws_json_texts_(const cJSON *object, const char *key, const ws_json_place *place,
                         const cJSON **out, ws_error *error);

#endif
