# Works on any Linux with Rust; `make` alone lists the targets. Each target first asks packaging/needs for what it needs:
# as root on Debian and Ubuntu that is installed, elsewhere what is missing is named in one line. Nothing needs root for
# that where all is there.

CARGO ?= cargo
export CARGO
# For `make fuzz`: seconds for each target, and which targets; none means all.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
# For `make bench`: the folder in which it writes its page, none by default; steps of each plugin and size.
BENCH_DOCS ?=
BENCH_ROUNDS ?= 25
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
PLUGIN := $(TARGET)/release/libgpu_numa_bind.so
NCCL_PLUGIN := $(TARGET)/release/libnccl_profiler_gpu_numa.so
# The plugins as they are shipped: for any glibc from 2.28, which EL 8 and older containers have.
FLOOR_TARGET := $(shell uname -m)-unknown-linux-gnu
FLOOR := $(TARGET)/$(FLOOR_TARGET)/release

.PHONY: machine judge help demo deps build test tiers test-fast test-abi test-nccl test-gpu test-rccl test-frameworks test-nccl-headers test-slurm test-gres test-counts test-slurm-2411 test-releases prove test-miri test-asan test-tsan test-vm test-shapes test-rpm \
	test-packages test-plain test-recorded test-fuzz fuzz fuzz-large bench load lint rpm deb floor

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

demo: needs-vm ## see a job's tasks bound to their GPUs, on a virtual two-socket server (5 to 10 minutes)
	@tests/demo

TIERS := test-fast test-fuzz test-abi test-nccl test-slurm test-slurm-2411 test-rpm test-vm

test: $(TIERS) ## everything, within an hour on 2 cores

tiers: # for .ci/run
	@echo $(TIERS)

test-fast: needs-fast ## unit and property tests of every crate; needs no root
	tests/on-clean-host --variables $(CARGO) test --no-fail-fast
	$(CARGO) build -p gpu-numa -p gpu-numa-machines
	GPU_NUMA_MACHINE=$(TARGET)/debug/gpu-numa-machine tests/docs/run $(TARGET)/debug/gpu-numa

test-fuzz: needs-fuzz ## every reader of input from others under libFuzzer, 5 seconds each
	fuzz/run 5

fuzz: needs-fuzz ## the same for as long as you like: make fuzz FUZZ_SECONDS=600 FUZZ_TARGETS="snapshot from"
	fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# Its allocator takes address space, which is more than memory.
LARGE_FUZZ_BYTES = 268435456
fuzz-large: needs-fuzz ## inputs changed at random and then made a megabyte, in 256 MB of memory, FUZZ_SECONDS for each reader
	GPU_NUMA_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test -p gpu-numa-fuzz --test random \
		--config 'target."cfg(all())".runner = ["prlimit", "--as=$(LARGE_FUZZ_BYTES)"]' -- --show-output --test-threads=1 $(FUZZ_TARGETS)

test-abi: needs-abi build ## the Slurm plugin under C hosts that stand for Slurm (root)
	GPU_NUMA_SPANK_SO=$(PLUGIN) tests/on-clean-host $(CARGO) test -p gpu-numa-tests --test abi
	GPU_NUMA_SPANK_SO=$(PLUGIN) tests/on-clean-host $(CARGO) test -p gpu-numa-tests --test abi -- --ignored --exact speed::hooks_take_no_more_instructions_than_they_did speed::code_that_a_launch_runs_is_together speed::the_loader_writes_few_pages

test-nccl: needs-nccl build ## the NCCL plugin under a C host that stands for NCCL, and in each of NVIDIA's own libnccl (root; 1.4 GB from PyPI, once)
	libraries=$$(tests/nccl/libnccl $(TARGET)) && GPU_NUMA_LIBNCCL=$$(echo "$$libraries" | paste -sd :) GPU_NUMA_NCCL_SO=$(NCCL_PLUGIN) \
		tests/on-clean-host $(CARGO) test -p gpu-numa-tests --test nccl -- --show-output

test-gpu: needs-nccl build ## NVIDIA's libnccl on this host's GPU, which stands for a server's GPUs: its rings, trees and bytes against the log (root, a GPU with its driver); not in `make test`
	libraries=$$(tests/nccl/libnccl $(TARGET)) && GPU_NUMA_LIBNCCL=$$(echo "$$libraries" | paste -sd :) GPU_NUMA_NCCL_SO=$(NCCL_PLUGIN) \
		$(CARGO) test -p gpu-numa-tests --test nccl -- --show-output --ignored --exact gpu::nccl_on_a_real_gpu_crosses_as_often_as_it_must_and_as_the_log_says

test-rccl: needs-nccl build machine ## AMD's own librccl over a stand-in for HIP: NCCL's topology file, configuration files, the plugins (root; 470 MB from Debian, once); not in `make test`
	tests/nccl/librccl $(TARGET) $(TARGET)/release/gpu-numa $(NCCL_PLUGIN)

test-frameworks: needs-frameworks build machine ## what vLLM's, SGLang's, torch's and Accelerate's own code makes of our masks (root; 900 MB from PyPI, once); not in `make test`
	tests/frameworks/run $(TARGET)/release/gpu-numa $(TARGET)/frameworks

test-nccl-headers: needs-nccl-headers ## our declarations of NCCL's plugin tables against NVIDIA's headers: make test-nccl-headers NCCL_SOURCE=DIR
	NCCL_SOURCE="$(NCCL_SOURCE)" $(CARGO) test -p gpu-numa-tests --test nccl-headers -- --show-output

# Each script starts a Slurm of its own and mostly waits for it, so several run at a time; each one's lines come when it ends.
SLURM_AT_ONCE ?= 3
SLURM_SCRIPTS = $(MAKE) --no-print-directory --keep-going --jobs=$(SLURM_AT_ONCE) --output-sync=target
# The longest first.
test-slurm: needs-slurm build machine ## the plugin under a real Slurm on this host: checks, the documents' commands, the fault table, valgrind (root)
	$(SLURM_SCRIPTS) $(addprefix slurm-,faults memory gres gate filter docs metrics checks verbs configless summary features async contained)

slurm-%:
	tests/slurm/$*

slurm-gres:
	tests/slurm/gres --sample 8 $(TARGET)/gres-sample

test-gres: needs-slurm build machine ## what doctor and gres-conf say of registration against a real slurmctld and slurmd, row by row (root)
	tests/slurm/gres $(if $(GRES_SEED),--random $(GRES_SEED)) $(TARGET)/gres

# A release that no package has is built outside the repository: `./configure --prefix=DIR && make install` of SchedMD's source.
test-counts: needs-build build machine ## machines as we count them against a slurmd of 25.11 or later: make test-counts SLURMD=DIR/sbin/slurmd, COUNTS_SEED=N for machines made at random; not in `make test`
	@test -x "$(SLURMD)" || { echo "make: test-counts: SLURMD=FILE, a slurmd of 25.11 or later" >&2; exit 2; }
	tests/slurm/counts $(if $(COUNTS_SEED),--random $(COUNTS_SEED)) $(TARGET)/counts "$(SLURMD)"

test-slurm-2411: needs-debian build machine ## the same under Slurm 24.11, in a Debian 13 of its own below target/ (root)
	tests/slurm/in-debian trixie true
	$(SLURM_SCRIPTS) $(addprefix slurm-2411-,faults gres checks)

slurm-2411-checks:
	SLURM_EXPECTED=24.11 tests/slurm/in-debian trixie

slurm-2411-faults:
	tests/slurm/in-debian trixie /src/tests/slurm/faults --sample

slurm-2411-gres:
	tests/slurm/gres --release 24.11 --sample 8 target/gres-2411
	tests/slurm/in-debian trixie /src/tests/slurm/registers /src/target/gres-2411/rows >target/gres-2411/answers
	tests/slurm/in-debian trixie /src/tests/slurm/starts /src/target/gres-2411/whole >>target/gres-2411/answers
	tests/slurm/gres --answers target/gres-2411/answers target/gres-2411

test-releases: needs-debian build machine ## the same under the newest Slurm that Debian has (26.05 in November 2026); not in `make test`
	tests/slurm/in-debian sid
	tests/slurm/in-debian sid /src/tests/slurm/async
	tests/slurm/in-debian sid /src/tests/slurm/contained
	tests/slurm/in-debian sid /src/tests/slurm/faults --sample

prove: needs-slurm needs-debian needs-vm build machine ## the whole fault table under Slurm 22.05, 24.11 and 26.05, without cgroups and with both versions (an hour or two); not in `make test`
	tests/slurm/prove

# What asks the kernel is not for Miri, nor is C. MIRI_SEEDS: in how many orders threads run.
MIRI_SEEDS ?= 16
test-miri: needs-miri ## the plugin's reserve of memory, and its tasks' page among threads, under Miri (five minutes); not in `make test`
	MIRIFLAGS="-Zmiri-many-seeds=0..$(MIRI_SEEDS)" $(CARGO) +nightly miri test -p gpu-numa-ffi --lib -- reserve
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..$(MIRI_SEEDS)" $(CARGO) +nightly miri test -p gpu-numa-models --test threads

test-asan: needs-sanitize ## both plugins with AddressSanitizer and LeakSanitizer, under their C hosts (root); not in `make test`
	tests/sanitize address

test-tsan: needs-sanitize-threads ## the NCCL plugin and its ranks with ThreadSanitizer, under its C host (root); not in `make test`
	tests/sanitize thread

test-vm: needs-vm build machine judge ## the plugin under Slurm on virtual GPU servers: every shape on one, a quarter of them on three more, a few on odd ones; VM_RUNS=--whole: every shape on each
	tests/vm/check $(VM_RUNS)

test-shapes: needs-vm build machine judge ## every job shape of tests/vm/shapes.table, or 60 made at random of SHAPES_SEED, held against brute force (half an hour); not in `make test`
	tests/vm/check-table $(if $(SHAPES_SEED),--random $(SHAPES_SEED))

test-rpm: needs-check-rpm build floor machine ## the packages with the plugins as shipped, installed into an empty root, and under a running Slurm (root)
	cp -p $(TARGET)/release/gpu-numa $(FLOOR)/
	GPU_NUMA_RPM_PREBUILT=$(FLOOR) packaging/build-rpm $(TARGET)/rpm-test
	packaging/check-rpm $(TARGET)/rpm-test
	GPU_NUMA_PLUGINS=$(PLUGIN):$(FLOOR)/libgpu_numa_bind.so packaging/check-slurm
	packaging/check-containers

test-recorded: needs-recorded ## what other people recorded, in the folder that GPU_NUMA_TOPOLOGIES names, which must be there; not in `make test`
	$(CARGO) test -p gpu-numa-tests --test recorded

test-packages: needs-packages build machine ## full builds: rebuilt from the source package with the same bytes; aarch64, Debian, rpmlint (most of an hour)
	packaging/check-packages $(TARGET)/packages

test-plain: needs-plain ## `make rpm` and `make deb` as an ordinary user in a minimal Debian, with what docs/admin.md names (root; half an hour); not in `make test`
	packaging/check-plain $(TARGET)/plain

bench: needs-abi build ## what the plugin costs, against a floor and an empty plugin; docs/benchmarks.md is written by: make bench BENCH_DOCS=docs (root)
	GPU_NUMA_SPANK_SO=$(PLUGIN) BENCH_DOCS=$(abspath $(BENCH_DOCS)) BENCH_ROUNDS=$(BENCH_ROUNDS) tests/on-clean-host \
		$(CARGO) test -p gpu-numa-tests --test abi -- --ignored --nocapture --exact speed::what_each_plugin_costs

load: needs-slurm needs-vm build machine ## a thousand steps, and steps of 256 tasks, without and with the plugin in turn (a quarter of an hour)
	tests/slurm/load
	GPU_NUMA_PLUGIN=$(PLUGIN) GPU_NUMA_CLI=$(TARGET)/release/gpu-numa tests/vm/run-vm --timeout 900 -- tests/vm/load

lint: needs-lint ## formatting, clippy, shell syntax, wording, numbers of the documents, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	tests/lint-shell
	tests/lint-words
	tests/docs/numbers
	packaging/check-supply

rpm: needs-rpm ## build the RPMs: one set for EL 8, 9, 10 and SUSE
	packaging/build-rpm

deb: needs-deb floor ## build the Debian packages, for Debian 11, Ubuntu 20.04 and newer
	$(FLOOR_BUILD) -p gpu-numa
	packaging/build-deb $(TARGET)/deb

# In the same target folder as everything else, whose build scripts and macros it shares. The libhwloc of this host may
# need a newer C library than the floor; where the program runs, that host's own is used.
FLOOR_BUILD = RUSTFLAGS="-C link-arg=-Wl,--build-id=sha1 -C link-arg=-Wl,--allow-shlib-undefined" packaging/with-zig \
	$(CARGO) zigbuild --release --target $(FLOOR_TARGET).2.28
floor: needs-rpm
	$(FLOOR_BUILD) -p gpu-numa-spank -p gpu-numa-nccl-profiler

build: needs-build ## the plugins and the program, optimised, in target/release
	$(CARGO) build --release -p gpu-numa -p gpu-numa-spank -p gpu-numa-nccl-profiler

machine: # gives declared machines to scripts
	$(CARGO) build --release -p gpu-numa-machines

judge: # of what tests/vm/run-table prints
	$(CARGO) build --release -p gpu-numa-tests --bin judge-shapes

deps: needs-fast needs-fuzz needs-abi needs-nccl needs-slurm needs-debian needs-vm needs-check-rpm needs-lint ## install what `make test` and `make lint` need

needs-%:
	@packaging/needs $*
