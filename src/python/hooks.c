/* Hooks: what happens when a block of the model, its head or a side module is called during an open call.
 *
 * The first executed block always runs and then asks for the decision. On a hit the blocks between pass their hidden
 * states through, and the end of the trunk (the head's input, or the last block's result) becomes hidden + residual; the
 * model's own loop keeps running, so what it does between blocks (ControlNet additions, patches, block indices in
 * transformer_options) keeps its order. A model whose blocks change their resolution and jump is left instead: the
 * decision is made at the entry of a layer, a hit raises LeaveModel there, and the hook around the model's forward
 * catches it and calls the tail. */
#include "session_object.h"

static bool is_hit(const SessionObject *session) {
    return session->call.decided && session->call.action == WS_ACTION_REUSE;
}

static PyObject *run(HookObject *self, PyObject *args, PyObject *kwargs) { return PyObject_Call(self->inner, args, kwargs); }

/* ---- how two stages are joined --------------------------------------------------------------- */

/* Remembers the main stream of a computed block until the next stage has shown that it lies where the descriptor says: an
 * order that a new version of the model turns round would otherwise put the cached state in the wrong place. -1 with an
 * exception. */
static int note_stream(SessionObject *session, const ws_stage *stage, PyObject *result) {
    if (!session->checks_layout || stage->within != WS_WITHIN_SAME) {
        return 0;
    }
    PyObject *const state = ws_streams_of_result(session, stage, result); /* new */
    if (state == NULL && PyErr_Occurred()) {
        return -1;
    }
    WS_SET_REFERENCE(session->stream, state);
    return 0;
}

/* Once per session, at the first block of a stage that holds the first one's main stream within. -1 with an exception. */
static int check_layout(SessionObject *session, const ws_stage *stage, PyObject *args, PyObject *kwargs) {
    if (!session->checks_layout || stage->within == WS_WITHIN_SAME || session->stream == NULL || session->patched) {
        return 0;
    }
    session->checks_layout = false;
    PyObject *const joint = ws_streams_of_arguments(session, stage, args, kwargs); /* new */
    PyObject *const at_tail = stage->within == WS_WITHIN_TAIL ? Py_True : Py_False; /* borrowed */
    PyObject *const found =
        joint == NULL ? NULL
                      : PyObject_CallFunctionObjArgs(session->holds, joint, session->stream, at_tail, NULL); /* new */
    const int holds = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(joint);
    Py_XDECREF(found);
    Py_CLEAR(session->stream);
    if (holds == 0) {
        ws_session_disable(session, "its streams are joined in another order than its descriptor says");
        session->suspended = true;
    }
    return holds < 0 && PyErr_Occurred() ? -1 : 0;
}

/* Runs a block of a computed call. */
static PyObject *compute(HookObject *self, PyObject *args, PyObject *kwargs) {
    SessionObject *const session = self->session;
    const ws_stage *const stage = &session->stages[self->stage];
    if (check_layout(session, stage, args, kwargs) != 0) {
        return NULL;
    }
    PyObject *result = run(self, args, kwargs);
    if (result != NULL && ws_session_is_active(session) && note_stream(session, stage, result) != 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static PyObject *call_block(HookObject *self, PyObject *args, PyObject *kwargs) {
    SessionObject *const session = self->session;
    ws_stage *const stage = &session->stages[self->stage];
    stage->entered = true;
    if (is_hit(session)) {
        PyObject *const same = ws_streams_pass_through(stage, args, kwargs);
        if (same != NULL || PyErr_Occurred()) {
            return same;
        }
        /* Running the block wastes time and nothing else: the end of the trunk comes from the cache either way. */
        return run(self, args, kwargs);
    }
    return compute(self, args, kwargs);
}

/* probe: NULL where the metric compares the output itself, else the fp32 copy of the block's input, which becomes its
 * residual. */
static int decide(SessionObject *session, PyObject *hidden, PyObject *probe, const ws_names *names) {
    int done = 0;
    if (probe != NULL) {
        PyObject *const sum = PyObject_CallFunctionObjArgs(session->finish, probe, hidden, NULL); /* new */
        done = sum == NULL ? -1 : 0;
        Py_XDECREF(sum);
    }
    if (done == 0) {
        done = ws_entries_decide(session, hidden, probe != NULL ? probe : hidden, names);
    }
    return done == 0 || ws_entries_recover_memory(session) ? 0 : -1;
}

/* A copy of what the first block is given, because blocks write into their input. *probe stays NULL where memory ran out
 * or the metric needs none. -1 with an exception. */
static int copy_probe(SessionObject *session, PyObject *input, PyObject **probe) {
    if (session->compares_output) {
        return 0;
    }
    *probe = PyObject_CallFunctionObjArgs(session->copy_to_float32, input, NULL);
    return *probe != NULL || ws_entries_recover_memory(session) ? 0 : -1;
}

/* True when the block was given one of the arguments that say by being an empty tuple that this call must be computed. */
static int says_never(const SessionObject *session, PyObject *kwargs) {
    for (Py_ssize_t i = 0; kwargs != NULL && i < PyTuple_Size(session->empty_arguments); ++i) {
        PyObject *const value = PyDict_GetItemWithError(kwargs, PyTuple_GetItem(session->empty_arguments, i)); /* borrowed */
        if (value == NULL && PyErr_Occurred()) {
            return -1;
        }
        if (value != NULL && PyTuple_Check(value) && PyTuple_Size(value) == 0) {
            return 1;
        }
    }
    return 0;
}

static PyObject *call_first(HookObject *self, PyObject *args, PyObject *kwargs, const ws_names *names) {
    SessionObject *const session = self->session;
    ws_stage *const stage = &session->stages[self->stage];
    stage->entered = true;
    if (++session->first_calls > 1) {
        return run(self, args, kwargs); /* the check at the end of the call reports it */
    }
    const int never = says_never(session, kwargs);
    if (never != 0) {
        session->suspended = true;
        return never < 0 ? NULL : run(self, args, kwargs);
    }
    PyObject *const input = ws_streams_of_arguments(session, stage, args, kwargs); /* new */
    if (input == NULL) {
        return PyErr_Occurred() && !ws_entries_recover_memory(session) ? NULL : run(self, args, kwargs);
    }
    PyObject *probe = NULL; /* new */
    const int copied = copy_probe(session, input, &probe);
    Py_DECREF(input);
    PyObject *result = copied != 0 ? NULL : compute(self, args, kwargs); /* new */
    if (result == NULL || !ws_session_is_active(session)) { /* also when the block closed the session */
        Py_XDECREF(probe);
        return result;
    }
    PyObject *const hidden = ws_streams_of_result(session, stage, result); /* new */
    int done = 0;
    if (hidden != NULL) {
        done = decide(session, hidden, probe, names);
    } else if (PyErr_Occurred()) {
        done = ws_entries_recover_memory(session) ? 0 : -1;
    } else {
        ws_session_disable(session, "the first block returned something this pack does not know");
        session->suspended = true;
    }
    Py_XDECREF(hidden);
    Py_XDECREF(probe);
    if (done != 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* The end of the trunk on a computed call; -1 with an exception. */
static int finish(SessionObject *session, PyObject *end, const ws_names *names) {
    return ws_entries_finish(session, end, names) == 0 || ws_entries_recover_memory(session) ? 0 : -1;
}

/* On a hit: what the last block would have returned. NULL without an exception when that is impossible. */
static PyObject *reused_result(SessionObject *session, const ws_stage *stage, PyObject *args, PyObject *kwargs,
                               const ws_names *names) {
    PyObject *const same = ws_streams_pass_through(stage, args, kwargs); /* new */
    PyObject *const changed = same == NULL ? NULL : ws_streams_replaced(session, stage, same, names);
    Py_XDECREF(same);
    session->injected = changed != NULL;
    return changed;
}

static PyObject *call_last(HookObject *self, PyObject *args, PyObject *kwargs, const ws_names *names) {
    SessionObject *const session = self->session;
    ws_stage *const stage = &session->stages[self->stage];
    stage->entered = true;
    if (!session->call.decided || ++session->final_calls > 1) {
        return run(self, args, kwargs);
    }
    if (is_hit(session)) {
        PyObject *const changed = reused_result(session, stage, args, kwargs, names);
        /* Where nothing could be injected the call will be run again without the cache. */
        return changed != NULL || PyErr_Occurred() ? changed : run(self, args, kwargs);
    }
    PyObject *result = compute(self, args, kwargs); /* new */
    if (result == NULL || !ws_session_is_active(session)) {
        return result;
    }
    PyObject *const end = ws_streams_end(session, stage, result, names); /* new */
    const int done = end == NULL ? (PyErr_Occurred() && !ws_entries_recover_memory(session) ? -1 : 0)
                                 : finish(session, end, names);
    Py_XDECREF(end);
    if (done != 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* ---- the head -------------------------------------------------------------------------------- */

/* A copy of args with another first element. New reference. */
static PyObject *with_first_argument(PyObject *args, PyObject *first) {
    const Py_ssize_t n = PyTuple_Size(args);
    PyObject *const changed = PyTuple_New(n); /* new */
    for (Py_ssize_t i = 0; changed != NULL && i < n; ++i) {
        PyObject *const item = i == 0 ? first : PyTuple_GetItem(args, i); /* borrowed */
        if (PyTuple_SetItem(changed, i, Py_NewRef(item)) != 0) {
            Py_DECREF(changed);
            return NULL;
        }
    }
    return changed;
}

/* The cached state in place of the head's first argument, in that argument's dtype: some models cast between trunk and
 * head. */
static PyObject *call_with_state(HookObject *self, PyObject *args, PyObject *kwargs, const ws_names *names) {
    SessionObject *const session = self->session;
    PyObject *const dtype = PyObject_GetAttr(PyTuple_GetItem(args, 0), names->dtype);                   /* new */
    PyObject *const state = dtype == NULL ? NULL : ws_streams_cast(session->final_state, dtype, names); /* new */
    PyObject *const changed = state == NULL ? NULL : with_first_argument(args, state);                  /* new */
    Py_XDECREF(dtype);
    Py_XDECREF(state);
    if (changed == NULL) {
        return NULL;
    }
    session->injected = true;
    PyObject *const result = run(self, changed, kwargs);
    Py_DECREF(changed);
    return result;
}

/* For the early exit: which head this model uses, and what it is given. */
static int remember_tail(HookObject *self, PyObject *end, const ws_names *names) {
    SessionObject *const session = self->session;
    WS_SET_REFERENCE(session->tail, Py_NewRef((PyObject *)self));
    WS_SET_REFERENCE(session->tail_dtype, PyObject_GetAttr(end, names->dtype));
    return session->tail_dtype == NULL ? -1 : 0;
}

static PyObject *call_final(HookObject *self, PyObject *args, PyObject *kwargs, const ws_names *names) {
    SessionObject *const session = self->session;
    if (!session->call.decided || ++session->final_calls > 1 || PyTuple_Size(args) == 0) {
        return run(self, args, kwargs);
    }
    PyObject *const end = PyTuple_GetItem(args, 0); /* borrowed */
    if (!is_hit(session)) {
        if (finish(session, end, names) != 0) {
            return NULL;
        }
        return session->inside && remember_tail(self, end, names) != 0 ? NULL : run(self, args, kwargs);
    }
    if (session->final_part != WS_WITHIN_SAME && ws_streams_take_part(session, end) != 0) {
        return NULL;
    }
    const int same = ws_tensors_share(end, session->final_state, names->shape);
    if (same < 0) {
        return NULL;
    }
    /* Not injected: the call will be run again without the cache. */
    return same == 0 ? run(self, args, kwargs) : call_with_state(self, args, kwargs, names);
}

/* ---- side modules ---------------------------------------------------------------------------- */

static PyObject *call_side_module(HookObject *self, PyObject *args, PyObject *kwargs) {
    if (!is_hit(self->session) || self->session->injected) {
        return run(self, args, kwargs);
    }
    PyObject *const argument = PyTuple_Size(args) > 0 ? PyTuple_GetItem(args, 0) : NULL; /* borrowed */
    switch (self->replacement) {
        case WS_REPLACEMENT_ZERO:
            return PyLong_FromLong(0);
        case WS_REPLACEMENT_NONE:
            return Py_NewRef(Py_None);
        case WS_REPLACEMENT_ZERO_AND_ARGUMENT:
            return argument == NULL ? run(self, args, kwargs) : Py_BuildValue("(iO)", 0, argument);
        case WS_REPLACEMENT_ARGUMENT:
        default:
            return argument == NULL ? run(self, args, kwargs) : Py_NewRef(argument);
    }
}

/* ---- early exit ------------------------------------------------------------------------------ */

static PyObject *call_entry(HookObject *self, PyObject *args, PyObject *kwargs) {
    SessionObject *const session = self->session;
    if (PyTuple_Size(args) > 0) {
        Py_CLEAR(session->entry_probe);
        if (copy_probe(session, PyTuple_GetItem(args, 0), &session->entry_probe) != 0) {
            return NULL;
        }
    }
    return run(self, args, kwargs);
}

/* Decides at the entry of the first layer that may be left out; on a hit the rest of the model is left by an exception. */
static PyObject *call_exit(HookObject *self, PyObject *args, PyObject *kwargs, const ws_module_state *state) {
    SessionObject *const session = self->session;
    if (++session->first_calls > 1 || PyTuple_Size(args) == 0) {
        return run(self, args, kwargs);
    }
    PyObject *const hidden = PyTuple_GetItem(args, 0); /* borrowed */
    PyObject *const probe = session->entry_probe;      /* ours from here on */
    session->entry_probe = NULL;
    const int comparable = session->compares_output ? 1
                           : probe == NULL          ? 0
                                                    : ws_tensors_share(probe, hidden, state->names.shape);
    if (comparable == 0) {
        session->suspended = true; /* another node changed the resolution between the two layers */
    }
    const int done = comparable == 1 ? decide(session, hidden, probe, &state->names) : comparable;
    Py_XDECREF(probe);
    if (done != 0) {
        return NULL;
    }
    if (ws_session_is_active(session) && is_hit(session) && session->tail != NULL && session->inside) {
        session->leaving = true;
        PyErr_SetNone(state->leave_model);
        return NULL;
    }
    return run(self, args, kwargs);
}

static PyObject *call_whole(HookObject *self, PyObject *args, PyObject *kwargs, const ws_module_state *state) {
    SessionObject *const session = self->session;
    session->inside = true;
    PyObject *const result = run(self, args, kwargs);
    session->inside = false;
    if (result != NULL || !session->leaving || !PyErr_ExceptionMatches(state->leave_model)) {
        return result;
    }
    PyErr_Clear(); /* raised by call_exit */
    session->leaving = false;
    PyObject *const tail = Py_NewRef(((HookObject *)session->tail)->inner);
    PyObject *const final_state = ws_streams_cast(session->final_state, session->tail_dtype, &state->names); /* new */
    PyObject *const output = final_state == NULL ? NULL : PyObject_CallFunctionObjArgs(tail, final_state, NULL);
    Py_XDECREF(final_state);
    Py_DECREF(tail);
    session->injected = output != NULL;
    return output;
}

/* ---- by role --------------------------------------------------------------------------------- */

PyObject *ws_hook_act(HookObject *hook, PyObject *args, PyObject *kwargs) {
    const ws_module_state *const state = ws_state_of_type(Py_TYPE(hook));
    const ws_names *const names = &state->names;
    switch (hook->role) {
        case WS_ROLE_FIRST:
            return call_first(hook, args, kwargs, names);
        case WS_ROLE_LAST:
            return call_last(hook, args, kwargs, names);
        case WS_ROLE_FINAL:
            return call_final(hook, args, kwargs, names);
        case WS_ROLE_SIDE:
            return call_side_module(hook, args, kwargs);
        case WS_ROLE_ENTRY:
            return call_entry(hook, args, kwargs);
        case WS_ROLE_EXIT:
            return call_exit(hook, args, kwargs, state);
        case WS_ROLE_WHOLE:
            return call_whole(hook, args, kwargs, state);
        case WS_ROLE_BLOCK:
        default:
            return call_block(hook, args, kwargs);
    }
}
