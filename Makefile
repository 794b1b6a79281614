# Sallyport. `make help` lists the targets; FLAVOR=release|debug|asan|cov|fuzz, V=1 shows commands.
FLAVOR ?= release
VERSION := 0.1.0
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
O := build/$(FLAVOR)

CC := $(if $(filter fuzz,$(FLAVOR)),clang,$(if $(filter default,$(origin CC)),gcc,$(CC)))
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc

PACKAGES := libbpf libcurl libnghttp2 libcjson openssl sqlite3 libzstd libbrotlidec zlib
ifneq ($(MAKECMDGOALS),clean)
ifneq ($(MAKECMDGOALS),help)
ifneq ($(shell pkg-config --exists $(PACKAGES) && echo yes),yes)
$(error a library is missing ($(PACKAGES)): run sudo ./scripts/quickstart --deps, which installs what the build needs)
endif
endif
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wvla \
	-Wno-format-truncation -Werror=implicit-function-declaration -Werror=unused-function
CFLAGS ?=
ALL_CFLAGS := -std=gnu17 -g $(WARN) -I. -I$(O) -D_GNU_SOURCE -DSALLYPORT_VERSION='"$(VERSION)"' -fPIE \
	-fstack-protector-strong -fno-omit-frame-pointer -pthread $(shell pkg-config --cflags $(PACKAGES))
ALL_LDFLAGS := -pie -Wl,-z,relro,-z,now -pthread
LIBS := $(shell pkg-config --libs $(PACKAGES)) -lelf
ifeq ($(FLAVOR),release)
ALL_CFLAGS += -O2 -D_FORTIFY_SOURCE=2
else ifeq ($(FLAVOR),debug)
ALL_CFLAGS += -O0 -DDEBUG
else ifeq ($(FLAVOR),asan)
ALL_CFLAGS += -O1 -DDEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined
ALL_LDFLAGS += -fsanitize=address,undefined
else ifeq ($(FLAVOR),cov)
ALL_CFLAGS += -O0 -DDEBUG --coverage
ALL_LDFLAGS += --coverage
else ifeq ($(FLAVOR),fuzz)
ALL_CFLAGS += -O1 -DDEBUG -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
ALL_LDFLAGS += -fsanitize=address,undefined
else
$(error FLAVOR is release, debug, asan, cov or fuzz, not $(FLAVOR))
endif
ALL_CFLAGS += $(CFLAGS)

# Every .c of these folders is in the library; the program and the tests link it.
LIB_SRC := $(sort $(wildcard common/*.c policy/*.c agent/*.c gateway/*.c cli/*.c))
LIB_SRC := $(filter-out cli/main.c,$(LIB_SRC))
LIB_OBJ := $(LIB_SRC:%.c=$(O)/%.o) $(O)/policy/prices_builtin.o
UNIT := $(patsubst tests/unit/%.c,$(O)/unit/%,$(wildcard tests/unit/test_*.c))
FUZZ := $(patsubst tests/fuzz/%.c,$(O)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
TOOLS := $(patsubst tests/%.c,$(O)/tests/%,$(wildcard tests/practice/*.c tests/bench/*.c tests/replay/*.c tests/bpf/*.c tests/e2e/*.c tests/corpus/*.c))

.PHONY: all
all: $(O)/sallyport ## build the program (default)

$(O)/sallyport: $(O)/cli/main.o $(O)/libsallyport.a
	@echo "  LINK $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(O)/libsallyport.a: $(LIB_OBJ)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# BPF: object -> linked object -> skeleton; only agent/ includes the skeleton.
BPF_CFLAGS := -g -O2 -target bpf -mcpu=v3 -Wall -I. -I/usr/include/$(shell $(CC) -print-multiarch 2>/dev/null)
$(O)/bpf/gate.bpf.o: bpf/gate.bpf.c $(wildcard bpf/*.h)
	@mkdir -p $(@D)
	@echo "  BPF  $<"
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $(@:.o=.tmp.o) $<
	$(Q)$(BPFTOOL) gen object $@ $(@:.o=.tmp.o)
$(O)/bpf/gate.skel.h: $(O)/bpf/gate.bpf.o
	@echo "  SKEL $@"
	$(Q)$(BPFTOOL) gen skeleton $< name gate_bpf > $@.tmp && mv $@.tmp $@
$(patsubst %.c,$(O)/%.o,$(wildcard agent/*.c)): $(if $(wildcard bpf/gate.bpf.c),$(O)/bpf/gate.skel.h)

$(O)/policy/prices_builtin.c: policy/prices.hujson scripts/embed
	@mkdir -p $(@D)
	$(Q)scripts/embed prices_builtin $< > $@.tmp && mv $@.tmp $@
$(O)/policy/prices_builtin.o: $(O)/policy/prices_builtin.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(O)/unit/%: tests/unit/%.c tests/unit/test.h $(O)/libsallyport.a
	@mkdir -p $(@D)
	@echo "  TEST $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -o $@ $< $(O)/libsallyport.a $(LIBS)

$(O)/tests/%: tests/%.c $(O)/libsallyport.a
	@mkdir -p $(@D)
	@echo "  TOOL $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -o $@ $< $(O)/libsallyport.a $(LIBS)

$(O)/fuzz/%: tests/fuzz/%.c $(O)/libsallyport.a
	@mkdir -p $(@D)
	@echo "  FUZZ $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< $(O)/libsallyport.a $(LIBS)

.PHONY: unit replay tools fuzz-targets fuzz-smoke clean help
unit: $(UNIT) ## build and run the unit tests
	$(Q)fails=0; for t in $(UNIT); do printf '%s: ' "$${t##*/}"; $$t || fails=1; done; exit $$fails

replay: $(O)/tests/replay/replay ## replay the scripts of tests/replay against a worker with a clock of its own
	$(Q)fails=0; for s in tests/replay/*.rpl; do printf '%s: ' "$${s##*/}"; $< $$s || fails=1; done; exit $$fails

tools: $(TOOLS) ## build the test programs: practice provider, load, corpus check

FUZZ_SECONDS ?= 20
fuzz-targets: $(FUZZ)
fuzz-smoke: ## run each fuzz target for FUZZ_SECONDS (needs clang)
	$(Q)$(MAKE) --no-print-directory FLAVOR=fuzz fuzz-targets
	$(Q)scripts/fuzz-smoke build/fuzz/fuzz $(FUZZ_SECONDS)

CORPUS ?= ../shared/corpus
.PHONY: corpus
corpus: $(O)/tests/corpus/check ## check extraction against a folder of recorded exchanges: CORPUS=DIR
	$(Q)$(O)/tests/corpus/check $(CORPUS)

.PHONY: bench lint format install bpf-test e2e check
bench: all tools ## ratios in one run, against nginx and against no sandbox (root; nginx-light, dnsmasq-base, jq)
	$(Q)tests/bench/run $(O)
	$(Q)tests/bench/force $(O)

bpf-test: all tools ## kernel tests with real cgroups and namespaces (root)
	$(Q)scripts/test --only bpf

e2e: all tools ## end to end: namespaces, containers, real clients (root)
	$(Q)scripts/test --only e2e

.PHONY: e2e-force
e2e-force: all tools ## the 29 ways past the door, one line each (root; nginx-light, dnsmasq-base)
	$(Q)bash tests/e2e/force.sh

C_FILES = $(shell git ls-files '*.c' '*.h')
lint: ## clang-tidy, cppcheck, style and include checks
	$(Q)scripts/check-style
	$(Q)scripts/check-includes
	$(Q)$(MAKE) --no-print-directory $(O)/bpf/gate.skel.h
	$(Q)cppcheck --quiet --error-exitcode=1 --inline-suppr -D__cppcheck__ --std=c11 --enable=warning,portability \
		--suppressions-list=scripts/cppcheck.suppress -D__x86_64__ -D_GNU_SOURCE -I. $(LIB_SRC) cli/main.c
	$(Q)$(MAKE) --no-print-directory -k $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc)) tidy

# A mark for each file that clang-tidy has passed; like its object, it is out of date when a header has changed.
TIDY := $(LIB_SRC:%.c=$(O)/tidy/%) $(O)/tidy/cli/main
.PHONY: tidy
tidy: $(TIDY)
	@:
$(O)/tidy/%: %.c $(O)/%.o .clang-tidy
	@mkdir -p $(@D)
	@echo "  TIDY $<"
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- $(filter-out -Werror% -fstack% -Wno-format-truncation,$(ALL_CFLAGS)) \
		2> $@.err || { cat $@.err; exit 1; }
	$(Q)touch $@

format: ## clang-format over the tree
	$(Q)clang-format -i $(C_FILES)

check: ## lint, and the unit tests and replays under asan
	$(Q)$(MAKE) --no-print-directory lint
	$(Q)$(MAKE) --no-print-directory FLAVOR=asan unit replay

.PHONY: man
man: ## manual pages as roff in build/man
	$(Q)scripts/man -o build/man docs/*.[1-8].md

install: all man ## install under PREFIX: program, manual pages, completion, systemd unit
	install -D -m 755 $(O)/sallyport $(DESTDIR)$(PREFIX)/bin/sallyport
	install -d -m 755 $(DESTDIR)$(SYSCONFDIR)/sallyport
	for f in build/man/*; do n=$${f##*.}; install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/man/man$$n/$${f##*/}; done
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	sed 's|^ExecStart=PREFIX|ExecStart=$(PREFIX)|; /^# `make install`/d' scripts/sallyport.service | \
		install -D -m 644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/sallyport.service
	$(O)/sallyport completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sallyport

clean: ## remove everything that was built
	rm -rf build

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.DELETE_ON_ERROR:
-include $(LIB_OBJ:.o=.d) $(O)/cli/main.d $(UNIT:%=%.d) $(TOOLS:%=%.d)
