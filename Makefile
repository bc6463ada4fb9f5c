# make            build/lash, build/lash.so (the module for a stock lua5.4)
# make demo       install what is missing, build, run the main job without a key
# make test       install what is missing, build, run every test (TESTARGS="--only TEXT -v"); make tests-only: no install
# make deps       install what building and testing need; make deps-check: what the checks below need too
# make lint       compilers with -Werror, clang-format, clang-tidy, the house rules
# make asan       every test with the address and undefined-behaviour sanitizers; make tsan: threads
# make valgrind   the units and the library's tests under valgrind, with a leak check
# make faults     allocations and system calls that fail, one after the other (FAULTARGS="--only TEXT")
# make stress     long runs: random cancels, hostile tools, a million handoffs, memory (STRESS=cancel)
# make fuzz       streams of models, changed at random: libFuzzer, all providers (FUZZ_SECONDS=60)
# make check-all  test asan tsan valgrind lint faults fuzz stress stress-asan (the random ones of these, watched)
#                 bench-check, with LASH_THOROUGH=1: tests try all combinations, and more of what chance gives
# make bench      what lash costs, beside bare programs (BENCHARGS="--only Q5")
# make bench-check   fails when fixed work takes 3 % more instructions than recorded; make bench-record: records them
# make format     clang-format over the C files
# make install    into PREFIX (/usr/local), below DESTDIR; make uninstall takes it away again
# make clean      removes the build directories; make help: this list
#
# LINE_EDITOR=edit builds the console on libedit instead of GNU readline (it is loaded, not linked).
# V=1 shows the commands. A variant keeps its objects apart: make B=build-asan SAN=address,undefined

B ?= build
CFLAGS ?= -O2 -g
SAN ?=
DEV ?=
LINE_EDITOR ?= readline
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LUA_CMODDIR ?= $(PREFIX)/lib/lua/5.4
DATADIR ?= $(PREFIX)/share/lash
DOCDIR ?= $(PREFIX)/share/doc/lash
DESTDIR ?=
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
Q = $(if $(V),,@)
# For a build that a target starts itself: all processors, unless -j says otherwise.
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# Of libcurl and of the line editor the headers only: they are loaded when they are first used.
PKGS = lua5.4 libuv
EDITOR_PKG = $(if $(filter edit,$(LINE_EDITOR)),libedit,readline)
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef \
       -Wpointer-arith -Wwrite-strings $(if $(DEV),-Werror)
# Expanded once, and only when something is compiled: nothing needs to be installed to read this file.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) libcurl 2>/dev/null))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null))$(PKG_LIBS)
SAN_FLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -DLASH_DEBUG)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -Isrc -fPIC -fvisibility=hidden -pthread -MMD -MP $(WARN) \
             $(PKG_CFLAGS) $(if $(filter edit,$(LINE_EDITOR)),-DLASH_LIBEDIT) $(SAN_FLAGS) $(CFLAGS)
ALL_LDFLAGS = -pthread $(SAN_FLAGS) $(LDFLAGS)
LIBS = $(PKG_LIBS) -ldl -lm

SRC = $(wildcard src/*/*.c)
OBJ = $(SRC:src/%.c=$(B)/%.o) $(B)/embedded.o $(if $(findstring thread,$(SAN)),$(B)/tsan.o)
# What every start or call of a tool reads stands apart: memory is mapped in large pieces.
LUA_START = $(patsubst %,lua/lash/%.lua,init cmd/init cmd/run cmd/settings failure options script json \
	declared declare tool params schema schema/arguments schema/combine schema/compile schema/evaluate \
	schema/keywords schema/accept schema/uri schema/value size uri near dispatch attempts outcome retries context \
	cmd/call cmd/input cmd/output arguments)
LUA_FILES = $(sort $(wildcard lua/lash/*.lua lua/lash/*/*.lua lua/lash/*/*/*.lua)) $(sort $(wildcard lua/lash/help/*.txt))
LUA_REST = $(filter-out $(LUA_START),$(LUA_FILES))
UNIT = $(wildcard tests/unit/*.c)

.PHONY: all demo test check-all asan tsan valgrind lint format bench install uninstall stress stress-asan \
        faults fuzz clean help deps deps-check tests-only bench-check bench-record FORCE
all: $(B)/lash $(B)/lash.so

$(B)/lash: $(B)/main.o $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# Never unloaded: a worker that is stuck in C may outlive the host's Lua state.
$(B)/lash.so: $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) -shared -Wl,-z,nodelete $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/%.o: src/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/tsan.o: tests/tsan.c $(B)/flags
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/embedded.o: $(B)/embedded.c $(B)/flags
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/embedded.c: $(B)/embed $(LUA_START) $(LUA_REST) $(B)/lua-list
	@echo "  EMBED $@"
	$(Q)$(B)/embed lua $(LUA_START) -- $(LUA_REST) > $@.tmp && mv $@.tmp $@

$(B)/embed: scripts/embed.c $(B)/flags
	@echo "  CC    $<"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O1 $(WARN) $(shell pkg-config --cflags lua5.4) -o $@ $< \
		$(shell pkg-config --libs lua5.4)

# Rewritten only when the flags, or the list of Lua files, differ: then all that depends on them is made anew.
$(B)/flags: FORCE
	@CC='$(CC)' scripts/missing $(PKGS) libcurl $(EDITOR_PKG)
	@mkdir -p $(B)
	@echo '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)' > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/lua-list: FORCE
	@mkdir -p $(B)
	@echo '$(LUA_START) -- $(LUA_REST)' > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(B)/unit: $(UNIT:tests/unit/%.c=$(B)/unit-obj/%.o) $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(shell pkg-config --libs libcjson)

$(B)/unit-obj/%.o: tests/unit/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/unit $(shell pkg-config --cflags libcjson) -c -o $@ $<

deps:
	@scripts/setup

deps-check:
	@scripts/setup check

demo: deps
	@$(SUBMAKE) all
	@$(B)/lash scripts/examples/timeline.lua

test: deps
	@$(SUBMAKE) all $(TEST_PROGRAMS)
	@$(MAKE) --no-print-directory tests-only

# Those of the bench measure what tests/program/test_budget.py judges.
TEST_PROGRAMS = $(B)/unit $(B)/bench/run $(B)/bench/server
tests-only: all $(TEST_PROGRAMS)
	$(Q)$(PYTHON) tests/run --build $(B) $(TESTARGS)

# What lash costs, beside bare programs: tests/bench/bench.py tells how. BENCHARGS="--only Q5"
bench: all $(B)/bench/server $(B)/bench/floor $(B)/bench/run
	$(Q)$(PYTHON) tests/bench/bench.py --build $(B) $(BENCHARGS)

# The instructions of fixed work, beside recorded figures; who makes them grow on purpose records them anew.
bench-check bench-record: deps-check
	@$(SUBMAKE) all $(B)/bench/server
	$(Q)$(PYTHON) tests/bench/instructions.py --build $(B) $(if $(findstring record,$@),--record)

$(B)/bench/server: BENCH_PKGS = libuv $(if $(BENCH_SSL),openssl)
$(B)/bench/server: tests/bench/answers.c tests/bench/tls.c
$(B)/bench/server: $(wildcard tests/bench/*.h)
# Without the headers of OpenSSL the rows over TLS are not measured.
BENCH_SSL = $(shell pkg-config --exists openssl 2>/dev/null && echo -DBENCH_TLS)
$(B)/bench/floor: BENCH_PKGS = libuv libcurl
$(B)/bench/%: tests/bench/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) $(BENCH_SSL) -o $@ $(filter %.c,$^) \
	    $(if $(BENCH_PKGS),$(shell pkg-config --cflags --libs $(BENCH_PKGS)))

# Every test again, in builds that watch. TEST_SLOWER: how many times slower a test may find things.
asan: export TEST_SLOWER = 4
tsan valgrind: export TEST_SLOWER = 20
asan: deps
	@$(SUBMAKE) B=build-asan SAN=address,undefined CFLAGS='-O1 -g' all build-asan/unit
	@$(MAKE) --no-print-directory B=build-asan SAN=address,undefined CFLAGS='-O1 -g' \
	    TESTARGS='--timeout 240 $(TESTARGS)' tests-only

# Address-space randomization as wide as some kernels have it is more than the thread sanitizer stands.
tsan: deps
	@$(SUBMAKE) B=build-tsan SAN=thread CFLAGS='-O1 -g' all build-tsan/unit
	@$$(setarch -R true 2>/dev/null && echo setarch -R) $(MAKE) --no-print-directory B=build-tsan SAN=thread \
	    CFLAGS='-O1 -g' TESTARGS='--timeout 240 $(TESTARGS)' tests-only

VALGRIND = valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
           --errors-for-leak-kinds=definite --suppressions=$(CURDIR)/tests/valgrind.supp
valgrind: deps-check
	@$(SUBMAKE) all $(B)/unit
	@$(MAKE) --no-print-directory \
	    TESTARGS='--kind unit,lua --timeout 300 --wrap "$(VALGRIND)" $(TESTARGS)' tests-only

lint: deps-check
	@scripts/lint

# Long runs: random cancels, a million handoffs, memory after a hundred thousand calls. STRESS=cancel runs one.
STRESS = cancel calls misbehave http memory handoff
stress: all
	$(Q)set -e; for name in $(STRESS); do echo "  STRESS $$name"; \
	    LUA_PATH='tests/lua/?.lua;;' $(B)/lash tests/stress/$$name.lua; done

# Programs in which each time another allocation (a build that watches) or system call (strace) fails.
faults: deps-check
	@$(SUBMAKE) all
	@$(SUBMAKE) B=build-asan SAN=address,undefined CFLAGS='-O1 -g' build-asan/lash
	$(Q)$(PYTHON) tests/faults/run.py --alloc build-asan --calls $(B) $(FAULTARGS)

# The random ones again, watched: thousands of misbehaving tools, tasks that are cancelled at any moment.
stress-asan: export TEST_SLOWER = 4
stress-asan: deps
	@$(SUBMAKE) B=build-asan SAN=address,undefined CFLAGS='-O1 -g' all
	@LASH_WATCHDOG=1000 UBSAN_OPTIONS=halt_on_error=1 \
	    LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0 \
	    $(MAKE) --no-print-directory B=build-asan SAN=address,undefined CFLAGS='-O1 -g' \
	    STRESS='misbehave cancel' stress

# The readers of all providers and the parser below them; whatever a server sends, they give an answer or an error.
FUZZ_SECONDS = 60
fuzz: deps-check
	@$(SUBMAKE) all $(B)/unit
	@$(SUBMAKE) B=build-fuzz CC=clang SAN=address,undefined,fuzzer-no-link CFLAGS='-O1 -g' build-fuzz/fuzz
	$(Q)$(PYTHON) tests/fuzz/run.py --build build-fuzz --unit $(B)/unit --seconds $(FUZZ_SECONDS) $(FUZZARGS)

$(B)/fuzz: $(B)/fuzz-obj/stream.o $(B)/unit-obj/stream_world.o $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

$(B)/fuzz-obj/%.o: tests/fuzz/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/unit -c -o $@ $<

# All combinations, and the full numbers of what chance gives: `make test` tries fewer, to take less than a minute.
check-all: export LASH_THOROUGH = 1
check-all: test asan tsan valgrind lint faults fuzz stress stress-asan bench-check

format: deps-check
	clang-format -i $(wildcard src/*.[ch] src/*/*.[ch] scripts/*.c tests/unit/*.[ch] tests/bench/*.[ch] tests/fuzz/*.c)

install: all
	install -D -m 755 $(B)/lash '$(DESTDIR)$(BINDIR)/lash'
	install -D -m 644 $(B)/lash.so '$(DESTDIR)$(LUA_CMODDIR)/lash.so'
	install -d '$(DESTDIR)$(DATADIR)/examples' '$(DESTDIR)$(DOCDIR)'
	cp -R scripts/examples/. '$(DESTDIR)$(DATADIR)/examples'
	install -m 644 LICENSE README.md CHANGELOG.md '$(DESTDIR)$(DOCDIR)'

uninstall:
	rm -f '$(DESTDIR)$(BINDIR)/lash' '$(DESTDIR)$(LUA_CMODDIR)/lash.so'
	rm -rf '$(DESTDIR)$(DATADIR)/examples'
	rm -f $(patsubst %,'$(DESTDIR)$(DOCDIR)/%',LICENSE README.md CHANGELOG.md)
	-rmdir '$(DESTDIR)$(DATADIR)' '$(DESTDIR)$(DOCDIR)'

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

clean:
	rm -rf build build-*

-include $(wildcard $(B)/*.d $(B)/*/*.d)
