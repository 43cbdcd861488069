/* The numbers a user types on the cache nodes: limits and messages. */
#ifndef WAVESPEED_OPTIONS_H
#define WAVESPEED_OPTIONS_H

#include "wavespeed/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Names and meaning as in Comfy-WaveSpeed (fbcache_nodes.py), because saved workflows carry them. */
typedef struct ws_cache_options {
    double residual_diff_threshold;      /* 0 to 1; 0 switches the cache off */
    double start;                        /* share of the sampling schedule, 0 to 1 */
    double end;                          /* share of the sampling schedule, 0 to 1 */
    int64_t max_consecutive_cache_hits;  /* -1 = no limit, 0 switches the cache off */
    double speedup;                      /* ours: 1 to 10 evaluations per computed one; 0: the threshold decides */
} ws_cache_options;

/* WS_ERROR_RANGE with a sentence that names the input, its value and its limits; NaN and infinity are out of range. */
ws_status ws_cache_options_check(const ws_cache_options *options, ws_error *error);

/* The same for the node without a threshold: 0 is refused. */
ws_status ws_speedup_check(double speedup, ws_error *error);

/* False when the options ask for no caching at all (no hits allowed, or threshold 0 and no speedup). */
bool ws_cache_options_enabled(const ws_cache_options *options);

#ifdef __cplusplus
}
#endif

#endif
