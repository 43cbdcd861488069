/* The request of "Compile Model+" for Python: once per node, checked in the core. */
#include "state.h"
#include "wavespeed/compile_request.h"

/* The value as torch wants it. New reference. */
static PyObject *option_value(const ws_compile_option *option) {
    switch (option->kind) {
        case WS_COMPILE_BOOLEAN:
            return PyBool_FromLong(option->value != 0);
        case WS_COMPILE_INTEGER:
            return PyLong_FromLongLong(option->value);
        case WS_COMPILE_WORD:
        case WS_COMPILE_WORDS:
            break;
    }
    return PyUnicode_FromString(option->text);
}

/* The options of a request by name. New reference. */
static PyObject *given_options(const ws_compile_allowed *allowed, const ws_compile_request *request) {
    PyObject *const options = PyDict_New(); /* new */
    for (size_t i = 0; options != NULL && i < ws_compile_option_count(allowed); ++i) {
        const ws_compile_option option = ws_compile_option_get(allowed, request, i);
        if (!option.given) {
            continue;
        }
        PyObject *const value = option_value(&option); /* new */
        const int result = value == NULL ? -1 : PyDict_SetItemString(options, option.name, value);
        Py_XDECREF(value);
        if (result != 0) {
            Py_DECREF(options);
            return NULL;
        }
    }
    return options;
}

static PyObject *read_request(const ws_compile_inputs *inputs, const ws_compile_allowed *allowed) {
    ws_compile_request request;
    ws_error error = {WS_OK, -1, ""};
    if (ws_compile_request_read(inputs, allowed, &request, &error) != WS_OK) {
        return ws_raise(&error);
    }
    PyObject *const options = given_options(allowed, &request); /* new */
    return options == NULL ? NULL : Py_BuildValue("(sNs)", request.backend, options, request.canonical);
}

/* compile_request(...) -> (backend, options, canonical text); ValueError with a sentence for what is refused. */
PyObject *ws_compile_request_from_python(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *keywords[] = {"compiler", "backend", "mode", "options", "fullgraph", "dynamic", "allowed", NULL};
    ws_compile_inputs inputs = {0};
    const char *file = "";
    Py_ssize_t length = 0;
    Py_ssize_t file_length = 0;
    int fullgraph = 0;
    int dynamic = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ssss#pp|s#:compile_request", keywords, &inputs.compiler, &inputs.backend,
                                     &inputs.mode, &inputs.options, &length, &fullgraph, &dynamic, &file, &file_length)) {
        return NULL;
    }
    inputs.options_length = (size_t)length;
    inputs.fullgraph = fullgraph != 0;
    inputs.dynamic = dynamic != 0;
    ws_compile_allowed *allowed = NULL;
    ws_error error = {WS_OK, -1, ""};
    if (file_length > 0 && ws_compile_allowed_read(file, (size_t)file_length, &allowed, &error) != WS_OK) {
        return ws_raise(&error);
    }
    PyObject *const result = read_request(&inputs, allowed);
    ws_compile_allowed_free(allowed);
    return result;
}

/* compile_options() -> names of the options that a workflow may set, in the order of the table. */
PyObject *ws_compile_option_names(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    const size_t count = ws_compile_option_count(NULL);
    PyObject *const names = PyTuple_New((Py_ssize_t)count); /* new */
    for (size_t i = 0; names != NULL && i < count; ++i) {
        const ws_compile_option option = ws_compile_option_get(NULL, NULL, i);
        PyObject *const name = PyUnicode_FromString(option.name);
        if (name == NULL || PyTuple_SetItem(names, (Py_ssize_t)i, name) != 0) {
            Py_DECREF(names);
            return NULL;
        }
    }
    return names;
}
