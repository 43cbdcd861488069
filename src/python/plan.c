/* The arguments of Session that describe the model: its stages and the modules to hook, from architecture.py. */
#include "session_object.h"

#include <string.h>

/* Index of text in a NULL-terminated table, or -1 with a ValueError that names what the text should have been. */
static int look_up(const char *const table[], const char *text, const char *what) {
    for (int i = 0; table[i] != NULL; ++i) {
        if (strcmp(table[i], text) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_ValueError, "\"%s\" is no %s.", text, what);
    return -1;
}

/* hidden: sequence of (name, position). */
static int read_hidden(ws_stage *stage, PyObject *hidden) {
    stage->n_hidden = PySequence_Size(hidden);
    if (stage->n_hidden < 1 || stage->n_hidden > WS_HIDDEN) {
        PyErr_Format(PyExc_ValueError, "a stage has %zd hidden arguments; 1 to %d are supported.", stage->n_hidden,
                     WS_HIDDEN);
        return -1;
    }
    for (Py_ssize_t i = 0; i < stage->n_hidden; ++i) {
        PyObject *const pair = PySequence_GetItem(hidden, i); /* new */
        PyObject *name = NULL;                                /* borrowed */
        const int ok = pair != NULL && PyArg_ParseTuple(pair, "Un", &name, &stage->position[i]);
        if (ok) {
            stage->name[i] = Py_NewRef(name);
            PyUnicode_InternInPlace(&stage->name[i]);
        }
        Py_XDECREF(pair);
        if (!ok) {
            return -1;
        }
    }
    return 0;
}

static Py_ssize_t index_of_name(const ws_stage *stage, PyObject *name) {
    for (Py_ssize_t i = 0; i < stage->n_hidden; ++i) {
        if (PyUnicode_Compare(stage->name[i], name) == 0) {
            return i;
        }
    }
    PyErr_Format(PyExc_ValueError, "%R is not a hidden argument of its stage.", name);
    return -1;
}

/* main: a name or a tuple of names. */
static int read_main(ws_stage *stage, PyObject *main) {
    stage->n_main = PyTuple_Check(main) ? PyTuple_Size(main) : 1;
    if (stage->n_main < 1 || stage->n_main > stage->n_hidden) {
        PyErr_Format(PyExc_ValueError, "a stage has %zd main streams of %zd hidden arguments.", stage->n_main,
                     stage->n_hidden);
        return -1;
    }
    for (Py_ssize_t i = 0; i < stage->n_main; ++i) {
        stage->main[i] = index_of_name(stage, PyTuple_Check(main) ? PyTuple_GetItem(main, i) : main);
        if (stage->main[i] < 0) {
            return -1;
        }
        stage->main_in_returns[i] = -1;
    }
    return 0;
}

/* returns: None for a bare tensor, else a tuple of names. */
static int read_returns(ws_stage *stage, PyObject *returns) {
    if (returns == Py_None) {
        stage->n_returns = 0;
        return 0;
    }
    stage->n_returns = PyTuple_Size(returns);
    if (stage->n_returns < 1 || stage->n_returns > WS_HIDDEN) {
        PyErr_Format(PyExc_ValueError, "a block returns %zd values; 1 to %d are supported.", stage->n_returns, WS_HIDDEN);
        return -1;
    }
    for (Py_ssize_t i = 0; i < stage->n_returns; ++i) {
        stage->returns[i] = index_of_name(stage, PyTuple_GetItem(returns, i));
        if (stage->returns[i] < 0) {
            return -1;
        }
        for (Py_ssize_t j = 0; j < stage->n_main; ++j) {
            if (stage->returns[i] == stage->main[j]) {
                stage->main_in_returns[j] = i;
            }
        }
    }
    for (Py_ssize_t j = 0; j < stage->n_main; ++j) {
        if (stage->main_in_returns[j] < 0) {
            PyErr_Format(PyExc_ValueError, "a block does not return its main stream %R.", stage->name[stage->main[j]]);
            return -1;
        }
    }
    return 0;
}

static const char *const places[] = {"same", "head", "tail", NULL};

int ws_plan_read_final_part(SessionObject *session, const char *part) {
    const int index = look_up(places, part, "part of the main stream");
    session->final_part = (ws_within)index;
    return index < 0 ? -1 : 0;
}

/* item: (hidden, returns, main, form, within); the last two have defaults. */
static int read_stage(ws_stage *stage, PyObject *item) {
    static const char *const forms[] = {"tensor", "streams", "tokens", NULL};
    PyObject *hidden = NULL, *returns = NULL, *main = NULL; /* borrowed */
    const char *form = forms[0], *within = places[0];
    if (!PyArg_ParseTuple(item, "OOO|ss", &hidden, &returns, &main, &form, &within)) {
        return -1;
    }
    const int form_index = look_up(forms, form, "form of main streams");
    const int place_index = form_index < 0 ? -1 : look_up(places, within, "place of the main stream");
    if (place_index < 0) {
        return -1;
    }
    stage->form = (ws_form)form_index;
    stage->within = (ws_within)place_index;
    return read_hidden(stage, hidden) != 0 || read_main(stage, main) != 0 ? -1 : read_returns(stage, returns);
}

int ws_plan_read_stages(SessionObject *session, PyObject *stages) {
    session->n_stages = PySequence_Size(stages);
    if (session->n_stages < 0 || session->n_stages > WS_STAGES) {
        PyErr_Format(PyExc_ValueError, "a model has %zd stages; up to %d are supported.", session->n_stages, WS_STAGES);
        return -1;
    }
    for (Py_ssize_t i = 0; i < session->n_stages; ++i) {
        PyObject *const item = PySequence_GetItem(stages, i); /* new */
        const int read = item == NULL ? -1 : read_stage(&session->stages[i], item);
        Py_XDECREF(item);
        if (read != 0) {
            return -1;
        }
        session->checks_layout |= session->stages[i].within != WS_WITHIN_SAME;
    }
    return 0;
}

/* item: (module, role, stage, slot, replacement); slot is None for the module's own call, and the last three have
 * defaults. New reference. */
static HookObject *read_hook(SessionObject *session, PyObject *item, const ws_module_state *state) {
    static const char *const roles[] = {"block", "first", "last", "final", "side", "entry", "exit", "whole", NULL};
    static const char *const replacements[] = {"argument", "zero", "zero_and_argument", "none", NULL};
    PyObject *module = NULL; /* borrowed */
    const char *role = NULL, *slot = NULL, *replacement = replacements[0];
    Py_ssize_t stage = 0;
    if (!PyArg_ParseTuple(item, "Os|nzs", &module, &role, &stage, &slot, &replacement)) {
        return NULL;
    }
    const int role_index = look_up(roles, role, "role of a hook");
    const int replacement_index = role_index < 0 ? -1 : look_up(replacements, replacement, "replacement of a result");
    if (replacement_index < 0) {
        return NULL;
    }
    const bool is_block = role_index <= WS_ROLE_LAST;
    if (is_block && (stage < 0 || stage >= session->n_stages)) {
        PyErr_Format(PyExc_ValueError, "a hook names stage %zd; the model has %zd.", stage, session->n_stages);
        return NULL;
    }
    HookObject *const hook = ws_hook_new(state->hook_type, session, module, slot);
    if (hook != NULL) {
        hook->role = (ws_role)role_index;
        hook->stage = stage;
        hook->replacement = (ws_replacement)replacement_index;
    }
    return hook;
}

int ws_plan_read_hooks(SessionObject *session, PyObject *hooks, const ws_module_state *state) {
    const Py_ssize_t n = PySequence_Size(hooks);
    session->hooks = n < 0 ? NULL : PyList_New(0);
    if (session->hooks == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; ++i) {
        PyObject *const item = PySequence_GetItem(hooks, i);                        /* new */
        HookObject *const hook = item == NULL ? NULL : read_hook(session, item, state); /* new */
        Py_XDECREF(item);
        const int appended = hook == NULL ? -1 : PyList_Append(session->hooks, (PyObject *)hook);
        Py_XDECREF((PyObject *)hook);
        if (appended != 0) {
            return -1;
        }
    }
    return 0;
}
