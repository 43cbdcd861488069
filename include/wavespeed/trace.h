/* Traces: what the first block and the trunk did in every evaluation of a full run, as bytes, for policies to be run on
 * without the model.
 *
 * The bytes, little-endian, every number on a multiple of 4 bytes from the beginning:
 *     begin   "WSTRACE1", uint32 byte order mark 0x01020304, uint32 n, then the schedule: n doubles
 *     call    "CALL", uint32 conds, int64 evaluation (from 1), then 10 doubles: the ws_measurement of the whole tensors,
 *             in its order; then per cond:
 *                 int64 cond_index, uint64 uuid_high, uuid_low, window, fingerprint: the ws_key
 *                 uint64 elements of the probe, uint64 of the residual, uint32 p, uint32 r, p + r floats: their sketches
 *     end     "END ", uint32 0, int64 number of calls
 * A sketch holds some of a tensor's elements, always the same ones, in order. Nothing here reads or writes files. */
#ifndef WAVESPEED_TRACE_H
#define WAVESPEED_TRACE_H

#include "wavespeed/session.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WS_TRACE_SKETCH = 1 << 16,  /* floats of one sketch at most */
    WS_TRACE_SCHEDULE = 1 << 16 /* sigmas of a schedule at most */
};

/* A sketch inside the bytes of a trace, or to be written. */
typedef struct ws_sketch {
    uint64_t elements; /* of the whole tensor */
    uint32_t n;
    const float *values;
} ws_sketch;

typedef struct ws_trace_call {
    int64_t evaluation;
    size_t conds;
    ws_measurement measurement;
    ws_key key[WS_CALL_CONDS];
    ws_sketch probe[WS_CALL_CONDS];
    ws_sketch residual[WS_CALL_CONDS];
} ws_trace_call;

/* Writing. Each returns how many bytes its part takes and writes them when out is not NULL. */
size_t ws_trace_write_begin(void *out, const double *schedule, uint32_t n);
size_t ws_trace_write_call(void *out, const ws_trace_call *call);
size_t ws_trace_write_end(void *out, int64_t calls);

/* A trace whose bytes have been checked from the first to the last. They belong to the caller and must stay. */
typedef struct ws_trace {
    const unsigned char *bytes;
    size_t size;
    size_t first; /* offset of the first call */
    uint32_t schedule_length;
    int64_t calls;
    int64_t evaluations;
} ws_trace;

/* bytes: on a multiple of 8. WS_ERROR_RANGE with the reason when they are no trace, end too early or go on behind the
 * end. */
ws_status ws_trace_read(const void *bytes, size_t size, ws_trace *out, ws_error *error);

void ws_trace_schedule(const ws_trace *trace, double *out); /* schedule_length doubles */

/* offset: trace->first for the first call; returns that of the next one, or 0 behind the last, then *out is as it was. */
size_t ws_trace_next(const ws_trace *trace, size_t offset, ws_trace_call *out);

/* ---- replay ---------------------------------------------------------------------------------------------- */

/* What a policy does with one evaluation of a trace. */
typedef struct ws_replayed {
    double sigma;
    bool computed;
    double predicted; /* relative change of the residual that the policy expects; NaN where nothing was compared */
    double actual;    /* sum |its residual - true residual| / sum |true residual| over the sketches; 0 where computed */
} ws_replayed;

/* Runs the session of these settings on a trace, all sums taken from the sketches; the schedule is the trace's. The path
 * is that of the full run, whatever is left out. out: trace->evaluations of them. WS_ERROR_NO_MEMORY, or as
 * ws_session_create. */
ws_status ws_trace_replay(const ws_trace *trace, const ws_session_settings *settings, ws_replayed *out, ws_error *error);

#ifdef __cplusplus
}
#endif

#endif
