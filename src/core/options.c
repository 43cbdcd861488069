/* Limits of the cache's options, and the sentences that a user reads when a value is outside. */
#include "wavespeed/options.h"

#include "core/status_internal.h"

#include <inttypes.h>
#include <stddef.h>

static ws_status check_share(const char *name, double value, ws_error *error) {
    if (!(value >= 0.0 && value <= 1.0)) { /* also NaN */
        return ws_fail(error, WS_ERROR_RANGE, "%s is %s; it must be between 0 and 1.", name,
                       ws_number_text_(value).text);
    }
    return WS_OK;
}

static bool is_speedup(double value) {
    return value >= 1.0 && value <= 10.0; /* false for NaN */
}

ws_status ws_cache_options_check(const ws_cache_options *options, ws_error *error) {
    const struct {
        const char *name;
        double value;
    } shares[] = {
        /* in the order of the widgets: the first one that is wrong is reported */
        {"residual_diff_threshold", options->residual_diff_threshold},
        {"start", options->start},
        {"end", options->end},
    };
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); ++i) {
        WS_TRY_(check_share(shares[i].name, shares[i].value, error));
    }
    if (options->max_consecutive_cache_hits < -1) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "max_consecutive_cache_hits is %" PRId64
                       "; it must be -1 (no limit) or more.",
                       options->max_consecutive_cache_hits);
    }
    const double speedup = options->speedup;
    if (speedup != 0.0 && !is_speedup(speedup)) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "speedup is %s; it must be between 1 and 10, or 0 to let the threshold decide.",
                       ws_number_text_(speedup).text);
    }
    return WS_OK;
}

ws_status ws_speedup_check(double speedup, ws_error *error) {
    if (!is_speedup(speedup)) {
        return ws_fail(error, WS_ERROR_RANGE, "speedup is %s; it must be between 1 and 10.",
                       ws_number_text_(speedup).text);
    }
    return WS_OK;
}

bool ws_cache_options_enabled(const ws_cache_options *options) {
    const bool wanted = options->residual_diff_threshold > 0.0 || options->speedup > 0.0;
    return wanted && options->max_consecutive_cache_hits != 0;
}
