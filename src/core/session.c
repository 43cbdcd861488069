/* The session: a table of entries, a table of context windows, and the decision of each evaluation.
 *
 * Both tables have a fixed size and are searched from the front; a run has two to a few dozen
 * entries. Evaluations are numbered from 1, so 0 means "never", and what belongs to an evaluation
 * (a window's decision, the use of an entry) carries its number instead of being reset when the
 * next one begins.
 *
 * An entry may be reused only if it was computed in the same evaluation as its window was last
 * decided to be computed: residuals of different ages under one decision would pull the conds
 * apart. */
#include "wavespeed/session.h"

#include "core/session_internal.h"
#include "core/status_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ------------------------------------------------------------------------------------ */

static ws_status check_settings(const ws_session_settings *settings, ws_error *error) {
    if (settings->speedup != 0.0 && !(settings->speedup >= 1.0 && isfinite(settings->speedup))) {
        return ws_fail(error, WS_ERROR_RANGE, "speedup is %s; it must be 1 or more, or 0.",
                       ws_number_text_(settings->speedup).text);
    }
    if (settings->speedup == 0.0 && !(settings->threshold > 0.0)) {
        return ws_fail(error, WS_ERROR_RANGE, "threshold is %s; it must be above 0.",
                       ws_number_text_(settings->threshold).text);
    }
    if (isnan(settings->sigma_start) || isnan(settings->sigma_end)) {
        return ws_fail(error, WS_ERROR_RANGE, "%s is not a number; it must be a noise level.",
                       isnan(settings->sigma_start) ? "sigma_start" : "sigma_end");
    }
    if (settings->max_consecutive_hits < -1) {
        return ws_fail(error, WS_ERROR_RANGE,
                       "max_consecutive_hits is %" PRId64 "; it must be -1 (no limit) or more.",
                       settings->max_consecutive_hits);
    }
    return WS_OK;
}

ws_status ws_session_create(const ws_session_settings *settings, ws_session **out,
                            ws_error *error) {
    *out = NULL;
    WS_TRY_(check_settings(settings, error));
    ws_session *const session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return ws_fail(error, WS_ERROR_NO_MEMORY, "There is no memory for a session (%zu bytes).",
                       sizeof(*session));
    }
    session->settings = *settings;
    session->settings.schedule = NULL;
    session->settings.schedule_length = 0;
    if (settings->schedule_length > 0) {
        double *const schedule = calloc(settings->schedule_length, sizeof(*schedule));
        session->settings.schedule = schedule;
        session->visits = calloc(settings->schedule_length, sizeof(*session->visits));
        session->costs = calloc(settings->schedule_length, sizeof(*session->costs));
        if (schedule == NULL || session->visits == NULL || session->costs == NULL) {
            ws_session_free(session);
            return ws_fail(error, WS_ERROR_NO_MEMORY,
                           "There is no memory for a schedule of %zu steps.",
                           settings->schedule_length);
        }
        memcpy(schedule, settings->schedule, settings->schedule_length * sizeof(*schedule));
        session->settings.schedule_length = settings->schedule_length;
        session->even_costs = ws_plan_costs(schedule, settings->schedule_length, session->costs);
    }
    session->totals.change_min = INFINITY;
    session->totals.change_max = -INFINITY;
    *out = session;
    return WS_OK;
}

void ws_session_free(ws_session *session) {
    if (session != NULL) {
        free((void *)(uintptr_t)session->settings.schedule); /* ours, const to everybody else */
        free(session->visits);
        free(session->costs);
        free(session);
    }
}

/* ---- statistics ------------------------------------------------------------------------------ */

static void count_evaluation(ws_statistics *statistics, const evaluation *finished) {
    if (!finished->decided) {
        return;
    }
    ++statistics->evaluations;
    if (finished->computed) {
        ++statistics->computed;
        ++statistics->reasons[finished->reason];
    } else {
        ++statistics->reused;
    }
}

void ws_session_statistics(const ws_session *session, ws_statistics *out) {
    *out = session->totals;
    count_evaluation(out, &session->current);
}

void ws_session_begin_evaluation(ws_session *session) {
    count_evaluation(&session->totals, &session->current);
    session->current = (evaluation){.number = session->current.number + 1};
}

/* ---- entries and windows --------------------------------------------------------------------- */

static bool same_key(const ws_key *a, const ws_key *b) {
    return a->uuid_high == b->uuid_high && a->uuid_low == b->uuid_low && a->window == b->window &&
           a->fingerprint == b->fingerprint && a->cond_index == b->cond_index;
}

/* How many entries of this key the current evaluation has used; it never gives one of those away.
 */
static int64_t next_ordinal(const ws_session *session, const ws_key *key) {
    int64_t seen = 0;
    for (int32_t slot = 0; slot < WS_SESSION_SLOTS; ++slot) {
        const entry *const candidate = &session->entries[slot];
        if (candidate->last_used == session->current.number && same_key(&candidate->key, key)) {
            ++seen;
        }
    }
    return seen;
}

static int32_t find_entry(const ws_session *session, const ws_key *key, int64_t ordinal) {
    for (int32_t slot = 0; slot < WS_SESSION_SLOTS; ++slot) {
        const entry *const candidate = &session->entries[slot];
        if (candidate->last_used != 0 && candidate->ordinal == ordinal &&
            same_key(&candidate->key, key)) {
            return slot;
        }
    }
    return -1;
}

/* The slot unused longest, free ones first; -1 if the current evaluation uses them all. */
static int32_t oldest_entry(const ws_session *session) {
    int32_t oldest = 0;
    for (int32_t slot = 1; slot < WS_SESSION_SLOTS; ++slot) {
        if (session->entries[slot].last_used < session->entries[oldest].last_used) {
            oldest = slot;
        }
    }
    return session->entries[oldest].last_used == session->current.number ? -1 : oldest;
}

/* Finds or makes the entry and marks it as used by this evaluation; -1 if the table is full. */
static int32_t use_entry(ws_session *session, const ws_key *key) {
    const int64_t ordinal = next_ordinal(session, key);
    int32_t slot = find_entry(session, key, ordinal);
    if (slot < 0) {
        slot = oldest_entry(session);
        if (slot < 0) {
            return -1;
        }
        entry *const taken = &session->entries[slot];
        const bool changes_hands = taken->last_used != 0;
        *taken = (entry){.key = *key, .ordinal = ordinal, .owner_is_stale = changes_hands};
    }
    session->entries[slot].last_used = session->current.number;
    return slot;
}

/* Finds or makes the window. One is always available: each window of the current evaluation was
 * opened with an entry of its own, the caller holds an entry of this one, and both tables have the
 * same size. */
static int32_t use_window(ws_session *session, uint64_t id) {
    int32_t oldest = 0;
    for (int32_t index = 0; index < WS_SESSION_SLOTS; ++index) {
        window *const candidate = &session->windows[index];
        if (candidate->last_used != 0 && candidate->id == id) {
            candidate->last_used = session->current.number;
            return index;
        }
        if (candidate->last_used < session->windows[oldest].last_used) {
            oldest = index;
        }
    }
    session->windows[oldest] = (window){.id = id, .last_used = session->current.number};
    return oldest;
}

static bool is_decided(const ws_session *session, const window *decided) {
    return decided->decided_in == session->current.number;
}

/* How many stored evaluations, newest first, all entries of the call share with their window. */
static size_t shared_points(const ws_session *session, const ws_call *call) {
    const window *const of_call = &session->windows[call->window_index];
    size_t points = session->settings.strategy == WS_STRATEGY_FORECAST ? WS_HISTORY : 1;
    for (size_t i = 0; i < call->conds; ++i) {
        const entry *const stored = &session->entries[call->slot[i]];
        size_t same = 0;
        while (stored->state == ENTRY_VALID && same < points && stored->computed_in[same] != 0 &&
               stored->computed_in[same] == of_call->computed_in[same]) {
            ++same;
        }
        points = same;
    }
    return points;
}

/* ---- a call ---------------------------------------------------------------------------------- */

static ws_intent find_intent(const ws_session *session, const ws_call *call) {
    const window *const of_call = &session->windows[call->window_index];
    if (call->points == 0) {
        return WS_INTENT_COMPUTE;
    }
    if (!is_decided(session, of_call)) {
        return WS_INTENT_COMPARE;
    }
    const bool follows = of_call->decision == WS_ACTION_REUSE && call->points >= of_call->points;
    return follows ? WS_INTENT_REUSE : WS_INTENT_COMPUTE;
}

ws_status ws_session_open(ws_session *session, const ws_key *keys, size_t conds, ws_call *call,
                          ws_error *error) {
    *call = (ws_call){0};
    if (conds == 0 || conds > WS_CALL_CONDS) {
        return ws_fail(error, WS_ERROR_LIMIT, "A call carries %zu conds; it must carry 1 to %d.",
                       conds, WS_CALL_CONDS);
    }
    if (session->current.number == 0) {
        ws_session_begin_evaluation(session);
    }
    for (size_t i = 0; i < conds; ++i) {
        call->slot[i] = use_entry(session, &keys[i]);
        if (call->slot[i] < 0) {
            return ws_fail(error, WS_ERROR_LIMIT,
                           "One evaluation has more than %d conds; that many can be kept.",
                           WS_SESSION_SLOTS);
        }
    }
    for (size_t i = 0; i < conds; ++i) {
        entry *const opened = &session->entries[call->slot[i]];
        call->recycled[i] = opened->owner_is_stale;
        opened->owner_is_stale = false;
    }
    call->conds = conds;
    call->window_index = use_window(session, keys[0].window);
    call->points = shared_points(session, call);
    call->intent = find_intent(session, call);
    return WS_OK;
}

static void empty_entry(entry *emptied) {
    emptied->state = ENTRY_EMPTY;
    memset(emptied->computed_in, 0, sizeof(emptied->computed_in));
}

void ws_session_forget(ws_session *session, ws_call *call) {
    for (size_t i = 0; i < call->conds; ++i) {
        empty_entry(&session->entries[call->slot[i]]);
    }
    call->points = 0;
    call->intent = WS_INTENT_COMPUTE;
}

/* The first reason of an evaluation is the one that counts. */
static void note_computed(ws_session *session, ws_reason reason) {
    if (!session->current.computed) {
        session->current.computed = true;
        session->current.reason = reason;
    }
}

static void mark_computed(ws_session *session, const ws_call *call) {
    for (size_t i = 0; i < call->conds; ++i) {
        session->entries[call->slot[i]].state = ENTRY_BUILDING;
    }
    const ws_reason reason = session->windows[call->window_index].reason;
    /* A call that only follows computes because it has nothing to reuse. */
    note_computed(session, reason != WS_REASON_NONE ? reason : WS_REASON_NO_ENTRY);
}

ws_action ws_session_decide(ws_session *session, ws_call *call, const ws_measurement *measurement) {
    if (call->decided) {
        return call->action;
    }
    const window *const of_call = &session->windows[call->window_index];
    call->points = shared_points(session, call); /* entries may have been emptied since the call was opened */
    if (!is_decided(session, of_call)) {
        ws_session_decide_window_(session, call, measurement);
    }
    const bool reuse = of_call->decision == WS_ACTION_REUSE && call->intent != WS_INTENT_COMPUTE &&
                       call->points > 0 && call->points >= of_call->points;
    call->action = reuse ? WS_ACTION_REUSE : WS_ACTION_COMPUTE;
    call->decided = true;
    session->current.decided = true;
    memcpy(call->coefficient, of_call->coefficient, sizeof(call->coefficient));
    call->predicted = of_call->predicted;
    if (!reuse) {
        mark_computed(session, call);
    }
    return call->action;
}

/* Entries that were emptied while the call ran (ws_session_forget_all) stay empty. */
static void settle(ws_session *session, const ws_call *call, entry_state state) {
    if (!call->decided || call->action != WS_ACTION_COMPUTE) {
        return;
    }
    for (size_t i = 0; i < call->conds; ++i) {
        entry *const built = &session->entries[call->slot[i]];
        if (built->state != ENTRY_BUILDING) {
            continue;
        }
        if (state == ENTRY_EMPTY) {
            empty_entry(built);
            continue;
        }
        built->state = ENTRY_VALID;
        memmove(&built->computed_in[1], &built->computed_in[0],
                (WS_HISTORY - 1) * sizeof(built->computed_in[0]));
        built->computed_in[0] = session->current.number;
    }
}

void ws_session_commit(ws_session *session, ws_call *call) {
    settle(session, call, ENTRY_VALID);
}

void ws_session_abort(ws_session *session, ws_call *call) {
    settle(session, call, ENTRY_EMPTY);
    if (call->decided && call->action == WS_ACTION_REUSE) {
        note_computed(session, WS_REASON_NO_ENTRY);
    }
}

void ws_session_forget_all(ws_session *session) {
    /* The keys stay, so that the slots of a call in progress remain its own. */
    for (int32_t slot = 0; slot < WS_SESSION_SLOTS; ++slot) {
        empty_entry(&session->entries[slot]);
    }
}
