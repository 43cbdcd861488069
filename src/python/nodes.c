/* The node classes, built from nodes.json: ComfyUI's V1 interface, which every ComfyUI there is understands.
 *
 * A class made here has INPUT_TYPES, RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS, OUTPUT_NODE, FUNCTION, CATEGORY,
 * DESCRIPTION and, where the implementation has one, VALIDATE_INPUTS. What a node does is a Python function: it runs once
 * per node. */
#include "state.h"
#include "wavespeed/architecture.h"
#include "wavespeed/options.h"

#include <stdbool.h>

/* Stores value under key and releases value; -1 when value is NULL or the dict refuses. */
static int set_item(PyObject *dict, const char *key, PyObject *value) {
    const int result = value == NULL ? -1 : PyDict_SetItemString(dict, key, value);
    Py_XDECREF(value);
    return result;
}

static PyObject *number(const ws_node_input *input, double value) {
    return input->widget == WS_WIDGET_INT ? PyLong_FromDouble(value) : PyFloat_FromDouble(value);
}

/* The options dict of one input: what the editor's widget needs. New reference. */
static PyObject *input_options(const ws_node_input *input) {
    PyObject *const options = PyDict_New(); /* new */
    if (options == NULL || set_item(options, "tooltip", PyUnicode_FromString(input->tooltip)) != 0) {
        goto fail;
    }
    if (input->advanced && set_item(options, "advanced", PyBool_FromLong(1)) != 0) {
        goto fail;
    }
    if (input->widget == WS_WIDGET_STRING &&
        set_item(options, "default", PyUnicode_FromString(input->default_string)) != 0) {
        goto fail;
    }
    if (input->widget == WS_WIDGET_BOOLEAN &&
        set_item(options, "default", PyBool_FromLong(input->default_number != 0.0)) != 0) {
        goto fail;
    }
    if (input->widget == WS_WIDGET_FLOAT || input->widget == WS_WIDGET_INT) {
        if (set_item(options, "default", number(input, input->default_number)) != 0 ||
            (input->has_minimum && set_item(options, "min", number(input, input->minimum)) != 0) ||
            (input->has_maximum && set_item(options, "max", number(input, input->maximum)) != 0) ||
            (input->has_step && set_item(options, "step", number(input, input->step)) != 0)) {
            goto fail;
        }
    }
    return options;
fail:
    Py_XDECREF(options);
    return NULL;
}

/* (type, options), or (choices, options) for a choice. New reference. */
static PyObject *input_entry(const ws_node_input *input, PyObject *choices) {
    PyObject *const options = input_options(input); /* new */
    if (options == NULL) {
        return NULL;
    }
    PyObject *type = NULL; /* new */
    if (input->widget != WS_WIDGET_CHOICE) {
        type = PyUnicode_FromString(input->type);
    } else {
        PyObject *const own = PyDict_Check(choices) ? PyDict_GetItemString(choices, input->name) : NULL; /* borrowed */
        if (own == NULL) {
            PyErr_Format(PyExc_ValueError, "the input %s is a choice, but its node brings no choices for it.", input->name);
        } else {
            type = PySequence_List(own);
        }
    }
    PyObject *const entry = type == NULL ? NULL : PyTuple_Pack(2, type, options);
    Py_XDECREF(type);
    Py_DECREF(options);
    return entry;
}

/* INPUT_TYPES(): self is (module, index of the node, choices). A new dict every time, because callers change it. */
static PyObject *input_types(PyObject *self, PyObject *unused) {
    (void)unused;
    const ws_module_state *const state = ws_state_of_module(PyTuple_GetItem(self, 0));
    const size_t index = PyLong_AsSize_t(PyTuple_GetItem(self, 1));
    PyObject *const choices = PyTuple_GetItem(self, 2); /* borrowed */
    const ws_node_schema *const node = ws_node_schema_get(state->nodes, index);
    PyObject *const required = PyDict_New(); /* new */
    PyObject *const optional = PyDict_New(); /* new */
    PyObject *result = NULL;
    if (required == NULL || optional == NULL) {
        goto done;
    }
    for (size_t i = 0; i < node->n_inputs; ++i) {
        const ws_node_input *const input = &node->inputs[i];
        if (set_item(input->required ? required : optional, input->name, input_entry(input, choices)) != 0) {
            goto done;
        }
    }
    result = Py_BuildValue("{s:O,s:O,s:{s:s}}", "required", required, "optional", optional, "hidden", "unique_id",
                           "UNIQUE_ID");
done:
    Py_XDECREF(required);
    Py_XDECREF(optional);
    return result;
}

static PyMethodDef input_types_definition = {"INPUT_TYPES", input_types, METH_NOARGS,
                                             "The inputs of the node, as ComfyUI wants them."};

typedef const char *(*output_field)(const ws_node_output *output);

static const char *output_type(const ws_node_output *output) { return output->type; }
static const char *output_name(const ws_node_output *output) { return output->name; }
static const char *output_tooltip(const ws_node_output *output) { return output->tooltip; }

/* One field of every output as a tuple of strings. New reference. */
static PyObject *output_tuple(const ws_node_schema *node, output_field field) {
    PyObject *const tuple = PyTuple_New((Py_ssize_t)node->n_outputs); /* new */
    for (size_t i = 0; tuple != NULL && i < node->n_outputs; ++i) {
        PyObject *const text = PyUnicode_FromString(field(&node->outputs[i]));
        if (text == NULL || PyTuple_SetItem(tuple, (Py_ssize_t)i, text) != 0) {
            Py_DECREF(tuple);
            return NULL;
        }
    }
    return tuple;
}

/* Attribute of the implementation, or None. New reference. */
static PyObject *optional_attribute(PyObject *implementation, const char *name) {
    PyObject *const value = PyObject_GetAttrString(implementation, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear(); /* the attribute is optional */
        return Py_NewRef(Py_None);
    }
    return value;
}

/* staticmethod(function): ComfyUI calls it on an instance, our functions take no self. New reference. */
static PyObject *static_method(PyObject *function) {
    PyObject *const type = PyDict_GetItemString(PyEval_GetBuiltins(), "staticmethod"); /* borrowed */
    if (type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this Python has no staticmethod");
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(type, function, NULL);
}

static int set_callables(PyObject *module, PyObject *namespace, size_t index, PyObject *implementation) {
    int result = -1;
    PyObject *const run = PyObject_GetAttrString(implementation, "run");          /* new */
    PyObject *const validate = optional_attribute(implementation, "validate");    /* new */
    PyObject *const choices = optional_attribute(implementation, "choices");      /* new */
    PyObject *context = NULL;                                                     /* new */
    if (run == NULL || validate == NULL || choices == NULL) {
        goto done;
    }
    context = Py_BuildValue("(OnO)", module, (Py_ssize_t)index, choices);
    if (context == NULL ||
        set_item(namespace, "INPUT_TYPES", PyCFunction_NewEx(&input_types_definition, context, NULL)) != 0 ||
        set_item(namespace, "run", static_method(run)) != 0) {
        goto done;
    }
    if (validate != Py_None && set_item(namespace, "VALIDATE_INPUTS", static_method(validate)) != 0) {
        goto done;
    }
    result = 0;
done:
    Py_XDECREF(run);
    Py_XDECREF(validate);
    Py_XDECREF(choices);
    Py_XDECREF(context);
    return result;
}

/* One node class. New reference. */
static PyObject *node_class(PyObject *module, size_t index, PyObject *implementation) {
    const ws_node_schema *const node = ws_node_schema_get(ws_state_of_module(module)->nodes, index);
    PyObject *const namespace = PyDict_New(); /* new */
    PyObject *result = NULL;
    if (namespace == NULL || set_item(namespace, "__module__", PyUnicode_FromString("wavespeed")) != 0 ||
        set_item(namespace, "CATEGORY", PyUnicode_FromString(node->category)) != 0 ||
        set_item(namespace, "DESCRIPTION", PyUnicode_FromString(node->description)) != 0 ||
        set_item(namespace, "FUNCTION", PyUnicode_FromString("run")) != 0 ||
        set_item(namespace, "OUTPUT_NODE", PyBool_FromLong(node->output_node)) != 0 ||
        set_item(namespace, "RETURN_TYPES", output_tuple(node, output_type)) != 0 ||
        set_item(namespace, "RETURN_NAMES", output_tuple(node, output_name)) != 0 ||
        set_item(namespace, "OUTPUT_TOOLTIPS", output_tuple(node, output_tooltip)) != 0 ||
        set_callables(module, namespace, index, implementation) != 0) {
        goto done;
    }
    result = PyObject_CallFunction((PyObject *)&PyType_Type, "s(O)O", node->id, (PyObject *)&PyBaseObject_Type, namespace);
done:
    Py_XDECREF(namespace);
    return result;
}

/* node_classes(text, implementations) -> (classes by id, display names by id)
 *
 * text: nodes.json. implementations: dict from node id to an object with `run`, and optionally `validate` (becomes
 * VALIDATE_INPUTS) and `choices` (sequences of strings by the name of the input). Nodes without one are left out. */
PyObject *ws_node_classes(PyObject *module, PyObject *args) {
    const char *text = NULL;
    Py_ssize_t length = 0;
    PyObject *implementations = NULL; /* borrowed */
    if (!PyArg_ParseTuple(args, "s#O!:node_classes", &text, &length, &PyDict_Type, &implementations)) {
        return NULL;
    }
    ws_module_state *const state = ws_state_of_module(module);
    if (state->nodes != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "node_classes was called before; the classes exist already.");
        return NULL;
    }
    ws_error error = {WS_OK, -1, ""};
    if (ws_node_schema_parse(text, (size_t)length, &state->nodes, &error) != WS_OK) {
        return ws_raise(&error);
    }
    PyObject *const classes = PyDict_New(); /* new */
    PyObject *const names = PyDict_New();   /* new */
    PyObject *result = NULL;
    if (classes == NULL || names == NULL) {
        goto done;
    }
    for (size_t i = 0; i < ws_node_schema_count(state->nodes); ++i) {
        const ws_node_schema *const node = ws_node_schema_get(state->nodes, i);
        PyObject *const implementation = PyDict_GetItemString(implementations, node->id); /* borrowed */
        if (implementation == NULL) {
            continue;
        }
        if (set_item(classes, node->id, node_class(module, i, implementation)) != 0 ||
            set_item(names, node->id, PyUnicode_FromString(node->display_name)) != 0) {
            goto done;
        }
    }
    result = PyTuple_Pack(2, classes, names);
done:
    Py_XDECREF(classes);
    Py_XDECREF(names);
    return result;
}

/* context: the list that check_architectures returns; an exception stays pending until it looks. */
static void note_refusal(void *context, size_t index, const ws_error *error) {
    PyObject *const entry = Py_BuildValue("(ns)", (Py_ssize_t)index, error->text); /* new */
    if (entry != NULL) {
        (void)PyList_Append((PyObject *)context, entry);
        Py_DECREF(entry);
    }
}

/* check_architectures(text) -> [(index of a refused family, sentence)]; ValueError when the text is no table. */
PyObject *ws_check_architectures(PyObject *module, PyObject *args) {
    (void)module;
    const char *text = NULL;
    Py_ssize_t length = 0;
    if (!PyArg_ParseTuple(args, "s#:check_architectures", &text, &length)) {
        return NULL;
    }
    PyObject *const refused = PyList_New(0); /* new */
    if (refused == NULL) {
        return NULL;
    }
    ws_error error = {WS_OK, -1, ""};
    size_t count = 0;
    if (ws_architectures_check(text, (size_t)length, note_refusal, refused, &count, &error) != WS_OK) {
        Py_DECREF(refused);
        return ws_raise(&error);
    }
    if (PyErr_Occurred()) {
        Py_DECREF(refused);
        return NULL;
    }
    return refused;
}

/* check_options(...) -> whether the cache is on at all; ValueError with a sentence for a value outside its limits. */
PyObject *ws_check_options(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *keywords[] = {"residual_diff_threshold", "start", "end", "max_consecutive_cache_hits", "speedup", NULL};
    ws_cache_options options = {0};
    long long hits = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "dddL|d:check_options", keywords, &options.residual_diff_threshold,
                                     &options.start, &options.end, &hits, &options.speedup)) {
        return NULL;
    }
    options.max_consecutive_cache_hits = hits;
    ws_error error = {WS_OK, -1, ""};
    if (ws_cache_options_check(&options, &error) != WS_OK) {
        return ws_raise(&error);
    }
    return Py_NewRef(ws_cache_options_enabled(&options) ? Py_True : Py_False);
}

/* check_speedup(speedup): ValueError with a sentence when it is outside its limits. */
PyObject *ws_check_speedup(PyObject *module, PyObject *args) {
    (void)module;
    double speedup = 0.0;
    if (!PyArg_ParseTuple(args, "d:check_speedup", &speedup)) {
        return NULL;
    }
    ws_error error = {WS_OK, -1, ""};
    if (ws_speedup_check(speedup, &error) != WS_OK) {
        return ws_raise(&error);
    }
    return Py_NewRef(Py_None);
}
