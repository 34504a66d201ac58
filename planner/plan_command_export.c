/* The pictures of a plan, with what its hops cost. */
#include "planner/plan_context.h"
#include "planner/plan_picture.h"

#include <string.h>

struct hop_cost { const struct model *model; const struct device_rates *rates; };

static double cost_of_hop(void *context, int32_t from, int32_t to) {
    const struct hop_cost *cost = context;
    return cost_hop_token(cost->model, from < 0 ? NULL : &cost->rates[from], to < 0 ? NULL : &cost->rates[to]);
}

void command_picture_text(const struct plan *plan, const struct model *model, const struct machine *machine,
                          bool is_dot, struct text *text) {
    struct device_rates rates[PLAN_MAX_DEVICES];
    struct plan_hop hops[PLAN_MAX_HOPS];
    struct hop_cost cost = { model, rates };
    memset(rates, 0, sizeof rates);
    plan_machine_rates(plan, machine, rates);
    uint32_t count = plan_hops(plan, model ? cost_of_hop : NULL, &cost, hops);
    if (is_dot)
        plan_picture_dot(plan, hops, count, text);
    else
        plan_picture_svg(plan, hops, count, text);
}

bool command_export_picture(const struct command *command, struct error *err) {
    struct plan_context context;
    struct text text;
    text_init(&text);
    bool ok = plan_context_open(&context, command, command->options->subject, err);
    if (ok)
        command_picture_text(context.plan, context.model, &context.machine, command->options->format == FORMAT_DOT, &text);
    ok = ok && command_print(&text, err);
    plan_context_release(&context);
    text_release(&text);
    return ok;
}
