/* The Python object around one ws_session: the tensors, the hooks and the call in progress. Private to src/python. */
#ifndef WAVESPEED_PYTHON_SESSION_OBJECT_H
#define WAVESPEED_PYTHON_SESSION_OBJECT_H

#include "state.h"
#include "wavespeed/session.h"

#include <stdbool.h>

enum {
    WS_STAGES = 4, /* block lists of one model, in execution order */
    WS_HIDDEN = 4  /* hidden arguments that a block takes and returns */
};

/* How a block of one stage takes and returns its hidden states; from the model's descriptor. */
typedef struct ws_stage {
    Py_ssize_t n_hidden;
    PyObject *name[WS_HIDDEN]; /* keyword of each hidden argument */
    Py_ssize_t position[WS_HIDDEN];
    Py_ssize_t n_returns;           /* 0: the bare main tensor, else a tuple of this length */
    Py_ssize_t returns[WS_HIDDEN];  /* index into name[] for each element of the result */
    Py_ssize_t main;                /* index into name[] of the main stream */
    Py_ssize_t main_in_returns;     /* its place in the result tuple */
    bool entered;                   /* a block of this stage was called in the current call */
} ws_stage;

typedef enum ws_role {
    WS_ROLE_BLOCK = 0,
    WS_ROLE_FIRST, /* the first executed block: always runs, then decides */
    WS_ROLE_FINAL  /* the head of the model: its first argument is the end of the trunk */
} ws_role;

typedef struct SessionObject SessionObject;

/* Sits in module.__dict__["_compiled_call_impl"] during a call, the slot that torch.nn.Module.__call__ looks at
 * first. It is outside of everything else about the module: forward hooks, an instance-level `forward` and a
 * block compiled in place are all inside `inner`, and the module tree, state_dict and deepcopy do not see it. */
typedef struct HookObject {
    PyObject_HEAD
    SessionObject *session; /* borrowed; NULL once the session is gone, then the hook passes through */
    PyObject *module_dict;
    PyObject *call_impl; /* module._call_impl, bound */
    PyObject *saved;     /* what the slot held before, or NULL when it was absent */
    PyObject *inner;     /* what runs when the block runs */
    ws_role role;
    Py_ssize_t stage;
    bool installed;
} HookObject;

struct SessionObject {
    PyObject_HEAD
    ws_session *session;
    /* Operators over tensors, all called positionally (python/wavespeed/operations.py). */
    PyObject *distance, *finish, *apply, *apply_in_place, *moments, *combine_in_place, *read, *copy_to_float32, *out_of_memory;
    Py_ssize_t history; /* stored evaluations per entry: 1, or WS_HISTORY for a forecast */
    bool follows_sigma; /* evaluations without anything to compare are placed in the schedule too: forecast, speedup */
    bool compares_output; /* the probe is the first block's output; else its residual */
    ws_stage stages[WS_STAGES];
    Py_ssize_t n_stages;
    PyObject *hooks; /* list of HookObject */
    /* Per slot; NULL while nothing is stored. Shapes are those of one cond's rows of the hidden state. */
    PyObject *probe[WS_SESSION_SLOTS][WS_HISTORY];        /* newest first, as all three */
    PyObject *residual[WS_SESSION_SLOTS][WS_HISTORY];     /* fp32 */
    PyObject *residual_sum[WS_SESSION_SLOTS][WS_HISTORY]; /* (1,), on the device */
    PyObject *disabled; /* str: why the cache is off for the rest of the run; NULL while it works */
    /* The call in progress. */
    ws_call call;
    bool open;
    bool suspended;
    unsigned long thread;
    PyObject *sigma;       /* (1,) tensor */
    PyObject *final_state; /* on a hit: hidden state after the first block + residual or its forecast, whole batch */
    bool injected;         /* the head received final_state */
    bool finished;         /* the residuals of this call are complete */
    bool misfit;           /* the trunk ended with another shape than it began with */
    int first_calls, final_calls;
};

/* True when a hook that fires now belongs to the call in progress, on the thread that opened it. */
bool ws_session_is_active(const SessionObject *session);

/* hooks.c: what a hook does. Each returns a new reference or NULL with an exception. */
PyObject *ws_hook_new(PyTypeObject *type, SessionObject *session, PyObject *module, ws_role role, Py_ssize_t stage,
                      const ws_names *names);
int ws_hook_install(HookObject *hook, const ws_names *names);
int ws_hook_remove(HookObject *hook, const ws_names *names);

/* entries.c: the stored tensors. */

/* Decides this evaluation after the first block. hidden: output of the block's main stream (B, ...); probe: what the metric
 * compares, same leading dimension. Sets call.action, and final_state on a hit, or stores base and probe on a
 * miss. -1 with an exception, or 0. */
int ws_entries_decide(SessionObject *session, PyObject *hidden, PyObject *probe, const ws_names *names);

/* Completes the residuals of a computed call. end: input of the head (B, ...). */
int ws_entries_finish(SessionObject *session, PyObject *end, const ws_names *names);

/* Forgets the tensors of one slot, or of all. */
void ws_entries_drop(SessionObject *session, int32_t slot);
void ws_entries_drop_all(SessionObject *session);

/* True and no exception pending if the pending exception was torch's out-of-memory: the cache is emptied and switched off
 * for this run, because memory belongs to the model first. */
bool ws_entries_recover_memory(SessionObject *session);

/* Turns the cache off for the rest of the run; the first reason stays. */
void ws_session_disable(SessionObject *session, const char *reason);

#endif
