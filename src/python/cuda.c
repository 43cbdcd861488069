/* The CUDA executor for python/wavespeed/cuda_kernels.py, which knows torch's tensors and streams. Pointers and streams come
 * as integers. All calls are made with the GIL held, except the wait for the GPU. */
#include "state.h"

#include <stdbool.h>

static ws_cuda *executor_of(PyObject *module) {
    return ws_state_of_module(module)->cuda;
}

static void *pointer(unsigned long long value) {
    return (void *)(uintptr_t)value;
}

/* cuda_workspace_bytes(kernel, n) -> int */
PyObject *ws_cuda_workspace_bytes_from_python(PyObject *module, PyObject *args) {
    (void)module;
    int kernel = 0;
    Py_ssize_t n = 0;
    if (!PyArg_ParseTuple(args, "in:cuda_workspace_bytes", &kernel, &n)) {
        return NULL;
    }
    if (kernel < 0 || kernel >= WS_CUDA_KERNELS || n < 0) {
        PyErr_Format(PyExc_ValueError, "there is no CUDA kernel %d for %zd elements.", kernel, n);
        return NULL;
    }
    return PyLong_FromSize_t(ws_cuda_workspace_bytes((ws_cuda_kernel)kernel, (size_t)n));
}

/* cuda_launch(kernel, device, stream, dtype, n, in0, in1, in2, in3, out, difference, workspace, sums, w1, w2) -> bool */
PyObject *ws_cuda_launch_from_python(PyObject *module, PyObject *args) {
    int kernel = 0, dtype = 0;
    Py_ssize_t n = 0;
    unsigned long long stream = 0, out = 0, difference = 0, workspace = 0, sums = 0, in[1 + WS_HISTORY] = {0};
    ws_cuda_place place = {0};
    ws_cuda_arrays arrays = {0};
    if (!PyArg_ParseTuple(args, "iiKinKKKKKKKKff:cuda_launch", &kernel, &place.device, &stream, &dtype, &n, &in[0], &in[1],
                          &in[2], &in[3], &out, &difference, &workspace, &sums, &arrays.weights[0], &arrays.weights[1])) {
        return NULL;
    }
    if (kernel < 0 || kernel >= WS_CUDA_KERNELS || dtype < 0 || dtype >= WS_DTYPE_COUNT || n < 0) {
        PyErr_Format(PyExc_ValueError, "there is no CUDA kernel %d for %zd elements of dtype %d.", kernel, n, dtype);
        return NULL;
    }
    place.stream = pointer(stream);
    arrays.dtype = (ws_dtype)dtype;
    arrays.n = (size_t)n;
    arrays.out = pointer(out);
    arrays.difference = pointer(difference);
    arrays.workspace = pointer(workspace);
    arrays.sums = pointer(sums);
    for (size_t i = 0; i < 1 + WS_HISTORY; ++i) {
        arrays.in[i] = pointer(in[i]);
    }
    return PyBool_FromLong(ws_cuda_launch(executor_of(module), &place, (ws_cuda_kernel)kernel, &arrays));
}

/* parts: (pointer, count, is_float64) each. Returns their number, or -1 with an exception. */
static Py_ssize_t read_parts(PyObject *parts, ws_cuda_values values[WS_CUDA_READ_MOST]) {
    const Py_ssize_t count = PyTuple_Size(parts);
    if (count > WS_CUDA_READ_MOST) {
        PyErr_Format(PyExc_ValueError, "%d tensors can be read at once, and these are %zd.", WS_CUDA_READ_MOST, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; ++i) {
        unsigned long long address = 0;
        unsigned int elements = 0;
        int is_float64 = 0;
        if (!PyArg_ParseTuple(PyTuple_GetItem(parts, i), "KIp", &address, &elements, &is_float64)) {
            return -1;
        }
        values[i] = (ws_cuda_values){pointer(address), elements, is_float64 != 0};
    }
    return count;
}

static PyObject *list_of(const double *values, size_t count) {
    PyObject *const list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; ++i) {
        PyObject *const value = PyFloat_FromDouble(values[i]);
        if (value == NULL || PyList_SetItem(list, (Py_ssize_t)i, value) != 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

/* cuda_read(device, stream, parts) -> list of float, or None where torch must do it */
PyObject *ws_cuda_read_from_python(PyObject *module, PyObject *args) {
    unsigned long long stream = 0;
    PyObject *parts = NULL; /* borrowed */
    ws_cuda_place place = {0};
    if (!PyArg_ParseTuple(args, "iKO!:cuda_read", &place.device, &stream, &PyTuple_Type, &parts)) {
        return NULL;
    }
    place.stream = pointer(stream);
    ws_cuda_values values[WS_CUDA_READ_MOST];
    const Py_ssize_t count = read_parts(parts, values);
    if (count < 0) {
        return NULL;
    }
    ws_cuda *const cuda = executor_of(module);
    const int ticket = ws_cuda_read_begin(cuda, &place, values, (size_t)count);
    if (ticket < 0) {
        return Py_NewRef(Py_None);
    }
    ws_cuda_answer answer = WS_CUDA_REFUSED;
    Py_BEGIN_ALLOW_THREADS answer = ws_cuda_read_wait(cuda, ticket);
    Py_END_ALLOW_THREADS double out[WS_CUDA_READ_MOST_VALUES];
    if (!ws_cuda_read_end(cuda, ticket, answer, out)) {
        return Py_NewRef(Py_None);
    }
    size_t total = 0;
    for (Py_ssize_t i = 0; i < count; ++i) {
        total += values[i].count;
    }
    return list_of(out, total);
}
