#include "planner/probe.h"

#include "common/opencl.h"
#include "planner/probe_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 256 };   /* of one device */

/* ---- results ---- */

void probe_results_release(struct probe_results *results) {
    for (uint32_t i = 0; i < results->count; i++)
        free(results->devices[i].values);
    free(results->devices);
    *results = (struct probe_results){ 0 };
}

static bool add_measured(struct probe_results *results, const struct probe_measured *measured) {
    struct probe_measured *grown = realloc(results->devices, (results->count + (size_t)1) * sizeof *grown);
    if (!grown)
        return false;
    results->devices = grown;
    grown[results->count++] = *measured;
    return true;
}

static bool add_value(struct probe_measured *measured, const struct probe_value *value) {
    if (measured->count == MOST_VALUES)
        return false;
    struct probe_value *grown = realloc(measured->values, (measured->count + (size_t)1) * sizeof *grown);
    if (!grown)
        return false;
    measured->values = grown;
    grown[measured->count++] = *value;
    return true;
}

/* The largest value of that kind; 0 where there is none. */
static double fastest(const struct probe_results *results, uint32_t index, const char *what) {
    double best = 0;
    for (uint32_t i = 0; index < results->count && i < results->devices[index].count; i++) {
        const struct probe_value *value = &results->devices[index].values[i];
        if (!strcmp(value->what, what) && value->value > best)
            best = value->value;
    }
    return best;
}

/* ---- one .icd file ---- */

enum trial { NOT_TRIED, BEING_TRIED, TRIED };

/* What the children of one .icd file said, in its order of enumeration. */
struct icd_survey {
    const struct probe_request *request;
    const char *icd;
    uint32_t first;              /* the present child's */
    uint32_t listed;             /* devices that it listed */
    uint32_t count;              /* devices that the first child listed */
    struct device devices[PROBE_MOST_DEVICES];
    struct probe_measured measured[PROBE_MOST_DEVICES];
    enum trial trials[PROBE_MOST_DEVICES];
    uint32_t current;            /* being tried; PROBE_MOST_DEVICES: none */
    char step[160];
};

static void tell(const struct icd_survey *survey, const char *subject, const char *what) {
    char text[512];
    if (!survey->request->progress)
        return;
    snprintf(text, sizeof text, "%s: %s", subject, what);
    survey->request->progress(survey->request->progress_context, text);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static bool hear_device(struct icd_survey *survey, const struct device *device) {
    if (survey->listed == PROBE_MOST_DEVICES || survey->current != PROBE_MOST_DEVICES)
        return false;
    uint32_t index = survey->listed++;
    if (survey->first)           /* a later child lists them once more */
        return index < survey->count && !strcmp(device->name, survey->devices[index].name);
    survey->devices[index] = *device;
    snprintf(survey->devices[index].icd, sizeof survey->devices[index].icd, "%s", survey->icd);
    survey->count = survey->listed;
    return true;
}

static bool hear(void *context, const struct probe_message *message) {
    struct icd_survey *survey = context;
    bool is_trying = survey->current != PROBE_MOST_DEVICES;
    struct device *device = is_trying ? &survey->devices[survey->current] : NULL;
    switch (message->event) {
    case PROBE_DEVICE:
        return hear_device(survey, &message->device);
    case PROBE_BEGIN:
        if (is_trying || message->index < survey->first || message->index >= survey->listed ||
            survey->trials[message->index] != NOT_TRIED)
            return false;
        survey->current = message->index;
        survey->trials[message->index] = BEING_TRIED;
        return true;
    case PROBE_STEP:
        if (!is_trying)
            return false;
        snprintf(survey->step, sizeof survey->step, "%s", message->what);
        tell(survey, device->name, survey->step);
        return true;
    case PROBE_VALUE:
        return is_trying && add_value(&survey->measured[survey->current], &message->value);
    case PROBE_END:
        if (!is_trying)
            return false;
        device->usable = message->usable;
        snprintf(device->reason, sizeof device->reason, "%s", message->usable ? "" : message->reason);
        survey->trials[survey->current] = TRIED;
        survey->current = PROBE_MOST_DEVICES;
        return true;
    case PROBE_DONE:
        return !is_trying;
    }
    return false;
}

static void condemn(struct icd_survey *survey, uint32_t index, const char *reason) {
    struct device *device = &survey->devices[index];
    device->usable = false;
    if (survey->trials[index] == BEING_TRIED && survey->step[0])
        snprintf(device->reason, sizeof device->reason, "%.180s (during: %.60s)", reason, survey->step);
    else
        snprintf(device->reason, sizeof device->reason, "%s", reason);
    free(survey->measured[index].values);
    survey->measured[index] = (struct probe_measured){ 0 };
    survey->trials[index] = TRIED;
}

/* Ask the driver; where it dies over one device, go on behind that one in a new
 * process. `reason` is not "" where it died before it had listed any. */
static bool survey_icd(struct icd_survey *survey, const char *request_text, char reason[256],
                       struct error *err) {
    struct probe_process process = {
        .icd = survey->icd, .request = request_text, .interrupted = survey->request->interrupted,
        .timeout_s = survey->request->timeout_s > 0 ? survey->request->timeout_s : 30,
        .listen = hear, .context = survey,
    };
    reason[0] = '\0';
    tell(survey, base_name(survey->icd), "devices");
    for (;;) {
        char why[256];
        survey->listed = 0;
        survey->current = PROBE_MOST_DEVICES;
        survey->step[0] = '\0';
        process.first = survey->first;
        enum probe_ending ending = probe_process_run(&process, why, err);
        if (ending == PROBE_INTERRUPTED)
            return error_set(err, ERROR_INTERRUPTED, "interrupted while the devices were probed");
        if (ending == PROBE_NOT_STARTED)
            return false;
        if (ending == PROBE_ENDED_WELL)
            snprintf(why, sizeof why, "its probe did not try it");   /* for what is left, if anything */
        else if (!survey->count)
            snprintf(reason, 256, "%s", why);
        if (ending == PROBE_ENDED_BADLY && survey->current < survey->count) {
            condemn(survey, survey->current, why);
            survey->first = survey->current + 1;
            if (survey->first < survey->count)
                continue;
        }
        for (uint32_t i = 0; i < survey->count; i++)
            if (survey->trials[i] != TRIED)
                condemn(survey, i, why);
        return true;
    }
}

/* ---- the whole machine ---- */

/* Everything before it is sorted. */
struct collection {
    struct device_list devices;
    struct probe_results results;
    struct device_list failures;   /* drivers without devices */
};

static double least_cpu_stream(const struct collection *collection, const struct probe_request *request) {
    double least = request->least_cpu_stream;
    for (uint32_t i = 0; i < collection->devices.count; i++) {
        double stream = fastest(&collection->results, i, "stream") / 8;
        if (collection->devices.devices[i].type == DEVICE_CPU && stream > least)
            least = stream;
    }
    return least;
}

static bool collect_icd(struct collection *collection, const struct probe_request *request,
                        const char *icd, struct error *err) {
    char reason[256];
    struct icd_survey *survey = calloc(1, sizeof *survey);
    struct probe_request own = *request;
    own.least_cpu_stream = request->measures_slow ? 0 : least_cpu_stream(collection, request);
    char *request_text = probe_request_text(&own);
    if (!survey || !request_text) {
        free(survey);
        free(request_text);
        return error_set(err, ERROR_FAILED, "cannot probe '%s': out of memory", icd);
    }
    survey->request = request;
    survey->icd = icd;
    bool fine = survey_icd(survey, request_text, reason, err), has_memory = true;
    free(request_text);
    uint32_t taken = 0;
    for (; fine && has_memory && taken < survey->count; taken++) {
        has_memory = device_list_append(&collection->devices, &survey->devices[taken]) &&
                     add_measured(&collection->results, &survey->measured[taken]);
        if (!has_memory)
            break;
    }
    for (; taken < survey->count; taken++)
        free(survey->measured[taken].values);
    if (fine && reason[0]) {
        struct device failure = { .type = DEVICE_ACCELERATOR, .alignment = 64 };
        snprintf(failure.platform, sizeof failure.platform, "%s", base_name(icd));
        snprintf(failure.icd, sizeof failure.icd, "%s", icd);
        snprintf(failure.reason, sizeof failure.reason, "%s", reason);
        has_memory = has_memory && device_list_append(&collection->failures, &failure);
    }
    free(survey);
    return fine && (has_memory || error_set(err, ERROR_FAILED, "cannot probe '%s': out of memory", icd));
}

/* The library that an .icd file names; "" where it cannot be read. */
static void first_line(const char *path, char *line, int size) {
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, size, file))
        line[0] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    if (file)
        fclose(file);
}

/* Two .icd files may name one library; its devices must not count twice. */
static bool is_repeated(char *const *icds, uint32_t index) {
    char library[512], earlier[512];
    first_line(icds[index], library, sizeof library);
    for (uint32_t i = 0; i < index && library[0]; i++) {
        first_line(icds[i], earlier, sizeof earlier);
        if (!strcmp(library, earlier))
            return true;
    }
    return false;
}

/* Name and sort the devices and bring their results into the same order. */
static bool sort_collection(struct collection *collection, struct probe_results *results) {
    const uint32_t count = collection->devices.count;
    uint32_t *place = calloc(count + (size_t)1, sizeof *place);
    struct probe_measured *sorted = calloc(count + (size_t)1, sizeof *sorted);
    bool fine = place && sorted && device_name_places(&collection->devices, place);
    for (uint32_t i = 0; fine && i < count; i++)
        sorted[i] = collection->results.devices[place[i]];
    if (fine) {
        free(collection->results.devices);
        collection->results = (struct probe_results){ 0 };
        *results = (struct probe_results){ sorted, count };
    } else {
        free(sorted);
    }
    free(place);
    return fine;
}

bool probe_survey(const struct probe_request *request, struct device_list *devices,
                  struct probe_results *results, struct error *err) {
    struct collection collection = { 0 };
    char **icds = NULL;
    uint32_t icd_count = 0;
    bool fine = false;
    *devices = (struct device_list){ 0 };
    *results = (struct probe_results){ 0 };
    if (request->shape_count > PROBE_MOST_SHAPES)
        return error_set(err, ERROR_FAILED, "cannot probe with %u shapes of matrices: at most %d",
                         request->shape_count, PROBE_MOST_SHAPES);
    /* Children inherit PoCL's cache folder. */
    if (!opencl_choose_icds(NULL, 0, err) || !opencl_list_icds(&icds, &icd_count, err))
        goto cleanup;
    for (uint32_t i = 0; i < icd_count; i++)
        if (!is_repeated(icds, i) && !collect_icd(&collection, request, icds[i], err))
            goto cleanup;
    if (!sort_collection(&collection, results))
        goto no_memory;
    *devices = collection.devices;
    collection.devices = (struct device_list){ 0 };
    probe_mark_aliases(devices, results);
    for (uint32_t i = 0; i < collection.failures.count; i++) {
        const struct probe_measured nothing = { 0 };
        if (!device_list_append(devices, &collection.failures.devices[i]) || !add_measured(results, &nothing))
            goto no_memory;
    }
    fine = true;
    goto cleanup;

no_memory:
    error_set(err, ERROR_FAILED, "cannot probe the devices: out of memory");
cleanup:
    opencl_free_icds(icds, icd_count);
    device_list_release(&collection.devices);
    device_list_release(&collection.failures);
    probe_results_release(&collection.results);
    opencl_shutdown();
    return fine;
}

/* ---- one silicon, several platforms ---- */

/* All CPU devices are this machine's processor; of other devices, two are the same
 * where an address says so, or, for want of addresses, vendor and name. */
static bool same_silicon(const struct device *a, const struct device *b) {
    if (!a->usable || !b->usable || !strcmp(a->platform, b->platform))
        return false;
    if (a->type == DEVICE_CPU || b->type == DEVICE_CPU)
        return a->type == b->type;
    if (a->uuid[0] && b->uuid[0])
        return !strcmp(a->uuid, b->uuid);
    if (a->pci[0] && b->pci[0])
        return !strcmp(a->pci, b->pci);
    return a->vendor_id && a->vendor_id == b->vendor_id && !strcmp(a->name, b->name) &&
           a->ordinal == b->ordinal;
}

/* Ties go to the one that comes first. */
static bool is_faster(const struct probe_results *results, uint32_t a, uint32_t b) {
    double left = fastest(results, a, "decode"), right = fastest(results, b, "decode");
    if (!left || !right) {
        left = fastest(results, a, "stream");
        right = fastest(results, b, "stream");
    }
    return left > right || (left == right && a < b);
}

void probe_mark_aliases(struct device_list *devices, const struct probe_results *results) {
    for (uint32_t i = 0; i < devices->count; i++)
        devices->devices[i].alias_of[0] = '\0';
    for (uint32_t i = 0; i < devices->count; i++) {
        uint32_t best = i;   /* the fastest of this silicon */
        for (uint32_t j = 0; j < devices->count; j++)
            if (same_silicon(&devices->devices[i], &devices->devices[j]) && is_faster(results, j, best))
                best = j;
        /* Platforms compete with the fastest they offer: where this one's platform has a
         * device that beats `best`, this one is its slower twin and no alias. */
        for (uint32_t j = 0; best != i && j < devices->count; j++)
            if (!strcmp(devices->devices[j].platform, devices->devices[i].platform) &&
                same_silicon(&devices->devices[j], &devices->devices[best]) && is_faster(results, j, best))
                best = i;
        if (best != i)
            memcpy(devices->devices[i].alias_of, devices->devices[best].short_name,
                   sizeof devices->devices[i].alias_of);
    }
}
