/* What writes the entries: a computed evaluation stores its probe and, when its trunk has ended, its residual. */
#include "entries.h"

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

/* The oldest tensor comes to the front, where it is overwritten. */
static void rotate(PyObject *history[WS_HISTORY], Py_ssize_t length) {
    PyObject *const oldest = history[length - 1];
    for (Py_ssize_t i = length - 1; i > 0; --i) {
        history[i] = history[i - 1];
    }
    history[0] = oldest;
}

/* The residual's memory holds its base, hidden in fp32, until the trunk ends. */
static int store_base(SessionObject *session, int32_t slot, PyObject *hidden, const ws_names *names) {
    PyObject **const residual = &session->residual[slot][0];
    const int fits_in = *residual == NULL ? 0 : ws_tensors_same_place(hidden, *residual, names);
    return fits_in < 0 ? -1 : store(residual, hidden, session->copy_to_float32, fits_in == 1, names);
}

/* A history still needs its residual when the trunk ends, so the state that the new one is measured from is kept apart. */
static int store_start(SessionObject *session, int32_t slot, PyObject *hidden, const ws_names *names) {
    Py_CLEAR(session->start[slot]); /* of a call that was interrupted */
    session->start[slot] = ws_tensor_copy(hidden, names);
    return session->start[slot] == NULL ? -1 : 0;
}

static int store_probe(SessionObject *session, int32_t slot, PyObject *probe, const ws_names *names) {
    PyObject **const stored = &session->probe[slot][0];
    if (!session->compares_output && session->call.conds == 1) {
        WS_SET_REFERENCE(*stored, Py_NewRef(probe)); /* made for this call, and nobody else has it */
        return 0;
    }
    const int fits_in = *stored == NULL ? 0 : ws_tensors_same_layout(probe, *stored, names);
    PyObject *const clone = fits_in < 0 ? NULL : PyObject_GetAttr((PyObject *)Py_TYPE(probe), names->clone); /* new */
    const int result = clone == NULL ? -1 : store(stored, probe, clone, fits_in == 1, names);
    Py_XDECREF(clone);
    return result;
}

int ws_entries_store(SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names) {
    rotate(session->probe[slot], session->history);
    rotate(session->residual_sum[slot], session->history);
    Py_CLEAR(session->residual_sum[slot][0]);
    int stored = 0;
    if (!session->compares_output) {
        stored = session->history == 1 ? store_base(session, slot, hidden, names)
                                       : store_start(session, slot, hidden, names);
    }
    return stored != 0 ? -1 : store_probe(session, slot, probe, names);
}

static int put_to_rest(const SessionObject *session, PyObject **tensor) {
    PyObject *const moved = PyObject_CallFunctionObjArgs(session->offload, *tensor, NULL); /* new */
    if (moved == NULL) {
        return -1;
    }
    WS_SET_REFERENCE(*tensor, moved);
    return 0;
}

int ws_entries_put_to_rest(SessionObject *session, int32_t slot) {
    PyObject **const residual = session->residual[slot];
    if (put_to_rest(session, &residual[0]) != 0 || put_to_rest(session, &session->probe[slot][0]) != 0) {
        return -1;
    }
    return residual[1] == NULL ? 0 : put_to_rest(session, &residual[1]);
}

/* end minus the stored probe, where the residual's memory is there already. New reference: the residual's sum, or None where
 * it is not, or where the trunk ended in another form than it began with. */
static PyObject *finish_from_probe(const SessionObject *session, int32_t slot, PyObject *end, const ws_names *names) {
    PyObject *const residual = session->residual[slot][0];
    PyObject *const probe = session->probe[slot][0];
    const int same = residual == NULL ? 0 : ws_tensors_same_layout(end, probe, names);
    const int fits_in = same != 1 ? same : ws_tensors_same_place(end, residual, names);
    if (fits_in == 1) {
        return PyObject_CallFunctionObjArgs(session->subtract, residual, probe, end, NULL);
    }
    return fits_in < 0 ? NULL : Py_NewRef(Py_None);
}

/* The newest residual of a history moves on by one evaluation, and how it changed becomes the newest difference. start and
 * end: of one shape and dtype. New reference: the residual's sum. */
static PyObject *advance_history(SessionObject *session, int32_t slot, PyObject *start, PyObject *end,
                                 const ws_names *names) {
    PyObject **const residual = session->residual[slot];
    PyObject **const differences = residual + 1;
    const int fits_in = residual[0] == NULL ? 0 : ws_entries_fits_one(session, end, residual[0], names, NULL);
    if (fits_in != 1) {
        for (size_t i = 0; i < WS_HISTORY; ++i) {
            Py_CLEAR(residual[i]);
        }
        residual[0] = fits_in < 0 ? NULL : PyObject_CallFunctionObjArgs(session->copy_to_float32, start, NULL);
        return residual[0] == NULL ? NULL : PyObject_CallFunctionObjArgs(session->finish, residual[0], end, NULL);
    }
    PyObject *const newest = ws_entries_at_hand(session, residual[0], end); /* new */
    if (newest == NULL) {
        return NULL;
    }
    WS_SET_REFERENCE(residual[0], newest);
    rotate(differences, WS_DIFFERENCES);
    if (differences[0] == NULL || session->offloads) {
        Py_CLEAR(differences[0]);
        differences[0] = PyObject_CallFunctionObjArgs(session->new_difference, newest, NULL);
        if (differences[0] == NULL) {
            return NULL;
        }
    }
    return PyObject_CallFunctionObjArgs(session->advance, newest, differences[0], start, end, NULL);
}

/* The end of the trunk in the shape of start. New reference; None where it has another shape that is not known. */
static PyObject *whole_end(const SessionObject *session, PyObject *start, PyObject *end, const ws_names *names) {
    const int same = ws_tensors_same_place(end, start, names);
    if (same == 0 && session->final_part != WS_WITHIN_SAME) {
        return PyObject_CallFunctionObjArgs(session->complete, start, end,
                                            session->final_part == WS_WITHIN_TAIL ? Py_True : Py_False, NULL);
    }
    return same < 0 ? NULL : Py_NewRef(same == 1 ? end : Py_None);
}

/* ws_entries_finish_one() where there is a history. */
static PyObject *finish_history(SessionObject *session, int32_t slot, PyObject *end, const ws_names *names) {
    PyObject *const kept = session->compares_output ? session->probe[slot][0] : session->start[slot];
    PyObject *const whole = whole_end(session, kept, end, names); /* new */
    if (whole == NULL || whole == Py_None) {
        return whole;
    }
    PyObject *const dtype = PyObject_GetAttr(whole, names->dtype);                      /* new */
    PyObject *const start = dtype == NULL ? NULL : ws_streams_cast(kept, dtype, names); /* new */
    PyObject *const sum = start == NULL ? NULL : advance_history(session, slot, start, whole, names);
    Py_XDECREF(start);
    Py_XDECREF(dtype);
    Py_DECREF(whole);
    Py_CLEAR(session->start[slot]);
    return sum;
}

PyObject *ws_entries_finish_one(SessionObject *session, int32_t slot, PyObject *end, const ws_names *names) {
    if (session->history > 1) {
        return finish_history(session, slot, end, names);
    }
    if (session->compares_output) {
        PyObject *const sum = finish_from_probe(session, slot, end, names);
        if (sum != Py_None) {
            return sum;
        }
        Py_DECREF(sum);
        if (store_base(session, slot, session->probe[slot][0], names) != 0) {
            return NULL;
        }
    }
    PyObject *const base = session->residual[slot][0];
    const int same = ws_tensors_same_place(end, base, names);
    if (same == 1) {
        return PyObject_CallFunctionObjArgs(session->finish, base, end, NULL);
    }
    if (same == 0 && session->final_part != WS_WITHIN_SAME) {
        return PyObject_CallFunctionObjArgs(session->finish_part, base, end,
                                            session->final_part == WS_WITHIN_TAIL ? Py_True : Py_False, NULL);
    }
    return same < 0 ? NULL : Py_NewRef(Py_None);
}
