/* Hooks: what happens when a block of the model, or its head, is called during an open call.
 *
 * The first executed block always runs and then asks for the decision. On a hit the blocks between pass their hidden states
 * through, and the head receives hidden + residual; the model's own loop keeps running, so what it does between blocks
 * (ControlNet additions, patches, block indices in transformer_options) keeps its order. */
#include "session_object.h"

bool ws_session_is_active(const SessionObject *session) {
    return session != NULL && session->open && !session->suspended && session->thread == PyThread_get_thread_ident();
}

/* The hidden argument `index` of a stage: borrowed, or NULL without an exception when the call does not have it. */
static PyObject *hidden_argument(const ws_stage *stage, Py_ssize_t index, PyObject *args, PyObject *kwargs) {
    if (stage->position[index] < PyTuple_Size(args)) {
        return PyTuple_GetItem(args, stage->position[index]);
    }
    return kwargs == NULL ? NULL : PyDict_GetItemWithError(kwargs, stage->name[index]);
}

/* The hidden states unchanged, in the structure of a block's result. New reference; NULL without an exception when the block
 * was called in a way its descriptor does not know. */
static PyObject *pass_through(const ws_stage *stage, PyObject *args, PyObject *kwargs) {
    if (stage->n_returns == 0) {
        PyObject *const main = hidden_argument(stage, stage->main, args, kwargs); /* borrowed */
        Py_XINCREF(main);
        return main;
    }
    PyObject *const result = PyTuple_New(stage->n_returns); /* new */
    for (Py_ssize_t i = 0; result != NULL && i < stage->n_returns; ++i) {
        PyObject *const item = hidden_argument(stage, stage->returns[i], args, kwargs); /* borrowed */
        if (item == NULL) {
            Py_DECREF(result);
            return NULL;
        }
        if (PyTuple_SetItem(result, i, Py_NewRef(item)) != 0) {
            Py_DECREF(result);
            return NULL;
        }
    }
    return result;
}

static PyObject *call_block(HookObject *self, PyObject *args, PyObject *kwargs) {
    SessionObject *const session = self->session;
    ws_stage *const stage = &session->stages[self->stage];
    stage->entered = true;
    if (session->call.decided && session->call.action == WS_ACTION_REUSE) {
        PyObject *const same = pass_through(stage, args, kwargs);
        if (same != NULL || PyErr_Occurred()) {
            return same;
        }
        /* Running the block wastes time and nothing else: the head gets its state from the cache either way. */
    }
    return PyObject_Call(self->inner, args, kwargs);
}

/* The main stream in a block's result: borrowed, or NULL without an exception. */
static PyObject *main_of_result(const ws_stage *stage, PyObject *result) {
    if (stage->n_returns == 0) {
        return result;
    }
    if (!PyTuple_Check(result) || PyTuple_Size(result) != stage->n_returns) {
        return NULL;
    }
    return PyTuple_GetItem(result, stage->main_in_returns);
}

/* probe: NULL where the metric compares the output itself, else the fp32 copy of the block's input, which becomes its residual. */
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

static PyObject *call_first(HookObject *self, PyObject *args, PyObject *kwargs, const ws_names *names) {
    SessionObject *const session = self->session;
    ws_stage *const stage = &session->stages[self->stage];
    stage->entered = true;
    if (++session->first_calls > 1) {
        return PyObject_Call(self->inner, args, kwargs); /* the check at the end of the call reports it */
    }
    PyObject *probe = NULL; /* new */
    if (!session->compares_output) {
        PyObject *const input = hidden_argument(stage, stage->main, args, kwargs); /* borrowed */
        if (input == NULL) {
            return PyErr_Occurred() ? NULL : PyObject_Call(self->inner, args, kwargs);
        }
        /* A copy, because blocks write into their input. */
        probe = PyObject_CallFunctionObjArgs(session->copy_to_float32, input, NULL);
        if (probe == NULL && !ws_entries_recover_memory(session)) {
            return NULL;
        }
    }
    PyObject *result = PyObject_Call(self->inner, args, kwargs); /* new */
    if (result == NULL || !ws_session_is_active(session)) { /* also when the block closed the session */
        Py_XDECREF(probe);
        return result;
    }
    PyObject *const hidden = main_of_result(stage, result); /* borrowed */
    int done = 0;
    if (hidden == NULL) {
        ws_session_disable(session, "the first block returned something this pack does not know");
        session->suspended = true;
    } else {
        done = decide(session, hidden, probe, names);
    }
    Py_XDECREF(probe);
    if (done != 0) {
        Py_CLEAR(result);
    }
    return result;
}

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

static PyObject *call_final(HookObject *self, PyObject *args, PyObject *kwargs, const ws_names *names) {
    SessionObject *const session = self->session;
    if (!session->call.decided || ++session->final_calls > 1 || PyTuple_Size(args) == 0) {
        return PyObject_Call(self->inner, args, kwargs);
    }
    PyObject *const end = PyTuple_GetItem(args, 0); /* borrowed */
    if (session->call.action == WS_ACTION_COMPUTE) {
        if (ws_entries_finish(session, end, names) != 0 && !ws_entries_recover_memory(session)) {
            return NULL;
        }
        return PyObject_Call(self->inner, args, kwargs);
    }
    PyObject *const shape = PyObject_GetAttr(end, names->shape);                       /* new */
    PyObject *const stored = PyObject_GetAttr(session->final_state, names->shape);     /* new */
    const int same = shape == NULL || stored == NULL ? -1 : PyObject_RichCompareBool(shape, stored, Py_EQ);
    Py_XDECREF(shape);
    Py_XDECREF(stored);
    if (same < 0) {
        return NULL;
    }
    if (same == 0) {
        return PyObject_Call(self->inner, args, kwargs); /* not injected: the call will be run again without the cache */
    }
    PyObject *const changed = with_first_argument(args, session->final_state); /* new */
    if (changed == NULL) {
        return NULL;
    }
    session->injected = true;
    PyObject *const result = PyObject_Call(self->inner, changed, kwargs);
    Py_DECREF(changed);
    return result;
}

static PyObject *hook_call(PyObject *object, PyObject *args, PyObject *kwargs) {
    HookObject *const self = (HookObject *)object;
    if (!ws_session_is_active(self->session)) {
        return PyObject_Call(self->inner, args, kwargs);
    }
    /* What a block runs may end the call, the session and this hook; they must outlive this function. */
    PyObject *const session = Py_NewRef((PyObject *)self->session);
    Py_INCREF(object);
    const ws_names *const names = &ws_state_of_type(Py_TYPE(object))->names;
    PyObject *result = NULL;
    switch (self->role) {
        case WS_ROLE_FIRST:
            result = call_first(self, args, kwargs, names);
            break;
        case WS_ROLE_FINAL:
            result = call_final(self, args, kwargs, names);
            break;
        case WS_ROLE_BLOCK:
        default:
            result = call_block(self, args, kwargs);
            break;
    }
    Py_DECREF(object);
    Py_DECREF(session);
    return result;
}

PyObject *ws_hook_new(PyTypeObject *type, SessionObject *session, PyObject *module, ws_role role, Py_ssize_t stage,
                      const ws_names *names) {
    HookObject *const self = PyObject_GC_New(HookObject, type);
    if (self == NULL) {
        return NULL;
    }
    self->session = session;
    self->role = role;
    self->stage = stage;
    self->installed = false;
    self->saved = NULL;
    self->inner = NULL;
    self->call_impl = NULL;
    self->module_dict = PyObject_GetAttr(module, names->__dict__);
    if (self->module_dict != NULL) {
        self->call_impl = PyObject_GetAttr(module, names->_call_impl);
    }
    PyObject_GC_Track((PyObject *)self);
    if (self->call_impl == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->inner = Py_NewRef(self->call_impl);
    return (PyObject *)self;
}

int ws_hook_install(HookObject *hook, const ws_names *names) {
    PyObject *const current = PyDict_GetItemWithError(hook->module_dict, names->_compiled_call_impl); /* borrowed */
    if (current == NULL && PyErr_Occurred()) {
        return -1;
    }
    Py_XINCREF(current);
    WS_SET_REFERENCE(hook->saved, current);
    WS_SET_REFERENCE(hook->inner, Py_NewRef(current == NULL || current == Py_None ? hook->call_impl : current));
    if (PyDict_SetItem(hook->module_dict, names->_compiled_call_impl, (PyObject *)hook) != 0) {
        return -1;
    }
    hook->installed = true;
    return 0;
}

int ws_hook_remove(HookObject *hook, const ws_names *names) {
    if (!hook->installed) {
        return 0;
    }
    hook->installed = false;
    PyObject *const current = PyDict_GetItemWithError(hook->module_dict, names->_compiled_call_impl); /* borrowed */
    int result = current == NULL && PyErr_Occurred() ? -1 : 0;
    if (current == (PyObject *)hook) { /* somebody else's later value stays */
        result = hook->saved == NULL ? PyDict_DelItem(hook->module_dict, names->_compiled_call_impl)
                                     : PyDict_SetItem(hook->module_dict, names->_compiled_call_impl, hook->saved);
    }
    Py_CLEAR(hook->saved);
    WS_SET_REFERENCE(hook->inner, Py_NewRef(hook->call_impl));
    return result;
}

static int hook_traverse(PyObject *object, visitproc visit, void *arg) {
    HookObject *const self = (HookObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->module_dict);
    Py_VISIT(self->call_impl);
    Py_VISIT(self->saved);
    Py_VISIT(self->inner);
    return 0;
}

static int hook_clear(PyObject *object) {
    HookObject *const self = (HookObject *)object;
    Py_CLEAR(self->module_dict);
    Py_CLEAR(self->call_impl);
    Py_CLEAR(self->saved);
    Py_CLEAR(self->inner);
    return 0;
}

static void hook_dealloc(PyObject *object) {
    PyTypeObject *const type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    (void)hook_clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyType_Slot hook_slots[] = {
    {Py_tp_doc, "Stands in a module's call slot while a call of the model is open."},
    {Py_tp_call, hook_call},
    {Py_tp_traverse, hook_traverse},
    {Py_tp_clear, hook_clear},
    {Py_tp_dealloc, hook_dealloc},
    {0, NULL},
};

PyType_Spec ws_hook_spec = {
    .name = "wavespeed._core.Hook",
    .basicsize = (int)sizeof(HookObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = hook_slots,
};
