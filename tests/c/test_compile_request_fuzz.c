/* Arbitrary bytes as options, and as the file that allows further ones: never a crash, and what is accepted is within the
 * table.
 *
 * With clang this file is a libFuzzer target:
 *     clang -g -fsanitize=fuzzer,address,undefined -DWAVESPEED_LIBFUZZER -Iinclude -Isrc -I<cJSON> \
 *         tests/c/test_compile_request_fuzz.c src/core/compile_*.c src/core/json.c src/core/status.c -lcjson -lm
 * Everywhere else it replays a fixed series of broken requests. */
#include "wavespeed/compile_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_file(const uint8_t *data, size_t size) {
    static const char options[] = "{\"freezing\": true}";
    const ws_compile_inputs inputs = {"", "inductor", "", options, sizeof(options) - 1, false, false};
    ws_compile_allowed *allowed = NULL;
    ws_compile_request request;
    ws_error error = {WS_OK, -1, ""};
    if (ws_compile_allowed_read((const char *)data, size, &allowed, &error) != WS_OK) {
        if (error.text[0] == '\0' || allowed != NULL) {
            abort();
        }
        return;
    }
    (void)ws_compile_request_read(&inputs, allowed, &request, &error);
    ws_compile_allowed_free(allowed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    as_file(data, size);
    const ws_compile_inputs inputs = {"", "inductor", "max-autotune", (const char *)data, size, false, true};
    ws_compile_request request;
    ws_error error = {WS_OK, -1, ""};
    const ws_status status = ws_compile_request_read(&inputs, NULL, &request, &error);
    if (status != WS_OK) {
        if (error.text[0] == '\0' || memchr(error.text, 0, sizeof(error.text)) == NULL) {
            abort(); /* a refusal without a sentence */
        }
        return 0;
    }
    for (size_t i = 0; i < ws_compile_option_count(NULL); ++i) {
        const ws_compile_option option = ws_compile_option_get(NULL, &request, i);
        if (option.kind == WS_COMPILE_BOOLEAN && (option.value < 0 || option.value > 1)) {
            abort();
        }
        if ((option.kind == WS_COMPILE_WORD || option.kind == WS_COMPILE_WORDS) && option.given && option.text[0] == '\0') {
            abort();
        }
    }
    return 0;
}

#ifndef WAVESPEED_LIBFUZZER

enum { ROUNDS = 100000, LONGEST = 256 };

static const char *const seeds[] = {
    "{\"max_autotune\": true, \"compile_threads\": 4}",
    "{\"max_autotune_gemm_backends\": \"ATEN,TRITON\", \"triton.max_tiles\": 2}",
    "{\"cpp.cxx\": [\"sh\"], \"a\": {\"b\": null}}",
    "{\"mixed_mm_choice\": \"heuristic\", \"max-fusion-size\": 1e3}",
    "{\"\\ud83d\\ude00\\u0041\": -0.0}",
    ("{\"options\": [{\"name\": \"freezing\", \"type\": \"boolean\"}, "
     "{\"name\": \"a.b\", \"type\": \"integer\", \"minimum\": -1, \"maximum\": 9}]}"),
    "{\"options\": [{\"name\": \"freezing\", \"type\": \"word\", \"words\": [\"a\", \"b\"]}]}",
    "",
};

static uint32_t next_number(uint32_t *state) { /* xorshift32, Marsaglia 2003 */
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

int main(void) {
    static const char inserted[] = "{}[]\",:\\u0 tfn-+.eE19\x01\xff";
    uint32_t state = 1;
    for (int round = 0; round < ROUNDS; ++round) {
        const char *const seed = seeds[(size_t)round % (sizeof(seeds) / sizeof(seeds[0]))];
        size_t size = strlen(seed);
        uint8_t text[LONGEST];
        memcpy(text, seed, size);
        for (uint32_t changes = next_number(&state) % 6; changes > 0 && size > 0; --changes) {
            const size_t at = next_number(&state) % size;
            switch (next_number(&state) % 3) {
                case 0:
                    text[at] = (uint8_t)inserted[next_number(&state) % (sizeof(inserted) - 1)];
                    break;
                case 1:
                    size = at;
                    break;
                default: {
                    const size_t from = next_number(&state) % size;
                    const size_t span = (size - from) / 2;
                    if (size + span <= LONGEST) {
                        memmove(text + from + span, text + from, size - from);
                        size += span;
                    }
                }
            }
        }
        uint8_t *const exact = malloc(size > 0 ? size : 1); /* the sanitizer sees a read past the end */
        if (exact == NULL) {
            return 1;
        }
        memcpy(exact, text, size);
        (void)LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%d broken requests, no crash\n", ROUNDS);
    return 0;
}

#endif
