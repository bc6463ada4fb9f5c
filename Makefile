# make            build/lash, build/lash.so (the module for a stock lua5.4)
# make demo       install what is missing, build, run the main job without a key
# make test       install what is missing, build, run every test
# make help       the other targets
#
# Variants keep their objects apart: make B=build-asan SAN=address,undefined test

B ?= build
CFLAGS ?= -O2 -g
SAN ?=
DEV ?=
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LUA_CMODDIR ?= $(PREFIX)/lib/lua/5.4
DESTDIR ?=
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
Q = $(if $(V),,@)

PKGS = lua5.4 libuv
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef \
       -Wpointer-arith -Wwrite-strings $(if $(DEV),-Werror)
# Expanded once, and only when something is compiled: nothing needs to be installed to read this file.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)
SAN_FLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -DLASH_DEBUG)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -Isrc -fPIC -fvisibility=hidden -pthread -MMD -MP $(WARN) \
             $(PKG_CFLAGS) $(SAN_FLAGS) $(CFLAGS)
ALL_LDFLAGS = -pthread $(SAN_FLAGS) $(LDFLAGS)
LIBS = $(PKG_LIBS) -ldl -lm

SRC = $(wildcard src/*/*.c)
OBJ = $(SRC:src/%.c=$(B)/%.o) $(B)/embedded.o
LUA_SRC = $(sort $(wildcard lua/lash/*.lua lua/lash/*/*.lua)) $(sort $(wildcard lua/lash/help/*.txt))
UNIT = $(wildcard tests/unit/*.c)

.PHONY: all demo test check-all asan tsan valgrind lint format bench install uninstall clean help \
        deps tests-only FORCE
all: $(B)/lash $(B)/lash.so

$(B)/lash: $(B)/main.o $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/lash.so: $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) -shared $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/%.o: src/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/embedded.o: $(B)/embedded.c $(B)/flags
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/embedded.c: $(B)/embed $(LUA_SRC) $(B)/lua-list
	@echo "  EMBED $@"
	$(Q)$(B)/embed lua $(LUA_SRC) > $@.tmp && mv $@.tmp $@

$(B)/embed: scripts/embed.c $(B)/flags
	@echo "  CC    $<"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O1 $(WARN) -o $@ $<

# Rewritten only when the flags, or the list of Lua files, differ: then all that depends on them is made anew.
$(B)/flags: FORCE
	@pkg-config --exists $(PKGS) 2>/dev/null || { echo "lash: these development packages are missing: $(PKGS); run scripts/setup" >&2; exit 1; }
	@mkdir -p $(B)
	@echo '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)' > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/lua-list: FORCE
	@mkdir -p $(B)
	@echo '$(LUA_SRC)' > $@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(B)/unit: $(UNIT:tests/unit/%.c=$(B)/unit-obj/%.o) $(OBJ)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(shell pkg-config --libs libcjson)

$(B)/unit-obj/%.o: tests/unit/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/unit $(shell pkg-config --cflags libcjson) -c -o $@ $<

deps:
	@scripts/setup

test: deps
	@$(MAKE) --no-print-directory tests-only

tests-only: all $(B)/unit
	$(Q)$(PYTHON) tests/run --build $(B) $(TESTARGS)

# What lash costs, beside bare programs: tests/bench/bench.py tells how. BENCHARGS="--only Q5"
bench: all $(B)/bench/server $(B)/bench/floor $(B)/bench/run
	$(Q)$(PYTHON) tests/bench/bench.py --build $(B) $(BENCHARGS)

$(B)/bench/server: BENCH_PKGS = libuv
$(B)/bench/floor: BENCH_PKGS = libuv libcurl
$(B)/bench/%: tests/bench/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -o $@ $< \
	    $(if $(BENCH_PKGS),$(shell pkg-config --cflags --libs $(BENCH_PKGS)))

clean:
	rm -rf build build-*

-include $(wildcard $(B)/*.d $(B)/*/*.d)
