/* The nodes of the pack as data, nodes.json: what the editor shows and what a workflow may contain. */
#ifndef WAVESPEED_NODE_SCHEMA_H
#define WAVESPEED_NODE_SCHEMA_H

#include "wavespeed/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_widget {
    WS_WIDGET_NONE = 0, /* a socket, no value of its own */
    WS_WIDGET_STRING,
    WS_WIDGET_FLOAT,
    WS_WIDGET_INT,
    WS_WIDGET_BOOLEAN,
    WS_WIDGET_CHOICE /* the choices come from the implementation */
} ws_widget;

/* All strings belong to the ws_node_schema_list. type is ComfyUI's word, e.g. "MODEL", "FLOAT". */
typedef struct ws_node_input {
    const char *name;
    const char *type;
    const char *tooltip;
    ws_widget widget;
    bool required;
    bool advanced; /* the editor folds it away; absent means false */
    bool has_minimum, has_maximum, has_step;
    double minimum, maximum, step;
    double default_number;      /* FLOAT and INT; 0 or 1 for BOOLEAN */
    const char *default_string; /* STRING; NULL for others */
} ws_node_input;

typedef struct ws_node_output {
    const char *name;
    const char *type;
    const char *tooltip;
} ws_node_output;

typedef struct ws_node_schema {
    const char *id;
    const char *display_name;
    const char *category;
    const char *description;
    bool output_node; /* it runs although nothing follows it; absent means false */
    size_t n_inputs;
    const ws_node_input *inputs; /* in the order of the widgets; required ones first */
    size_t n_outputs;
    const ws_node_output *outputs;
} ws_node_schema;

typedef struct ws_node_schema_list ws_node_schema_list;

/* Parses and checks the text: unknown fields, missing tooltips, a default outside its limits and an optional input before a
 * required one are all WS_ERROR_JSON with the node and the input in the sentence. */
ws_status ws_node_schema_parse(const char *text, size_t length, ws_node_schema_list **out, ws_error *error);
void ws_node_schema_free(ws_node_schema_list *list); /* NULL is allowed */

size_t ws_node_schema_count(const ws_node_schema_list *list);
const ws_node_schema *ws_node_schema_get(const ws_node_schema_list *list, size_t index);

#ifdef __cplusplus
}
#endif

#endif
