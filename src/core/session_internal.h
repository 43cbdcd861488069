/* What a session is made of: shared by its tables and calls (session.c) and its decisions (session_decision.c). */
#ifndef WAVESPEED_CORE_SESSION_INTERNAL_H
#define WAVESPEED_CORE_SESSION_INTERNAL_H

#include "wavespeed/session.h"

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
    int64_t evaluations;             /* decided before this one, and how many of them to compute: for the plan */
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
    bool even_costs;              /* all of them are the same */
    evaluation current;
    ws_statistics totals; /* without the evaluation in progress, except for its measurements */
    entry entries[WS_SESSION_SLOTS];
    window windows[WS_SESSION_SLOTS];
};

/* The first call of a window in an evaluation decides for the others. measurement: NULL if nothing was compared. */
void ws_session_decide_window_(ws_session *session, const ws_call *call, const ws_measurement *measurement);

#endif
