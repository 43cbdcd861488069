/* The stored tensors of a session: measured, reused, rebuilt and dropped through torch operators.
 *
 * Rows of a batch are cond-major: with n conds, rows i*B/n .. (i+1)*B/n - 1 belong to cond i. Each cond is stored apart, so
 * that a different batch split in the next evaluation (ComfyUI decides it by free memory) finds its entries.
 *
 * With cache_device = cpu the stored tensors rest in host memory: a computed call builds them where the model is and moves them
 * when the trunk has ended, and whatever reads one fetches a copy that lives for that one operation. */
#include "session_object.h"

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

/* Rows of one cond: the tensor itself when there is only one, else a view. New reference. */
static PyObject *cond_rows(const SessionObject *session, PyObject *tensor, Py_ssize_t cond, Py_ssize_t conds, Py_ssize_t rows,
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

static int same_place(PyObject *a, PyObject *b, const ws_names *names) {
    const int shape = ws_tensors_share(a, b, names->shape);
    return shape != 1 ? shape : ws_tensors_share(a, b, names->device);
}

static int same_layout(PyObject *a, PyObject *b, const ws_names *names) {
    const int place = same_place(a, b, names);
    return place != 1 ? place : ws_tensors_share(a, b, names->dtype);
}

/* The same for a tensor at rest, whose device says nothing when it was moved away. also: one more attribute that must agree, or
 * NULL. */
static int fits_one(const SessionObject *session, PyObject *tensor, PyObject *stored, const ws_names *names, PyObject *also) {
    const int place = session->offloads ? ws_tensors_share(tensor, stored, names->shape) : same_place(tensor, stored, names);
    return place != 1 || also == NULL ? place : ws_tensors_share(tensor, stored, also);
}

/* 1 if what is stored for this cond fits its new rows, 0 if not, -1 with an exception. */
static int fits(const SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names) {
    for (size_t i = 0; i < session->call.points; ++i) {
        if (session->probe[slot][i] == NULL || session->residual[slot][i] == NULL ||
            session->residual_sum[slot][i] == NULL) {
            return 0;
        }
        const int fit = fits_one(session, probe, session->probe[slot][i], names, names->dtype);
        if (fit != 1) {
            return fit;
        }
    }
    return fits_one(session, hidden, session->residual[slot][0], names, NULL); /* differences are as large as it is */
}

static int all_fit(SessionObject *session, PyObject *hidden, PyObject *probe, Py_ssize_t rows, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    for (Py_ssize_t i = 0; i < conds; ++i) {
        PyObject *const hidden_rows = cond_rows(session, hidden, i, conds, rows, names); /* new */
        PyObject *const probe_rows = cond_rows(session, probe, i, conds, rows, names);   /* new */
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

/* The stored tensor of a history that is `i` evaluations old, or the oldest there is: its difference to itself is zero. */
static PyObject *point(const SessionObject *session, PyObject *const history[WS_HISTORY], size_t i) {
    return history[i < session->call.points ? i : session->call.points - 1];
}

/* A stored tensor where `like` is: itself, or a copy for this one operation. New reference. */
static PyObject *at_hand(const SessionObject *session, PyObject *stored, PyObject *like) {
    return session->offloads ? PyObject_CallFunctionObjArgs(session->fetch, stored, like, NULL) : Py_NewRef(stored);
}

/* The stored tensors of a history at hand; those that do not exist are the oldest again. 0, or -1 with an exception. */
static int history_at_hand(const SessionObject *session, PyObject *const history[WS_HISTORY], PyObject *like,
                           PyObject *out[WS_HISTORY]) {
    for (size_t i = 0; i < WS_HISTORY; ++i) {
        const bool is_repeated = i > 0 && point(session, history, i) == point(session, history, i - 1);
        out[i] = is_repeated ? Py_NewRef(out[i - 1]) : at_hand(session, point(session, history, i), like);
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

/* Fills *out; every number reaches the host in one transfer. Without anything to compare only sigma is read. */
static int measure(SessionObject *session, PyObject *probe, Py_ssize_t rows, const ws_names *names, ws_measurement *out) {
    const bool compares = session->call.intent == WS_INTENT_COMPARE;
    const Py_ssize_t conds = compares ? (Py_ssize_t)session->call.conds : 0;
    PyObject *const parts = PyList_New(0); /* new */
    int result = parts == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < conds; ++i) {
        PyObject *const current = cond_rows(session, probe, i, (Py_ssize_t)session->call.conds, rows, names); /* new */
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

/* What is added is R + w1 (R - R2) + w2 (R2 - R3), and the session's coefficients are those of R, R2 and R3. New reference. */
static PyObject *extrapolate(const SessionObject *session, int32_t slot, PyObject *rows, PyObject *residual, bool in_place) {
    PyObject *const operation = in_place ? session->extrapolate_in_place : session->extrapolate;
    PyObject *const *const stored = session->residual[slot];
    const bool has_older = session->call.points == WS_HISTORY; /* else w2 is 0 */
    PyObject *const newer = at_hand(session, stored[1], rows);                                    /* new */
    PyObject *const older = newer == NULL ? NULL : at_hand(session, stored[has_older ? 2 : 1], rows); /* new */
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
    PyObject *const residual = at_hand(session, session->residual[slot][0], rows); /* new */
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

/* New reference. */
static PyObject *copy_of(PyObject *tensor, const ws_names *names) {
    PyObject *const clone = PyObject_GetAttr(tensor, names->clone); /* new */
    PyObject *const copy = clone == NULL ? NULL : PyObject_CallFunctionObjArgs(clone, NULL);
    Py_XDECREF(clone);
    return copy;
}

/* hidden + residual for the whole batch, as a new tensor: later in-place additions to the pass-through tensor (ControlNet, patches
 * between blocks) are already part of the residual and must not reach it. */
static int reuse(SessionObject *session, PyObject *hidden, Py_ssize_t rows, const ws_names *names) {
    const Py_ssize_t conds = (Py_ssize_t)session->call.conds;
    const int32_t *const slot = session->call.slot;
    PyObject *state = conds == 1 ? add_residual(session, slot[0], hidden, false) : copy_of(hidden, names); /* new */
    for (Py_ssize_t i = 0; conds > 1 && state != NULL && i < conds; ++i) {
        PyObject *const view = cond_rows(session, state, i, conds, rows, names);                          /* new */
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
    const int fits_in = *residual == NULL ? 0 : same_place(hidden, *residual, names);
    return fits_in < 0 ? -1 : store(residual, hidden, session->copy_to_float32, fits_in == 1, names);
}

/* A history still needs its residual when the trunk ends, so the state that the new one is measured from is kept apart. */
static int store_start(SessionObject *session, int32_t slot, PyObject *hidden, const ws_names *names) {
    Py_CLEAR(session->start[slot]); /* of a call that was interrupted */
    session->start[slot] = copy_of(hidden, names);
    return session->start[slot] == NULL ? -1 : 0;
}

static int store_probe(SessionObject *session, int32_t slot, PyObject *probe, const ws_names *names) {
    PyObject **const stored = &session->probe[slot][0];
    if (!session->compares_output && session->call.conds == 1) {
        WS_SET_REFERENCE(*stored, Py_NewRef(probe)); /* made for this call, and nobody else has it */
        return 0;
    }
    const int fits_in = *stored == NULL ? 0 : same_layout(probe, *stored, names);
    PyObject *const clone = fits_in < 0 ? NULL : PyObject_GetAttr((PyObject *)Py_TYPE(probe), names->clone); /* new */
    const int result = clone == NULL ? -1 : store(stored, probe, clone, fits_in == 1, names);
    Py_XDECREF(clone);
    return result;
}

/* Two passes over a hidden state belong to a computed evaluation, one now and one when the trunk ends. Where the probe is the hidden
 * state itself, the copy of it is also what the residual is measured from. */
static int store_cond(SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names) {
    rotate(session->probe[slot], session->history);
    rotate(session->residual_sum[slot], session->history);
    Py_CLEAR(session->residual_sum[slot][0]);
    int stored = 0;
    if (!session->compares_output) {
        stored = session->history == 1 ? store_base(session, slot, hidden, names) : store_start(session, slot, hidden, names);
    }
    return stored != 0 ? -1 : store_probe(session, slot, probe, names);
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
        measure(session, probe, rows, names, &session->measurement) != 0) {
        return -1;
    }
    if (ws_session_decide(session->session, call, &session->measurement) == WS_ACTION_REUSE) {
        return reuse(session, hidden, rows, names);
    }
    for (Py_ssize_t i = 0; i < conds; ++i) {
        PyObject *const hidden_rows = cond_rows(session, hidden, i, conds, rows, names); /* new */
        PyObject *const probe_rows = cond_rows(session, probe, i, conds, rows, names);   /* new */
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

/* Moves what a computed call has built to where it is kept. -1 with an exception. */
static int put_to_rest(const SessionObject *session, PyObject **tensor) {
    PyObject *const moved = PyObject_CallFunctionObjArgs(session->offload, *tensor, NULL); /* new */
    if (moved == NULL) {
        return -1;
    }
    WS_SET_REFERENCE(*tensor, moved);
    return 0;
}

static int put_slot_to_rest(SessionObject *session, int32_t slot) {
    PyObject **const residual = session->residual[slot];
    if (put_to_rest(session, &residual[0]) != 0 || put_to_rest(session, &session->probe[slot][0]) != 0) {
        return -1;
    }
    return residual[1] == NULL ? 0 : put_to_rest(session, &residual[1]);
}

/* end minus the stored probe, where the residual's memory is there already. New reference: the residual's sum, or None where it is
 * not, or where the trunk ended in another form than it began with. */
static PyObject *finish_from_probe(const SessionObject *session, int32_t slot, PyObject *end, const ws_names *names) {
    PyObject *const residual = session->residual[slot][0];
    PyObject *const probe = session->probe[slot][0];
    const int same = residual == NULL ? 0 : same_layout(end, probe, names);
    const int fits_in = same != 1 ? same : same_place(end, residual, names);
    if (fits_in == 1) {
        return PyObject_CallFunctionObjArgs(session->subtract, residual, probe, end, NULL);
    }
    return fits_in < 0 ? NULL : Py_NewRef(Py_None);
}

/* The newest residual of a history moves on by one evaluation, and how it changed becomes the newest difference. start and end: of
 * one shape and dtype. New reference: the residual's sum. */
static PyObject *advance_history(SessionObject *session, int32_t slot, PyObject *start, PyObject *end, const ws_names *names) {
    PyObject **const residual = session->residual[slot];
    PyObject **const differences = residual + 1;
    const int fits_in = residual[0] == NULL ? 0 : fits_one(session, end, residual[0], names, NULL);
    if (fits_in != 1) {
        for (size_t i = 0; i < WS_HISTORY; ++i) {
            Py_CLEAR(residual[i]);
        }
        residual[0] = fits_in < 0 ? NULL : PyObject_CallFunctionObjArgs(session->copy_to_float32, start, NULL);
        return residual[0] == NULL ? NULL : PyObject_CallFunctionObjArgs(session->finish, residual[0], end, NULL);
    }
    PyObject *const newest = at_hand(session, residual[0], end); /* new */
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
    const int same = same_place(end, start, names);
    if (same == 0 && session->final_part != WS_WITHIN_SAME) {
        return PyObject_CallFunctionObjArgs(session->complete, start, end, session->final_part == WS_WITHIN_TAIL ? Py_True : Py_False,
                                            NULL);
    }
    return same < 0 ? NULL : Py_NewRef(same == 1 ? end : Py_None);
}

/* finish_cond() where there is a history. */
static PyObject *finish_history(SessionObject *session, int32_t slot, PyObject *end, const ws_names *names) {
    PyObject *const kept = session->compares_output ? session->probe[slot][0] : session->start[slot];
    PyObject *const whole = whole_end(session, kept, end, names); /* new */
    if (whole == NULL || whole == Py_None) {
        return whole;
    }
    PyObject *const dtype = PyObject_GetAttr(whole, names->dtype);                            /* new */
    PyObject *const start = dtype == NULL ? NULL : ws_streams_cast(kept, dtype, names);       /* new */
    PyObject *const sum = start == NULL ? NULL : advance_history(session, slot, start, whole, names);
    Py_XDECREF(start);
    Py_XDECREF(dtype);
    Py_DECREF(whole);
    Py_CLEAR(session->start[slot]);
    return sum;
}

/* The residual of one cond. New reference: its sum, or None where the trunk ended with another shape than it began with. */
static PyObject *finish_cond(SessionObject *session, int32_t slot, PyObject *end, const ws_names *names) {
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
    const int same = same_place(end, base, names);
    if (same == 1) {
        return PyObject_CallFunctionObjArgs(session->finish, base, end, NULL);
    }
    if (same == 0 && session->final_part != WS_WITHIN_SAME) {
        return PyObject_CallFunctionObjArgs(session->finish_part, base, end,
                                            session->final_part == WS_WITHIN_TAIL ? Py_True : Py_False, NULL);
    }
    return same < 0 ? NULL : Py_NewRef(Py_None);
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
        PyObject *const end_rows = cond_rows(session, end, i, conds, batch / conds, names); /* new */
        if (end_rows == NULL) {
            return -1;
        }
        PyObject *const sum = finish_cond(session, slot, end_rows, names); /* new */
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
        if (session->offloads && put_slot_to_rest(session, slot) != 0) {
            return -1;
        }
    }
    session->finished = true;
    return 0;
}
