/* probe_protocol: what the probe and its children say to each other.
 *
 * The request travels as one JSON object on the child's command line. The child
 * answers with one JSON object a line:
 *   {"event": "device", ...}             each device, before any is tried
 *   {"event": "begin", "index": i}       from here to "end", i is to blame for a crash
 *   {"event": "step", "what": "..."}
 *   {"event": "value", "what": ..., "format": ..., "bytes": n, "value": x, "unit": ...}
 *   {"event": "end", "usable": b, "reason": "..."}
 *   {"event": "done"}
 * A child runs foreign drivers, so its answer is as hostile as a file. */
#ifndef PLANNER_PROBE_PROTOCOL_H
#define PLANNER_PROBE_PROTOCOL_H

#include "planner/probe.h"

/* The request as text; the caller frees it. NULL: no memory. */
char *probe_request_text(const struct probe_request *request);
bool probe_request_read(const char *text, struct probe_request *request, struct error *err);

enum probe_event { PROBE_DEVICE, PROBE_BEGIN, PROBE_STEP, PROBE_VALUE, PROBE_END, PROBE_DONE };

struct probe_message {
    enum probe_event event;
    struct device device;        /* PROBE_DEVICE */
    uint32_t index;              /* PROBE_BEGIN */
    char what[160];              /* PROBE_STEP */
    struct probe_value value;    /* PROBE_VALUE */
    bool usable;                 /* PROBE_END */
    char reason[256];            /* PROBE_END */
};

/* One line without its newline; the caller frees it. NULL: no memory. */
char *probe_message_text(const struct probe_message *message);
bool probe_message_read(const char *line, size_t length, struct probe_message *message,
                        struct error *err);

#endif
