/* Streams: the hidden states that a block takes and returns, as the one tensor that is compared and kept, and back.
 *
 * What is kept is called the state here. Usually it is the block's main stream itself; where several tensors make it up, the
 * operators pack and join of operations.py put them into one, once per evaluation. */
#include "session_object.h"

/* The hidden argument `index`: borrowed, or NULL without an exception when the call does not have it. */
static PyObject *hidden_argument(const ws_stage *stage, Py_ssize_t index, PyObject *args, PyObject *kwargs) {
    if (stage->position[index] < PyTuple_Size(args)) {
        return PyTuple_GetItem(args, stage->position[index]);
    }
    return kwargs == NULL ? NULL : PyDict_GetItemWithError(kwargs, stage->name[index]);
}

PyObject *ws_streams_pass_through(const ws_stage *stage, PyObject *args, PyObject *kwargs) {
    if (stage->n_returns == 0) {
        PyObject *const bare = hidden_argument(stage, stage->main[0], args, kwargs); /* borrowed */
        Py_XINCREF(bare);
        return bare;
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

/* The main streams put into one tensor. parts: tuple of n_main. New reference. */
static PyObject *put_together(const SessionObject *session, const ws_stage *stage, PyObject *parts) {
    switch (stage->form) {
        case WS_FORM_STREAMS:
            return PyObject_CallFunctionObjArgs(session->pack, parts, NULL);
        case WS_FORM_TOKENS:
            return PyObject_CallFunctionObjArgs(session->join, parts, NULL);
        case WS_FORM_TENSOR:
        default:
            return Py_NewRef(PyTuple_GetItem(parts, 0));
    }
}

/* The main streams in a block's result as a tuple of n_main. New reference, or NULL without an exception when the result
 * is not what the descriptor says. */
static PyObject *main_streams(const ws_stage *stage, PyObject *result) {
    const bool is_tuple = stage->n_returns > 0;
    if (is_tuple && (!PyTuple_Check(result) || PyTuple_Size(result) != stage->n_returns)) {
        return NULL;
    }
    PyObject *const parts = PyTuple_New(stage->n_main); /* new */
    for (Py_ssize_t i = 0; parts != NULL && i < stage->n_main; ++i) {
        PyObject *const part = is_tuple ? PyTuple_GetItem(result, stage->main_in_returns[i]) : result; /* borrowed */
        if (PyTuple_SetItem(parts, i, Py_NewRef(part)) != 0) {
            Py_DECREF(parts);
            return NULL;
        }
    }
    return parts;
}

PyObject *ws_streams_of_arguments(const SessionObject *session, const ws_stage *stage, PyObject *args, PyObject *kwargs) {
    PyObject *const parts = PyTuple_New(stage->n_main); /* new */
    for (Py_ssize_t i = 0; parts != NULL && i < stage->n_main; ++i) {
        PyObject *const part = hidden_argument(stage, stage->main[i], args, kwargs); /* borrowed */
        if (part == NULL) {
            Py_DECREF(parts);
            return NULL;
        }
        if (PyTuple_SetItem(parts, i, Py_NewRef(part)) != 0) {
            Py_DECREF(parts);
            return NULL;
        }
    }
    PyObject *const state = parts == NULL ? NULL : put_together(session, stage, parts);
    Py_XDECREF(parts);
    return state;
}

PyObject *ws_streams_of_result(const SessionObject *session, const ws_stage *stage, PyObject *result) {
    PyObject *const parts = main_streams(stage, result); /* new */
    PyObject *const state = parts == NULL ? NULL : put_together(session, stage, parts);
    Py_XDECREF(parts);
    return state;
}

PyObject *ws_streams_end(const SessionObject *session, const ws_stage *stage, PyObject *result, const ws_names *names) {
    PyObject *const state = ws_streams_of_result(session, stage, result); /* new */
    if (state == NULL || stage->within == WS_WITHIN_SAME) {
        return state;
    }
    const Py_ssize_t all = ws_tensor_size(state, 1, names);
    const Py_ssize_t kept = all < 0 ? -1 : ws_tensor_size(session->residual[session->call.slot[0]][0], 1, names);
    PyObject *part = NULL;
    if (kept >= 0 && kept > all) {
        part = Py_NewRef(state); /* cannot lie within it: the shapes will not fit */
    } else if (kept >= 0) {
        part = PyObject_CallMethod(state, "narrow", "nnn", (Py_ssize_t)1,
                                   stage->within == WS_WITHIN_TAIL ? all - kept : (Py_ssize_t)0, kept);
    }
    Py_DECREF(state);
    return part;
}

PyObject *ws_streams_cast(PyObject *state, PyObject *dtype, const ws_names *names) {
    PyObject *const own = PyObject_GetAttr(state, names->dtype); /* new */
    if (own == NULL) {
        return NULL;
    }
    const int same = PyObject_RichCompareBool(own, dtype, Py_EQ);
    Py_DECREF(own);
    if (same != 0) {
        return same < 0 ? NULL : Py_NewRef(state);
    }
    return PyObject_CallMethod(state, "to", "O", dtype);
}

int ws_streams_take_part(SessionObject *session, PyObject *end) {
    PyObject *const part = PyObject_CallFunctionObjArgs(session->take_part, session->final_state, end,
                                                        session->final_part == WS_WITHIN_TAIL ? Py_True : Py_False, NULL);
    if (part == NULL) {
        return -1;
    }
    WS_SET_REFERENCE(session->final_state, part);
    return 0;
}

/* One main tensor with the state in its place. New reference; NULL without an exception when the state does not fit. */
static PyObject *place_in_tensor(const SessionObject *session, const ws_stage *stage, PyObject *tensor,
                                 const ws_names *names) {
    if (stage->within != WS_WITHIN_SAME) {
        return PyObject_CallFunctionObjArgs(session->replace_tokens, tensor, session->final_state,
                                            stage->within == WS_WITHIN_TAIL ? Py_True : Py_False, NULL);
    }
    if (ws_tensors_share(tensor, session->final_state, names->shape) != 1) {
        return NULL;
    }
    PyObject *const dtype = PyObject_GetAttr(tensor, names->dtype); /* new */
    PyObject *const placed = dtype == NULL ? NULL : ws_streams_cast(session->final_state, dtype, names);
    Py_XDECREF(dtype);
    return placed;
}

/* The main streams that the state stands for. parts: those of the result, for their shapes. New tuple. */
static PyObject *take_apart(const SessionObject *session, const ws_stage *stage, PyObject *parts, const ws_names *names) {
    if (stage->form == WS_FORM_STREAMS) {
        return PyObject_CallFunctionObjArgs(session->unpack, session->final_state, parts, NULL);
    }
    PyObject *const placed = place_in_tensor(session, stage, PyTuple_GetItem(parts, 0), names); /* new */
    PyObject *const tuple = placed == NULL ? NULL : PyTuple_Pack(1, placed);
    Py_XDECREF(placed);
    return tuple;
}

PyObject *ws_streams_replaced(const SessionObject *session, const ws_stage *stage, PyObject *result, const ws_names *names) {
    PyObject *const parts = main_streams(stage, result);                                                   /* new */
    PyObject *const cached = parts == NULL ? NULL : take_apart(session, stage, parts, names);               /* new */
    Py_XDECREF(parts);
    if (cached == NULL || stage->n_returns == 0) {
        PyObject *const bare = cached == NULL ? NULL : Py_NewRef(PyTuple_GetItem(cached, 0));
        Py_XDECREF(cached);
        return bare;
    }
    PyObject *const changed = PyTuple_New(stage->n_returns); /* new */
    for (Py_ssize_t i = 0; changed != NULL && i < stage->n_returns; ++i) {
        PyObject *item = PyTuple_GetItem(result, i); /* borrowed */
        for (Py_ssize_t j = 0; j < stage->n_main; ++j) {
            if (stage->main_in_returns[j] == i) {
                item = PyTuple_GetItem(cached, j);
            }
        }
        if (PyTuple_SetItem(changed, i, Py_NewRef(item)) != 0) {
            Py_DECREF(cached);
            Py_DECREF(changed);
            return NULL;
        }
    }
    Py_DECREF(cached);
    return changed;
}
