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

#include "core/status_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum entry_state {
    ENTRY_EMPTY = 0, /* nothing stored, or nothing that may be used */
    ENTRY_BUILDING,  /* a call computes it now */
    ENTRY_VALID
} entry_state;

typedef struct entry {
    ws_key key;
    int64_t ordinal;     /* repetitions of the same key within one evaluation are numbered from 0 */
    int64_t last_used;   /* evaluation; 0: never used */
    int64_t computed_in[WS_HISTORY]; /* evaluations, newest first; 0: nothing stored */
    entry_state state;
    bool owner_is_stale; /* the owner does not know yet that the slot changed hands */
} entry;

typedef struct window {
    uint64_t id;           /* ws_key.window */
    int64_t last_used;     /* evaluation; 0: never used */
    int64_t decided_in;    /* evaluation that `decision` and `reason` belong to */
    int64_t computed_in[WS_HISTORY]; /* evaluations of the last decisions to compute, newest first */
    double sigmas[WS_HISTORY];       /* their noise shares, for the forecast */
    size_t points;                   /* of the deciding call: the calls that follow need as many */
    double damage;                   /* predicted since the last decision to compute */
    int64_t evaluations;             /* decided before this one, and how many of them to compute: for the plan of a speedup */
    int64_t computed;
    int64_t hits;                    /* evaluations reused in a row */
    ws_action decision;
    ws_reason reason;
    float coefficient[WS_HISTORY];
    double predicted;
} window;

/* The evaluation in progress; joins the totals when the next one begins. */
typedef struct evaluation {
    int64_t number; /* 0 before the first */
    bool decided;
    bool computed;
    ws_reason reason; /* of the first call that computes */
    bool placed;      /* its step in the schedule is known */
    size_t step;
} evaluation;

struct ws_session {
    ws_session_settings settings; /* its schedule belongs to the session */
    int64_t *visits;              /* evaluations per step of the schedule */
    double *costs;                /* of the plan, per step */
    evaluation current;
    ws_statistics totals; /* without the evaluation in progress, except for its measurements */
    entry entries[WS_SESSION_SLOTS];
    window windows[WS_SESSION_SLOTS];
};

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
        ws_plan_costs(schedule, settings->schedule_length, session->costs);
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

static void count_change(ws_statistics *statistics, double change) {
    if (isfinite(change)) {
        ++statistics->compared;
        statistics->change_sum += change;
        statistics->change_min = fmin(statistics->change_min, change);
        statistics->change_max = fmax(statistics->change_max, change);
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

/* What the plan of a set speedup says about the window's evaluation at this sigma. */
static ws_plan plan_of(ws_session *session, const window *deciding, double sigma) {
    const ws_session_settings *const settings = &session->settings;
    ws_plan plan = {.speedup = settings->speedup,
                    .evaluations = deciding->evaluations,
                    .computed = deciding->computed,
                    .gap = deciding->hits + 1};
    if (settings->schedule_length >= 2) {
        evaluation *const current = &session->current;
        if (!current->placed) { /* once for all windows */
            current->placed = true;
            current->step = ws_schedule_index(settings->schedule, settings->schedule_length, sigma);
            ++session->visits[current->step];
        }
        plan.left = (int64_t)ws_evaluations_left(settings->schedule, settings->schedule_length, session->visits,
                                                 current->step);
        plan.costs = session->costs;
        plan.steps = settings->schedule_length - 1;
        plan.step = current->step;
        plan.place = session->visits[current->step] - 1;
        plan.per_step = ws_evaluations_per_step(settings->schedule_length, session->visits);
    }
    return plan;
}

/* Why the measured evaluation must be computed; WS_REASON_NONE if it may be reused. refused: what
 * the strategy itself says, WS_REASON_NONE if it would reuse. */
static ws_reason judge(const ws_session *session, window *measured, double change,
                       ws_reason refused, double sigma) {
    const ws_session_settings *const settings = &session->settings;
    measured->predicted = change;
    if (!isfinite(change)) {
        return WS_REASON_NOT_FINITE;
    }
    if (refused != WS_REASON_NONE) {
        return refused;
    }
    if (!(settings->sigma_end <= sigma && sigma <= settings->sigma_start)) {
        return WS_REASON_SIGMA;
    }
    if (settings->max_consecutive_hits >= 0 && measured->hits >= settings->max_consecutive_hits) {
        return WS_REASON_HITS;
    }
    return WS_REASON_NONE;
}

static double noise_share(const ws_session *session, double sigma) {
    const ws_session_settings *const settings = &session->settings;
    return ws_noise_share(sigma, settings->schedule_length > 0 ? settings->schedule[0] : 0.0);
}

static ws_reason judge_classic(const ws_session *session, window *deciding,
                               const ws_measurement *measurement, const ws_plan *plan) {
    const double change = ws_relative_change(measurement);
    ws_reason refused = WS_REASON_NONE;
    if (plan != NULL) {
        refused = ws_plan_leaves_out(plan) ? WS_REASON_NONE : WS_REASON_PLANNED;
    } else if (!ws_classic_is_similar(change, session->settings.threshold)) {
        refused = WS_REASON_CHANGED;
    }
    deciding->coefficient[0] = 1.0F;
    return judge(session, deciding, change, refused, measurement->sigma);
}

static ws_reason judge_forecast(const ws_session *session, window *deciding,
                                const ws_measurement *measurement, const ws_plan *plan) {
    const ws_session_settings *const settings = &session->settings;
    ws_measurement in_shares = *measurement;
    in_shares.sigma = noise_share(session, measurement->sigma);
    const ws_forecast forecast =
        ws_forecast_residual(&in_shares, deciding->sigmas, deciding->points);
    deciding->damage +=
        forecast.uncertainty *
        ws_step_weight(settings->schedule, settings->schedule_length, measurement->sigma);
    deciding->coefficient[0] = (float)(1.0 + forecast.weight[0]);
    deciding->coefficient[1] = (float)(forecast.weight[1] - forecast.weight[0]);
    deciding->coefficient[2] = (float)-forecast.weight[1];
    /* A single stored evaluation says nothing about where things are going. */
    const bool reaches = deciding->points >= 2 &&
                         ws_forecast_reaches(deciding->sigmas, in_shares.sigma, deciding->points);
    ws_reason refused = WS_REASON_NONE;
    if (plan != NULL) {
        const bool follows = reaches || (deciding->points >= 2 && !ws_plan_has_budget(plan));
        refused = follows && ws_plan_leaves_out(plan) ? WS_REASON_NONE : WS_REASON_PLANNED;
    } else if (!reaches || !(deciding->damage < settings->threshold)) {
        refused = WS_REASON_CHANGED;
    }
    return judge(session, deciding, forecast.uncertainty, refused, measurement->sigma);
}

/* The window's history moves on by the evaluation that is about to be computed. */
static void note_decision_to_compute(window *deciding, int64_t number, double sigma) {
    for (size_t i = WS_HISTORY - 1; i > 0; --i) {
        deciding->computed_in[i] = deciding->computed_in[i - 1];
        deciding->sigmas[i] = deciding->sigmas[i - 1];
    }
    deciding->computed_in[0] = number;
    deciding->sigmas[0] = sigma;
    deciding->damage = 0.0;
    deciding->hits = 0;
}

/* The first call of a window in this evaluation decides for the others. */
static void decide_window(ws_session *session, const ws_call *call,
                          const ws_measurement *measurement) {
    window *const deciding = &session->windows[call->window_index];
    deciding->reason = WS_REASON_NO_ENTRY;
    deciding->points = call->points;
    deciding->predicted = NAN;
    const bool planned = session->settings.speedup != 0.0 && measurement != NULL;
    const ws_plan plan = planned ? plan_of(session, deciding, measurement->sigma) : (ws_plan){0};
    if (call->intent == WS_INTENT_COMPARE && measurement != NULL && call->points > 0) {
        count_change(&session->totals, ws_relative_change(measurement));
        deciding->reason = session->settings.strategy == WS_STRATEGY_FORECAST
                               ? judge_forecast(session, deciding, measurement, planned ? &plan : NULL)
                               : judge_classic(session, deciding, measurement, planned ? &plan : NULL);
    }
    deciding->decided_in = session->current.number;
    ++deciding->evaluations;
    if (deciding->reason == WS_REASON_NONE) {
        deciding->decision = WS_ACTION_REUSE;
        ++deciding->hits;
    } else {
        const double sigma = measurement != NULL ? noise_share(session, measurement->sigma) : 0.0;
        deciding->decision = WS_ACTION_COMPUTE;
        ++deciding->computed;
        note_decision_to_compute(deciding, session->current.number, sigma);
    }
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
        decide_window(session, call, measurement);
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
