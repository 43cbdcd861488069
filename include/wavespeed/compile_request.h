/* What a user types on the node "Compile Model+", checked and brought into one form.
 *
 * A workflow is data that people download, and torch takes options that name compilers, command lines, files and
 * functions. So nothing reaches torch that does not stand in the tables here: two names of compilers, four backends,
 * five modes, and the options of compile_options.c with their types and ranges. Whoever runs the machine may add options
 * to them in a file (compile_allowed.c). */
#ifndef WAVESPEED_COMPILE_REQUEST_H
#define WAVESPEED_COMPILE_REQUEST_H

#include "wavespeed/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WS_COMPILE_OPTIONS_SIZE_MAX = 64 * 1024, /* bytes of JSON text */
    WS_COMPILE_NESTING = 2,                  /* levels of JSON: the object, and a value that is refused by name */
    WS_COMPILE_OPTIONS_MAX = 128,            /* entries of the table and of the file together */
    WS_COMPILE_ALLOWED_MAX = 32,             /* entries of the file */
    WS_COMPILE_TEXT_SIZE = 64,               /* one value as text */
    WS_COMPILE_CANONICAL_SIZE = 8192
};

/* Further options that a workflow may set: what the file of whoever runs the machine allows. */
typedef struct ws_compile_allowed ws_compile_allowed;

/* The widgets as they are; texts are terminated, options need not be. */
typedef struct ws_compile_inputs {
    const char *compiler;
    const char *backend;
    const char *mode;
    const char *options;
    size_t options_length;
    bool fullgraph;
    bool dynamic;
} ws_compile_inputs;

typedef enum ws_compile_kind {
    WS_COMPILE_BOOLEAN, /* 0 or 1 */
    WS_COMPILE_INTEGER, /* within a range */
    WS_COMPILE_WORD,    /* one of a few words; the value is its position */
    WS_COMPILE_WORDS    /* some of a few words; bit i of the value stands for word i */
} ws_compile_kind;

/* Modes are expanded into options, because torch refuses a mode and options together; a typed option wins over the mode. */
typedef struct ws_compile_request {
    const char *backend; /* belongs to a table */
    bool fullgraph;
    bool dynamic;
    bool given[WS_COMPILE_OPTIONS_MAX]; /* by position in the table of options */
    int64_t value[WS_COMPILE_OPTIONS_MAX];
    char canonical[WS_COMPILE_CANONICAL_SIZE]; /* equal for two requests exactly if they ask for the same code */
} ws_compile_request;

typedef struct ws_compile_option {
    const char *name; /* as torch spells it */
    ws_compile_kind kind;
    bool given;
    int64_t value;
    char text[WS_COMPILE_TEXT_SIZE]; /* of words */
} ws_compile_option;

/* Reads the text of that file. *out belongs to the caller. */
ws_status ws_compile_allowed_read(const char *text, size_t length, ws_compile_allowed **out, ws_error *error);
void ws_compile_allowed_free(ws_compile_allowed *allowed); /* NULL is allowed */

/* WS_ERROR_JSON or WS_ERROR_RANGE with a sentence: what is refused, why, and the nearest thing that is allowed.
 * allowed: NULL where there is no file. */
ws_status ws_compile_request_read(const ws_compile_inputs *inputs, const ws_compile_allowed *allowed,
                                  ws_compile_request *out, ws_error *error);

/* The options that may be asked for: how many, and one of them with its value in a request (which may be NULL). */
size_t ws_compile_option_count(const ws_compile_allowed *allowed);
ws_compile_option ws_compile_option_get(const ws_compile_allowed *allowed, const ws_compile_request *request,
                                        size_t index);

#ifdef __cplusplus
}
#endif

#endif
