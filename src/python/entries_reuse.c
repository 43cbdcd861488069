/* What reads the entries: they are compared with the first block of the next evaluation, and reused or forecast from. */
#include "entries.h"

/* The stored tensor of a history that is `i` evaluations old, or the oldest there is: its difference to itself is zero. */
static PyObject *point(const SessionObject *session, PyObject *const history[WS_HISTORY], size_t i) {
    return history[i < session->call.points ? i : session->call.points - 1];
}

/* The stored tensors of a history at hand; those that do not exist are the oldest again. 0, or -1 with an exception. */
static int history_at_hand(const SessionObject *session, PyObject *const history[WS_HISTORY], PyObject *like,
                           PyObject *out[WS_HISTORY]) {
    for (size_t i = 0; i < WS_HISTORY; ++i) {
        const bool is_repeated = i > 0 && point(session, history, i) == point(session, history, i - 1);
        out[i] = is_repeated ? Py_NewRef(out[i - 1]) : ws_entries_at_hand(session, point(session, history, i), like);
        if (out[i] == NULL) {
            while (i > 0) {
                Py_CLEAR(out[--i]);
            }
            return -1;
        }
    }
    return 0;
}

static void release_history(PyObject *history[WS_HISTORY]) {
    for (size_t i = 0; i < WS_HISTORY; ++i) {
        Py_CLEAR(history[i]);
    }
}

/* [sums, sum of each stored residual] of one cond, appended to parts. */
static int measure_cond(SessionObject *session, int32_t slot, PyObject *probe, PyObject *parts) {
    PyObject *history[WS_HISTORY]; /* new */
    if (history_at_hand(session, session->probe[slot], probe, history) != 0) {
        return -1;
    }
    PyObject *const sums =
        session->history == 1
            ? PyObject_CallFunctionObjArgs(session->distance, probe, history[0], NULL)
            : PyObject_CallFunctionObjArgs(session->moments, probe, history[0], history[1], history[2], NULL);
    release_history(history);
    int result = sums == NULL ? -1 : PyList_Append(parts, sums);
    Py_XDECREF(sums);
    for (size_t i = 0; result == 0 && i < session->call.points; ++i) {
        result = PyList_Append(parts, session->residual_sum[slot][i]);
    }
    return result;
}

/* Adds the numbers of all conds up; values: what measure_cond appended, per cond, then sigma. */
static int add_up(const SessionObject *session, PyObject *values, size_t conds, ws_measurement *out) {
    double *const fields[] = {&out->difference_sum, &out->reference_sum, &out->ee,   &out->ed1,
                              &out->ed2,            &out->d1d1,          &out->d1d2, &out->d2d2};
    const size_t moments = session->history == 1 ? 2 : sizeof(fields) / sizeof(fields[0]);
    const size_t per_cond = moments + session->call.points;
    for (size_t i = 0; i < conds * per_cond + 1; ++i) {
        PyObject *const item = PyList_GetItem(values, (Py_ssize_t)i); /* borrowed */
        const double value = item == NULL ? -1.0 : PyFloat_AsDouble(item);
        if (value == -1.0 && PyErr_Occurred()) {
            return -1;
        }
        if (i == conds * per_cond) {
            out->sigma = value;
        } else if (i % per_cond < moments) {
            *fields[i % per_cond] += value;
        } else {
            out->residual_sum += value;
        }
    }
    return 0;
}

int ws_entries_measure(SessionObject *session, PyObject *probe, Py_ssize_t rows, const ws_names *names,
                       ws_measurement *out) {
    const bool compares = session->call.intent == WS_INTENT_COMPARE;
    const Py_ssize_t conds = compares ? (Py_ssize_t)session->call.conds : 0;
    PyObject *const parts = PyList_New(0); /* new */
    int result = parts == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < conds; ++i) {
        PyObject *const current =
            ws_entries_rows(session, probe, i, (Py_ssize_t)session->call.conds, rows, names); /* new */
        result = current == NULL ? -1 : measure_cond(session, session->call.slot[i], current, parts);
        Py_XDECREF(current);
    }
    if (result == 0) {
        result = PyList_Append(parts, session->sigma);
    }
    PyObject *const values = result != 0 ? NULL : PyObject_CallFunctionObjArgs(session->read, parts, NULL); /* new */
    *out = (ws_measurement){0};
    result = values == NULL ? -1 : add_up(session, values, (size_t)conds, out);
    Py_XDECREF(parts);
    Py_XDECREF(values);
    return result;
}

/* What is added is R + w1 (R - R2) + w2 (R2 - R3), and the session's coefficients are those of R, R2 and R3. New
 * reference. */
static PyObject *extrapolate(const SessionObject *session, int32_t slot, PyObject *rows, PyObject *residual, bool in_place) {
    PyObject *const operation = in_place ? session->extrapolate_in_place : session->extrapolate;
    PyObject *const *const stored = session->residual[slot];
    const bool has_older = session->call.points == WS_HISTORY; /* else w2 is 0 */
    PyObject *const newer = ws_entries_at_hand(session, stored[1], rows); /* new */
    PyObject *const older =
        newer == NULL ? NULL : ws_entries_at_hand(session, stored[has_older ? 2 : 1], rows); /* new */
    const float *const c = session->call.coefficient;
    PyObject *const result = older == NULL ? NULL
                                           : PyObject_CallFunction(operation, "OOOOdd", rows, residual, newer, older,
                                                                   (double)c[0] - 1.0, -(double)c[2]);
    Py_XDECREF(newer);
    Py_XDECREF(older);
    return result;
}

/* One cond's rows plus its residual, or the forecast of it. New reference: the sum, or None when it was formed in place. */
static PyObject *add_residual(const SessionObject *session, int32_t slot, PyObject *rows, bool in_place) {
    PyObject *const residual = ws_entries_at_hand(session, session->residual[slot][0], rows); /* new */
    if (residual == NULL) {
        return NULL;
    }
    PyObject *const result =
        session->call.points > 1
            ? extrapolate(session, slot, rows, residual, in_place)
            : PyObject_CallFunctionObjArgs(in_place ? session->apply_in_place : session->apply, rows, residual, NULL);
    Py_DECREF(residual);
    return result;
}

int ws_entries_reuse(SessionObject *session, PyObject *hidden, Py_ssize_t rows, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    const int32_t *const slot = session->call.slot;
    PyObject *state = conds == 1 ? add_residual(session, slot[0], hidden, false) : ws_tensor_copy(hidden, names); /* new */
    for (Py_ssize_t i = 0; conds > 1 && state != NULL && i < conds; ++i) {
        PyObject *const view = ws_entries_rows(session, state, i, conds, rows, names);                 /* new */
        PyObject *const none = view == NULL ? NULL : add_residual(session, slot[i], view, true); /* new */
        if (none == NULL) {
            Py_CLEAR(state);
        }
        Py_XDECREF(none);
        Py_XDECREF(view);
    }
    if (state == NULL) {
        return -1;
    }
    WS_SET_REFERENCE(session->final_state, state);
    return 0;
}
