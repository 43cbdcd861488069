/* The table of model families, architectures.json: facts about models, checked once when the pack loads. */
#ifndef WAVESPEED_ARCHITECTURE_H
#define WAVESPEED_ARCHITECTURE_H

#include "wavespeed/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Checks the whole text: the shape of every descriptor, known field names only, names that refer to each other
 * (main and returns name a hidden argument, no class is described twice). WS_ERROR_JSON names the family and the
 * field. The fields are described in docs/architectures.md. *count receives the number of families; may be NULL. */
ws_status ws_architectures_check(const char *text, size_t length, size_t *count, ws_error *error);

#ifdef __cplusplus
}
#endif

#endif
