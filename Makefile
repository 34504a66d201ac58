# phiplan and phirun. `make help` lists the targets.
#   SANITIZE=address,undefined   a separate build under build-san/
#   V=1                          print whole commands
#   SHARED=DIR                   large reference data, where present
PREFIX   ?= /usr/local
CFLAGS   ?= -O2 -g
SHARED   ?= ../shared
BUILD    := $(if $(SANITIZE),build-san,build)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes \
            -Wno-format-truncation
CPPFLAGS += -I. -D_GNU_SOURCE -DPCRE2_CODE_UNIT_WIDTH=8
FLAGS    := -std=c11 -pthread -ffp-contract=off $(WARNINGS) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all) $(CFLAGS)
LIBS     := -lOpenCL -lsqlite3 -ljansson -lpcre2-8 -lutf8proc -lcrypto -ledit -lz -ldl -lm
Q        := $(if $(V),,@)
export LSAN_OPTIONS = suppressions=tests/leaks.supp:print_suppressions=0

all: programs  ## build both programs (the default)

# What is linked into what is the architecture: neither program sees the other.
objects  = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)/*.c))
archive  = $(BUILD)/lib$(1).a
PROGRAMS := $(patsubst planner/%.c,$(BUILD)/%,$(wildcard planner/phiplan.c)) \
            $(patsubst runtime/%.c,$(BUILD)/%,$(wildcard runtime/phirun.c))
TESTS    := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/test_*.c))
BENCHES  := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench_*.c))
FUZZERS  := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz_*.c))
SUPPORT  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support*.c tests/reference*.c))
BASE     := $(call archive,db) $(call archive,kernels) $(call archive,common)

programs: $(PROGRAMS)
test-programs: $(TESTS)

$(BUILD)/libcommon.a:  $(call objects,common)
$(BUILD)/libkernels.a: $(call objects,kernels) $(BUILD)/embedded_kernels.o
$(BUILD)/libdb.a:      $(call objects,db) $(BUILD)/embedded_schema.o
$(BUILD)/libplanner.a: $(filter-out %/phiplan.o,$(call objects,planner))
$(BUILD)/libruntime.a: $(filter-out %/phirun.o,$(call objects,runtime))
$(BUILD)/lib%.a:
	@mkdir -p $(@D); rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/phiplan: $(BUILD)/planner/phiplan.o $(call archive,planner) $(BASE)
$(BUILD)/phirun:  $(BUILD)/runtime/phirun.o $(call archive,runtime) $(BASE)
$(TESTS): %: %.o $(SUPPORT) $(call archive,planner) $(call archive,runtime) $(BASE)
$(BENCHES): %: %.o $(BUILD)/tests/support_bench.o $(call archive,planner) $(call archive,runtime) $(BASE)
$(BUILD)/phiplan $(BUILD)/phirun $(BENCHES):
	@echo "  LINK $@"
	$(Q)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(TESTS):
	@echo "  LINK $@"
	$(Q)$(CC) $(FLAGS) $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D); echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/embedded_%.o: $(BUILD)/embedded_%.c
	$(Q)$(CC) $(CPPFLAGS) $(FLAGS) -c -o $@ $<
$(BUILD)/embedded_kernels.c: common/embed.awk $(wildcard kernels/*.cl kernels/*.h)
	@mkdir -p $(@D); echo "  GEN  $@"
	$(Q)awk -v table=embedded_kernels -f $< $(filter %.cl,$^) > $@
$(BUILD)/embedded_schema.c: common/embed.awk $(wildcard db/*.sql)
	@mkdir -p $(@D); echo "  GEN  $@"
	$(Q)awk -v table=embedded_schema -f $< $(filter %.sql,$^) > $@

# Libraries for tests: one stands between a program and libOpenCL, one makes waits short or long,
# others are drivers that misbehave. Never sanitized: a program's runtime must come first.
LIBRARIES := $(BUILD)/tests/cl_trace.so $(BUILD)/tests/other_time.so $(patsubst %,$(BUILD)/tests/fake_icd_%.so,crash hang noise)
$(TESTS): | $(LIBRARIES)
$(BUILD)/tests/cl_trace.so: tests/cl_trace.c tests/cl_trace_table.c tests/cl_trace_table.h
	@mkdir -p $(@D); echo "  LINK $@"
	$(Q)$(CC) $(CPPFLAGS) -std=c11 -pthread $(WARNINGS) -O2 -g -fPIC -shared -o $@ $(filter %.c,$^) -ldl
$(BUILD)/tests/other_time.so: tests/other_time.c
	@mkdir -p $(@D); echo "  LINK $@"
	$(Q)$(CC) $(CPPFLAGS) -std=c11 $(WARNINGS) -O2 -g -fPIC -shared -o $@ $< -ldl
$(BUILD)/tests/fake_icd_%.so: tests/fake_icd.c
	@mkdir -p $(@D); echo "  LINK $@"
	$(Q)$(CC) $(CPPFLAGS) -std=c11 $(WARNINGS) -O2 -g -fPIC -shared -DFAKE_ICD_$* -o $@ $<

# Test programs and scripts; each speaks TAP, tests/run_tests.sh adds up.
SCRIPTS := $(wildcard tests/cli/test_*.sh)
check-fast: all $(TESTS) $(BUILD)/tests/bench_read  ## build and run the tests, installing nothing
	$(Q)test -n "$(TESTS)"
	$(Q)BUILD=$(BUILD) SHARED=$(SHARED) sh tests/run_tests.sh $(TESTS) $(SCRIPTS)
check-kernels: $(patsubst %.c,$(BUILD)/%,$(wildcard tests/test_kernel_*.c))  ## run the kernel tests on oclgrind
	$(Q)test -n "$^"
	$(Q)BUILD=$(BUILD) sh tests/run_tests.sh tests/cli/test_kernels_simulated.sh
check-rig: all demo-model  ## gather OpenCL platforms (PoCL, llvmpipe, Intel's) and let them generate one text together
	$(Q)sh tests/tools/make_rig.sh build/rig
	$(Q)OCL_ICD_VENDORS=$(CURDIR)/build/rig/vendors RUSTICL_ENABLE=llvmpipe BUILD=$(BUILD) SHOW='^# rig:' sh tests/run_tests.sh tests/cli/test_rig.sh
check-clblast: $(BUILD)/tests/test_kernel_gemm $(BUILD)/tests/test_clblast  ## run the tests that make CLBlast compile its kernels
	$(Q)CLBLAST=1 BUILD=$(BUILD) SHARED=$(SHARED) sh tests/run_tests.sh $^
check-mutations: all $(BUILD)/tests/test_mutations  ## run both programs on damaged model files (MUTATIONS=5000)
	$(Q)MUTATIONS=$(or $(MUTATIONS),5000) $(BUILD)/tests/test_mutations
check-layers:  ## check that #include lines obey the module order
	$(Q)for rule in 'common kernels|db|planner|runtime' 'kernels db|planner|runtime' \
	    'db kernels|planner|runtime' 'planner runtime' 'runtime planner'; do set -- $$rule; \
	    ! grep -nE "#include \"($$2)/" $$1/*.[ch] || exit 1; done
	$(Q)! grep -l '<sqlite3\.h>' common/*.[ch] kernels/*.[ch] planner/*.[ch] runtime/*.[ch]
	$(Q)! grep -lE '<(CL/cl|CL/opencl)\.h>' db/*.[ch] kernels/*.[ch] planner/*.[ch] runtime/*.[ch]
	$(Q)! grep -l '<zlib\.h>' $(filter-out common/compress.c,$(wildcard common/*.[ch] db/*.[ch] kernels/*.[ch] planner/*.[ch] runtime/*.[ch]))
	$(Q)for h in */*.h; do $(CC) $(CPPFLAGS) -std=c11 -Wall -Wextra -Wpedantic -fsyntax-only -x c $$h || exit 1; done

# The same rules once more, by clang; every tests/fuzz_*.c becomes a libFuzzer program.
fuzz:  ## build the fuzz programs into build-fuzz/ (clang)
	$(Q)$(MAKE) BUILD=build-fuzz CC=clang CFLAGS='-O1 -g -w' SANITIZE=fuzzer-no-link,address,undefined fuzz-programs
fuzz-programs: $(FUZZERS)
$(FUZZERS): %: %.o $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support_fuzz*.c)) $(call archive,planner) \
            $(call archive,runtime) $(BASE)
	@echo "  LINK $@"
	$(Q)$(CC) $(FLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
check-fuzz:  ## run every fuzz program for a fixed number of runs (RUNS=20000)
	$(Q)RUNS=$(RUNS) sh tests/cli/test_fuzz.sh

# Debian packages: to build and run; and what the tests need on top of that.
PACKAGES := gcc libc6-dev ocl-icd-opencl-dev opencl-c-headers ocl-icd-libopencl1 pocl-opencl-icd libclblast-dev \
            libsqlite3-dev sqlite3 zlib1g-dev libjansson-dev libpcre2-dev libutf8proc-dev libssl-dev libedit-dev \
            python3 python3-pip unzip
TEST_PACKAGES := libcmocka-dev clang libclang-rt-14-dev oclgrind python3-venv procps
MODELS  := build/models
DEMO    := SmolLM2-135M-Instruct.Q4_1.gguf

packages:
	$(Q)sh tests/tools/install_packages.sh $(PACKAGES)
test-packages:
	$(Q)sh tests/tools/install_packages.sh $(PACKAGES) $(TEST_PACKAGES)
demo-model:
	$(Q)sh tests/tools/fetch_model.sh $(MODELS)

# Each step is its own make: what a step installs decides what the next one sees.
demo:  ## plan a real model, let it answer, show the stored plan
	$(Q)$(MAKE) --no-print-directory packages
	$(Q)$(MAKE) --no-print-directory programs
	$(Q)$(MAKE) --no-print-directory demo-model
	$(Q)sh tests/tools/demo.sh $(BUILD) $(MODELS)/$(DEMO)
check:  ## install what is missing, build, run every test
	$(Q)$(MAKE) --no-print-directory test-packages
	$(Q)$(MAKE) --no-print-directory check-layers
	$(Q)$(MAKE) --no-print-directory all test-programs
	$(Q)$(MAKE) --no-print-directory demo-model || echo "tests of the demo model will be skipped"
	$(Q)sh tests/tools/make_phi3_smollm2.sh $(MODELS)/$(DEMO) $(MODELS)/phi3-smollm2 $(SHARED)
	$(Q)$(MAKE) --no-print-directory check-fast
bench: programs demo-model $(BUILD)/tests/bench_read  ## speed against the peers installed and the read limit, with charts (BENCH=options)
	$(Q)python3 tests/tools/bench.py $(BUILD) $(MODELS)/$(DEMO) $(BENCH)
bench-start: programs demo-model  ## start to first token and memory against llama.cpp, and two at once
	$(Q)python3 tests/tools/bench_start.py $(BUILD) $(MODELS)/$(DEMO)
bench-plans: programs demo-model  ## rank the plan that phiplan chooses among measured placements
	$(Q)python3 tests/tools/bench_plans.py $(BUILD) $(MODELS)/$(DEMO)
bench-predictions: programs demo-model  ## compare predictions with runs, before and after a check
	$(Q)python3 tests/tools/bench_predictions.py $(BUILD) $(MODELS)/$(DEMO)

install: programs  ## copy both programs to $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
uninstall:  ## remove both programs from $(DESTDIR)$(PREFIX)/bin
	rm -f $(DESTDIR)$(PREFIX)/bin/phiplan $(DESTDIR)$(PREFIX)/bin/phirun
clean:  ## remove everything that was built
	rm -rf build build-san build-fuzz
help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

.PHONY: packages test-packages demo-model demo check bench bench-plans bench-predictions bench-start install uninstall check-fast check-kernels check-rig check-clblast check-fuzz check-mutations fuzz fuzz-programs all programs test-programs check-layers clean help
.DELETE_ON_ERROR:
.SECONDARY:
-include $(wildcard $(BUILD)/*/*.d)
