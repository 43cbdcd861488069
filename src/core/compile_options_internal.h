/* The options of torch._inductor.config that a workflow may set: the table, and what a file adds. Private to src/core. */
#ifndef WAVESPEED_COMPILE_OPTIONS_INTERNAL_H
#define WAVESPEED_COMPILE_OPTIONS_INTERNAL_H

#include "wavespeed/compile_request.h"

#define WS_COMPILE_FILE "wavespeed_compile.json" /* in ComfyUI's user folder; opened by Python */

enum { WS_COMPILE_WORDS_MAX = 16 }; /* of one option in the file */

typedef struct ws_option_entry {
    const char *name;
    ws_compile_kind kind;
    int64_t minimum, maximum;  /* of an integer */
    const char *const *words;  /* NULL-terminated; of words */
} ws_option_entry;

extern const ws_option_entry ws_option_table_[]; /* sorted by name */
extern const size_t ws_option_table_size_;

struct ws_compile_allowed {
    void *text; /* the parsed JSON, which names and words belong to */
    size_t count;
    ws_option_entry entries[WS_COMPILE_ALLOWED_MAX];
    const char *words[WS_COMPILE_ALLOWED_MAX][WS_COMPILE_WORDS_MAX + 1]; /* NULL-terminated, of an entry each */
};

/* Positions go through the table and on through what the file allows (which may be NULL); -1 for a name in neither. */
int ws_option_find_(const ws_compile_allowed *allowed, const char *name);
const ws_option_entry *ws_option_at_(const ws_compile_allowed *allowed, size_t position);

/* The name in the NULL-terminated list, or in the table when the list is NULL, that needs the fewest changed letters. */
const char *ws_nearest_name_(const char *name, const char *const *list);

/* Half a sentence: why a name that is not in the table is refused. */
const char *ws_option_refusal_(const char *name);

#endif
