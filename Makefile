# Thin: each target is a few commands that you can also type. See README.md.
SHELL := bash
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
CMAKE := cmake
BUILD := $(CMAKE) --build
# ThreadSanitizer cannot live with some kernels' wide address randomisation.
STILL := $(shell setarch $$(uname -m) -R true 2>/dev/null && echo setarch $$(uname -m) -R)

.DEFAULT_GOAL := help
.PHONY: help deps build demo test one soak fuzz fuzz-smoke fuzz-long asan tsan test-arm64 test-arm64-smoke lint format bench vllm-seams \
	clusters-check containers-check metrics-check top-check docs pictures gpu-test install uninstall wheel wheel-arm64 deb deb-arm64 sdist nightly clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what a build and the tests need (asks apt-get for what is missing)
	@scripts/deps.sh build test

build: ## build everything, with tests, in build/dev
	@scripts/deps.sh build test
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS)

# Only what the demonstration needs: no tests, and no test packages. A build
# folder that `make test` has set up is used as it is.
demo: ## build what the demonstration needs, and run it
	@scripts/deps.sh build
	@test -f build/dev/build.ninja || $(CMAKE) --preset dev -DGPUROOM_TESTS=OFF
	$(BUILD) build/dev -j $(JOBS) --target gpuroom_product
	build/dev/bin/gpuroom demo

test: ## build and run all tests that need no GPU
	@scripts/deps.sh build test
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS)
	ctest --preset dev -j $(JOBS)

one: ## build and run one test in its environments: make one T=MoveTest.WhatMovedCanStillBeExported
	@test -n "$(T)" || { echo "make one: name a test, as in 'make one T=MoveTest.WhatMovedCanStillBeExported'" >&2; exit 2; }
	@test -f build/dev/build.ninja || $(CMAKE) --preset dev
	@scripts/one_test.py '$(T)'

soak: ## ten million random memory operations on the simulated driver; some 17 minutes
	@scripts/deps.sh build test
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS) --target gpuroom_storm
	ctest --preset dev -C soak -R '^storm_soak' --verbose

fuzz: ## run each fuzz target for a minute (clang's libFuzzer)
fuzz-smoke: ## run each for two seconds
fuzz-long: ## run each for half an hour
fuzz: FUZZ_SECONDS := 60
fuzz-smoke: FUZZ_SECONDS := 2
fuzz-long: FUZZ_SECONDS := 1800
fuzz fuzz-smoke fuzz-long:
	@scripts/deps.sh build fuzz
	$(CMAKE) --preset fuzz
	$(BUILD) --preset fuzz -j $(JOBS)
	scripts/fuzz.py --seconds $(FUZZ_SECONDS) --jobs $(JOBS)

asan: ## the same under AddressSanitizer and UBSan
	@scripts/deps.sh build test
	$(CMAKE) --preset asan
	$(BUILD) --preset asan -j $(JOBS)
	ctest --preset asan -j $(JOBS)

tsan: ## the same under ThreadSanitizer
	@scripts/deps.sh build test
	$(CMAKE) --preset tsan
	$(BUILD) --preset tsan -j $(JOBS)
	$(STILL) ctest --preset tsan -j $(JOBS)

test-arm64: ## cross-compile for 64-bit Arm and test under qemu-user
	@scripts/deps.sh build arm64
	$(CMAKE) --preset arm64
	$(BUILD) --preset arm64 -j $(JOBS)
	ctest --preset arm64 -j $(JOBS)

test-arm64-smoke: ## the same with the suites of a minute
	@scripts/deps.sh build arm64
	$(CMAKE) --preset arm64
	$(BUILD) --preset arm64-smoke -j $(JOBS)
	ctest --preset arm64-smoke -j $(JOBS)

lint: ## run every gate: layers, views, headers, symbols, options, words, format, clang
	@scripts/deps.sh build test lint
	$(CMAKE) --preset dev
	$(CMAKE) --preset lint
	$(BUILD) --preset dev -j $(JOBS) --target gpuroom_product
	@scripts/lint.sh build/dev build/lint

format: ## format all C and C++ sources in place
	@scripts/deps.sh lint
	scripts/sources.sh | xargs clang-format -i

bench: ## build the benchmarks (build/gpu/bin/bench_*) and run them through bench/run.sh
	@scripts/deps.sh build test
	$(CMAKE) --preset gpu
	$(BUILD) --preset gpu -j $(JOBS)
	bench/run.sh build/gpu

vllm-seams: ## which places where the vLLM plug-in touches vLLM are there, by release of vLLM
	@python3 scripts/vllm_seams.py

gpu-test: ## what needs a real GPU
	tests/gpu/run.sh

install: ## install a release build below PREFIX (/usr/local)
	@scripts/install.sh check $(PREFIX)
	@scripts/deps.sh build
	$(CMAKE) --preset release
	$(BUILD) --preset release -j $(JOBS) --target gpuroom_product
	@scripts/install.sh install $(PREFIX)

uninstall: ## remove what `make install` put below PREFIX
	@scripts/install.sh uninstall $(PREFIX)

wheel: ## build a Python wheel for this architecture into dist/, for every Linux with glibc 2.28 or newer
	@scripts/deps.sh build wheel
	scripts/package.sh wheel

wheel-arm64: ## the same for 64-bit Arm
	@scripts/deps.sh build wheel
	scripts/package.sh wheel aarch64

deb: ## build a Debian package for this architecture into dist/
	@scripts/deps.sh build wheel
	scripts/package.sh deb

deb-arm64: ## the same for 64-bit Arm
	@scripts/deps.sh build wheel
	scripts/package.sh deb aarch64

sdist: ## pack the sources, with the headers that a build needs, into dist/
	@scripts/deps.sh build wheel
	scripts/package.sh sdist

clusters-check: ## run the tests under torchrun, Ray and Slurm, on the simulated driver; some minutes
	@scripts/deps.sh build test clusters
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS) --target gpuroom_product
	tests/clusters/run.sh

metrics-check: ## fill each panel of the Grafana dashboard from a simulated node by the real Prometheus server; half a minute
	@scripts/deps.sh build test nightly
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS) --target gpuroom_product gpuroom_control_double
	tests/metrics/run.sh

build/top/venv/installed: tests/top/requirements.txt
	@scripts/deps.sh nightly
	/usr/bin/python3 -m venv build/top/venv
	build/top/venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

top-check: build/top/venv/installed ## test the view of gpuroom top, by Textual's pilot and under tmux; a minute
	@scripts/deps.sh build test nightly
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS) --target gpuroom_product gpuroom_control_double
	tests/top/run.sh

containers-check: ## check containers/ and build reduced images from it, without a registry
	@scripts/deps.sh build wheel containers
	scripts/containers_check.sh

# What comes from PyPI lies in build/docs/venv.
docs_python := build/docs/venv/bin/python
build/docs/venv/installed: scripts/docs-requirements.txt
	@scripts/deps.sh docs
	/usr/bin/python3 -m venv build/docs/venv
	$(docs_python) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

docs: build/docs/venv/installed ## build the documents' site in build/docs/site; a warning is an error
	$(docs_python) scripts/docs.py

GPUROOM_BIN ?= build/dev/bin/gpuroom
picture := $(docs_python) scripts/terminal_picture.py
pictures: build/docs/venv/installed build/top/venv/installed ## draw docs/pictures anew, from what build/dev's command prints and from measurements
	$(picture) docs/pictures/doctor.svg --lines 32 -- $(GPUROOM_BIN) doctor --sim gh200
	$(picture) docs/pictures/plan.svg --columns 120 -- $(GPUROOM_BIN) plan tests/model/configs/qwen3-235b-a22b --machine gh200
	$(BUILD) build/dev -j $(JOBS) --target gpuroom_control_double
	build/top/venv/bin/python scripts/top_picture.py docs/pictures/top.svg
	$(picture) docs/pictures/bench.svg --lines 24 -- $(GPUROOM_BIN) bench tiers --sim 1GiB,host=2GiB --rounds 1
	/usr/bin/python3 scripts/plot_tiers.py docs/measurements/2026-11-21-bench-tiers.json docs/pictures/tiers.svg

# The checks of clusters and containers come last: they need the network for more than packages of the distribution.
nightly: docs fuzz test-arm64 wheel wheel-arm64 deb deb-arm64 sdist ## run all that is too slow for CI: documents, fuzzers, simulated swaps, instruction counts, Arm, packages, README's install lines, metrics, top, clusters, containers; two hours
	@scripts/deps.sh build test nightly
	$(CMAKE) --preset dev
	$(BUILD) --preset dev -j $(JOBS) --target gpuroom_arbiter_tests
	GPUROOM_TEST_SHARE_SWAPS=125000 build/dev/bin/gpuroom_arbiter_tests --gtest_filter='*ShareLoad*'
	$(CMAKE) --preset gpu
	$(BUILD) --preset gpu -j $(JOBS) --target bench_scaling gpuroom_library gpuroom_sim_cuda
	bench/scaling_instructions.sh
	tests/packages/run.sh
	scripts/check_install.sh
	$(MAKE) --no-print-directory metrics-check top-check clusters-check containers-check

clean: ## remove all builds (fetched dependencies stay)
	find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +
