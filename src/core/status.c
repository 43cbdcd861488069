/* Statuses and error details: names, and filling a ws_error with a whole sentence. */
#include "wavespeed/status.h"

#include "core/status_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *ws_status_name(ws_status status) {
    switch (status) {
        case WS_OK:
            return "WS_OK";
        case WS_ERROR_RANGE:
            return "WS_ERROR_RANGE";
        case WS_ERROR_JSON:
            return "WS_ERROR_JSON";
        case WS_ERROR_LIMIT:
            return "WS_ERROR_LIMIT";
        case WS_ERROR_NO_MEMORY:
            return "WS_ERROR_NO_MEMORY";
        case WS_ERROR_LIBRARY:
            return "WS_ERROR_LIBRARY";
    }
    return "unknown status";
}

/* Bytes that the UTF-8 sequence beginning with `lead` needs; 1 for what is no lead byte. */
static size_t sequence_length(unsigned char lead) {
    if (lead >= 0xF0) {
        return 4;
    }
    if (lead >= 0xE0) {
        return 3;
    }
    return lead >= 0xC0 ? 2 : 1;
}

/* Drops the last character of a cut text if some of its bytes are missing. */
static void drop_partial_character(char *text, size_t length) {
    const size_t longest = length < 4 ? length : 4;
    for (size_t back = 1; back <= longest; ++back) {
        const unsigned char byte = (unsigned char)text[length - back];
        const int is_continuation = (byte & 0xC0) == 0x80;
        if (!is_continuation) {
            if (sequence_length(byte) > back) {
                text[length - back] = '\0';
            }
            return;
        }
    }
}

static void format_list(char *text, size_t size, const char *format, va_list arguments)
    WS_PRINTF(3, 0);

static void format_list(char *text, size_t size, const char *format, va_list arguments) {
    const int length = vsnprintf(text, size, format, arguments);
    if (length < 0) {
        text[0] = '\0';
    } else if ((size_t)length >= size) {
        drop_partial_character(text, size - 1);
    }
}

void ws_format_(char *text, size_t size, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    format_list(text, size, format, arguments);
    va_end(arguments);
}

ws_status ws_fail(ws_error *error, ws_status code, const char *format, ...) {
    if (error != NULL) {
        error->code = code;
        error->offset = -1;
        va_list arguments;
        va_start(arguments, format);
        format_list(error->text, sizeof(error->text), format, arguments);
        va_end(arguments);
    }
    return code;
}

ws_status ws_fail_at(ws_error *error, ws_status code, int64_t offset, const char *format, ...) {
    if (error != NULL) {
        error->code = code;
        error->offset = offset;
        va_list arguments;
        va_start(arguments, format);
        format_list(error->text, sizeof(error->text), format, arguments);
        va_end(arguments);
    }
    return code;
}

ws_number_text ws_number_text_(double value) {
    if (isnan(value)) { /* printf may call it "-nan" */
        return (ws_number_text){"not a number"};
    }
    ws_number_text result = {""};
    const int always_exact = 17; /* significant digits that identify any double */
    for (int digits = 6; digits <= always_exact; ++digits) {
        (void)snprintf(result.text, sizeof(result.text), "%.*g", digits, value);
        const double read_back = strtod(result.text, NULL);
        if (read_back == value) {
            break;
        }
    }
    return result;
}
