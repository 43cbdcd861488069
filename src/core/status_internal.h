/* Help for functions that return a ws_status and compose sentences. Private to src/core. */
#ifndef WAVESPEED_STATUS_INTERNAL_H
#define WAVESPEED_STATUS_INTERNAL_H

#include "wavespeed/status.h"

#include <stddef.h>

/* Leaves the function with the status of the expression unless it is WS_OK. */
#define WS_TRY_(expression)                                                                        \
    do {                                                                                           \
        const ws_status status_ = (expression);                                                    \
        if (status_ != WS_OK) {                                                                    \
            return status_;                                                                        \
        }                                                                                          \
    } while (0)

/* snprintf that cuts a text which does not fit at a UTF-8 character boundary. */
void ws_format_(char *text, size_t size, const char *format, ...) WS_PRINTF(3, 4);

typedef struct ws_number_text {
    char text[32];
} ws_number_text;

/* The fewest digits that read back as the same double, so that a message never shows a value just
 * outside a limit as the limit itself; "not a number" for NaN. By value: `ws_number_text_(x).text`
 * lives as long as the call it is an argument of. */
ws_number_text ws_number_text_(double value);

#endif
