/* The entries of a session, one per cond: whether what is stored fits, the decision of an evaluation, and its end.
 *
 * Rows of a batch are cond-major: with n conds, rows i*B/n .. (i+1)*B/n - 1 belong to cond i. Each cond is stored apart, so
 * that a different batch split in the next evaluation (ComfyUI decides it by free memory) finds its entries.
 *
 * With cache_device = cpu the stored tensors rest in host memory: a computed call builds them where the model is and moves
 * them when the trunk has ended, and whatever reads one fetches a copy that lives for that one operation. */
#include "entries.h"

void ws_entries_drop(SessionObject *session, int32_t slot) {
    for (size_t i = 0; i < WS_HISTORY; ++i) {
        Py_CLEAR(session->probe[slot][i]);
        Py_CLEAR(session->residual[slot][i]);
        Py_CLEAR(session->residual_sum[slot][i]);
    }
    Py_CLEAR(session->start[slot]);
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

PyObject *ws_entries_rows(const SessionObject *session, PyObject *tensor, Py_ssize_t cond, Py_ssize_t conds, Py_ssize_t rows,
                          const ws_names *names) {
    if (conds == 1) {
        return Py_NewRef(tensor);
    }
    PyObject *const narrow = PyObject_GetAttr(tensor, names->narrow); /* new */
    if (narrow == NULL) {
        return NULL;
    }
    PyObject *const view = PyObject_CallFunction(narrow, "nnn", session->batch_dim, cond * rows, rows);
    Py_DECREF(narrow);
    return view;
}

PyObject *ws_entries_at_hand(const SessionObject *session, PyObject *stored, PyObject *like) {
    return session->offloads ? PyObject_CallFunctionObjArgs(session->fetch, stored, like, NULL) : Py_NewRef(stored);
}

int ws_entries_fits_one(const SessionObject *session, PyObject *tensor, PyObject *stored, const ws_names *names,
                        PyObject *also) {
    const int place = session->offloads ? ws_tensors_share(tensor, stored, names->shape)
                                        : ws_tensors_same_place(tensor, stored, names);
    return place != 1 || also == NULL ? place : ws_tensors_share(tensor, stored, also);
}

/* 1 if what is stored for this cond fits its new rows, 0 if not, -1 with an exception. */
static int fits(const SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names) {
    for (size_t i = 0; i < session->call.points; ++i) {
        if (session->probe[slot][i] == NULL || session->residual[slot][i] == NULL ||
            session->residual_sum[slot][i] == NULL) {
            return 0;
        }
        const int fit = ws_entries_fits_one(session, probe, session->probe[slot][i], names, names->dtype);
        if (fit != 1) {
            return fit;
        }
    }
    /* Differences are as large as the residual. */
    return ws_entries_fits_one(session, hidden, session->residual[slot][0], names, NULL);
}

static int all_fit(SessionObject *session, PyObject *hidden, PyObject *probe, Py_ssize_t rows, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    for (Py_ssize_t i = 0; i < conds; ++i) {
        PyObject *const hidden_rows = ws_entries_rows(session, hidden, i, conds, rows, names); /* new */
        PyObject *const probe_rows = ws_entries_rows(session, probe, i, conds, rows, names);   /* new */
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

int ws_entries_decide(SessionObject *session, PyObject *hidden, PyObject *probe, const ws_names *names) {
    ws_call *const call = &session->call;
    const Py_ssize_t conds = (Py_ssize_t)call->conds;
    const Py_ssize_t batch = ws_tensor_size(hidden, session->batch_dim, names);
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
    session->measurement = (ws_measurement){0};
    if (call->intent != WS_INTENT_COMPUTE) {
        const int fit = all_fit(session, hidden, probe, rows, names);
        if (fit < 0) {
            return -1;
        }
        if (fit == 0) {
            ws_session_forget(session->session, call);
        }
    }
    if ((call->intent == WS_INTENT_COMPARE || session->follows_sigma) &&
        ws_entries_measure(session, probe, rows, names, &session->measurement) != 0) {
        return -1;
    }
    if (ws_session_decide(session->session, call, &session->measurement) == WS_ACTION_REUSE) {
        return ws_entries_reuse(session, hidden, rows, names);
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        PyObject *const hidden_rows = ws_entries_rows(session, hidden, i, conds, rows, names); /* new */
        PyObject *const probe_rows = ws_entries_rows(session, probe, i, conds, rows, names);   /* new */
        const int stored = hidden_rows == NULL || probe_rows == NULL
                               ? -1
                               : ws_entries_store(session, call->slot[i], hidden_rows, probe_rows, names);
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
    const Py_ssize_t batch = ws_tensor_size(end, session->batch_dim, names);
    if (batch < 0) {
        return -1;
    }
    if (batch % conds != 0) {
        session->misfit = true;
        return 0;
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        const int32_t slot = session->call.slot[i];
        PyObject *const end_rows = ws_entries_rows(session, end, i, conds, batch / conds, names); /* new */
        if (end_rows == NULL) {
            return -1;
        }
        PyObject *const sum = ws_entries_finish_one(session, slot, end_rows, names); /* new */
        Py_DECREF(end_rows);
        if (sum == NULL) {
            return -1;
        }
        if (sum == Py_None) {
            Py_DECREF(sum);
            session->misfit = true;
            return 0;
        }
        WS_SET_REFERENCE(session->residual_sum[slot][0], sum);
        if (session->offloads && ws_entries_put_to_rest(session, slot) != 0) {
            return -1;
        }
    }
    session->finished = true;
    return 0;
}
