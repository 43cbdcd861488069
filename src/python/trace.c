/* Traces in Python: a session that records one, and the replay of one. */
#include "session_object.h"
#include "wavespeed/trace.h"

#include <math.h>
#include <string.h>

/* ---- recording ------------------------------------------------------------------------------------------- */

/* Appends a part of `size` bytes to the trace. Its memory, to be filled; NULL with an exception. */
static char *append(SessionObject *session, size_t size) {
    PyObject *const part = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size); /* new */
    const int appended = part == NULL ? -1 : PyList_Append(session->trace, part);
    Py_XDECREF(part);
    return appended != 0 ? NULL : PyBytes_AsString(part); /* the list keeps it */
}

int ws_trace_begin(SessionObject *session, const double *schedule, size_t length) {
    const uint32_t n = length > WS_TRACE_SCHEDULE ? 0 : (uint32_t)length;
    session->trace = PyList_New(0);
    char *const out = session->trace == NULL ? NULL : append(session, ws_trace_write_begin(NULL, schedule, n));
    if (out == NULL) {
        return -1;
    }
    (void)ws_trace_write_begin(out, schedule, n);
    return 0;
}

/* keeper: receives the bytes that the sketch points into. -1 with an exception, or 0. */
static int take_sketch(const SessionObject *session, PyObject *tensor, PyObject *keeper, ws_sketch *out) {
    PyObject *const found = PyObject_CallFunctionObjArgs(session->sketch, tensor, NULL); /* new */
    unsigned long long elements = 0;
    PyObject *bytes = NULL; /* borrowed from found */
    int done = found == NULL || !PyArg_ParseTuple(found, "KS", &elements, &bytes) ? -1 : PyList_Append(keeper, bytes);
    if (done == 0) {
        const Py_ssize_t size = PyBytes_Size(bytes);
        const void *const values = PyBytes_AsString(bytes);
        *out = (ws_sketch){elements, (uint32_t)((size_t)size / sizeof(float)), (const float *)values};
    }
    Py_XDECREF(found);
    return done;
}

int ws_trace_record(SessionObject *session) {
    PyObject *const keeper = PyList_New(0); /* new */
    int done = keeper == NULL ? -1 : 0;
    session->traced_evaluations += session->evaluation_traced ? 0 : 1;
    session->evaluation_traced = true;
    ++session->traced_calls;
    ws_trace_call call = {
        .evaluation = session->traced_evaluations, .conds = session->call.conds, .measurement = session->measurement};
    for (size_t i = 0; done == 0 && i < call.conds; ++i) {
        const int32_t slot = session->call.slot[i];
        call.key[i] = session->keys[i];
        done = take_sketch(session, session->probe[slot][0], keeper, &call.probe[i]) != 0 ||
                       take_sketch(session, session->residual[slot][0], keeper, &call.residual[i]) != 0
                   ? -1
                   : 0;
    }
    char *const out = done != 0 ? NULL : append(session, ws_trace_write_call(NULL, &call));
    if (out != NULL) {
        (void)ws_trace_write_call(out, &call);
    }
    Py_XDECREF(keeper);
    return out == NULL ? -1 : 0;
}

PyObject *ws_trace_bytes(PyObject *object, PyObject *unused) {
    (void)unused;
    SessionObject *const session = (SessionObject *)object;
    if (session->trace == NULL) {
        return Py_NewRef(Py_None);
    }
    const Py_ssize_t parts = PyList_Size(session->trace);
    size_t size = ws_trace_write_end(NULL, session->traced_calls);
    for (Py_ssize_t i = 0; i < parts; ++i) {
        size += (size_t)PyBytes_Size(PyList_GetItem(session->trace, i));
    }
    PyObject *const whole = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (whole == NULL) {
        return NULL;
    }
    char *out = PyBytes_AsString(whole);
    for (Py_ssize_t i = 0; i < parts; ++i) {
        PyObject *const part = PyList_GetItem(session->trace, i); /* borrowed */
        const size_t length = (size_t)PyBytes_Size(part);
        memcpy(out, PyBytes_AsString(part), length);
        out += length;
    }
    (void)ws_trace_write_end(out, session->traced_calls);
    return whole;
}

/* ---- replay ---------------------------------------------------------------------------------------------- */

static PyObject *list_of(const ws_replayed *evaluations, int64_t n) {
    PyObject *const list = PyList_New(0); /* new */
    for (int64_t i = 0; list != NULL && i < n; ++i) {
        const ws_replayed *const at = &evaluations[i];
        PyObject *const item = /* new */
            Py_BuildValue("(dOdd)", at->sigma, at->computed ? Py_True : Py_False, at->predicted, at->actual);
        const int appended = item == NULL ? -1 : PyList_Append(list, item);
        Py_XDECREF(item);
        if (appended != 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

PyObject *ws_replay_trace(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *keywords[] = {"trace", "strategy", "threshold", "speedup", NULL};
    const char *bytes = NULL, *strategy = NULL;
    Py_ssize_t size = 0;
    ws_session_settings settings = {.sigma_start = HUGE_VAL, .max_consecutive_hits = -1};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#s|dd:replay_trace", keywords, &bytes, &size, &strategy,
                                     &settings.threshold, &settings.speedup)) {
        return NULL;
    }
    settings.strategy = strcmp(strategy, "forecast") == 0 ? WS_STRATEGY_FORECAST : WS_STRATEGY_CLASSIC;
    ws_error error = {WS_OK, -1, ""};
    ws_trace trace;
    if (ws_trace_read(bytes, (size_t)size, &trace, &error) != WS_OK) {
        return ws_raise(&error);
    }
    ws_replayed *const out = PyMem_Malloc((size_t)trace.evaluations * sizeof(*out));
    if (out == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *const list = ws_trace_replay(&trace, &settings, out, &error) == WS_OK ? list_of(out, trace.evaluations)
                                                                                   : ws_raise(&error);
    PyMem_Free(out);
    return list;
}
