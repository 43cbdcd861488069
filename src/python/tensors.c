/* What is asked of tensors: through their Python attributes, because the extension does not know libtorch. */
#include "session_object.h"

Py_ssize_t ws_tensor_size(PyObject *tensor, Py_ssize_t dimension, const ws_names *names) {
    PyObject *const shape = PyObject_GetAttr(tensor, names->shape);                     /* new */
    PyObject *const size = shape == NULL ? NULL : PySequence_GetItem(shape, dimension); /* new */
    const Py_ssize_t result = size == NULL ? -1 : PyLong_AsSsize_t(size);
    Py_XDECREF(shape);
    Py_XDECREF(size);
    return result;
}

int ws_tensors_share(PyObject *a, PyObject *b, PyObject *attribute) {
    PyObject *const left = PyObject_GetAttr(a, attribute);                          /* new */
    PyObject *const right = left == NULL ? NULL : PyObject_GetAttr(b, attribute);   /* new */
    const int same = right == NULL ? -1 : PyObject_RichCompareBool(left, right, Py_EQ);
    Py_XDECREF(left);
    Py_XDECREF(right);
    return same;
}

PyObject *ws_tensor_copy(PyObject *tensor, const ws_names *names) {
    PyObject *const clone = PyObject_GetAttr(tensor, names->clone); /* new */
    PyObject *const copy = clone == NULL ? NULL : PyObject_CallFunctionObjArgs(clone, NULL);
    Py_XDECREF(clone);
    return copy;
}

int ws_tensors_same_place(PyObject *a, PyObject *b, const ws_names *names) {
    const int shape = ws_tensors_share(a, b, names->shape);
    return shape != 1 ? shape : ws_tensors_share(a, b, names->device);
}

int ws_tensors_same_layout(PyObject *a, PyObject *b, const ws_names *names) {
    const int place = ws_tensors_same_place(a, b, names);
    return place != 1 ? place : ws_tensors_share(a, b, names->dtype);
}
