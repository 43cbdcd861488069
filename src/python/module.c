/* The extension module _core: limited API 3.10, heap types, multi-phase initialisation, all state in the module.
 *
 * Never write Py_RETURN_NONE, _TRUE or _FALSE here: from the 3.12 headers on they return a borrowed None at every
 * level of the limited API, which corrupts the reference count on 3.10 and 3.11. A test looks for them. */
#include "session_object.h"

ws_module_state *ws_state_of_module(PyObject *module) { return (ws_module_state *)PyModule_GetState(module); }

ws_module_state *ws_state_of_type(PyTypeObject *type) { return (ws_module_state *)PyType_GetModuleState(type); }

/* status() -> facts about the native part, for the pack's own status report. */
static PyObject *status(PyObject *module, PyObject *unused) {
    (void)unused;
    const ws_cuda *const cuda = ws_state_of_module(module)->cuda;
    return Py_BuildValue("{s:s,s:s,s:O}", "cpu_kernels", ws_kernels_cpu()->name, "cuda_kernels", ws_cuda_status(cuda),
                         "uses_cuda", ws_cuda_is_on(cuda) ? Py_True : Py_False);
}

#if defined(__GNUC__)
/* METH_KEYWORDS functions have another type than PyCFunction; CPython's own table needs the cast. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-function-type"
#endif
static PyMethodDef methods[] = {
    {"node_classes", ws_node_classes, METH_VARARGS,
     "node_classes(text, implementations)\n--\n\n"
     "Builds the node classes from nodes.json. Returns (classes, display names), both by id."},
    {"check_architectures", ws_check_architectures, METH_VARARGS,
     "check_architectures(text)\n--\n\n"
     "Checks architectures.json. Returns [(index of a refused family, sentence)]; raises ValueError when it is no table."},
    {"check_options", (PyCFunction)ws_check_options, METH_VARARGS | METH_KEYWORDS,
     "check_options(residual_diff_threshold, start, end, max_consecutive_cache_hits, speedup=0)\n--\n\n"
     "Checks the inputs of the cache node. Returns whether they ask for any caching. Raises ValueError."},
    {"check_speedup", ws_check_speedup, METH_VARARGS,
     "check_speedup(speedup)\n--\n\nChecks the speedup of the node that has no threshold. Raises ValueError."},
    {"compile_request", (PyCFunction)ws_compile_request_from_python, METH_VARARGS | METH_KEYWORDS,
     "compile_request(compiler, backend, mode, options, fullgraph, dynamic, allowed='')\n--\n\n"
     "Checks the inputs of the compile node. allowed: text of the file that allows further options. "
     "Returns (backend, options, canonical text). Raises ValueError."},
    {"compile_option_names", ws_compile_option_names, METH_NOARGS,
     "compile_option_names()\n--\n\nNames of the options that a workflow may set."},
    {"replay_trace", (PyCFunction)ws_replay_trace, METH_VARARGS | METH_KEYWORDS,
     "replay_trace(trace, strategy, threshold=0, speedup=0)\n--\n\n"
     "What a policy does with the evaluations of a trace (bytes): a list of (sigma, computed, predicted, actual) as in\n"
     "include/wavespeed/trace.h. Raises ValueError for bytes that are no whole trace."},
    {"cuda_workspace_bytes", ws_cuda_workspace_bytes_from_python, METH_VARARGS,
     "cuda_workspace_bytes(kernel, n)\n--\n\nDevice memory that a CUDA kernel needs besides its operands."},
    {"cuda_launch", ws_cuda_launch_from_python, METH_VARARGS,
     "cuda_launch(kernel, device, stream, dtype, n, in0, in1, in2, in3, out, difference, workspace, sums, w1, w2)\n--\n\n"
     "Puts a CUDA kernel into a stream. Returns False when nothing was launched: torch must do it."},
    {"cuda_read", ws_cuda_read_from_python, METH_VARARGS,
     "cuda_read(device, stream, parts)\n--\n\n"
     "Values of small arrays on a GPU, each (pointer, count, is_float64), as a list. Returns None when torch must do it."},
    {"load_torch_shim", ws_load_torch_shim, METH_VARARGS,
     "load_torch_shim(path)\n--\n\nLoads the libtorch shim and registers its operators.\n\n"
     "Returns \"registered\", or \"taken\" when another copy of the pack did it. Raises OSError or RuntimeError."},
    {"status", status, METH_NOARGS, "status()\n--\n\nFacts about the native part as a dict."},
    {NULL, NULL, 0, NULL},
};
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

static int intern_names(ws_names *names) {
#define WS_INTERN_NAME(name)                              \
    names->name = PyUnicode_InternFromString(#name);      \
    if (names->name == NULL) {                            \
        return -1;                                        \
    }
    WS_NAMES(WS_INTERN_NAME)
#undef WS_INTERN_NAME
    return 0;
}

static int module_exec(PyObject *module) {
    ws_module_state *const state = ws_state_of_module(module);
    if (intern_names(&state->names) != 0) {
        return -1;
    }
    state->cuda = ws_cuda_new();
    if (state->cuda == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    /* Not an Exception: a handler between the layer that raises it and the hook that catches it must not see it. */
    state->leave_model = PyErr_NewException("wavespeed._core.LeaveModel", PyExc_BaseException, NULL);
    state->hook_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ws_hook_spec, NULL);
    state->session_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ws_session_spec, NULL);
    if (state->leave_model == NULL || state->hook_type == NULL || state->session_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->session_type);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    const ws_module_state *const state = ws_state_of_module(module);
    Py_VISIT(state->session_type);
    Py_VISIT(state->hook_type);
    Py_VISIT(state->leave_model);
    return 0;
}

static int module_clear(PyObject *module) {
    ws_module_state *const state = ws_state_of_module(module);
    Py_CLEAR(state->session_type);
    Py_CLEAR(state->hook_type);
    Py_CLEAR(state->leave_model);
#define WS_CLEAR_NAME(name) Py_CLEAR(state->names.name);
    WS_NAMES(WS_CLEAR_NAME)
#undef WS_CLEAR_NAME
    return 0;
}

static void module_free(void *module) {
    (void)module_clear((PyObject *)module);
    ws_module_state *const state = ws_state_of_module((PyObject *)module);
    ws_node_schema_free(state->nodes);
    ws_cuda_free(state->cuda);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The native part of the WaveSpeed nodes.",
    .m_size = (Py_ssize_t)sizeof(ws_module_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void); /* silences -Wmissing-prototypes; CPython declares it nowhere */

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
