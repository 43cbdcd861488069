/* Traces as bytes: written part by part, and checked as a whole before anything is read from them. */
#include "wavespeed/trace.h"

#include "core/status_internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char magic[8] = {'W', 'S', 'T', 'R', 'A', 'C', 'E', '1'};
static const char call_mark[4] = {'C', 'A', 'L', 'L'};
static const char end_mark[4] = {'E', 'N', 'D', ' '};
static const uint32_t byte_order = 0x01020304U;

enum { MEASUREMENT_DOUBLES = sizeof(ws_measurement) / sizeof(double) };
_Static_assert(MEASUREMENT_DOUBLES == 10, "the layout in trace.h says 10 doubles");

/* ---- writing --------------------------------------------------------------------------------------------- */

typedef struct output {
    unsigned char *bytes; /* NULL: only counted */
    size_t size;
} output;

static void put(output *to, const void *from, size_t size) {
    if (to->bytes != NULL && size > 0) {
        memcpy(to->bytes + to->size, from, size);
    }
    to->size += size;
}

size_t ws_trace_write_begin(void *out, const double *schedule, uint32_t n) {
    output to = {out, 0};
    put(&to, magic, sizeof(magic));
    put(&to, &byte_order, sizeof(byte_order));
    put(&to, &n, sizeof(n));
    put(&to, schedule, n * sizeof(*schedule));
    return to.size;
}

static void put_cond(output *to, const ws_key *key, const ws_sketch *probe, const ws_sketch *residual) {
    put(to, &key->cond_index, sizeof(key->cond_index));
    put(to, &key->uuid_high, sizeof(key->uuid_high));
    put(to, &key->uuid_low, sizeof(key->uuid_low));
    put(to, &key->window, sizeof(key->window));
    put(to, &key->fingerprint, sizeof(key->fingerprint));
    put(to, &probe->elements, sizeof(probe->elements));
    put(to, &residual->elements, sizeof(residual->elements));
    put(to, &probe->n, sizeof(probe->n));
    put(to, &residual->n, sizeof(residual->n));
    put(to, probe->values, probe->n * sizeof(float));
    put(to, residual->values, residual->n * sizeof(float));
}

size_t ws_trace_write_call(void *out, const ws_trace_call *call) {
    output to = {out, 0};
    const uint32_t conds = (uint32_t)call->conds;
    put(&to, call_mark, sizeof(call_mark));
    put(&to, &conds, sizeof(conds));
    put(&to, &call->evaluation, sizeof(call->evaluation));
    put(&to, &call->measurement, sizeof(call->measurement));
    for (size_t i = 0; i < call->conds; ++i) {
        put_cond(&to, &call->key[i], &call->probe[i], &call->residual[i]);
    }
    return to.size;
}

size_t ws_trace_write_end(void *out, int64_t calls) {
    output to = {out, 0};
    const uint32_t nothing = 0;
    put(&to, end_mark, sizeof(end_mark));
    put(&to, &nothing, sizeof(nothing));
    put(&to, &calls, sizeof(calls));
    return to.size;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

typedef struct input {
    const unsigned char *bytes;
    size_t size, offset;
} input;

static bool take(input *from, void *to, size_t size) {
    if (from->size - from->offset < size) {
        return false;
    }
    memcpy(to, from->bytes + from->offset, size);
    from->offset += size;
    return true;
}

/* The sketch's own values stay where they are. */
static bool take_sketch(input *from, ws_sketch *sketch) {
    if ((from->size - from->offset) / sizeof(float) < sketch->n) {
        return false;
    }
    sketch->values = (const float *)(const void *)(from->bytes + from->offset);
    from->offset += sketch->n * sizeof(float);
    return true;
}

static bool take_cond(input *from, ws_key *key, ws_sketch *probe, ws_sketch *residual) {
    return take(from, &key->cond_index, sizeof(key->cond_index)) && take(from, &key->uuid_high, sizeof(key->uuid_high)) &&
           take(from, &key->uuid_low, sizeof(key->uuid_low)) && take(from, &key->window, sizeof(key->window)) &&
           take(from, &key->fingerprint, sizeof(key->fingerprint)) &&
           take(from, &probe->elements, sizeof(probe->elements)) &&
           take(from, &residual->elements, sizeof(residual->elements)) && take(from, &probe->n, sizeof(probe->n)) &&
           take(from, &residual->n, sizeof(residual->n)) && probe->n <= WS_TRACE_SKETCH && residual->n <= WS_TRACE_SKETCH &&
           take_sketch(from, probe) && take_sketch(from, residual);
}

/* What follows the mark of a call. False where the bytes end, or where its numbers are outside their limits. */
static bool take_call(input *from, ws_trace_call *out) {
    uint32_t conds = 0;
    if (!take(from, &conds, sizeof(conds)) || conds < 1 || conds > WS_CALL_CONDS ||
        !take(from, &out->evaluation, sizeof(out->evaluation)) || !take(from, &out->measurement, sizeof(out->measurement))) {
        return false;
    }
    out->conds = conds;
    for (size_t i = 0; i < conds; ++i) {
        if (!take_cond(from, &out->key[i], &out->probe[i], &out->residual[i])) {
            return false;
        }
    }
    return true;
}

static ws_status read_begin(input *from, ws_trace *out, ws_error *error) {
    char found[sizeof(magic)];
    uint32_t order = 0;
    if (!take(from, found, sizeof(found)) || memcmp(found, magic, sizeof(magic)) != 0) {
        return ws_fail(error, WS_ERROR_RANGE, "This is no trace: it does not begin with WSTRACE1.");
    }
    if (!take(from, &order, sizeof(order)) || !take(from, &out->schedule_length, sizeof(out->schedule_length))) {
        return ws_fail(error, WS_ERROR_RANGE, "The trace is cut off: it ends after %zu bytes, before its schedule.",
                       from->size);
    }
    if (order != byte_order) {
        return ws_fail(error, WS_ERROR_RANGE, "The trace was written with another byte order than this machine's.");
    }
    if (out->schedule_length > WS_TRACE_SCHEDULE) {
        return ws_fail(error, WS_ERROR_LIMIT, "The trace has a schedule of %" PRIu32 " sigmas; at most %d can be read.",
                       out->schedule_length, WS_TRACE_SCHEDULE);
    }
    for (uint32_t i = 0; i < out->schedule_length; ++i) {
        double sigma = 0.0;
        if (!take(from, &sigma, sizeof(sigma))) {
            return ws_fail(error, WS_ERROR_RANGE, "The trace is cut off: it ends after %zu bytes, in its schedule.",
                           from->size);
        }
        if (!isfinite(sigma)) {
            return ws_fail(error, WS_ERROR_RANGE, "Sigma %" PRIu32 " of the trace's schedule is %s.", i,
                           ws_number_text_(sigma).text);
        }
    }
    return WS_OK;
}

static ws_status read_end(input *from, const ws_trace *found, ws_error *error) {
    uint32_t nothing = 0;
    int64_t calls = 0;
    if (!take(from, &nothing, sizeof(nothing)) || !take(from, &calls, sizeof(calls))) {
        return ws_fail(error, WS_ERROR_RANGE, "The trace is cut off: it ends after %zu bytes, in its last line.",
                       from->size);
    }
    if (calls != found->calls) {
        return ws_fail(error, WS_ERROR_RANGE, "The trace says that it has %" PRId64 " calls, and has %" PRId64 ".", calls,
                       found->calls);
    }
    if (from->offset != from->size) {
        return ws_fail(error, WS_ERROR_RANGE, "The trace goes on for %zu bytes behind its end.", from->size - from->offset);
    }
    return WS_OK;
}

/* Counts the call; evaluations are numbered without gaps. */
static ws_status check_call(const ws_trace_call *call, ws_trace *out, ws_error *error) {
    ++out->calls;
    const bool follows =
        call->evaluation == out->evaluations + 1 || (call->evaluation == out->evaluations && out->calls > 1);
    if (!follows) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "Call %" PRId64 " of the trace belongs to evaluation %" PRId64 ", after %" PRId64 ".",
                       out->calls, call->evaluation, out->evaluations);
    }
    if (!isfinite(call->measurement.sigma)) {
        return ws_fail(error, WS_ERROR_RANGE, "The sigma of call %" PRId64 " of the trace is %s.", out->calls,
                       ws_number_text_(call->measurement.sigma).text);
    }
    out->evaluations = call->evaluation;
    return WS_OK;
}

ws_status ws_trace_read(const void *bytes, size_t size, ws_trace *out, ws_error *error) {
    input from = {bytes, size, 0};
    *out = (ws_trace){.bytes = bytes, .size = size};
    WS_TRY_(read_begin(&from, out, error));
    out->first = from.offset;
    for (;;) {
        char mark[4];
        ws_trace_call call;
        const size_t begun = from.offset;
        if (!take(&from, mark, sizeof(mark))) {
            return ws_fail(error, WS_ERROR_RANGE, "The trace is cut off: it ends after %zu bytes, behind call %" PRId64 ".",
                           size, out->calls);
        }
        if (memcmp(mark, end_mark, sizeof(mark)) == 0) {
            return read_end(&from, out, error);
        }
        if (memcmp(mark, call_mark, sizeof(mark)) != 0) {
            return ws_fail(error, WS_ERROR_RANGE, "The trace is damaged at byte %zu: neither a call nor its end is there.",
                           begun);
        }
        if (!take_call(&from, &call)) {
            return ws_fail(error, WS_ERROR_RANGE,
                           "The trace is cut off or damaged in call %" PRId64 ", which begins at byte %zu of %zu.",
                           out->calls + 1, begun, size);
        }
        WS_TRY_(check_call(&call, out, error));
    }
}

void ws_trace_schedule(const ws_trace *trace, double *out) {
    const size_t size = trace->schedule_length * sizeof(double);
    memcpy(out, trace->bytes + trace->first - size, size);
}

size_t ws_trace_next(const ws_trace *trace, size_t offset, ws_trace_call *out) {
    input from = {trace->bytes, trace->size, offset};
    char mark[4];
    if (!take(&from, mark, sizeof(mark)) || memcmp(mark, call_mark, sizeof(mark)) != 0 || !take_call(&from, out)) {
        return 0;
    }
    return from.offset;
}
