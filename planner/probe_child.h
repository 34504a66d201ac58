/* probe_child: the probe's other half, in a process that may crash or hang. */
#ifndef PLANNER_PROBE_CHILD_H
#define PLANNER_PROBE_CHILD_H

/* phiplan's main() (and a test's) calls this, before anything else, where its first
 * argument is "__probe", and returns what it returns. Arguments after that: process
 * id of the parent, index of the first device to try, the .icd file, the request. The loader
 * is pointed at that file by OCL_ICD_VENDORS. Answers by probe_protocol.h. */
int probe_child_main(int argc, char **argv);

#endif
