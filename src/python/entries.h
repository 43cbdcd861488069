/* What the files of the entries share: the entries (entries.c), what reads them (entries_reuse.c), what writes them
 * (entries_store.c). names: of the module. Everywhere -1 or NULL with an exception when something failed. */
#ifndef WAVESPEED_PYTHON_ENTRIES_H
#define WAVESPEED_PYTHON_ENTRIES_H

#include "session_object.h"

/* Rows of one cond: the tensor itself when there is only one, else a view. New reference. */
PyObject *ws_entries_rows(const SessionObject *session, PyObject *tensor, Py_ssize_t cond, Py_ssize_t conds, Py_ssize_t rows,
                          const ws_names *names);

/* A stored tensor where `like` is: itself, or a copy for this one operation. New reference. */
PyObject *ws_entries_at_hand(const SessionObject *session, PyObject *stored, PyObject *like);

/* ws_tensors_same_place() for a tensor at rest, whose device says nothing when it was moved away. also: one more
 * attribute that must agree, or NULL. */
int ws_entries_fits_one(const SessionObject *session, PyObject *tensor, PyObject *stored, const ws_names *names,
                        PyObject *also);

/* Fills *out; every number reaches the host in one transfer. Without anything to compare only sigma is read. */
int ws_entries_measure(SessionObject *session, PyObject *probe, Py_ssize_t rows, const ws_names *names, ws_measurement *out);

/* final_state: hidden + residual for the whole batch, as a new tensor: later in-place additions to the pass-through tensor
 * (ControlNet, patches between blocks) are already part of the residual and must not reach it. */
int ws_entries_reuse(SessionObject *session, PyObject *hidden, Py_ssize_t rows, const ws_names *names);

/* Begins one cond's entry. Two passes over a hidden state belong to a computed evaluation, one now and one when the trunk
 * ends. Where the probe is the hidden state itself, the copy of it is also what the residual is measured from. */
int ws_entries_store(SessionObject *session, int32_t slot, PyObject *hidden, PyObject *probe, const ws_names *names);

/* Completes it. New reference: the residual's sum, or None where the trunk ended with another shape than it began with. */
PyObject *ws_entries_finish_one(SessionObject *session, int32_t slot, PyObject *end, const ws_names *names);

/* Moves what a computed call has built to where it is kept. */
int ws_entries_put_to_rest(SessionObject *session, int32_t slot);

#endif
