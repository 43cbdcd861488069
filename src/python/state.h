/* The extension's module state and what its files share. Private to src/python. */
#ifndef WAVESPEED_PYTHON_STATE_H
#define WAVESPEED_PYTHON_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "wavespeed/core_api.h"
#include "wavespeed/cuda.h"
#include "wavespeed/node_schema.h"
#include "wavespeed/status.h"

/* Names that are looked up per block or per call, interned once. */
#define WS_NAMES(X) \
    X(__dict__)     \
    X(_call_impl)   \
    X(_compiled_call_impl) \
    X(clone)        \
    X(copy_)        \
    X(device)       \
    X(dtype)        \
    X(narrow)       \
    X(nbytes)       \
    X(shape)

#define WS_DECLARE_NAME(name) PyObject *name;
typedef struct ws_names {
    WS_NAMES(WS_DECLARE_NAME)
} ws_names;

typedef struct ws_module_state {
    PyTypeObject *session_type;
    PyTypeObject *hook_type;
    PyObject *leave_model; /* exception class of the early exit */
    ws_names names;
    ws_cuda *cuda;              /* owned */
    ws_node_schema_list *nodes; /* owned; the node classes read it for as long as the module lives */
} ws_module_state;

/* State of the module that defines a type or owns a function; never NULL once the module is initialised. */
ws_module_state *ws_state_of_module(PyObject *module);
ws_module_state *ws_state_of_type(PyTypeObject *type);

/* errors.c: the only place that turns a ws_status into a Python exception. Returns NULL for convenience. */
PyObject *ws_raise(const ws_error *error);

/* session_object.c, hook_object.c */
extern PyType_Spec ws_session_spec;
extern PyType_Spec ws_hook_spec;

/* nodes.c */
PyObject *ws_node_classes(PyObject *module, PyObject *args);
PyObject *ws_check_architectures(PyObject *module, PyObject *args);
PyObject *ws_check_options(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *ws_check_speedup(PyObject *module, PyObject *args);

/* compile_request.c */
PyObject *ws_compile_request_from_python(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *ws_compile_option_names(PyObject *module, PyObject *unused);

/* trace.c */
PyObject *ws_replay_trace(PyObject *module, PyObject *args, PyObject *kwargs);

/* cuda.c */
PyObject *ws_cuda_workspace_bytes_from_python(PyObject *module, PyObject *args);
PyObject *ws_cuda_launch_from_python(PyObject *module, PyObject *args);
PyObject *ws_cuda_read_from_python(PyObject *module, PyObject *args);

/* torch_shim.c */
PyObject *ws_load_torch_shim(PyObject *module, PyObject *args);

/* Py_SETREF is not part of the limited API: the slot is changed before the old object is released, because releasing
 * it may run code that looks at the slot. */
#define WS_SET_REFERENCE(slot, value)       \
    do {                                    \
        PyObject *const ws_old_ = (slot);   \
        (slot) = (value);                   \
        Py_XDECREF(ws_old_);                \
    } while (0)

#endif
