/* nodes.json into the structs of node_schema.h. The strings stay in the parsed tree, which the list
 * keeps. */
#include "wavespeed/node_schema.h"

#include "core/json_internal.h"
#include "core/status_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ws_node_schema_list {
    cJSON *root; /* owns every string */
    size_t count;
    ws_node_schema *nodes;
    ws_node_input *inputs; /* of all nodes, one after the other */
    ws_node_output *outputs;
};

/* ---- an input -------------------------------------------------------------------------------- */

static ws_widget widget_of_type(const char *type) {
    static const struct {
        const char *type;
        ws_widget widget;
    } widgets[] = {
        {"STRING", WS_WIDGET_STRING},   {"FLOAT", WS_WIDGET_FLOAT},  {"INT", WS_WIDGET_INT},
        {"BOOLEAN", WS_WIDGET_BOOLEAN}, {"COMBO", WS_WIDGET_CHOICE},
    };
    for (size_t i = 0; i < sizeof(widgets) / sizeof(widgets[0]); ++i) {
        if (strcmp(widgets[i].type, type) == 0) {
            return widgets[i].widget;
        }
    }
    return WS_WIDGET_NONE;
}

/* A number; a whole one where the widget holds integers. */
static ws_status read_number(const cJSON *item, const char *key, const ws_json_place *place,
                             ws_widget widget, double *out, ws_error *error) {
    const double exact_integers = 9007199254740992.0; /* 2^53: beyond it a double skips integers */
    WS_TRY_(ws_json_number_(item, key, place, out, error));
    if (widget == WS_WIDGET_INT && (floor(*out) != *out || fabs(*out) > exact_integers)) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the field \"%s\" is %s; it must be a whole number.", place->text, key,
                       ws_number_text_(*out).text);
    }
    return WS_OK;
}

static ws_status read_limit(const cJSON *item, const char *key, const ws_json_place *place,
                            ws_widget widget, bool *has, double *out, ws_error *error) {
    *has = ws_json_has_(item, key);
    return *has ? read_number(item, key, place, widget, out, error) : WS_OK;
}

static ws_status read_numeric(const cJSON *item, const ws_json_place *place, ws_node_input *out,
                              ws_error *error) {
    WS_TRY_(read_number(item, "default", place, out->widget, &out->default_number, error));
    WS_TRY_(read_limit(item, "min", place, out->widget, &out->has_minimum, &out->minimum, error));
    WS_TRY_(read_limit(item, "max", place, out->widget, &out->has_maximum, &out->maximum, error));
    WS_TRY_(read_limit(item, "step", place, out->widget, &out->has_step, &out->step, error));
    if (out->has_minimum && out->default_number < out->minimum) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the default is %s, which is below the minimum %s.", place->text,
                       ws_number_text_(out->default_number).text,
                       ws_number_text_(out->minimum).text);
    }
    if (out->has_maximum && out->default_number > out->maximum) {
        return ws_fail(error, WS_ERROR_JSON,
                       "%s: the default is %s, which is above the maximum %s.", place->text,
                       ws_number_text_(out->default_number).text,
                       ws_number_text_(out->maximum).text);
    }
    if (out->has_step && !(out->step > 0.0)) {
        return ws_fail(error, WS_ERROR_JSON, "%s: the step is %s; it must be above 0.", place->text,
                       ws_number_text_(out->step).text);
    }
    return WS_OK;
}

/* The fields that an input of this kind may have. */
static const char *const *fields_of(ws_widget widget) {
    static const char *const socket[] = {"name", "type", "required", "advanced", "tooltip", NULL};
    static const char *const value[] = {"name", "type", "required", "advanced", "tooltip", "default", NULL};
    static const char *const number[] = {"name",    "type", "required", "advanced", "tooltip",
                                         "default", "min",  "max",      "step",     NULL};
    switch (widget) {
        case WS_WIDGET_FLOAT:
        case WS_WIDGET_INT:
            return number;
        case WS_WIDGET_STRING:
        case WS_WIDGET_BOOLEAN:
            return value;
        case WS_WIDGET_NONE:
        case WS_WIDGET_CHOICE:
            break;
    }
    return socket;
}

static ws_status read_default(const cJSON *item, const ws_json_place *place, ws_node_input *out,
                              ws_error *error) {
    bool truth = false;
    switch (out->widget) {
        case WS_WIDGET_FLOAT:
        case WS_WIDGET_INT:
            return read_numeric(item, place, out, error);
        case WS_WIDGET_STRING:
            return ws_json_string_(item, "default", place, &out->default_string, error);
        case WS_WIDGET_BOOLEAN:
            WS_TRY_(ws_json_boolean_(item, "default", place, &truth, error));
            out->default_number = truth ? 1.0 : 0.0;
            break;
        case WS_WIDGET_NONE:
        case WS_WIDGET_CHOICE:
            break;
    }
    return WS_OK;
}

static ws_status read_input(const cJSON *item, const ws_json_place *place, ws_node_input *out,
                            ws_error *error) {
    WS_TRY_(ws_json_text_(item, "type", place, &out->type, error));
    out->widget = widget_of_type(out->type);
    WS_TRY_(ws_json_check_keys_(item, fields_of(out->widget), place, error));
    WS_TRY_(ws_json_text_(item, "name", place, &out->name, error));
    WS_TRY_(ws_json_text_(item, "tooltip", place, &out->tooltip, error));
    WS_TRY_(ws_json_boolean_(item, "required", place, &out->required, error));
    if (ws_json_has_(item, "advanced")) {
        WS_TRY_(ws_json_boolean_(item, "advanced", place, &out->advanced, error));
    }
    return read_default(item, place, out, error);
}

/* ---- a node ---------------------------------------------------------------------------------- */

/* inputs: room for all of the node's, the first `node->n_inputs` of which are read. */
static ws_status check_order(const ws_node_schema *node, const ws_node_input *next,
                             const ws_json_place *place, ws_error *error) {
    for (size_t i = 0; i < node->n_inputs; ++i) {
        if (strcmp(node->inputs[i].name, next->name) == 0) {
            return ws_fail(error, WS_ERROR_JSON, "%s: the node has two inputs of this name.",
                           place->text);
        }
        if (next->required && !node->inputs[i].required) {
            return ws_fail(error, WS_ERROR_JSON,
                           "%s is required, but stands after the optional input \"%s\".",
                           place->text, node->inputs[i].name);
        }
    }
    return WS_OK;
}

static ws_status read_inputs(const cJSON *item, const ws_json_place *place, ws_node_schema *node,
                             ws_node_input *inputs, ws_error *error) {
    const cJSON *array = NULL;
    WS_TRY_(ws_json_array_(item, "inputs", place, &array, error));
    node->inputs = inputs;
    const cJSON *input = NULL;
    cJSON_ArrayForEach(input, array) {
        const ws_json_place input_place =
            ws_json_place_of_(place, "input", input, "name", node->n_inputs);
        ws_node_input *const next = &inputs[node->n_inputs];
        WS_TRY_(read_input(input, &input_place, next, error));
        WS_TRY_(check_order(node, next, &input_place, error));
        ++node->n_inputs;
    }
    return WS_OK;
}

static ws_status read_outputs(const cJSON *item, const ws_json_place *place, ws_node_schema *node,
                              ws_node_output *outputs, ws_error *error) {
    static const char *const fields[] = {"name", "type", "tooltip", NULL};
    const cJSON *array = NULL;
    WS_TRY_(ws_json_array_(item, "outputs", place, &array, error));
    node->outputs = outputs;
    const cJSON *output = NULL;
    cJSON_ArrayForEach(output, array) {
        const ws_json_place output_place =
            ws_json_place_of_(place, "output", output, "name", node->n_outputs);
        ws_node_output *const next = &outputs[node->n_outputs];
        WS_TRY_(ws_json_check_keys_(output, fields, &output_place, error));
        WS_TRY_(ws_json_text_(output, "name", &output_place, &next->name, error));
        WS_TRY_(ws_json_text_(output, "type", &output_place, &next->type, error));
        WS_TRY_(ws_json_text_(output, "tooltip", &output_place, &next->tooltip, error));
        ++node->n_outputs;
    }
    return WS_OK;
}

static ws_status read_node(const cJSON *item, const ws_json_place *place, ws_node_schema *node,
                           ws_node_input *inputs, ws_node_output *outputs, ws_error *error) {
    static const char *const fields[] = {"id",     "display_name", "category",    "description",
                                         "inputs", "outputs",      "output_node", NULL};
    WS_TRY_(ws_json_check_keys_(item, fields, place, error));
    WS_TRY_(ws_json_text_(item, "id", place, &node->id, error));
    WS_TRY_(ws_json_text_(item, "display_name", place, &node->display_name, error));
    WS_TRY_(ws_json_text_(item, "category", place, &node->category, error));
    WS_TRY_(ws_json_text_(item, "description", place, &node->description, error));
    if (ws_json_has_(item, "output_node")) {
        WS_TRY_(ws_json_boolean_(item, "output_node", place, &node->output_node, error));
    }
    WS_TRY_(read_inputs(item, place, node, inputs, error));
    return read_outputs(item, place, node, outputs, error);
}

/* ---- the list -------------------------------------------------------------------------------- */

static size_t array_size(const cJSON *item, const char *key) {
    return (size_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(item, key));
}

/* Sized by what the tree holds, before any of it is checked. */
static ws_status allocate(ws_node_schema_list *list, const cJSON *array, const ws_json_place *place,
                          ws_error *error) {
    size_t nodes = 0;
    size_t inputs = 0;
    size_t outputs = 0;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, array) {
        ++nodes;
        inputs += array_size(item, "inputs");
        outputs += array_size(item, "outputs");
    }
    /* One more of each: calloc(0) may return NULL. */
    list->nodes = calloc(nodes + 1, sizeof(*list->nodes));
    list->inputs = calloc(inputs + 1, sizeof(*list->inputs));
    list->outputs = calloc(outputs + 1, sizeof(*list->outputs));
    if (list->nodes == NULL || list->inputs == NULL || list->outputs == NULL) {
        return ws_fail(error, WS_ERROR_NO_MEMORY, "%s: there is no memory for %zu nodes.",
                       place->text, nodes);
    }
    return WS_OK;
}

static ws_status read_list(ws_node_schema_list *list, const ws_json_place *place, ws_error *error) {
    static const char *const fields[] = {"nodes", NULL};
    const cJSON *array = NULL;
    WS_TRY_(ws_json_check_keys_(list->root, fields, place, error));
    WS_TRY_(ws_json_array_(list->root, "nodes", place, &array, error));
    WS_TRY_(allocate(list, array, place, error));
    ws_node_input *inputs = list->inputs;
    ws_node_output *outputs = list->outputs;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, array) {
        const ws_json_place node_place = ws_json_place_of_(place, "node", item, "id", list->count);
        ws_node_schema *const node = &list->nodes[list->count];
        WS_TRY_(read_node(item, &node_place, node, inputs, outputs, error));
        for (size_t i = 0; i < list->count; ++i) {
            if (strcmp(list->nodes[i].id, node->id) == 0) {
                return ws_fail(error, WS_ERROR_JSON, "%s: there are two nodes of this id.",
                               node_place.text);
            }
        }
        inputs += node->n_inputs;
        outputs += node->n_outputs;
        ++list->count;
    }
    return WS_OK;
}

ws_status ws_node_schema_parse(const char *text, size_t length, ws_node_schema_list **out,
                               ws_error *error) {
    static const ws_json_place place = {"nodes.json"};
    *out = NULL;
    ws_node_schema_list *const list = calloc(1, sizeof(*list));
    if (list == NULL) {
        return ws_fail(error, WS_ERROR_NO_MEMORY, "%s: there is no memory for its nodes.",
                       place.text);
    }
    ws_status status = ws_json_parse_(text, length, WS_JSON_NESTING, &place, &list->root, error);
    if (status == WS_OK) {
        status = read_list(list, &place, error);
    }
    if (status != WS_OK) {
        ws_node_schema_free(list);
        return status;
    }
    *out = list;
    return WS_OK;
}

void ws_node_schema_free(ws_node_schema_list *list) {
    if (list == NULL) {
        return;
    }
    cJSON_Delete(list->root);
    free(list->nodes);
    free(list->inputs);
    free(list->outputs);
    free(list);
}

size_t ws_node_schema_count(const ws_node_schema_list *list) {
    return list->count;
}

const ws_node_schema *ws_node_schema_get(const ws_node_schema_list *list, size_t index) {
    return index < list->count ? &list->nodes[index] : NULL;
}
