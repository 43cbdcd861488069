/* Session: one sampling run of one model, as Python sees it.
 *
 *     session = Session(threshold, sigma_start, sigma_end, max_consecutive_hits, metric, stages, hooks, operations,
 *                       strategy="classic", schedule=(), speedup=0, batch_dim=0, offloads=False, empty_arguments=(),
 *                       final_part="same", records=False)
 *     session.begin_evaluation()
 *     if session.open_call(keys, sigma):
 *         try:     the model's forward
 *         finally: run_again = session.close_call(completed)
 *     session.statistics()
 *     session.trace()
 *     session.close()
 *
 * The hooks are in the model only between open_call and close_call. */
#include "session_object.h"

#include <string.h>

void ws_session_disable(SessionObject *session, const char *reason) {
    if (session->disabled == NULL) {
        session->disabled = PyUnicode_FromString(reason); /* if this fails the exception surfaces at the next call */
    }
}

/* ---- construction ---------------------------------------------------------------------------------------------- */

static int read_operations(SessionObject *self, PyObject *operations) {
#define WS_READ_OPERATION(name)                                  \
    self->name = PyObject_GetAttrString(operations, #name);      \
    if (self->name == NULL) {                                    \
        return -1;                                               \
    }
    WS_OPERATIONS(WS_READ_OPERATION)
#undef WS_READ_OPERATION
    return 0;
}

/* The tuple's numbers in memory of the caller's; schedule may be NULL. NULL with an exception. */
static double *read_schedule(PyObject *schedule, size_t *length) {
    const Py_ssize_t n = schedule == NULL ? 0 : PyTuple_Size(schedule);
    double *const sigmas = PyMem_Malloc((size_t)n * sizeof(*sigmas));
    if (sigmas == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; ++i) {
        sigmas[i] = PyFloat_AsDouble(PyTuple_GetItem(schedule, i));
        if (sigmas[i] == -1.0 && PyErr_Occurred()) {
            PyMem_Free(sigmas);
            return NULL;
        }
    }
    *length = (size_t)n;
    return sigmas;
}

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"threshold", "sigma_start", "sigma_end",  "max_consecutive_hits",
                               "metric",    "stages",      "hooks",      "operations", "strategy",   "schedule",
                               "speedup",   "batch_dim",   "offloads",   "empty_arguments", "final_part", "records", NULL};
    ws_session_settings settings = {0};
    long long hits = 0;
    const char *metric = NULL, *strategy = "classic", *final_part = "same";
    PyObject *stages = NULL, *hooks = NULL, *operations = NULL, *schedule = NULL, *empty_arguments = NULL; /* borrowed */
    Py_ssize_t batch_dim = 0;
    int offloads = 0, records = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "dddLsOOO|sO!dnpO!sp:Session", keywords, &settings.threshold,
                                     &settings.sigma_start, &settings.sigma_end, &hits, &metric, &stages, &hooks,
                                     &operations, &strategy, &PyTuple_Type, &schedule, &settings.speedup, &batch_dim,
                                     &offloads, &PyTuple_Type, &empty_arguments, &final_part, &records)) {
        return NULL;
    }
    settings.max_consecutive_hits = hits;
    settings.strategy = strcmp(strategy, "forecast") == 0 ? WS_STRATEGY_FORECAST : WS_STRATEGY_CLASSIC;
    double *const sigmas = read_schedule(schedule, &settings.schedule_length); /* freed below; the session copies it */
    if (sigmas == NULL) {
        return NULL;
    }
    settings.schedule = sigmas;
    const allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    SessionObject *const self = (SessionObject *)allocate(type, 0); /* zeroed */
    if (self == NULL) {
        PyMem_Free(sigmas);
        return NULL;
    }
    self->compares_output = strcmp(metric, "output") == 0;
    self->history = settings.strategy == WS_STRATEGY_FORECAST ? WS_HISTORY : 1;
    self->follows_sigma = self->history > 1 || settings.speedup != 0.0;
    ws_error error = {WS_OK, -1, ""};
    const ws_status created = ws_session_create(&settings, &self->session, &error);
    const int began = created == WS_OK && records != 0 ? ws_trace_begin(self, sigmas, settings.schedule_length) : 0;
    PyMem_Free(sigmas);
    if (created != WS_OK || began != 0) {
        (void)(began != 0 ? NULL : ws_raise(&error));
        Py_DECREF(self);
        return NULL;
    }
    self->batch_dim = batch_dim;
    self->offloads = offloads != 0;
    self->empty_arguments = empty_arguments == NULL ? PyTuple_New(0) : Py_NewRef(empty_arguments);
    if (self->empty_arguments == NULL || ws_plan_read_final_part(self, final_part) != 0 ||
        ws_plan_read_stages(self, stages) != 0 || read_operations(self, operations) != 0 ||
        ws_plan_read_hooks(self, hooks, ws_state_of_type(type)) != 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

/* Removes every hook, also after a failure, and keeps the first exception. */
static int remove_hooks(SessionObject *self) {
    int result = 0;
    for (Py_ssize_t i = self->hooks == NULL ? 0 : PyList_Size(self->hooks); i > 0; --i) {
        HookObject *const hook = (HookObject *)PyList_GetItem(self->hooks, i - 1); /* borrowed */
        if (ws_hook_remove(hook) != 0) {
            result = -1;
        }
    }
    return result;
}

static int install_hooks(SessionObject *self) {
    for (Py_ssize_t i = 0; i < PyList_Size(self->hooks); ++i) {
        HookObject *const hook = (HookObject *)PyList_GetItem(self->hooks, i); /* borrowed */
        if (ws_hook_install(hook) != 0) {
            return -1;
        }
    }
    return 0;
}

static int read_key(PyObject *item, ws_key *key) {
    unsigned long long uuid_high = 0, uuid_low = 0, window = 0, fingerprint = 0;
    long long cond_index = 0;
    if (!PyArg_ParseTuple(item, "LKKKK", &cond_index, &uuid_high, &uuid_low, &window, &fingerprint)) {
        return -1;
    }
    *key = (ws_key){.uuid_high = uuid_high,
                    .uuid_low = uuid_low,
                    .window = window,
                    .fingerprint = fingerprint,
                    .cond_index = cond_index};
    return 0;
}

static PyObject *session_begin_evaluation(PyObject *object, PyObject *unused) {
    (void)unused;
    SessionObject *const self = (SessionObject *)object;
    if (self->session != NULL) {
        ws_session_begin_evaluation(self->session);
        self->evaluation_traced = false;
    }
    return Py_NewRef(Py_None);
}

static PyObject *session_open_call(PyObject *object, PyObject *args) {
    SessionObject *const self = (SessionObject *)object;
    PyObject *keys = NULL, *sigma = NULL; /* borrowed */
    int patched = 0;
    if (!PyArg_ParseTuple(args, "O!O|p:open_call", &PyTuple_Type, &keys, &sigma, &patched)) {
        return NULL;
    }
    if (self->open || self->disabled != NULL || self->session == NULL) {
        return Py_NewRef(Py_False);
    }
    const Py_ssize_t conds = PyTuple_Size(keys);
    if (conds < 1 || conds > WS_CALL_CONDS) {
        return Py_NewRef(Py_False);
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        if (read_key(PyTuple_GetItem(keys, i), &self->keys[i]) != 0) {
            return NULL;
        }
    }
    if (ws_session_open(self->session, self->keys, (size_t)conds, &self->call, NULL) != WS_OK) {
        return Py_NewRef(Py_False); /* more conds than the table holds: compute */
    }
    self->patched = patched != 0;
    self->suspended = false;
    self->leaving = false;
    self->injected = false;
    self->finished = false;
    self->misfit = false;
    self->first_calls = 0;
    self->final_calls = 0;
    for (Py_ssize_t i = 0; i < self->n_stages; ++i) {
        self->stages[i].entered = false;
    }
    WS_SET_REFERENCE(self->sigma, Py_NewRef(sigma));
    if (install_hooks(self) != 0) {
        PyObject *type = NULL, *value = NULL, *traceback = NULL;
        PyErr_Fetch(&type, &value, &traceback);
        (void)remove_hooks(self);
        PyErr_Restore(type, value, traceback);
        ws_session_abort(self->session, &self->call);
        return NULL;
    }
    self->thread = PyThread_get_thread_ident();
    self->open = true;
    return Py_NewRef(Py_True);
}

/* What a computed call must have shown for its entries to be trusted; NULL when all is well. */
static const char *structure_problem(const SessionObject *self) {
    if (self->first_calls > 1) {
        return "its first block is called several times in one evaluation";
    }
    if (self->final_calls == 0) {
        return "its last layer was never called";
    }
    if (self->final_calls > 1) {
        return "its last layer is called several times in one evaluation";
    }
    if (self->misfit || !self->finished) {
        return "its hidden state changes its shape between the first block and the last layer";
    }
    for (Py_ssize_t i = 0; i < self->n_stages; ++i) {
        if (!self->stages[i].entered) {
            return "a whole list of its blocks was never called";
        }
    }
    return NULL;
}

/* True when the call must be run again without the cache. */
static bool settle_call(SessionObject *self, bool completed) {
    ws_call *const call = &self->call;
    if (!completed || !call->decided || self->suspended) {
        ws_session_abort(self->session, call);
        return false;
    }
    if (call->action == WS_ACTION_REUSE) {
        if (self->injected) {
            ws_session_commit(self->session, call);
            return false;
        }
        ws_session_abort(self->session, call);
        ws_session_disable(self, "the reused state did not reach its last layer");
        return true;
    }
    const char *const problem = structure_problem(self);
    if (problem == NULL) {
        ws_session_commit(self->session, call);
        return false;
    }
    ws_session_abort(self->session, call);
    if (!self->patched) {
        ws_session_disable(self, problem);
    }
    return false;
}

static PyObject *session_close_call(PyObject *object, PyObject *args) {
    SessionObject *const self = (SessionObject *)object;
    int completed = 0;
    if (!PyArg_ParseTuple(args, "p:close_call", &completed)) {
        return NULL;
    }
    if (!self->open) {
        return Py_NewRef(Py_False);
    }
    self->open = false;
    const bool run_again = settle_call(self, completed != 0);
    int recorded = 0;
    if (self->trace != NULL && completed != 0 && self->call.decided && self->finished && self->disabled == NULL) {
        recorded = ws_trace_record(self);
    }
    if (self->disabled != NULL) {
        ws_entries_drop_all(self); /* nothing will be reused any more, and memory belongs to the model */
    }
    Py_CLEAR(self->final_state);
    Py_CLEAR(self->stream);
    Py_CLEAR(self->entry_probe);
    Py_CLEAR(self->sigma);
    if (remove_hooks(self) != 0 || recorded != 0) {
        return NULL;
    }
    return Py_NewRef(run_again ? Py_True : Py_False);
}

/* ---- results and the end ----------------------------------------------------------------------------------------- */

/* Bytes of one slot's tensors, added to *total. */
static int add_bytes(PyObject *tensor, const ws_names *names, long long *total) {
    if (tensor == NULL) {
        return 0;
    }
    PyObject *const bytes = PyObject_GetAttr(tensor, names->nbytes); /* new */
    const long long value = bytes == NULL ? -1 : PyLong_AsLongLong(bytes);
    Py_XDECREF(bytes);
    *total += value;
    return value < 0 ? -1 : 0;
}

static PyObject *session_statistics(PyObject *object, PyObject *unused) {
    (void)unused;
    SessionObject *const self = (SessionObject *)object;
    ws_statistics numbers = {0};
    if (self->session != NULL) {
        ws_session_statistics(self->session, &numbers);
    }
    const ws_names *const names = &ws_state_of_type(Py_TYPE(object))->names;
    long long bytes = 0;
    for (int32_t slot = 0; slot < WS_SESSION_SLOTS; ++slot) {
        for (size_t i = 0; i < WS_HISTORY; ++i) {
            if (add_bytes(self->probe[slot][i], names, &bytes) != 0 ||
                add_bytes(self->residual[slot][i], names, &bytes) != 0) {
                return NULL;
            }
        }
    }
    return Py_BuildValue(
        "{s:L,s:L,s:L,s:L,s:d,s:d,s:d,s:L,s:O,s:{s:L,s:L,s:L,s:L,s:L,s:L}}",
        "evaluations", (long long)numbers.evaluations,
        "computed", (long long)numbers.computed,
        "reused", (long long)numbers.reused,
        "compared", (long long)numbers.compared,
        "change_sum", numbers.change_sum, "change_min", numbers.change_min, "change_max", numbers.change_max,
        "bytes", bytes,
        "disabled", self->disabled != NULL ? self->disabled : Py_None,
        "reasons",
        "no_entry", (long long)numbers.reasons[WS_REASON_NO_ENTRY],
        "changed", (long long)numbers.reasons[WS_REASON_CHANGED],
        "planned", (long long)numbers.reasons[WS_REASON_PLANNED],
        "not_finite", (long long)numbers.reasons[WS_REASON_NOT_FINITE],
        "sigma", (long long)numbers.reasons[WS_REASON_SIGMA],
        "hits", (long long)numbers.reasons[WS_REASON_HITS]);
}

static int session_clear(PyObject *object) {
    SessionObject *const self = (SessionObject *)object;
    for (Py_ssize_t i = self->hooks == NULL ? 0 : PyList_Size(self->hooks); i > 0; --i) {
        ((HookObject *)PyList_GetItem(self->hooks, i - 1))->session = NULL; /* hooks that outlive us pass through */
    }
    Py_CLEAR(self->hooks);
    ws_entries_drop_all(self);
#define WS_CLEAR_OPERATION(name) Py_CLEAR(self->name);
    WS_OPERATIONS(WS_CLEAR_OPERATION)
#undef WS_CLEAR_OPERATION
    Py_CLEAR(self->stream);
    Py_CLEAR(self->empty_arguments);
    Py_CLEAR(self->tail);
    Py_CLEAR(self->tail_dtype);
    Py_CLEAR(self->entry_probe);
    Py_CLEAR(self->trace);
    Py_CLEAR(self->disabled);
    Py_CLEAR(self->sigma);
    Py_CLEAR(self->final_state);
    for (Py_ssize_t i = 0; i < WS_STAGES; ++i) {
        for (Py_ssize_t j = 0; j < WS_HIDDEN; ++j) {
            Py_CLEAR(self->stages[i].name[j]);
        }
    }
    return 0;
}

static PyObject *session_close(PyObject *object, PyObject *unused) {
    (void)unused;
    SessionObject *const self = (SessionObject *)object;
    self->open = false;
    const int removed = remove_hooks(self);
    ws_session_free(self->session);
    self->session = NULL;
    (void)session_clear(object);
    return removed != 0 ? NULL : Py_NewRef(Py_None);
}

static int session_traverse(PyObject *object, visitproc visit, void *arg) {
    SessionObject *const self = (SessionObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->hooks);
    for (int32_t slot = 0; slot < WS_SESSION_SLOTS; ++slot) {
        for (size_t i = 0; i < WS_HISTORY; ++i) {
            Py_VISIT(self->probe[slot][i]);
            Py_VISIT(self->residual[slot][i]);
            Py_VISIT(self->residual_sum[slot][i]);
        }
        Py_VISIT(self->start[slot]);
    }
#define WS_VISIT_OPERATION(name) Py_VISIT(self->name);
    WS_OPERATIONS(WS_VISIT_OPERATION)
#undef WS_VISIT_OPERATION
    Py_VISIT(self->stream);
    Py_VISIT(self->empty_arguments);
    Py_VISIT(self->tail);
    Py_VISIT(self->tail_dtype);
    Py_VISIT(self->entry_probe);
    Py_VISIT(self->trace);
    Py_VISIT(self->sigma);
    Py_VISIT(self->final_state);
    return 0;
}

static void session_dealloc(PyObject *object) {
    PyTypeObject *const type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    (void)session_clear(object);
    ws_session_free(((SessionObject *)object)->session);
    const freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef session_methods[] = {
    {"begin_evaluation", session_begin_evaluation, METH_NOARGS,
     "begin_evaluation()\n--\n\nMarks the boundary between two evaluations of the guider."},
    {"open_call", session_open_call, METH_VARARGS,
     "open_call(keys, sigma, patched=False)\n--\n\n"
     "Installs the hooks for one call of the model.\n\n"
     "keys: tuple, one (cond_index, uuid_high, uuid_low, window, fingerprint) per cond of the batch, in row order.\n"
     "sigma: tensor of shape (1,), any device.\n"
     "patched: other nodes replace blocks in this call, so the model may not show its usual structure.\n"
     "Returns False when this call must run without the cache: one is open already, or the cache is off."},
    {"close_call", session_close_call, METH_VARARGS,
     "close_call(completed)\n--\n\n"
     "Removes the hooks. completed: False when the model raised.\n"
     "Returns True when the call must be run again without the cache."},
    {"statistics", session_statistics, METH_NOARGS,
     "statistics()\n--\n\nA dict of counts; see include/wavespeed/session.h. bytes: held by the stored tensors now."},
    {"trace", ws_trace_bytes, METH_NOARGS,
     "trace()\n--\n\nThe evaluations so far as a trace (include/wavespeed/trace.h); None unless the session records."},
    {"close", session_close, METH_NOARGS,
     "close()\n--\n\nDrops every tensor and reference. The session is of no use afterwards."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot session_slots[] = {
    {Py_tp_doc, "One sampling run of one model."},
    {Py_tp_new, session_new},
    {Py_tp_methods, session_methods},
    {Py_tp_traverse, session_traverse},
    {Py_tp_clear, session_clear},
    {Py_tp_dealloc, session_dealloc},
    {0, NULL},
};

PyType_Spec ws_session_spec = {
    .name = "wavespeed._core.Session",
    .basicsize = (int)sizeof(SessionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = session_slots,
};
