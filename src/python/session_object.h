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

/* How the main streams of a block make up the one tensor that is compared and kept. */
typedef enum ws_form {
    WS_FORM_TENSOR = 0, /* there is one, and it is a tensor */
    WS_FORM_STREAMS,    /* several tensors, or tuples of them, packed row by row */
    WS_FORM_TOKENS      /* several tensors, joined along dimension 1 as the next stage takes them */
} ws_form;

/* Where the first stage's main stream lies in this stage's, along dimension 1. */
typedef enum ws_within {
    WS_WITHIN_SAME = 0,
    WS_WITHIN_HEAD,
    WS_WITHIN_TAIL
} ws_within;

/* How a block of one stage takes and returns its hidden states; from the model's descriptor. */
typedef struct ws_stage {
    Py_ssize_t n_hidden;
    PyObject *name[WS_HIDDEN]; /* keyword of each hidden argument */
    Py_ssize_t position[WS_HIDDEN];
    Py_ssize_t n_returns;                   /* 0: the bare main tensor, else a tuple of this length */
    Py_ssize_t returns[WS_HIDDEN];          /* index into name[] for each element of the result */
    Py_ssize_t n_main;
    Py_ssize_t main[WS_HIDDEN];             /* indices into name[] of the main streams */
    Py_ssize_t main_in_returns[WS_HIDDEN];  /* their places in the result tuple */
    ws_form form;
    ws_within within;
    bool entered;                           /* a block of this stage was called in the current call */
} ws_stage;

typedef enum ws_role {
    WS_ROLE_BLOCK = 0,
    WS_ROLE_FIRST, /* the first executed block: always runs, then decides */
    WS_ROLE_LAST,  /* the last executed block, where its result is the end of the trunk */
    WS_ROLE_FINAL, /* the head of the model: its first argument is the end of the trunk */
    WS_ROLE_SIDE,  /* a side module between the blocks: not needed on a hit */
    WS_ROLE_ENTRY, /* early exit: the layer with which the compared part begins */
    WS_ROLE_EXIT,  /* early exit: the first layer that may be left out */
    WS_ROLE_WHOLE  /* early exit: the model's own forward */
} ws_role;

/* What takes the place of a side module's result. */
typedef enum ws_replacement {
    WS_REPLACEMENT_ARGUMENT = 0,     /* its first argument */
    WS_REPLACEMENT_ZERO,             /* 0, where the model adds the result */
    WS_REPLACEMENT_ZERO_AND_ARGUMENT, /* that pair */
    WS_REPLACEMENT_NONE              /* None */
} ws_replacement;

typedef struct SessionObject SessionObject;

/* Sits in module.__dict__ during a call: in "_compiled_call_impl", the slot that torch.nn.Module.__call__ looks at first, or
 * in the place of a method that the model calls by name. The call slot is outside of everything else about the module:
 * forward hooks, an instance-level `forward` and a block compiled in place are all inside `inner`, and the module tree,
 * state_dict and deepcopy do not see it. */
typedef struct HookObject {
    PyObject_HEAD
    SessionObject *session; /* borrowed; NULL once the session is gone, then the hook passes through */
    PyObject *module_dict;
    PyObject *slot;     /* str: the key in module_dict */
    PyObject *original; /* what runs when the slot is empty, bound */
    PyObject *saved;    /* what the slot held before, or NULL when it was absent */
    PyObject *inner;    /* what runs when the module runs */
    ws_role role;
    Py_ssize_t stage;   /* of a block */
    ws_replacement replacement; /* of a side module */
    bool installed;
} HookObject;

/* Members of python/wavespeed/operations.py: operators over tensors, all called positionally, and the exception class
 * out_of_memory. */
#define WS_OPERATIONS(X) \
    X(distance)          \
    X(finish)            \
    X(apply)             \
    X(apply_in_place)    \
    X(moments)           \
    X(subtract)          \
    X(advance)           \
    X(extrapolate)       \
    X(extrapolate_in_place) \
    X(new_difference)    \
    X(complete)          \
    X(read)              \
    X(copy_to_float32)   \
    X(out_of_memory)     \
    X(pack)              \
    X(unpack)            \
    X(join)              \
    X(replace_tokens)    \
    X(finish_part)       \
    X(take_part)         \
    X(holds)             \
    X(offload)           \
    X(fetch)             \
    X(sketch)

struct SessionObject {
    PyObject_HEAD
    ws_session *session;
    WS_OPERATIONS(WS_DECLARE_NAME)
    Py_ssize_t history; /* stored evaluations per entry: 1, or WS_HISTORY for a forecast */
    bool follows_sigma; /* evaluations without anything to compare are placed in the schedule too: forecast, speedup */
    bool compares_output; /* the probe is the first block's output; else its residual */
    ws_stage stages[WS_STAGES];
    Py_ssize_t n_stages;       /* 0 with the early exit */
    Py_ssize_t batch_dim;      /* of the state */
    ws_within final_part;      /* which tokens of the state the head is given, where it is given fewer */
    bool offloads;             /* what is stored rests in host memory (cache_device = cpu) */
    PyObject *empty_arguments; /* tuple of str: keywords of the first block that forbid reuse when they are () */
    bool checks_layout;        /* a stage holds the first one's main stream within, and no call has shown where yet */
    PyObject *hooks;           /* list of HookObject */
    PyObject *tail;            /* early exit: the HookObject of the head that the last computed call used */
    PyObject *tail_dtype;
    /* Per slot; NULL while nothing is stored. Shapes are those of one cond's rows of the hidden state. */
    PyObject *probe[WS_SESSION_SLOTS][WS_HISTORY];        /* newest first, as all three */
    PyObject *residual[WS_SESSION_SLOTS][WS_HISTORY];     /* fp32, then the differences to those before, in 8 bits */
    PyObject *residual_sum[WS_SESSION_SLOTS][WS_HISTORY]; /* (1,), on the device */
    PyObject *trace;     /* list of bytes, the parts of a trace; NULL where none is recorded */
    int64_t traced_calls, traced_evaluations;
    bool evaluation_traced; /* the evaluation in progress has a call in the trace */
    PyObject *disabled; /* str: why the cache is off for the rest of the run; NULL while it works */
    /* The call in progress. */
    ws_call call;
    ws_key keys[WS_CALL_CONDS]; /* of its conds */
    ws_measurement measurement;
    PyObject *start[WS_SESSION_SLOTS]; /* of a history: hidden state after the first block, where the probe is another */
    bool open;
    bool patched;   /* other nodes replace blocks in this call: what the check of the structure finds is theirs */
    bool suspended; /* the rest of this call runs as if the hooks were not there */
    bool inside;    /* early exit: the model's forward is running */
    bool leaving;   /* early exit: LeaveModel is on its way */
    PyObject *stream;      /* main stream of the block before, while the layout is not checked */
    PyObject *entry_probe; /* early exit: fp32 copy of what the compared part was given */
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

/* plan.c: the arguments of Session that describe the model. -1 with an exception, or 0. */
int ws_plan_read_final_part(SessionObject *session, const char *part);
int ws_plan_read_stages(SessionObject *session, PyObject *stages);
int ws_plan_read_hooks(SessionObject *session, PyObject *hooks, const ws_module_state *state);

/* hook_object.c: slot: name of a method, or NULL for the module's own call. New reference or NULL with an exception. */
HookObject *ws_hook_new(PyTypeObject *type, SessionObject *session, PyObject *module, const char *slot);
int ws_hook_install(HookObject *hook);
int ws_hook_remove(HookObject *hook);

/* hooks.c: what an active hook does in place of its module. New reference or NULL with an exception. */
PyObject *ws_hook_act(HookObject *hook, PyObject *args, PyObject *kwargs);

/* tensors.c: what is asked of tensors through their Python attributes. Questions: 1 if so, 0 if not, -1 with an
 * exception. */
Py_ssize_t ws_tensor_size(PyObject *tensor, Py_ssize_t dimension, const ws_names *names); /* -1 with an exception */
int ws_tensors_share(PyObject *a, PyObject *b, PyObject *attribute);
int ws_tensors_same_place(PyObject *a, PyObject *b, const ws_names *names);  /* shape and device */
int ws_tensors_same_layout(PyObject *a, PyObject *b, const ws_names *names); /* dtype as well */
PyObject *ws_tensor_copy(PyObject *tensor, const ws_names *names);           /* new reference */

/* streams.c: hidden states to and from the state. Each returns a new reference, or NULL: with an exception when something
 * failed, without one when the call or its result is not what the descriptor says. */
/* In the structure of a result. */
PyObject *ws_streams_pass_through(const ws_stage *stage, PyObject *args, PyObject *kwargs);
PyObject *ws_streams_of_arguments(const SessionObject *session, const ws_stage *stage, PyObject *args, PyObject *kwargs);
PyObject *ws_streams_of_result(const SessionObject *session, const ws_stage *stage, PyObject *result);
/* The end of the trunk in the last block's result. */
PyObject *ws_streams_end(const SessionObject *session, const ws_stage *stage, PyObject *result, const ws_names *names);
/* The result with final_state in it. */
PyObject *ws_streams_replaced(const SessionObject *session, const ws_stage *stage, PyObject *result, const ws_names *names);
/* final_state becomes the part of it that the head is given; -1 with an exception, or 0. */
int ws_streams_take_part(SessionObject *session, PyObject *end);
PyObject *ws_streams_cast(PyObject *state, PyObject *dtype, const ws_names *names);

/* entries.c: the stored tensors, one entry per cond. */

/* Decides this evaluation after the first block. hidden: output of the block's main stream (B, ...); probe: what the metric
 * compares, same leading dimension: hidden itself with compares_output, else a tensor that nobody else uses. Sets
 * call.action, and final_state on a hit, or stores base and probe on a miss. -1 with an exception, or 0. */
int ws_entries_decide(SessionObject *session, PyObject *hidden, PyObject *probe, const ws_names *names);

/* Completes the residuals of a computed call. end: input of the head (B, ...). */
int ws_entries_finish(SessionObject *session, PyObject *end, const ws_names *names);

/* Forgets the tensors of one slot, or of all. */
void ws_entries_drop(SessionObject *session, int32_t slot);
void ws_entries_drop_all(SessionObject *session);

/* True and no exception pending if the pending exception was torch's out-of-memory: the cache is emptied and switched off
 * for this run, because memory belongs to the model first. */
bool ws_entries_recover_memory(SessionObject *session);

/* trace.c: a recorded run. Each -1 with an exception, or 0. */
int ws_trace_begin(SessionObject *session, const double *schedule, size_t length);
int ws_trace_record(SessionObject *session); /* the call that has been committed */
PyObject *ws_trace_bytes(PyObject *session, PyObject *unused); /* new reference: bytes, or None where nothing was recorded */

/* Turns the cache off for the rest of the run; the first reason stays. */
void ws_session_disable(SessionObject *session, const char *reason);

#endif
