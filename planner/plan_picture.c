#include "planner/plan_picture.h"

#include "planner/plan_report.h"
#include "planner/size_text.h"

#include <stdio.h>
#include <string.h>

/* ---- hops ---- */

/* How many devices share a unit, and the first shard of it; 0 shards: none. */
static uint32_t shards_of(const struct plan *plan, uint32_t unit, const struct shard **first) {
    uint32_t count = 0;
    *first = NULL;
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        if (plan->shards[i].unit != unit)
            continue;
        if (!count++)
            *first = &plan->shards[i];
    }
    return count;
}

struct hop_list {
    struct plan_hop *hops;
    uint32_t count;
    double (*cost)(void *context, int32_t from, int32_t to);
    void *context;
};

static void add_hops(struct hop_list *list, int32_t from, int32_t to, uint32_t times) {
    uint32_t i = 0;
    if (from == to)
        return;
    while (i < list->count && (list->hops[i].from != from || list->hops[i].to != to))
        i++;
    if (i == list->count)
        list->hops[list->count++] = (struct plan_hop){ .from = from, .to = to };
    list->hops[i].count += times;
    list->hops[i].seconds += list->cost ? times * list->cost(list->context, from, to) : 0;
}

uint32_t plan_hops(const struct plan *plan, double (*cost)(void *context, int32_t from, int32_t to),
                   void *context, struct plan_hop hops[PLAN_MAX_HOPS]) {
    struct hop_list list = { .hops = hops, .cost = cost, .context = context };
    int32_t at = PLAN_HOST;
    for (uint32_t u = 0; u <= plan->unit_count; u++) {
        const struct shard *shards = NULL;
        uint32_t count = u < plan->unit_count ? shards_of(plan, u, &shards) : 0;
        int32_t to = count == 1 ? shards->device : PLAN_HOST;
        add_hops(&list, at, to, 1);
        at = to;
        /* What slices exchange lies on the host: each device takes and leaves values twice. */
        for (uint32_t i = 0; count > 1 && i < count; i++) {
            uint32_t times = u + 1 < plan->unit_count ? 2 : 1;
            add_hops(&list, PLAN_HOST, shards[i].device, times);
            add_hops(&list, shards[i].device, PLAN_HOST, times);
        }
    }
    return list.count;
}

static void hop_text(const struct plan_hop *hop, char text[64]) {
    char times[16] = "";
    if (hop->count > 1)
        snprintf(times, sizeof times, "%u hops", hop->count);
    if (hop->seconds > 0)
        snprintf(text, 64, "%s%s%.2f ms", times, times[0] ? ", " : "", 1e3 * hop->seconds);
    else
        snprintf(text, 64, "%s", times[0] ? times : "hop");
}

/* ---- SVG ---- */

/* Pixels. Boxes hang from TOP; arrows to the right arch above them, to the left below. */
enum { LEFT = 30, COLUMN = 190, BOX = 130, TOP = 190, TALLEST = 320, BELOW = TOP + TALLEST + 150 };

/* What a device holds is written in its box, which is tall enough for that whatever its scale. */
enum { MOST_LINES = 8, LINE = 16, FIRST_LINE = 22, LAST_GAP = 14 };

static const char *const colours[] = { "#7fa8d9", "#f2c879", "#b9b9c6" };   /* weights, KV, scratch */

static void append_escaped(struct text *text, const char *bytes) {
    for (; *bytes; bytes++) {
        if (*bytes == '<')
            text_append(text, "&lt;");
        else if (*bytes == '&')
            text_append(text, "&amp;");
        else if (*bytes == '"')
            text_append(text, "&quot;");
        else
            text_append_char(text, (unsigned char)*bytes < 0x20 || (unsigned char)*bytes > 0x7e ? '?' : *bytes);
    }
}

static void append_text(struct text *text, double x, double y, int size, const char *style, const char *words) {
    text_append_format(text, "<text x=\"%.0f\" y=\"%.0f\" font-size=\"%d\" %s>", x, y, size, style);
    append_escaped(text, words);
    text_append(text, "</text>\n");
}

/* Columns: the host, then the devices that hold something, then the others. */
struct columns { int32_t device[PLAN_MAX_DEVICES + 1]; uint32_t count; uint64_t largest; };

static struct columns arrange(const struct plan *plan) {
    struct columns columns = { .device = { PLAN_HOST }, .count = 1, .largest = 1 };
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t d = 0; d < plan->device_count; d++) {
            if (plan_device_holds(plan, (int32_t)d) != (pass == 0) || (pass == 1 && !plan->devices[d].budget_bytes))
                continue;
            columns.device[columns.count++] = (int32_t)d;
            if (plan->devices[d].budget_bytes > columns.largest)
                columns.largest = plan->devices[d].budget_bytes;
        }
    return columns;
}

static double column_x(const struct columns *columns, int32_t device) {
    for (uint32_t i = 0; i < columns->count; i++)
        if (columns->device[i] == device)
            return LEFT + (double)i * COLUMN;
    return LEFT;
}

static uint32_t held_lines(const struct plan *plan, int32_t device) {
    struct text held;
    uint32_t lines = 1;
    text_init(&held);
    plan_report_units(plan, device, &held);
    for (const char *comma = held.bytes; lines < MOST_LINES && (comma = strstr(comma, ", ")); comma++)
        lines++;
    text_release(&held);
    return lines;
}

static double box_height(const struct plan *plan, const struct columns *columns, int32_t device) {
    double least = FIRST_LINE + LINE * (held_lines(plan, device) - 1) + LAST_GAP;
    double height = device < 0 ? 0 : TALLEST * (double)plan->devices[device].budget_bytes / (double)columns->largest;
    return height < least ? least : height;
}

/* "blocks 0-13, attn 14" in lines of a box's width. */
static void append_held(const struct plan *plan, int32_t device, double x, double y, struct text *text) {
    struct text held;
    text_init(&held);
    plan_report_units(plan, device, &held);
    uint32_t lines = 0;
    for (char *part = held.bytes; part && *part && lines < MOST_LINES; lines++) {
        char *comma = strstr(part, ", ");
        if (comma)
            *comma = '\0';
        append_text(text, x, y + LINE * lines, 12, "fill=\"#222\"", lines + 1 == MOST_LINES && comma ? "..." : part);
        part = comma ? comma + 2 : NULL;
    }
    text_release(&held);
}

static void append_device(const struct plan *plan, const struct columns *columns, int32_t index, struct text *text) {
    const double x = column_x(columns, index), height = box_height(plan, columns, index);
    const struct plan_device *device = index < 0 ? NULL : &plan->devices[index];
    text_append_format(text, "<rect x=\"%.0f\" y=\"%d\" width=\"%d\" height=\"%.0f\" fill=\"#fff\" stroke=\"#555\"/>\n", x,
                       TOP, BOX, height);
    if (!device) {
        append_text(text, x, BELOW, 14, "font-weight=\"bold\" fill=\"#222\"", "host");
        append_text(text, x, BELOW + 18, 12, "fill=\"#444\"", "from the mapped file");
        append_held(plan, index, x + 8, TOP + FIRST_LINE, text);
        return;
    }
    const uint64_t parts[] = { device->weight_bytes, device->kv_bytes,
                               device->scratch_bytes + device->staging_bytes + device->slack_bytes };
    static const char *const names[] = { "weights", "kv", "scratch" };
    uint64_t used = 0;
    double y = TOP, per_byte = device->budget_bytes ? height / (double)device->budget_bytes : 0;
    char size[24], line[96];
    for (int i = 0; i < 3; i++) {
        double tall = per_byte * (double)parts[i];
        if (y + tall > TOP + height)
            tall = TOP + height - y;
        used += parts[i];
        if (tall > 0)
            text_append_format(text, "<rect x=\"%.0f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\"/>\n", x + 1, y,
                               BOX - 2, tall, colours[i]);
        y += tall;
    }
    append_held(plan, index, x + 8, TOP + FIRST_LINE, text);
    append_text(text, x, BELOW, 14, "font-weight=\"bold\" fill=\"#222\"", device->device.short_name);
    const bool is_long = strlen(device->device.name) > 24;
    snprintf(line, sizeof line, "%.*s%s", is_long ? 22 : 24, device->device.name, is_long ? "..." : "");
    append_text(text, x, BELOW + 18, 12, "fill=\"#444\"", line);
    for (int i = 0; i < 3; i++) {
        size_print(parts[i], size);
        snprintf(line, sizeof line, "%s %s", names[i], size);
        text_append_format(text, "<rect x=\"%.0f\" y=\"%d\" width=\"9\" height=\"9\" fill=\"%s\" stroke=\"#777\"/>\n", x,
                           BELOW + 28 + 16 * i, colours[i]);
        append_text(text, x + 14, BELOW + 37 + 16 * i, 12, "fill=\"#444\"", line);
    }
    size_print(device->budget_bytes > used ? device->budget_bytes - used : 0, size);
    snprintf(line, sizeof line, "free %s", size);
    append_text(text, x + 14, BELOW + 85, 12, "fill=\"#444\"", line);
    snprintf(line, sizeof line, "%.2f ms a token", 1e3 * device->decode_seconds);
    append_text(text, x + 14, BELOW + 101, 12, "fill=\"#444\"", plan_device_holds(plan, index) ? line : "not used");
}

#define BACKGROUND "#fafaf7"

enum arrow_part { CURVE, LABEL };

static void append_arrow(const struct plan *plan, const struct columns *columns, const struct plan_hop *hop,
                         enum arrow_part part, struct text *text) {
    char label[64];
    double from = column_x(columns, hop->from), to = column_x(columns, hop->to);
    const bool is_right = to > from;
    double apart = (is_right ? to - from : from - to) / COLUMN;
    double x1 = from + BOX * (is_right ? 0.65 : 0.35), x2 = to + BOX * (is_right ? 0.35 : 0.65);
    double y1 = is_right ? TOP : TOP + box_height(plan, columns, hop->from);
    double y2 = is_right ? TOP : TOP + box_height(plan, columns, hop->to);
    double bend = is_right ? TOP - 30 - 30 * apart : TOP + TALLEST + 30 + 26 * apart;
    double middle = is_right ? 0.25 * TOP + 0.75 * bend - 6 : 0.125 * (y1 + y2) + 0.75 * bend + 24;
    if (part == LABEL) {
        hop_text(hop, label);
        /* What passes behind a label leaves it readable. */
        const double wide = 6.4 * (double)strlen(label);
        text_append_format(text, "<rect class=\"label\" x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"14\" fill=\"" BACKGROUND
                           "\"/>\n", (x1 + x2 - wide) / 2, middle - 11, wide);
        append_text(text, (x1 + x2) / 2, middle, 11, "fill=\"#b03a2e\" text-anchor=\"middle\"", label);
        return;
    }
    text_append_format(text, "<path d=\"M %.0f %.0f C %.0f %.0f %.0f %.0f %.0f %.0f\" fill=\"none\" stroke=\"#b03a2e\" "
                       "stroke-width=\"1.5\" marker-end=\"url(#tip)\"/>\n", x1, y1, x1, bend, x2, bend, x2,
                       is_right ? y2 - 2 : y2 + 2);
}

void plan_picture_svg(const struct plan *plan, const struct plan_hop *hops, uint32_t hop_count, struct text *text) {
    const struct columns columns = arrange(plan);
    char line[256], prefill[24], decode[24], first[24];
    int width = LEFT + (int)columns.count * COLUMN, height = BELOW + 120;
    width = width < 620 ? 620 : width;
    text_append_format(text, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                       "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\">\n", width, height, width, height);
    text_append(text, "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" "
                "orient=\"auto\"><path d=\"M 0 0 L 8 4 L 0 8 z\" fill=\"#b03a2e\"/></marker></defs>\n");
    text_append_format(text, "<rect width=\"%d\" height=\"%d\" fill=\"" BACKGROUND "\"/>\n", width, height);
    snprintf(line, sizeof line, "%.100s, context %u", plan->model_name, plan->request.context);
    append_text(text, LEFT, 30, 17, "font-weight=\"bold\" fill=\"#222\"", line);
    snprintf(line, sizeof line, "predicted: prefill %s tok/s, decode %s tok/s, first token %s; boxes to scale of memory",
             plan_rate_text(plan->predicted_prefill_tokens_per_s, prefill),
             plan_rate_text(plan->predicted_decode_tokens_per_s, decode),
             plan_seconds_text(plan->predicted_first_token_s, first));
    append_text(text, LEFT, 52, 12, "fill=\"#444\"", line);
    for (uint32_t i = 0; i < columns.count; i++)
        append_device(plan, &columns, columns.device[i], text);
    for (enum arrow_part part = CURVE; part <= LABEL; part++)
        for (uint32_t i = 0; i < hop_count; i++)
            append_arrow(plan, &columns, &hops[i], part, text);
    text_append(text, "</svg>\n");
}

/* ---- Graphviz ---- */

static const char *node_name(const struct plan *plan, int32_t device) {
    return device < 0 ? "host" : plan->devices[device].device.short_name;
}

void plan_picture_dot(const struct plan *plan, const struct plan_hop *hops, uint32_t hop_count, struct text *text) {
    char size[24], label[64];
    text_append(text, "digraph plan {\n    rankdir=LR;\n    node [shape=box, fontname=\"sans-serif\"];\n");
    for (int32_t d = PLAN_HOST; d < (int32_t)plan->device_count; d++) {
        struct text held;
        if (d >= 0 && !plan_device_holds(plan, d))
            continue;
        text_init(&held);
        plan_report_units(plan, d, &held);
        size_print(d < 0 ? 0 : plan->devices[d].weight_bytes + plan->devices[d].kv_bytes, size);
        text_append_format(text, "    \"%s\" [label=\"%s\\n%s", node_name(plan, d), node_name(plan, d), held.bytes);
        if (d >= 0)
            text_append_format(text, "\\n%s, %.2f ms a token", size, 1e3 * plan->devices[d].decode_seconds);
        text_append(text, "\"];\n");
        text_release(&held);
    }
    for (uint32_t i = 0; i < hop_count; i++) {
        hop_text(&hops[i], label);
        text_append_format(text, "    \"%s\" -> \"%s\" [label=\"%s\"];\n", node_name(plan, hops[i].from),
                           node_name(plan, hops[i].to), label);
    }
    text_append(text, "}\n");
}
