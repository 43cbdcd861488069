/* Loads the libtorch shim that lies beside the package and hands it the core's functions.
 *
 * The shim is opened here, not imported, because it needs libtorch's soname to be in the process already and because its
 * operators must be registered by an explicit call: static initialisers crash when a second copy of the pack does
 * the same (reference: PyTorch's StableLibrary ignores the return code of its registration). */
#include "state.h"

#include <dlfcn.h>

static const ws_core_api core_api = {
    .size = (uint32_t)sizeof(ws_core_api),
    .version = WS_CORE_API_VERSION,
    .residual_distance = ws_residual_distance,
    .residual_finish = ws_residual_finish,
    .residual_apply = ws_residual_apply,
    .residual_moments = ws_residual_moments,
    .residual_subtract = ws_residual_subtract,
    .residual_advance = ws_residual_advance,
    .residual_extrapolate = ws_residual_extrapolate,
    .difference_size = ws_difference_size,
};

static ws_torch_register_function find_register(void *library) {
    /* POSIX defines the conversion that ISO C leaves out; the union avoids the pedantic warning. */
    union {
        void *object;
        ws_torch_register_function function;
    } symbol = {.object = dlsym(library, WS_TORCH_REGISTER_NAME)};
    return symbol.function;
}

/* load_torch_shim(path: str) -> "registered" | "taken"
 * OSError: the file does not load (missing, truncated, libtorch too old or not imported yet).
 * RuntimeError: it loads but cannot register; the text is the shim's. The library stays open for the life of the process. */
PyObject *ws_load_torch_shim(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *path = NULL; /* new */
    if (!PyArg_ParseTuple(args, "O&:load_torch_shim", PyUnicode_FSConverter, &path)) {
        return NULL;
    }
    PyObject *result = NULL;
    const char *const file = PyBytes_AsString(path);
    if (file == NULL) {
        goto done;
    }
    ws_error error = {WS_OK, -1, ""};
    void *const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *const reason = dlerror();
        (void)ws_fail(&error, WS_ERROR_LIBRARY, "%s", reason != NULL ? reason : "dlopen gave no reason");
        (void)ws_raise(&error);
        goto done;
    }
    const ws_torch_register_function reg = find_register(library);
    if (reg == NULL) {
        (void)ws_fail(&error, WS_ERROR_LIBRARY,
                      "%s has no function " WS_TORCH_REGISTER_NAME ": it is not the shim of this pack.", file);
        (void)ws_raise(&error);
        goto done;
    }
    char text[WS_ERROR_TEXT_SIZE] = "";
    switch (reg(&core_api, text, sizeof(text))) {
        case WS_TORCH_REGISTERED:
            result = PyUnicode_FromString("registered");
            break;
        case WS_TORCH_TAKEN:
            result = PyUnicode_FromString("taken");
            break;
        case WS_TORCH_FAILED:
        default:
            PyErr_SetString(PyExc_RuntimeError, text);
            break;
    }
done:
    Py_DECREF(path);
    return result;
}
