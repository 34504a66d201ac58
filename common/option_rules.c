#include "common/option_rules.h"

#include <stdio.h>
#include <string.h>

enum {
    LONGEST = 24,           /* letters of a word that is compared by typing_distance() */
    MOST_MISTYPED = 2,      /* letters wrong in what is taken for another name, */
    SHORTEST_MISTYPED = 4,  /* which has at least so many */
    MOST_PROPOSED = 4       /* names in a question; more of them are no help */
};

uint32_t typing_distance(const char *a, const char *b) {
    uint32_t row[LONGEST + 1];
    size_t width = strlen(b);
    if (width > LONGEST)
        return LONGEST;
    for (uint32_t j = 0; j <= width; j++)
        row[j] = j;
    for (uint32_t i = 1; *a && i <= LONGEST; i++, a++) {
        uint32_t corner = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= width; j++) {
            uint32_t changed = corner + (*a != b[j - 1]), other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            corner = row[j];
            row[j] = changed < other ? changed : other;
        }
    }
    return *a ? LONGEST : row[width];
}

/* Bytes of the name in "name=value". */
static size_t name_length(const char *typed) {
    return strcspn(typed, "=");
}

static bool is_whole(const struct option *longs, const char *typed) {
    const size_t length = name_length(typed);
    for (; longs->name; longs++)
        if (strlen(longs->name) == length && strncmp(longs->name, typed, length) == 0)
            return true;
    return false;
}

/* The names that may have been meant: those that begin with what was typed, else the nearest ones. */
static uint32_t find_meant(const struct option *longs, const char *typed, const char *meant[MOST_PROPOSED]) {
    const size_t length = name_length(typed);
    char name[LONGEST + 1];
    uint32_t count = 0, least = MOST_MISTYPED;
    if (!length || length > LONGEST)
        return 0;
    snprintf(name, sizeof name, "%.*s", (int)length, typed);
    for (const struct option *at = longs; at->name; at++)
        if (strncmp(at->name, name, length) == 0 && count++ < MOST_PROPOSED)
            meant[count - 1] = at->name;
    if (count)
        return count;
    for (const struct option *at = longs; at->name; at++) {
        const uint32_t distance = typing_distance(name, at->name);
        if (distance > least || strlen(at->name) < SHORTEST_MISTYPED)
            continue;
        count = distance < least ? 0 : count;
        least = distance;
        if (count++ < MOST_PROPOSED)
            meant[count - 1] = at->name;
    }
    return count;
}

/* `typed` with its dashes, and perhaps a value. */
static int refuse_unknown(const struct option_rules *rules, const char *typed, struct error *err) {
    const char *meant[MOST_PROPOSED];
    const bool is_long = strncmp(typed, "--", 2) == 0 && name_length(typed) > 2;
    const uint32_t count = is_long ? find_meant(rules->longs, typed + 2, meant) : 0;
    const size_t length = is_long ? name_length(typed) : strlen(typed);
    char question[256] = "";
    for (uint32_t i = 0; count <= MOST_PROPOSED && i < count; i++) {
        const size_t used = strlen(question);
        snprintf(question + used, sizeof question - used, "%s'--%s'%s",
                 !i ? " (did you mean " : i + 1 < count ? ", " : " or ", meant[i], i + 1 < count ? "" : "?)");
    }
    error_set(err, ERROR_USAGE, "there is no option '%.*s'%s; see %s --help", (int)(length < 200 ? length : 200), typed,
              question, rules->command);
    return '?';
}

/* The word whose letter optopt was refused: getopt_long() is past it only after its last letter. */
static const char *word_of_letter(int argc, char **argv) {
    return optind < argc && argv[optind][0] == '-' && strchr(argv[optind], optopt) ? argv[optind] : argv[optind - 1];
}

int option_rules_next(const struct option_rules *rules, int argc, char **argv, struct error *err) {
    int row = -1;
    opterr = 0;
    const int code = getopt_long(argc, argv, rules->letters, rules->longs, &row);
    if (code == -1)
        return code;
    /* A refused option of one letter has it in optopt, one of a longer name its `val`, or 0. */
    const char letter[] = { '-', (char)optopt, '\0' };
    if (code == '?' && optopt && optopt < 128 && (optopt == ':' || !strchr(rules->letters, optopt)))
        return refuse_unknown(rules, optopt > 0 ? letter : word_of_letter(argc, argv), err);
    /* The word of a long option, whose value may be one more. A letter's need not be the last one. */
    const char *word = argv[optind - (row >= 0 && optarg == argv[optind - 1] ? 2 : 1)];
    const bool is_long = row >= 0 || code == '?' || (code == ':' && strncmp(word, "--", 2) == 0);
    if (is_long && !is_whole(rules->longs, word + 2))
        return refuse_unknown(rules, word, err);
    if (code == '?')
        error_set(err, ERROR_USAGE, "option '%.*s' takes no value; see %s --help", (int)name_length(word), word,
                  rules->command);
    if (code != ':')
        return code;
    error_set(err, ERROR_USAGE, "option '%s' needs a value; see %s --help", is_long ? word : letter, rules->command);
    return '?';
}
