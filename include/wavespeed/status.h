/* Statuses and error details: the one way the core says that something went wrong.
 *
 * Every function that can fail returns a ws_status and writes the details to a ws_error the caller owns.
 * The core never prints, never aborts and keeps no error state of its own, so it is safe in any thread. */
#ifndef WAVESPEED_STATUS_H
#define WAVESPEED_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WS_PRINTF(format_index, first_argument) \
    __attribute__((format(printf, format_index, first_argument)))
#else
#define WS_PRINTF(format_index, first_argument)
#endif

typedef enum ws_status {
    WS_OK = 0,
    WS_ERROR_RANGE,     /* a number outside its limits */
    WS_ERROR_JSON,      /* text that is not JSON, or JSON of the wrong shape */
    WS_ERROR_LIMIT,     /* more of something than a fixed table holds */
    WS_ERROR_NO_MEMORY, /* malloc failed */
    WS_ERROR_LIBRARY    /* a shared library that does not load or does not fit */
} ws_status;

enum { WS_ERROR_TEXT_SIZE = 512 };

/* text: a whole sentence with the value and the limit, UTF-8, always terminated.
 * offset: byte position in the parsed text where it stops being JSON, else -1 (also for JSON of the wrong shape). */
typedef struct ws_error {
    ws_status code;
    int64_t offset;
    char text[WS_ERROR_TEXT_SIZE];
} ws_error;

/* A constant such as "WS_ERROR_RANGE"; "unknown status" for a value outside the enumeration. */
const char *ws_status_name(ws_status status);

/* Fills *error (which may be NULL) and returns code, so that a caller can write `return ws_fail(...)`.
 * A text that does not fit is cut at a UTF-8 character boundary. */
ws_status ws_fail(ws_error *error, ws_status code, const char *format, ...) WS_PRINTF(3, 4);

/* The same with the byte offset at which a text stops making sense. */
ws_status ws_fail_at(ws_error *error, ws_status code, int64_t offset, const char *format, ...)
    WS_PRINTF(4, 5);

#ifdef __cplusplus
}
#endif

#endif
