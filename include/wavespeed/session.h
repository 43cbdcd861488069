/* One sampling run of one model: which stored entries exist, and the decision of every model evaluation.
 *
 * Words: an *evaluation* is one call of the guider (one step of Euler, two of Heun). ComfyUI may split it into several
 * *calls* of the model (cond and uncond apart, context windows, extra guidance passes). A call carries one or more
 * *conds*, each a slice of rows of the batch. An *entry* is what is kept for one cond: a probe and a residual, both
 * tensors, which live with the owner of the session under the entry's *slot* number. No tensor is known here.
 *
 * Protocol of a call, in this order; the owner is single-threaded per session:
 *     ws_session_begin_evaluation          once per evaluation
 *     ws_session_open                      finds or makes the entries; call->intent says what the first block must do
 *     ws_session_forget                    only if a stored tensor does not fit any more (shape, dtype, device)
 *     ws_session_decide                    once, after the first block ran
 *     ws_session_commit | ws_session_abort the call came to its end | it raised, or nothing was stored
 *
 * The decision belongs to the evaluation, not to the call: the first call of a context window decides, the others of the
 * same window follow, because a cond and an uncond that disagree are pulled apart by classifier-free guidance. */
#ifndef WAVESPEED_SESSION_H
#define WAVESPEED_SESSION_H

#include "wavespeed/plan.h"
#include "wavespeed/policy.h"
#include "wavespeed/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WS_SESSION_SLOTS = 256, /* entries kept at once; the one unused longest makes room (shifting context windows) */
    WS_CALL_CONDS = 32      /* conds that one call may carry */
};

typedef struct ws_session_settings {
    double threshold;             /* classic: relative change below which an evaluation is reused; forecast: damage that
                                     may add up before one is computed (docs/policies.md) */
    double sigma_start;           /* highest sigma at which reuse is allowed, inclusive */
    double sigma_end;             /* lowest sigma at which reuse is allowed, inclusive */
    int64_t max_consecutive_hits; /* -1 = no limit */
    ws_strategy strategy;
    double speedup;               /* evaluations per computed one, at least 1; the threshold is not asked then. 0: it is */
    const double *schedule;       /* forecast and speedup: the sampler's sigmas, descending; copied */
    size_t schedule_length;
} ws_session_settings;

/* Tells conds apart. uuid: ComfyUI's id of the cond, made once per guider. window and fingerprint are hashes made by the
 * owner: which context window is sampled, and which patches or guidance flags are active. Core paths exist that
 * repeat all of these within one evaluation; the session numbers such repetitions itself. */
typedef struct ws_key {
    uint64_t uuid_high;
    uint64_t uuid_low;
    uint64_t window;
    uint64_t fingerprint;
    int64_t cond_index;
} ws_key;

typedef enum ws_intent {
    WS_INTENT_COMPUTE = 0, /* run all blocks and store; nothing to compare with */
    WS_INTENT_COMPARE,     /* measure the probe, then ask ws_session_decide */
    WS_INTENT_REUSE        /* the evaluation is being reused; no measurement needed */
} ws_intent;

typedef enum ws_action {
    WS_ACTION_COMPUTE = 0,
    WS_ACTION_REUSE
} ws_action;

/* Why an evaluation was computed, for the report. */
typedef enum ws_reason {
    WS_REASON_NONE = 0,
    WS_REASON_NO_ENTRY,   /* first evaluation, new cond, or a tensor that no longer fits */
    WS_REASON_CHANGED,    /* the relative change, or the damage of a forecast, reached the threshold */
    WS_REASON_PLANNED,    /* the plan of a set speedup computes it */
    WS_REASON_NOT_FINITE, /* NaN or infinity in the probe or in the stored residual */
    WS_REASON_SIGMA,      /* outside start..end */
    WS_REASON_HITS,       /* max_consecutive_cache_hits reached */
    WS_REASON_COUNT
} ws_reason;

typedef struct ws_call {
    size_t conds;
    int32_t slot[WS_CALL_CONDS];
    bool recycled[WS_CALL_CONDS]; /* the slot belonged to another entry: the owner drops its tensors */
    int32_t window_index;         /* private */
    size_t points;                /* stored evaluations that every cond of the call has, newest first, 0 to WS_HISTORY */
    ws_intent intent;
    ws_action action;             /* valid once decided */
    bool decided;
    float coefficient[WS_HISTORY]; /* on a hit: factor of each stored residual; the classic strategy has 1, 0, 0 */
    double predicted; /* relative change that the deciding call expects of the residual; NaN where it compared nothing */
} ws_call;

typedef struct ws_statistics {
    int64_t evaluations; /* computed + reused; evaluations that never reached the first block are not counted */
    int64_t computed;    /* at least one call ran all blocks */
    int64_t reused;      /* no call did */
    int64_t compared;    /* measurements with a finite relative change */
    double change_sum;   /* of the finite relative changes */
    double change_min;   /* +infinity while nothing was compared */
    double change_max;   /* -infinity while nothing was compared */
    int64_t reasons[WS_REASON_COUNT]; /* computed evaluations by the reason of their deciding call */
} ws_statistics;

typedef struct ws_session ws_session;

/* The only function that allocates: WS_ERROR_NO_MEMORY, or WS_ERROR_RANGE for settings that make no sense (NaN,
 * threshold <= 0 and no speedup, max_consecutive_hits < -1). */
ws_status ws_session_create(const ws_session_settings *settings, ws_session **out, ws_error *error);
void ws_session_free(ws_session *session); /* NULL is allowed */

void ws_session_begin_evaluation(ws_session *session);

/* WS_ERROR_LIMIT when conds is 0 or above WS_CALL_CONDS: the owner then runs the model untouched. */
ws_status ws_session_open(ws_session *session, const ws_key *keys, size_t conds, ws_call *call, ws_error *error);

/* The stored tensors of this call do not fit: its entries become empty and the call will be computed. */
void ws_session_forget(ws_session *session, ws_call *call);

/* measurement: required for WS_INTENT_COMPARE. Else its sigma is needed, except by the classic strategy without a speedup.
 * After WS_ACTION_COMPUTE the entries of the call are being rebuilt and are invalid until ws_session_commit. */
ws_action ws_session_decide(ws_session *session, ws_call *call, const ws_measurement *measurement);

void ws_session_commit(ws_session *session, ws_call *call);

/* Leaves entries that were not being rebuilt as they were. A call that was to be reused counts as computed from here on: the
 * owner runs it again without the cache. */
void ws_session_abort(ws_session *session, ws_call *call);

/* Drops every entry (weights changed, memory ran out); statistics stay. */
void ws_session_forget_all(ws_session *session);

/* Includes the evaluation in progress. */
void ws_session_statistics(const ws_session *session, ws_statistics *out);

#ifdef __cplusplus
}
#endif

#endif
