# SPDX-License-Identifier: Apache-2.0
# make demo: everything up to and including the main job on real input
# make test: everything up to and including all tests     make help: the other targets
SHELL := /bin/bash
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

CXX ?= g++
ifeq ($(origin CXX),default)
CXX := g++
endif
CLANG ?= clang-14
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=
VERSION := 0.1.0
# The library's ABI: goes up when something that programs were built against is gone.
SOVERSION := 0
# SAN=address,undefined or SAN=thread: a build with sanitizers, in a tree of its own.
SAN ?=
comma := ,
BUILD := build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
OBJ := $(BUILD)/obj
GEN := $(BUILD)/gen

ARCH := $(shell uname -m)
BPF_ARCH := $(if $(filter aarch64,$(ARCH)),arm64,x86)

WARN := -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wunused -Werror
CXXFLAGS ?= -O2 -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
CPP_FLAGS := -I. -Iuser -Iuser/client/include -I$(GEN) -DPROCGUARD_VERSION='"$(VERSION)"'
CXX_ALL = -std=c++20 $(CXXFLAGS) $(WARN) -fPIC -pthread $(VISIBILITY) $(SANFLAGS) $(CPP_FLAGS)
LDLIBS := -lbpf -lelf -lz
# Programs see of libprocguard what its header declares, whichever way they link it.
$(OBJ)/user/%.o: VISIBILITY := -fvisibility=hidden -fvisibility-inlines-hidden
BPF_FLAGS := -g -O2 -target bpf -mcpu=v3 -Wall -Werror -Wno-missing-declarations -Ibpf -Ivmlinux

# Tests are compiled once and run for seconds: less than half the time without optimisation. What
# measures is built like what it measures.
$(OBJ)/tests/%.o: CXXFLAGS := -O0 -g1
$(OBJ)/tests/bench/%.o: CXXFLAGS := -O2 -g

# ---- what there is to build -------------------------------------------------------------------
MAIN_SRC := user/cli/main.cpp
LIB_SRC := $(filter-out $(MAIN_SRC),$(wildcard user/*/*.cpp))
LIB_OBJ := $(LIB_SRC:%.cpp=$(OBJ)/%.o)
CLIENT_OBJ := $(filter $(OBJ)/user/client/%,$(LIB_OBJ))
SHARED := $(BUILD)/libprocguard.so.$(VERSION)
SONAME := libprocguard.so.$(SOVERSION)
MAIN_OBJ := $(MAIN_SRC:%.cpp=$(OBJ)/%.o)
BPF_SRC := $(wildcard bpf/*.bpf.c)
BPF_OBJ := $(BPF_SRC:bpf/%.bpf.c=$(GEN)/%.bpf.o)
# The other architecture is only compiled: nothing in bpf/ or vmlinux/ may be of one alone.
ARM64_OBJ := $(BPF_SRC:bpf/%.bpf.c=$(GEN)/arm64/%.bpf.o)
SKEL := $(GEN)/procguard.skel.h
TEST_BPF_SRC := $(wildcard tests/bpf/*.bpf.c)
TEST_BPF_OBJ := $(TEST_BPF_SRC:tests/bpf/%.bpf.c=$(GEN)/tests/%.bpf.o)
# One test binary a layer; one source file a unit.
LAYERS := unit bpf client agent e2e
TEST_BINS := $(foreach l,$(LAYERS),$(if $(wildcard tests/$(l)/*_test.cpp),$(BUILD)/tests/$(l)))
SUPPORT_OBJ := $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tests/support/*.cpp))
# Small helper programs that tests guard.
PROGRAMS := $(patsubst tests/programs/%.cpp,$(BUILD)/programs/%,$(wildcard tests/programs/*.cpp))
PROGRAMS += $(patsubst tests/programs/%.c,$(BUILD)/programs/%,$(wildcard tests/programs/*.c))

.PHONY: all deps demo test test-full test-kernels kernels-btf bench lint \
  format install uninstall clean help python
all: $(BUILD)/procguard $(BUILD)/libprocguard.so $(BUILD)/libprocguard.a python

# ---- the kernel side --------------------------------------------------------------------------
$(GEN)/%.bpf.o: bpf/%.bpf.c | deps
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -D__TARGET_ARCH_$(BPF_ARCH) -MMD -MP -c $< -o $@

$(GEN)/procguard.bpf.o: $(BPF_OBJ)
	$(BPFTOOL) gen object $@ $(BPF_OBJ)

$(GEN)/arm64/%.bpf.o: bpf/%.bpf.c | deps
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -D__TARGET_ARCH_arm64 -MMD -MP -c $< -o $@

$(GEN)/arm64/procguard.bpf.o: $(ARM64_OBJ)
	$(BPFTOOL) gen object $@ $(ARM64_OBJ)

$(SKEL): $(GEN)/procguard.bpf.o
	$(BPFTOOL) gen skeleton $< name procguard_bpf > $@

$(GEN)/tests/%.bpf.o: tests/bpf/%.bpf.c | deps
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -D__TARGET_ARCH_$(BPF_ARCH) -MMD -MP -c $< -o $@

# Tests read the objects too: neither is a by-product to be removed.
.SECONDARY: $(TEST_BPF_OBJ) $(TEST_BPF_OBJ:.bpf.o=.skel.h)
$(GEN)/tests/%.skel.h: $(GEN)/tests/%.bpf.o
	$(BPFTOOL) gen skeleton $< name $(*F)_bpf > $@

# ---- user space -------------------------------------------------------------------------------
# The skeleton is generated before the first compilation; after that the .d files know who uses it.
$(OBJ)/%.o: %.cpp | deps $(SKEL) $(TEST_BPF_OBJ:.bpf.o=.skel.h)
	@mkdir -p $(@D)
	$(CXX) $(CXX_ALL) -MMD -MP -c $< -o $@

$(BUILD)/libprocguard-core.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

# The C++ runtime goes into the binary: as `timeout` it starts in a third less time, and it runs where
# an older runtime is installed.
STATIC_RUNTIME := $(if $(SAN),,-static-libstdc++ -static-libgcc)
$(BUILD)/procguard: $(MAIN_OBJ) $(BUILD)/libprocguard-core.a
	$(CXX) $(CXX_ALL) $(STATIC_RUNTIME) -o $@ $^ $(LDLIBS)

# For programs: what they link, without the command line and the agent. Its threads are never joined, so it is not
# unloaded (nodelete).
$(BUILD)/libprocguard.a: $(filter-out $(OBJ)/user/cli/% $(OBJ)/user/agent/%,$(LIB_OBJ))
	@rm -f $@
	ar rcs $@ $^

$(SHARED): $(CLIENT_OBJ) $(BUILD)/libprocguard.a user/client/libprocguard.map
	$(CXX) $(CXX_ALL) -shared -o $@ $(CLIENT_OBJ) $(BUILD)/libprocguard.a \
	  -Wl,-soname,$(SONAME) -Wl,--version-script=user/client/libprocguard.map \
	  -Wl,-z,defs -Wl,-z,nodelete -Wl,--as-needed $(LDLIBS)

$(BUILD)/$(SONAME): $(SHARED)
	ln -sf $(<F) $@

$(BUILD)/libprocguard.so: $(BUILD)/$(SONAME)
	ln -sf $(<F) $@

# The Python package. One extension module for all interpreters from 3.9 on: it uses the stable ABI
# alone, so any of them can give the headers. It brings the library along.
PYTHON ?= /usr/bin/python3
PACKAGE := $(BUILD)/python/procguard
PACKAGE_FILES := $(patsubst user/python/%,$(BUILD)/python/%,$(wildcard user/python/procguard/*))
NATIVE_OBJ := $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard user/python/native/*.cpp))
$(OBJ)/user/python/%.o: CPP_FLAGS += $(PYTHON_HEADERS) -Wno-missing-field-initializers
$(OBJ)/user/python/%.o: PYTHON_HEADERS = -isystem $(shell \
  $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')
python: $(PACKAGE)/_native.abi3.so $(PACKAGE_FILES)

$(PACKAGE)/_native.abi3.so: $(NATIVE_OBJ) $(CLIENT_OBJ) $(BUILD)/libprocguard.a user/python/native.map
	@mkdir -p $(@D)
	$(CXX) $(CXX_ALL) -shared -o $@ $(NATIVE_OBJ) $(CLIENT_OBJ) $(BUILD)/libprocguard.a \
	  -Wl,--version-script=user/python/native.map -Wl,-z,nodelete -Wl,--as-needed $(LDLIBS)

$(PACKAGE)/%: user/python/procguard/%
	@mkdir -p $(@D)
	cp $< $@

$(BUILD)/programs/%: tests/programs/%.cpp | deps
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O1 -g -Wall -Wextra -Werror -pthread -MMD -MP -o $@ $<

$(BUILD)/programs/%: tests/programs/%.c | deps
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -O1 -g -Wall -Wextra -Werror -pthread -MMD -MP -o $@ $<

define test_binary
$(BUILD)/tests/$(1): $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tests/$(1)/*.cpp)) $(SUPPORT_OBJ) $(BUILD)/libprocguard-core.a
	@mkdir -p $$(@D)
	$(CXX) $(CXX_ALL) -o $$@ $$^ $(LDLIBS) -lgtest -lgtest_main
endef
$(foreach l,$(LAYERS),$(eval $(call test_binary,$(l))))

# ---- what people call -------------------------------------------------------------------------
PACKAGES := g++ clang-14 bpftool libbpf-dev libelf-dev zlib1g-dev libcli11-dev nlohmann-json3-dev \
	jq libtomlplusplus-dev libsystemd0 libgtest-dev clang-format clang-tidy shellcheck procps util-linux \
	libcap2-bin cmake pkgconf python3-dev python3-mypy python3-pytest python3-pip python3-venv \
	python3-setuptools python3-wheel

# Installs what is missing; silent and quick where nothing is.
deps:
	@missing=$$(for p in $(PACKAGES); do \
	  dpkg-query -W -f='$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing:" $$missing; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -q --no-install-recommends $$missing; \
	fi

# DESTDIR is for packagers; PREFIX is where it will live.
HEADERS := $(wildcard user/client/include/procguard/*)
GUIDES := $(wildcard user/docs/*.md)
DOCDIR := $(PREFIX)/share/doc/procguard
PYTHONDIR ?= $(PREFIX)/lib/python$(shell $(PYTHON) -c \
  'import sys; print("%d.%d" % sys.version_info[:2])')/dist-packages
CMAKEDIR := $(LIBDIR)/cmake/procguard
# $(call configured,FILE,DIRECTORY): FILE.in, with its @NAMES@ put in, to where it will live.
define configured
	@echo 'install $(1) to $(DESTDIR)$(2)'
	@include=$$(realpath -ms --relative-to=$(CMAKEDIR) $(INCLUDEDIR)) && \
	  sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' -e 's|@SONAME@|$(SONAME)|' -e "s|@FROM_CMAKEDIR@|$$include|" \
	    user/client/$(1).in | install -D -m 644 /dev/stdin $(DESTDIR)$(2)/$(1)
endef

install: all
	install -D -m 755 $(BUILD)/procguard $(DESTDIR)$(PREFIX)/bin/procguard
	install -D -m 644 user/docs/procguard.1 $(DESTDIR)$(PREFIX)/share/man/man1/procguard.1
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) $(GUIDES)
	install -D -m 644 -t $(DESTDIR)$(INCLUDEDIR)/procguard $(HEADERS)
	install -D -m 644 -t $(DESTDIR)$(LIBDIR) $(SHARED) $(BUILD)/libprocguard.a
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libprocguard.so
	install -D -m 644 -t $(DESTDIR)$(PYTHONDIR)/procguard $(PACKAGE)/*.py* $(PACKAGE)/py.typed
	install -D -m 755 -t $(DESTDIR)$(PYTHONDIR)/procguard $(PACKAGE)/_native.abi3.so
	$(call configured,procguard.pc,$(LIBDIR)/pkgconfig)
	$(call configured,procguard-config.cmake,$(CMAKEDIR))
	$(call configured,procguard-config-version.cmake,$(CMAKEDIR))
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/procguard $(DESTDIR)$(PREFIX)/share/man/man1/procguard.1 \
	  $(DESTDIR)$(LIBDIR)/libprocguard.* $(DESTDIR)$(LIBDIR)/pkgconfig/procguard.pc
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(INCLUDEDIR)/procguard $(DESTDIR)$(CMAKEDIR) \
	  $(DESTDIR)$(PYTHONDIR)/procguard

demo: all $(PROGRAMS)
	@tests/demo.sh $(BUILD)

# The kernels of the matrix: Debian's cloud ones, shared by all builds. Off-line `make test` goes on
# without them and says what it skipped.
KERNELS := build/kernels
KERNEL_SERIES ?= 6.1 6.12
kernels-btf: deps
	-@tests/kernels/fetch.sh $(KERNELS) $(KERNEL_SERIES)

# A sanitizer's runtime cannot be loaded into an interpreter that was built without it.
PYTHON_TESTS := $(if $(SAN),,tests/python)
test: all kernels-btf $(GEN)/arm64/procguard.bpf.o $(TEST_BPF_OBJ) $(TEST_BINS) $(PROGRAMS)
	@PROCGUARD_BUILD=$(abspath $(BUILD)) PYTHON=$(PYTHON) \
	  tests/run_tests.sh $(TEST_BINS) $(PYTHON_TESTS)

$(BUILD)/tests/attach_all: $(OBJ)/tests/kernels/attach_all.o $(BUILD)/libprocguard-core.a
	@mkdir -p $(@D)
	$(CXX) $(CXX_ALL) -o $@ $^ $(LDLIBS)

test-kernels: all $(BUILD)/tests/attach_all $(PROGRAMS)
	@tests/kernels/run.sh $(BUILD) $(KERNELS) $(KERNEL_SERIES)

# One after the other: they judge times.
test-full: test
	@$(MAKE) TIDY_TESTS=1 lint
	@$(MAKE) test-kernels
	@$(MAKE) SAN=address,undefined test
	@$(MAKE) SAN=thread test

# Measures what there are bars for, side by side with bare programs: tests/bench/README.md.
# BENCH_ARGS=--quick, --only hooks,start
BENCH_ARGS ?=
BENCH_SKEL := $(patsubst tests/bench/%.bpf.c,$(GEN)/bench/%.skel.h,$(wildcard tests/bench/*.bpf.c))
BENCH_OBJ := $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard tests/bench/*.cpp))

$(GEN)/bench/%.bpf.o: tests/bench/%.bpf.c | deps
	@mkdir -p $(@D)
	$(CLANG) $(BPF_FLAGS) -D__TARGET_ARCH_$(BPF_ARCH) -MMD -MP -c $< -o $@

$(GEN)/bench/%.skel.h: $(GEN)/bench/%.bpf.o
	$(BPFTOOL) gen skeleton $< name $(*F)_bpf > $@

.SECONDARY: $(BENCH_SKEL:.skel.h=.bpf.o)
$(BENCH_OBJ): | $(BENCH_SKEL)
lint: $(BENCH_SKEL)

$(BUILD)/tests/bench: $(BENCH_OBJ) $(BUILD)/libprocguard-core.a
	@mkdir -p $(@D)
	$(CXX) $(CXX_ALL) -o $@ $^ $(LDLIBS)

bench: all $(BUILD)/tests/bench
	@$(BUILD)/tests/bench --procguard $(BUILD)/procguard --json $(BUILD)/bench.json $(BENCH_ARGS)

FORMAT_FILES = $(shell git ls-files -co --exclude-standard '*.cpp' '*.hpp' '*.h' '*.c')
format: deps
	clang-format -i $(FORMAT_FILES)

lint: deps $(SKEL)
	@TIDY_TESTS=$(TIDY_TESTS) tests/lint/lint.sh $(GEN) $(FORMAT_FILES)

clean:
	rm -rf build

help:
	@echo 'make all             build build/procguard and build/libprocguard.{so,a} (the default)'
	@echo 'make demo            ... and show the main job on real input'
	@echo 'make test            ... and run all tests'
	@echo 'make test-kernels    boot 6.1 and 6.12 in virtual machines and run the main job there'
	@echo 'make test-full       test, test-kernels, and the tests under sanitizers'
	@echo 'make bench           measure what there are bars for (BENCH_ARGS=--quick)'
	@echo 'make lint format     check, mend the form (TIDY_TESTS=1: clang-tidy reads tests too)'
	@echo 'make install uninstall   PREFIX=/usr/local LIBDIR=PREFIX/lib INCLUDEDIR=PREFIX/include DESTDIR='
	@echo 'make deps            install the Debian packages that are missing (all of the above do)'
	@echo 'make clean           remove build/'
	@echo 'SAN=address,undefined or SAN=thread: a build with sanitizers, in a tree of its own'

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
