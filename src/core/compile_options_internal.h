/* The table of options of torch._inductor.config that a workflow may set. Private to src/core. */
#ifndef WAVESPEED_COMPILE_OPTIONS_INTERNAL_H
#define WAVESPEED_COMPILE_OPTIONS_INTERNAL_H

#include "wavespeed/compile_request.h"

typedef struct ws_option_entry {
    const char *name;
    ws_compile_kind kind;
    int64_t minimum, maximum;  /* of an integer */
    const char *const *words;  /* NULL-terminated; of words */
} ws_option_entry;

extern const ws_option_entry ws_option_table_[]; /* sorted by name */
extern const size_t ws_option_table_size_;

/* Position in the table; -1 for a name that is not in it. */
int ws_option_find_(const char *name);

/* The name in the NULL-terminated list, or in the table when the list is NULL, that needs the fewest changed letters. */
const char *ws_nearest_name_(const char *name, const char *const *list);

/* Half a sentence: why a name that is not in the table is refused. */
const char *ws_option_refusal_(const char *name);

#endif
