/* The table of model families, architectures.json: facts about models, checked once when the pack loads. */
#ifndef WAVESPEED_ARCHITECTURE_H
#define WAVESPEED_ARCHITECTURE_H

#include "wavespeed/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Told about a family whose descriptor has a mistake. index: its place in the file, from 0. error: names the family and
 * the field; it lives for the call only. */
typedef void ws_architecture_refusal(void *context, size_t index, const ws_error *error);

/* Checks the whole text: the shape of every descriptor, known field names only, names that refer to each other (main and
 * returns name a hidden argument, no class is described twice). The fields are described in docs/architectures.md. A
 * mistake in one family is told to `refusal` and does not touch the others; WS_ERROR_JSON is for a text that is no table
 * at all. *count receives the number of families, refused ones included. */
ws_status ws_architectures_check(const char *text, size_t length, ws_architecture_refusal *refusal, void *context,
                                 size_t *count, ws_error *error);

#ifdef __cplusplus
}
#endif

#endif
