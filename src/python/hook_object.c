/* Hook: the object that stands in for a call of a module, how it gets into the module and out again. */
#include "session_object.h"

bool ws_session_is_active(const SessionObject *session) {
    return session != NULL && session->open && !session->suspended && session->thread == PyThread_get_thread_ident();
}

static PyObject *hook_call(PyObject *object, PyObject *args, PyObject *kwargs) {
    HookObject *const self = (HookObject *)object;
    if (!ws_session_is_active(self->session)) {
        return PyObject_Call(self->inner, args, kwargs);
    }
    /* What a block runs may end the call, the session and this hook; they must outlive this function. */
    PyObject *const session = Py_NewRef((PyObject *)self->session);
    Py_INCREF(object);
    PyObject *const result = ws_hook_act(self, args, kwargs);
    Py_DECREF(object);
    Py_DECREF(session);
    return result;
}

HookObject *ws_hook_new(PyTypeObject *type, SessionObject *session, PyObject *module, const char *slot) {
    HookObject *const self = PyObject_GC_New(HookObject, type);
    if (self == NULL) {
        return NULL;
    }
    self->session = session;
    self->role = WS_ROLE_BLOCK;
    self->stage = 0;
    self->replacement = WS_REPLACEMENT_ARGUMENT;
    self->installed = false;
    self->saved = NULL;
    self->inner = NULL;
    self->original = NULL;
    const ws_names *const names = &ws_state_of_type(type)->names;
    self->module_dict = PyObject_GetAttr(module, names->__dict__);
    self->slot = slot == NULL ? Py_NewRef(names->_compiled_call_impl) : PyUnicode_InternFromString(slot);
    if (self->module_dict != NULL && self->slot != NULL) {
        self->original = PyObject_GetAttr(module, slot == NULL ? names->_call_impl : self->slot);
    }
    PyObject_GC_Track((PyObject *)self);
    if (self->original == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->inner = Py_NewRef(self->original);
    return self;
}

int ws_hook_install(HookObject *hook) {
    PyObject *const current = PyDict_GetItemWithError(hook->module_dict, hook->slot); /* borrowed */
    if (current == NULL && PyErr_Occurred()) {
        return -1;
    }
    Py_XINCREF(current);
    WS_SET_REFERENCE(hook->saved, current);
    WS_SET_REFERENCE(hook->inner, Py_NewRef(current == NULL || current == Py_None ? hook->original : current));
    if (PyDict_SetItem(hook->module_dict, hook->slot, (PyObject *)hook) != 0) {
        return -1;
    }
    hook->installed = true;
    return 0;
}

int ws_hook_remove(HookObject *hook) {
    if (!hook->installed) {
        return 0;
    }
    hook->installed = false;
    PyObject *const current = PyDict_GetItemWithError(hook->module_dict, hook->slot); /* borrowed */
    int result = current == NULL && PyErr_Occurred() ? -1 : 0;
    if (current == (PyObject *)hook) { /* somebody else's later value stays */
        result = hook->saved == NULL ? PyDict_DelItem(hook->module_dict, hook->slot)
                                     : PyDict_SetItem(hook->module_dict, hook->slot, hook->saved);
    }
    Py_CLEAR(hook->saved);
    WS_SET_REFERENCE(hook->inner, Py_NewRef(hook->original));
    return result;
}

static int hook_traverse(PyObject *object, visitproc visit, void *arg) {
    HookObject *const self = (HookObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->module_dict);
    Py_VISIT(self->original);
    Py_VISIT(self->saved);
    Py_VISIT(self->inner);
    return 0;
}

static int hook_clear(PyObject *object) {
    HookObject *const self = (HookObject *)object;
    Py_CLEAR(self->module_dict);
    Py_CLEAR(self->original);
    Py_CLEAR(self->saved);
    Py_CLEAR(self->inner);
    return 0;
}

static void hook_dealloc(PyObject *object) {
    PyTypeObject *const type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    (void)hook_clear(object);
    Py_CLEAR(((HookObject *)object)->slot);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyType_Slot hook_slots[] = {
    {Py_tp_doc, "Stands in for a call of a module while a call of the model is open."},
    {Py_tp_call, hook_call},
    {Py_tp_traverse, hook_traverse},
    {Py_tp_clear, hook_clear},
    {Py_tp_dealloc, hook_dealloc},
    {0, NULL},
};

PyType_Spec ws_hook_spec = {
    .name = "wavespeed._core.Hook",
    .basicsize = (int)sizeof(HookObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = hook_slots,
};
