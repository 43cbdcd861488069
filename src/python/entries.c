/* The stored tensors of a session: measured, reused, rebuilt and dropped through torch operators.
 *
 * Rows of a batch are cond-major: with n conds, rows i*B/n .. (i+1)*B/n - 1 belong to cond i. Each cond is stored apart, so
 * that a different batch split in the next evaluation (ComfyUI decides it by free memory) finds its entries. */
#include "session_object.h"


void ws_entries_drop(SessionObject *session, int32_t slot) {
    Py_CLEAR(session->probe[slot]);
    Py_CLEAR(session->residual[slot]);
    Py_CLEAR(session->residual_sum[slot]);
}

void ws_entries_drop_all(SessionObject *session) {
    for (int32_t slot = 0; slot < WS_SESSION_SLOTS; ++slot) {
        ws_entries_drop(session, slot);
    }
}

bool ws_entries_recover_memory(SessionObject *session) {
    if (!PyErr_ExceptionMatches(session->out_of_memory)) {
        return false;
    }
    PyErr_Clear(); /* the only exception the cache handles itself: it caused the allocation */
    ws_entries_drop_all(session);
    ws_session_forget_all(session->session);
    ws_session_disable(session, "there was not enough memory for the cache, so it was dropped");
    session->suspended = true; /* the blocks that follow run as if the hooks were not there */
    return true;
}

/* tensor.shape[0], or -1 with an exception. */
static Py_ssize_t rows_of(PyObject *tensor, const ws_names *names) {
    PyObject *const shape = PyObject_GetAttr(tensor, names->shape); /* new */
    if (shape == NULL) {
        return -1;
    }
    PyObject *const first = PySequence_GetItem(shape, 0); /* new */
    Py_DECREF(shape);
    if (first == NULL) {
        return -1;
    }
    const Py_ssize_t rows = PyLong_AsSsize_t(first);
    Py_DECREF(first);
    return rows;
}

/* Rows of one cond: the tensor itself when there is only one, else a view. New reference. */
static PyObject *cond_rows(PyObject *tensor, Py_ssize_t cond, Py_ssize_t conds, Py_ssize_t rows, const ws_names *names) {
    if (conds == 1) {
        return Py_NewRef(tensor);
    }
    PyObject *const narrow = PyObject_GetAttr(tensor, names->narrow); /* new */
    if (narrow == NULL) {
        return NULL;
    }
    PyObject *const view = PyObject_CallFunction(narrow, "nnn", (Py_ssize_t)0, cond * rows, rows);
    Py_DECREF(narrow);
    return view;
}

/* 1 if both tensors have the same attribute, 0 if not, -1 with an exception. */
static int same_attribute(PyObject *a, PyObject *b, PyObject *name) {
    PyObject *const left = PyObject_GetAttr(a, name); /* new */
    if (left == NULL) {
        return -1;
    }
    PyObject *const right = PyObject_GetAttr(b, name); /* new */
    const int same = right == NULL ? -1 : PyObject_RichCompareBool(left, right, Py_EQ);
    Py_DECREF(left);
    Py_XDECREF(right);
    return same;
}

static int same_place(PyObject *a, PyObject *b, const ws_names *names) {
    const int shape = same_attribute(a, b, names->shape);
    return shape != 1 ? shape : same_attribute(a, b, names->device);
}

static int same_layout(PyObject *a, PyObject *b, const ws_names *names) {
    const int place = same_place(a, b, names);
    return place != 1 ? place : same_attribute(a, b, names->dtype);
}

/* 1 if what is stored for this cond fits its new rows, 0 if not, -1 with an exception. */
static int fits(const SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names) {
    if (session->probe[slot] == NULL || session->residual[slot] == NULL || session->residual_sum[slot] == NULL) {
        return 0;
    }
    const int stored_probe = same_layout(probe, session->probe[slot], names);
    return stored_probe != 1 ? stored_probe : same_place(hidden, session->residual[slot], names);
}

static int all_fit(SessionObject *session, PyObject *hidden, PyObject *probe, Py_ssize_t rows, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    for (Py_ssize_t i = 0; i < conds; ++i) {
        PyObject *const hidden_rows = cond_rows(hidden, i, conds, rows, names); /* new */
        PyObject *const probe_rows = cond_rows(probe, i, conds, rows, names);   /* new */
        const int fit = hidden_rows == NULL || probe_rows == NULL
                            ? -1
                            : fits(session, session->call.slot[i], hidden_rows, probe_rows, names);
        Py_XDECREF(hidden_rows);
        Py_XDECREF(probe_rows);
        if (fit != 1) {
            return fit;
        }
    }
    return 1;
}

/* Fills *out from the probes of all conds; every number reaches the host in one transfer. */
static int measure(SessionObject *session, PyObject *probe, Py_ssize_t rows, const ws_names *names, ws_measurement *out) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    PyObject *values = NULL;                   /* new */
    PyObject *const parts = PyList_New(0);     /* new: [sums, residual sum] per cond, then sigma */
    int result = -1;
    if (parts == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        const int32_t slot = session->call.slot[i];
        PyObject *const current = cond_rows(probe, i, conds, rows, names); /* new */
        if (current == NULL) {
            goto done;
        }
        PyObject *const sums = PyObject_CallFunctionObjArgs(session->distance, current, session->probe[slot], NULL);
        Py_DECREF(current);
        if (sums == NULL) {
            goto done;
        }
        const int appended = PyList_Append(parts, sums);
        Py_DECREF(sums);
        if (appended != 0 || PyList_Append(parts, session->residual_sum[slot]) != 0) {
            goto done;
        }
    }
    if (PyList_Append(parts, session->sigma) != 0) {
        goto done;
    }
    values = PyObject_CallFunctionObjArgs(session->read, parts, NULL);
    if (values == NULL) {
        goto done;
    }
    *out = (ws_measurement){0};
    for (Py_ssize_t i = 0; i < 3 * conds + 1; ++i) {
        PyObject *const item = PyList_GetItem(values, i); /* borrowed */
        if (item == NULL) {
            goto done;
        }
        const double value = PyFloat_AsDouble(item);
        if (value == -1.0 && PyErr_Occurred()) {
            goto done;
        }
        if (i == 3 * conds) {
            out->sigma = value;
        } else if (i % 3 == 0) {
            out->difference_sum += value;
        } else if (i % 3 == 1) {
            out->reference_sum += value;
        } else {
            out->residual_sum += value;
        }
    }
    result = 0;
done:
    Py_DECREF(parts);
    Py_XDECREF(values);
    return result;
}

/* hidden + residual for the whole batch, as a new tensor: later in-place additions to the pass-through tensor (ControlNet, patches
 * between blocks) are already part of the residual and must not reach it. */
static int reuse(SessionObject *session, PyObject *hidden, Py_ssize_t rows, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    PyObject *state = NULL; /* new */
    if (conds == 1) {
        state = PyObject_CallFunctionObjArgs(session->apply, hidden, session->residual[session->call.slot[0]], NULL);
    } else {
        PyObject *const clone = PyObject_GetAttr(hidden, names->clone); /* new */
        state = clone == NULL ? NULL : PyObject_CallFunctionObjArgs(clone, NULL);
        Py_XDECREF(clone);
        for (Py_ssize_t i = 0; state != NULL && i < conds; ++i) {
            PyObject *const view = cond_rows(state, i, conds, rows, names); /* new */
            PyObject *const none = view == NULL
                                       ? NULL
                                       : PyObject_CallFunctionObjArgs(session->apply_in_place, view,
                                                                      session->residual[session->call.slot[i]], NULL);
            Py_XDECREF(view);
            if (none == NULL) {
                Py_CLEAR(state);
            }
            Py_XDECREF(none);
        }
    }
    if (state == NULL) {
        return -1;
    }
    WS_SET_REFERENCE(session->final_state, state);
    return 0;
}

/* Copies source into *slot, reusing its memory where shape, dtype and device allow. make_new: callable(source). */
static int store(PyObject **slot, PyObject *source, PyObject *make_new, bool reusable, const ws_names *names) {
    PyObject *done = NULL; /* new */
    if (reusable) {
        PyObject *const copy = PyObject_GetAttr(*slot, names->copy_); /* new */
        done = copy == NULL ? NULL : PyObject_CallFunctionObjArgs(copy, source, NULL);
        Py_XDECREF(copy);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
        return 0;
    }
    Py_CLEAR(*slot); /* before the new one is allocated: the two would not always fit */
    done = PyObject_CallFunctionObjArgs(make_new, source, NULL);
    if (done == NULL) {
        return -1;
    }
    *slot = done;
    return 0;
}

static int store_cond(SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names) {
    Py_CLEAR(session->residual_sum[slot]);
    const int base_fits = session->residual[slot] == NULL ? 0 : same_place(hidden, session->residual[slot], names);
    if (base_fits < 0 ||
        store(&session->residual[slot], hidden, session->copy_to_float32, base_fits == 1, names) != 0) {
        return -1;
    }
    const int probe_fits = session->probe[slot] == NULL ? 0 : same_layout(probe, session->probe[slot], names);
    PyObject *const clone = probe_fits < 0 ? NULL : PyObject_GetAttr((PyObject *)Py_TYPE(probe), names->clone); /* new */
    if (clone == NULL) {
        return -1;
    }
    const int stored = store(&session->probe[slot], probe, clone, probe_fits == 1, names);
    Py_DECREF(clone);
    return stored;
}

int ws_entries_decide(SessionObject *session, PyObject *hidden, PyObject *probe, const ws_names *names) {
    ws_call *const call = &session->call;
    const Py_ssize_t conds = (Py_ssize_t)call->conds;
    const Py_ssize_t batch = rows_of(hidden, names);
    if (batch < 0) {
        return -1;
    }
    if (batch % conds != 0) {
        ws_session_disable(session, "the rows of a batch cannot be divided among its prompts");
        session->suspended = true;
        return 0;
    }
    const Py_ssize_t rows = batch / conds;
    for (Py_ssize_t i = 0; i < conds; ++i) {
        if (call->recycled[i]) {
            ws_entries_drop(session, call->slot[i]);
        }
    }
    ws_measurement measurement = {0};
    if (call->intent != WS_INTENT_COMPUTE) {
        const int fit = all_fit(session, hidden, probe, rows, names);
        if (fit < 0) {
            return -1;
        }
        if (fit == 0) {
            ws_session_forget(session->session, call);
        }
    }
    if (call->intent == WS_INTENT_COMPARE && measure(session, probe, rows, names, &measurement) != 0) {
        return -1;
    }
    if (ws_session_decide(session->session, call, &measurement) == WS_ACTION_REUSE) {
        return reuse(session, hidden, rows, names);
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        PyObject *const hidden_rows = cond_rows(hidden, i, conds, rows, names); /* new */
        PyObject *const probe_rows = cond_rows(probe, i, conds, rows, names);   /* new */
        const int stored = hidden_rows == NULL || probe_rows == NULL
                               ? -1
                               : store_cond(session, call->slot[i], hidden_rows, probe_rows, names);
        Py_XDECREF(hidden_rows);
        Py_XDECREF(probe_rows);
        if (stored != 0) {
            return -1;
        }
    }
    return 0;
}

int ws_entries_finish(SessionObject *session, PyObject *end, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    const Py_ssize_t batch = rows_of(end, names);
    if (batch < 0) {
        return -1;
    }
    if (batch % conds != 0) {
        session->misfit = true;
        return 0;
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        const int32_t slot = session->call.slot[i];
        PyObject *const end_rows = cond_rows(end, i, conds, batch / conds, names); /* new */
        if (end_rows == NULL) {
            return -1;
        }
        const int same = same_place(end_rows, session->residual[slot], names);
        if (same == 1) {
            WS_SET_REFERENCE(session->residual_sum[slot],
                             PyObject_CallFunctionObjArgs(session->finish, session->residual[slot], end_rows, NULL));
        }
        Py_DECREF(end_rows);
        if (same < 0) {
            return -1;
        }
        if (same == 0) {
            session->misfit = true;
            return 0;
        }
        if (session->residual_sum[slot] == NULL) {
            return -1;
        }
    }
    session->finished = true;
    return 0;
}
