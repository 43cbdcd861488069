/* Texts for the tests of the data files: the real ones, and broken variants of them. */
#ifndef WAVESPEED_TESTS_SOURCE_TEXT_H
#define WAVESPEED_TESTS_SOURCE_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The whole file, terminated; path from the root of the repository. The caller frees it. */
static inline char *read_source(const char *path) {
    char full[4096];
    (void)snprintf(full, sizeof(full), "%s/%s", WAVESPEED_SOURCE_DIR, path);
    FILE *const file = fopen(full, "rb");
    assert_non_null(file);
    const size_t room = 1 << 20;
    char *const text = malloc(room + 1);
    assert_non_null(text);
    const size_t length = fread(text, 1, room, file);
    assert_true(length > 0 && length < room);
    text[length] = '\0';
    (void)fclose(file);
    return text;
}

/* Exactly these bytes on the heap, so that the sanitizer sees a read past the end. The caller frees
 * it. */
static inline char *exact_copy(const char *text, size_t length) {
    char *const copy = malloc(length > 0 ? length : 1);
    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

/* A copy of the text with the first occurrence of `old` replaced. The caller frees it. */
static inline char *replaced(const char *text, const char *old, const char *by) {
    const char *const found = strstr(text, old);
    if (found == NULL) {
        fail_msg("the text does not contain %s", old);
        abort(); /* for the compiler: fail_msg does not return */
    }
    const size_t before = (size_t)(found - text);
    char *const result = malloc(strlen(text) + strlen(by) + 1);
    assert_non_null(result);
    memcpy(result, text, before);
    strcpy(result + before, by);
    strcat(result, found + strlen(old));
    return result;
}

#endif
