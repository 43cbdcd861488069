/* One place where a status of the core becomes a Python exception, so that every message reads alike. */
#include "state.h"

PyObject *ws_raise(const ws_error *error) {
    PyObject *type = PyExc_RuntimeError;
    switch (error->code) {
        case WS_ERROR_RANGE:
        case WS_ERROR_JSON:
        case WS_ERROR_LIMIT:
            type = PyExc_ValueError;
            break;
        case WS_ERROR_NO_MEMORY:
            type = PyExc_MemoryError;
            break;
        case WS_ERROR_LIBRARY:
            type = PyExc_OSError;
            break;
        case WS_OK:
        default:
            break;
    }
    PyErr_SetString(type, error->text);
    return NULL;
}
