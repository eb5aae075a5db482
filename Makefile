# Two commands from nothing: `make demo` and `make test`. CMakePresets.json is underneath.

JOBS ?= $(shell nproc)
# Half of the time of the tests is waiting: for processes to be taken for dead, mostly.
TEST_JOBS ?= $(shell echo $$(( $(JOBS) + $(JOBS) / 2 )))
BASE ?= origin/main

.DEFAULT_GOAL := help
.PHONY: help demo demo-parts build test test-kernels check fix asan tsan clang kill-matrix soak churn \
        simulate linearizability bench bench-compare bench-smoke fuzz coverage model \
        setup-build setup-test setup-check clean

help:
	@echo "Sheaf: Arrow tables in memory that nodes share."
	@echo
	@echo "  make demo         install what is missing, build, and run the main job on two nodes,"
	@echo "                    then on four (SCALE=0.1 for less data)"
	@echo "  make demo-parts   the latter alone, on NODES (4); BACKEND=sim on the simulator of"
	@echo "                    incoherent memory, with CHAOS=1 at its worst"
	@echo "  make build        the programs, optimised:  build/release/bin/sheaf, sheafd"
	@echo "  make test         build and run all tests"
	@echo
	@echo "  make check        format, layers, file sizes, and clang-tidy on files that differ"
	@echo "                    from $(BASE) (BASE=<commit>; BASE=all for every file)"
	@echo "  make fix          mend #include lists and format, then check (BASE as above)"
	@echo "  make asan         all tests under address and undefined-behaviour sanitizers"
	@echo "  make tsan         in-process tests under thread sanitizer"
	@echo "  make clang        build with clang 19 (thread-safety analysis) and test"
	@echo "  make test-kernels a cluster over QEMU guests, which share a PCI BAR and a DAX device:"
	@echo "                    they are killed, paused and started again (GUESTS=4; BRIEF=1)"
	@echo "  make kill-matrix  kill and pause client and daemons at each fault point (POINT=<name>"
	@echo "                    for one; half an hour; make test runs a tenth, another one each day)"
	@echo "  make bench        run the benchmarks; JSON in build/bench/  (FILTER=<regex>,"
	@echo "                    REPETITIONS=5; tools/bench_ratios.py --save keeps a summary)"
	@echo "  make bench-compare  the same in turns with the benchmarks of the commit BASE:"
	@echo "                    ratios, the slowest first (FILTER, ROUNDS=3)"
	@echo "  make bench-smoke  run each benchmark once, tiny, to see that it works"
	@echo "  make fuzz         let libFuzzer try each decoder for MINUTES (1) each; a table of"
	@echo "                    findings and coverage (TARGETS=\"slot lease\" for some only)"
	@echo "  make soak         clients and daemons at work, killed at random, for MINUTES (10)"
	@echo "  make simulate     whole nodes in one thread, killed and paused at random: OPS"
	@echo "                    (1000000) steps in SEEDS (200) schedules, from FIRST (1) on"
	@echo "  make linearizability  record what clients on four nodes are told of names while"
	@echo "                    leaders die, for MINUTES (5) a backend, and check it (SEED=<n>)"
	@echo "  make churn        tables put and removed OPS (10000000) times: memory does not fray"
	@echo "  make coverage     lines that the tests execute, file by file"
	@echo "  make model        check the protocol's models (about 4 minutes)"
	@echo "  make clean        remove build/ (the set-up in .deps/ stays)"
	@echo
	@echo "  JOBS=$(JOBS) compilers and TEST_JOBS=$(TEST_JOBS) tests at a time. Everything that CI does: .ci/run"

setup-build setup-test setup-check:
	@tools/setup.sh $(patsubst setup-%,%,$@)

# $(call configure_and_build,<preset>,<options of cmake --build>)
define configure_and_build
	@cmake --preset $(1) --log-level=WARNING >/dev/null
	@cmake --build --preset $(1) -j $(JOBS) $(2)
endef

build: setup-build
	$(call configure_and_build,release,--target programs)

demo: build
	@tools/demo.sh

demo-parts: build
	@tools/demo.sh --parts $(if $(NODES),--nodes $(NODES)) \
	  $(if $(BACKEND),--backend $(BACKEND)) $(if $(CHAOS),--chaos)

test: setup-test
	$(call configure_and_build,release)
	@ctest --preset release -j $(TEST_JOBS) --output-junit ctest.xml

asan tsan clang: setup-check
	$(call configure_and_build,$@)
	@ctest --preset $@ -j $(TEST_JOBS) --output-junit ctest.xml

check: setup-check
	@tools/check.sh $(BASE)

fix: setup-check
	@tools/check.sh --fix $(BASE)

test-kernels: build
	$(call configure_and_build,release,--target example_handle_between_hosts)
	@tools/kernels.sh $(if $(GUESTS),--guests $(GUESTS)) $(if $(BRIEF),--brief)

kill-matrix: setup-test
	$(call configure_and_build,release,--target kill_matrix_test)
	@SHEAF_KILL_MATRIX=$(or $(POINT),all) build/release/test/kill_matrix_test

bench: setup-build
	$(call configure_and_build,bench)
	@build/bench/bin/sheaf_bench --benchmark_filter='$(or $(FILTER),.)' \
	  --benchmark_repetitions=$(or $(REPETITIONS),5) --benchmark_display_aggregates_only \
	  --benchmark_out=build/bench/bench.json --benchmark_out_format=json
	@tools/bench_ratios.py build/bench/bench.json

bench-compare: setup-build
	$(call configure_and_build,bench)
	@tools/bench_compare.py $(BASE) --filter '$(or $(FILTER),.)' --rounds $(or $(ROUNDS),3)

bench-smoke: setup-build
	$(call configure_and_build,bench)
	@SHEAF_BENCH_SMOKE=1 build/bench/bin/sheaf_bench --benchmark_min_time=0.001

fuzz: setup-check
	$(call configure_and_build,fuzz)
	@tools/fuzz.py $(or $(MINUTES),1) $(TARGETS)

coverage: setup-test
	$(call configure_and_build,coverage)
	@ctest --preset coverage -j $(TEST_JOBS)
	@tools/coverage.py build/coverage

churn: setup-test
	$(call configure_and_build,release,--target churn_test)
	@SHEAF_CHURN_OPS=$(or $(OPS),10000000) build/release/test/churn_test

soak: setup-test
	$(call configure_and_build,release,--target soak_test)
	@SHEAF_SOAK_SECONDS=$$((60 * $(or $(MINUTES),10))) build/release/test/soak_test \
	  --gtest_filter='*Soak.*'

simulate: setup-test
	$(call configure_and_build,release,--target simulate)
	@build/release/simulation/simulate --seeds $(or $(SEEDS),200) --ops $(or $(OPS),1000000) \
	  --first $(or $(FIRST),1) --jobs $(JOBS)

linearizability: setup-test
	$(call configure_and_build,release,--target linearizability_test)
	@SHEAF_LINEARIZABILITY_SECONDS=$$((60 * $(or $(MINUTES),5))) \
	  $(if $(SEED),SHEAF_TEST_SEED=$(SEED)) build/release/test/linearizability_test

model:
	@docs/model/run.sh quick

clean:
	rm -rf build
