/* option_rules: one rule for the options that a command line has, and for those that it mistakes.
 *
 * An option's name is typed whole: what only begins like one ("--json" where there is
 * --json-schema) is unknown, so that an option added later never changes what a line means.
 * The sentences, each with ERROR_USAGE:
 *     there is no option '--polcy' (did you mean '--policy'?); see phiplan --help
 *     there is no option '--ma' (did you mean '--max-memory' or '--max-buffer'?); see phiplan --help
 *     option '--name' needs a value; see phiplan --help
 *     option '--probe' takes no value; see phiplan --help */
#ifndef COMMON_OPTION_RULES_H
#define COMMON_OPTION_RULES_H

#include "common/error.h"

#include <getopt.h>
#include <stdint.h>

/* The options of one command, as getopt_long() has them. */
struct option_rules {
    const char *letters;           /* begins with ':' */
    const struct option *longs;    /* `flag` is NULL; a `val` below 128 is one of the letters, '?' and ':' are none */
    const char *command;           /* "phirun chat": whose --help is referred to */
};

/* The next option's code, with its value in getopt's optarg; -1 at the end, when argv, permuted, has the
 * arguments from optind on; '?' after a mistake, which `err` tells. Set optind to 0 before the first. */
int option_rules_next(const struct option_rules *rules, int argc, char **argv, struct error *err);

/* Letters to change, add or leave out to make one word of the other; 24 where one is longer than that. */
uint32_t typing_distance(const char *a, const char *b);

#endif
