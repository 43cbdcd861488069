/* Replay: a session decides about the evaluations of a trace as it would about those of a model. */
#include "wavespeed/trace.h"

#include "core/status_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The session and, in the place of its owner's tensors, sketches inside the trace; per slot, newest first. */
typedef struct replay {
    ws_session *session;
    size_t history;
    ws_sketch probe[WS_SESSION_SLOTS][WS_HISTORY];
    ws_sketch residual[WS_SESSION_SLOTS][WS_HISTORY];
} replay;

/* A stored sketch that is `i` evaluations old, or the oldest there is: its difference to itself is zero. */
static const ws_sketch *point(const ws_sketch history[WS_HISTORY], size_t points, size_t i) {
    return &history[i < points ? i : points - 1];
}

static bool fits(const replay *state, const ws_call *call, const ws_trace_call *traced) {
    for (size_t i = 0; i < call->conds; ++i) {
        for (size_t j = 0; j < call->points; ++j) {
            if (state->probe[call->slot[i]][j].n != traced->probe[i].n ||
                state->residual[call->slot[i]][j].n != traced->residual[i].n) {
                return false;
            }
        }
    }
    return true;
}

/* Adds the sums of one cond, as ws_residual_moments forms them. */
static void measure(const replay *state, const ws_call *call, size_t cond, const ws_sketch *probe, ws_measurement *out) {
    const ws_sketch *const probes = state->probe[call->slot[cond]];
    const float *const s0 = point(probes, call->points, 0)->values;
    const float *const s1 = point(probes, call->points, 1)->values;
    const float *const s2 = point(probes, call->points, 2)->values;
    for (size_t k = 0; k < probe->n; ++k) {
        const double e = (double)probe->values[k] - (double)s0[k];
        const double d1 = (double)s0[k] - (double)s1[k];
        const double d2 = (double)s1[k] - (double)s2[k];
        out->difference_sum += fabs(e);
        out->reference_sum += fabs((double)s0[k]);
        out->ee += e * e;
        out->ed1 += e * d1;
        out->ed2 += e * d2;
        out->d1d1 += d1 * d1;
        out->d1d2 += d1 * d2;
        out->d2d2 += d2 * d2;
    }
    for (size_t j = 0; j < call->points; ++j) {
        const ws_sketch *const stored = &state->residual[call->slot[cond]][j];
        for (size_t k = 0; k < stored->n; ++k) {
            out->residual_sum += fabs((double)stored->values[k]);
        }
    }
}

/* sum |residual in the place of the true one - true one| and sum |true one| of one cond. */
static void compare(const replay *state, const ws_call *call, size_t cond, const ws_sketch *truth, double *error,
                    double *size) {
    const ws_sketch *const stored = state->residual[call->slot[cond]];
    for (size_t k = 0; k < truth->n; ++k) {
        double forecast = 0.0;
        for (size_t j = 0; j < state->history; ++j) {
            forecast += (double)call->coefficient[j] * (double)point(stored, call->points, j)->values[k];
        }
        *error += fabs(forecast - (double)truth->values[k]);
        *size += fabs((double)truth->values[k]);
    }
}

static void store(replay *state, const ws_call *call, const ws_trace_call *traced) {
    for (size_t i = 0; i < call->conds; ++i) {
        ws_sketch *const probe = state->probe[call->slot[i]];
        ws_sketch *const residual = state->residual[call->slot[i]];
        memmove(&probe[1], &probe[0], (WS_HISTORY - 1) * sizeof(*probe));
        memmove(&residual[1], &residual[0], (WS_HISTORY - 1) * sizeof(*residual));
        probe[0] = traced->probe[i];
        residual[0] = traced->residual[i];
    }
}

/* error, size: of the evaluation so far, over its calls that were left out. */
static ws_status replay_call(replay *state, const ws_trace_call *traced, ws_replayed *out, double *error, double *size,
                             ws_error *failure) {
    ws_call call;
    WS_TRY_(ws_session_open(state->session, traced->key, traced->conds, &call, failure));
    if (call.intent != WS_INTENT_COMPUTE && !fits(state, &call, traced)) {
        ws_session_forget(state->session, &call);
    }
    ws_measurement measurement = {.sigma = traced->measurement.sigma};
    for (size_t i = 0; call.intent == WS_INTENT_COMPARE && i < call.conds; ++i) {
        measure(state, &call, i, &traced->probe[i], &measurement);
    }
    const ws_action action = ws_session_decide(state->session, &call, &measurement);
    if (isnan(out->predicted)) {
        out->predicted = call.predicted; /* of the first call that compared */
    }
    if (action == WS_ACTION_REUSE) {
        for (size_t i = 0; i < call.conds; ++i) {
            compare(state, &call, i, &traced->residual[i], error, size);
        }
    } else {
        out->computed = true;
        store(state, &call, traced);
    }
    ws_session_commit(state->session, &call);
    return WS_OK;
}

static ws_status replay_all(replay *state, const ws_trace *trace, ws_replayed *out, ws_error *failure) {
    ws_trace_call traced;
    double error = 0.0, size = 0.0;
    int64_t evaluation = 0;
    for (size_t offset = ws_trace_next(trace, trace->first, &traced); offset != 0;
         offset = ws_trace_next(trace, offset, &traced)) {
        ws_replayed *const current = &out[traced.evaluation - 1];
        if (traced.evaluation != evaluation) {
            evaluation = traced.evaluation;
            error = size = 0.0;
            *current = (ws_replayed){.sigma = traced.measurement.sigma, .predicted = NAN};
            ws_session_begin_evaluation(state->session);
        }
        WS_TRY_(replay_call(state, &traced, current, &error, &size, failure));
        current->actual = size > 0.0 ? error / size : 0.0;
    }
    return WS_OK;
}

ws_status ws_trace_replay(const ws_trace *trace, const ws_session_settings *settings, ws_replayed *out, ws_error *error) {
    replay *const state = calloc(1, sizeof(*state));
    double *const schedule = calloc((size_t)trace->schedule_length + 1, sizeof(*schedule)); /* never of size 0 */
    ws_status status = state == NULL || schedule == NULL
                           ? ws_fail(error, WS_ERROR_NO_MEMORY, "There is no memory for a replay.")
                           : WS_OK;
    if (status == WS_OK) {
        ws_trace_schedule(trace, schedule);
        ws_session_settings used = *settings;
        used.schedule = schedule;
        used.schedule_length = trace->schedule_length;
        state->history = settings->strategy == WS_STRATEGY_FORECAST ? WS_HISTORY : 1;
        status = ws_session_create(&used, &state->session, error);
    }
    if (status == WS_OK) {
        status = replay_all(state, trace, out, error);
    }
    if (state != NULL) {
        ws_session_free(state->session);
    }
    free(state);
    free(schedule);
    return status;
}
