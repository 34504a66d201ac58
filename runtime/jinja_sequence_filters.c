/* jinja_sequence_filters: filters that go through the items of something. */
#include "runtime/jinja_library.h"

#include <string.h>

#define FILTER(name) \
    static bool name(struct jinja *run, const struct jinja_call *call, struct jinja_value *out)

FILTER(length) {
    size_t count;
    if (!jinja_length(run, call->self, &count))
        return false;
    *out = jinja_integer((int64_t)count);
    return true;
}

static bool copy_items(struct jinja *run, const struct jinja_value *value, struct jinja_value *out) {
    struct jinja_list *items;
    if (!jinja_items(run, value, &items) || !jinja_list_new(run, JINJA_LIST, items->count, out)
        || !jinja_spend(run, items->count))
        return false;
    if (items->count)
        memcpy(out->list->items, items->items, items->count * sizeof *items->items);
    out->list->count = items->count;
    return true;
}

FILTER(list) {
    return copy_items(run, call->self, out);
}

FILTER(first) {
    struct jinja_list *items;
    if (!jinja_items(run, call->self, &items))
        return false;
    *out = items->count ? items->items[0] : jinja_undefined();
    return true;
}

FILTER(last) {
    struct jinja_list *items;
    if (!jinja_items(run, call->self, &items))
        return false;
    *out = items->count ? items->items[items->count - 1] : jinja_undefined();
    return true;
}

FILTER(reverse) {
    const struct jinja_value backwards[3] = { { .kind = JINJA_NONE }, { .kind = JINJA_NONE }, jinja_integer(-1) };
    if (call->self->kind == JINJA_STRING)
        return jinja_slice(run, call->self, backwards, out);
    struct jinja_value items;
    return copy_items(run, call->self, &items) && jinja_slice(run, &items, backwards, out);
}

FILTER(join) {
    struct jinja_list *items;
    size_t mark = jinja_mark(run);
    const struct jinja_value *between = &call->given[0];
    if (!jinja_items(run, call->self, &items))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value item;
        if ((i && between->kind != JINJA_ABSENT && !jinja_put(run, between))
            || !jinja_follow(run, &items->items[i], &call->given[1], NULL, &item) || !jinja_put(run, &item)
            || !jinja_spend(run, 1))
            return false;
    }
    return jinja_capture(run, mark, out);
}

FILTER(items) {
    if (call->self->kind == JINJA_UNDEFINED)
        return jinja_list_new(run, JINJA_LIST, 0, out);
    if (call->self->kind != JINJA_DICT)
        return jinja_fail(run, "can only get item pairs from a mapping");
    return jinja_dict_items(run, call->self->dict, out);
}

/* The rest of a filter's arguments: map('name', a, b) calls name(a, b). */
static struct jinja_arguments without_first(const struct jinja_arguments *all, size_t count) {
    struct jinja_arguments rest = *all;
    rest.positional.items += count;
    rest.positional.count -= count;
    rest.positional.capacity -= count;
    return rest;
}

static bool map_attribute(struct jinja *run, const struct jinja_call *call, const struct jinja_value *path,
                          const struct jinja_list *items, struct jinja_value *out) {
    struct jinja_value key = jinja_text(jinja_literal("default")), *otherwise;
    if (!jinja_dict_find(run, &call->all->named, &key, &otherwise))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value value;
        if (!jinja_follow(run, &items->items[i], path, otherwise, &value)
            || !jinja_list_push(run, out->list, value))
            return false;
    }
    return true;
}

/* map(attribute='name', default=x) or map('filter', arguments...) */
FILTER(map) {
    struct jinja_list *items;
    struct jinja_value key = jinja_text(jinja_literal("attribute")), *path;
    if (!jinja_items(run, call->self, &items) || !jinja_list_new(run, JINJA_LIST, items->count, out)
        || !jinja_dict_find(run, &call->all->named, &key, &path))
        return false;
    if (path && !call->all->positional.count)
        return map_attribute(run, call, path, items, out);
    struct jinja_string name;
    if (!call->all->positional.count)
        return jinja_fail(run, "map requires a filter argument");
    if (!jinja_take_string(run, &call->all->positional.items[0], "the filter's name", &name))
        return false;
    const struct jinja_builtin *filter = jinja_find_filter(name);
    if (!filter)
        return jinja_unsupported(run, "the filter", name);
    struct jinja_arguments rest = without_first(call->all, 1);
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value value;
        if (!jinja_run_builtin(run, filter, &items->items[i], &rest, &value)
            || !jinja_list_push(run, out->list, value))
            return false;
    }
    return true;
}

/* Those items for which a test holds (or, wanted false, does not): a test of the item
 * itself or of an attribute; without a test, whether it is true. */
static bool choose(struct jinja *run, const struct jinja_call *call, bool of_attribute, bool wanted,
                   struct jinja_value *out) {
    const struct jinja_list *given = &call->all->positional;
    struct jinja_list *items;
    const struct jinja_builtin *test = NULL;
    struct jinja_value path = { .kind = JINJA_ABSENT };
    size_t used = of_attribute;
    if (given->count < used)
        return jinja_fail(run, "the attribute's name is missing");
    if (of_attribute)
        path = given->items[0];
    if (given->count > used) {
        struct jinja_string name;
        if (!jinja_take_string(run, &given->items[used], "the test's name", &name))
            return false;
        if (!(test = jinja_find_test(name)))
            return jinja_unsupported(run, "the test", name);
        used++;
    }
    struct jinja_arguments rest = used ? without_first(call->all, used) : *call->all;
    if (!jinja_items(run, call->self, &items) || !jinja_list_new(run, JINJA_LIST, 0, out))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value value, result;
        if (!jinja_follow(run, &items->items[i], &path, NULL, &value))
            return false;
        result = value;
        if (test && !jinja_run_builtin(run, test, &value, &rest, &result))
            return false;
        if (!jinja_spend(run, 1)
            || (jinja_truth(&result) == wanted && !jinja_list_push(run, out->list, items->items[i])))
            return false;
    }
    return true;
}

FILTER(select_items) {
    return choose(run, call, false, true, out);
}

FILTER(reject_items) {
    return choose(run, call, false, false, out);
}

FILTER(select_attribute) {
    return choose(run, call, true, true, out);
}

FILTER(reject_attribute) {
    return choose(run, call, true, false, out);
}

/* What an item is compared by: an attribute of it, strings in lower case unless case counts. */
static bool comparison_key(struct jinja *run, const struct jinja_value *item, const struct jinja_value *path,
                           bool case_sensitive, struct jinja_value *out) {
    struct jinja_value value;
    if (!jinja_follow(run, item, path, NULL, &value))
        return false;
    *out = value;
    return case_sensitive || value.kind != JINJA_STRING
        || jinja_change_case(run, value.string, JINJA_LOWER, out);
}

/* An item with what it is sorted by. */
struct keyed {
    struct jinja_value key, item;
};

/* Merge sort, for it keeps the order of equal items and its comparisons can fail. */
static bool sort_keyed(struct jinja *run, struct keyed *items, struct keyed *scratch, size_t count, bool descending) {
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = start + width < count ? start + width : count;
            size_t end = start + 2 * width < count ? start + 2 * width : count;
            for (size_t a = start, b = middle, k = start; k < end; k++) {
                bool takes_a = a < middle;
                int order;
                if (takes_a && b < end) {
                    if (!jinja_compare(run, &items[a].key, &items[b].key, "<", &order))
                        return false;
                    takes_a = descending ? order >= 0 : order <= 0;
                }
                scratch[k] = takes_a ? items[a++] : items[b++];
            }
        }
        memcpy(items, scratch, count * sizeof *items);
    }
    return true;
}

static bool sort_values(struct jinja *run, const struct jinja_list *items, const struct jinja_value *path,
                        bool case_sensitive, bool descending, struct jinja_value *out) {
    struct keyed *keyed = jinja_alloc_array(run, items->count, sizeof *keyed);
    struct keyed *scratch = jinja_alloc_array(run, items->count, sizeof *scratch);
    if (!keyed || !scratch || !jinja_list_new(run, JINJA_LIST, items->count, out))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        keyed[i].item = items->items[i];
        if (!comparison_key(run, &items->items[i], path, case_sensitive, &keyed[i].key))
            return false;
    }
    if (!sort_keyed(run, keyed, scratch, items->count, descending))
        return false;
    for (size_t i = 0; i < items->count; i++)
        if (!jinja_list_push(run, out->list, keyed[i].item))
            return false;
    return true;
}

FILTER(sort) {
    struct jinja_list *items;
    return jinja_items(run, call->self, &items)
        && sort_values(run, items, &call->given[2], jinja_take_bool(&call->given[1], false),
                       jinja_take_bool(&call->given[0], false), out);
}

FILTER(dictsort) {
    struct jinja_value pairs, by = jinja_integer(0);
    if (call->self->kind != JINJA_DICT)
        return jinja_fail(run, "dictsort needs a mapping");
    if (call->given[1].kind == JINJA_STRING && jinja_string_is(call->given[1].string, "value"))
        by = jinja_integer(1);
    return jinja_dict_items(run, call->self->dict, &pairs)
        && sort_values(run, pairs.list, &by, jinja_take_bool(&call->given[0], false),
                       jinja_take_bool(&call->given[2], false), out);
}

FILTER(unique) {
    struct jinja_list *items;
    struct jinja_value seen;
    if (!jinja_items(run, call->self, &items) || !jinja_list_new(run, JINJA_LIST, 0, out)
        || !jinja_list_new(run, JINJA_LIST, 0, &seen))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value key;
        bool contained;
        if (!comparison_key(run, &items->items[i], &call->given[1], jinja_take_bool(&call->given[0], false), &key)
            || !jinja_contains(run, &seen, &key, &contained))
            return false;
        if (!contained && (!jinja_list_push(run, seen.list, key) || !jinja_list_push(run, out->list, items->items[i])))
            return false;
    }
    return true;
}

static bool extreme(struct jinja *run, const struct jinja_call *call, int sign, struct jinja_value *out) {
    struct jinja_list *items;
    struct jinja_value best = { .kind = JINJA_ABSENT };
    if (!jinja_items(run, call->self, &items))
        return false;
    *out = jinja_undefined();
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value key;
        int order = 1;
        if (!comparison_key(run, &items->items[i], &call->given[1], jinja_take_bool(&call->given[0], false), &key)
            || (i && !jinja_compare(run, &key, &best, sign > 0 ? ">" : "<", &order)))
            return false;
        if (i == 0 || order * sign > 0) {
            best = key;
            *out = items->items[i];
        }
    }
    return true;
}

FILTER(largest) {
    return extreme(run, call, 1, out);
}

FILTER(smallest) {
    return extreme(run, call, -1, out);
}

FILTER(sum) {
    struct jinja_list *items;
    struct jinja_value total = call->given[1].kind == JINJA_ABSENT ? jinja_integer(0) : call->given[1];
    if (!jinja_items(run, call->self, &items))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value value, sum_so_far = total;
        if (!jinja_follow(run, &items->items[i], &call->given[0], NULL, &value)
            || !jinja_binary(run, '+', &sum_so_far, &value, &total))
            return false;
    }
    *out = total;
    return true;
}

FILTER(batch) {
    struct jinja_list *items;
    struct jinja_value row = { .kind = JINJA_ABSENT };
    int64_t size;
    if (!jinja_items(run, call->self, &items) || !jinja_take_whole(run, &call->given[0], 1, &size)
        || !jinja_list_new(run, JINJA_LIST, 0, out))
        return false;
    if (size < 1)
        return jinja_fail(run, "batch needs a size of at least 1");
    for (size_t i = 0; i < items->count; i++) {
        if (i % (uint64_t)size == 0
            && (!jinja_list_new(run, JINJA_LIST, 0, &row) || !jinja_list_push(run, out->list, row)))
            return false;
        if (!jinja_list_push(run, row.list, items->items[i]))
            return false;
    }
    bool fills = row.kind == JINJA_LIST && call->given[1].kind != JINJA_ABSENT && call->given[1].kind != JINJA_NONE;
    while (fills && row.list->count < (uint64_t)size)
        if (!jinja_list_push(run, row.list, call->given[1]))
            return false;
    return true;
}

const struct jinja_builtin jinja_sequence_filters[] = {
    { "length", "", length }, { "count", "", length }, { "list", "", list }, { "first", "", first },
    { "last", "", last }, { "reverse", "", reverse }, { "join", "/ d attribute", join }, { "items", "", items },
    { "map", "*", map }, { "select", "*", select_items }, { "reject", "*", reject_items },
    { "selectattr", "*", select_attribute }, { "rejectattr", "*", reject_attribute },
    { "sort", "/ reverse case_sensitive attribute", sort }, { "dictsort", "/ case_sensitive by reverse", dictsort },
    { "unique", "/ case_sensitive attribute", unique }, { "max", "/ case_sensitive attribute", largest },
    { "min", "/ case_sensitive attribute", smallest }, { "sum", "/ attribute start", sum },
    { "batch", "linecount / fill_with", batch }, { 0 },
};
