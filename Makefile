# Every target works from a fresh checkout on Debian 12 as root; `make` alone lists them.

CARGO ?= cargo
DISTRO_PACKAGES := pkg-config libhwloc-dev libudev-dev gcc g++ libc6-dev libslurm-dev libclang1-14 \
	libclang-common-14-dev slurmd slurmctld slurm-client slurm-wlm-basic-plugins munge hwloc-nox numactl \
	qemu-system-x86 busybox-static kmod cpio xz-utils binutils bzip2 shellcheck git rpm debugedit elfutils debootstrap \
	python3-venv valgrind bubblewrap systemd
# For `make fuzz`: how long for each target, and which; none are all.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
PLUGIN := $(TARGET)/release/libgpu_numa_bind.so
NCCL_PLUGIN := $(TARGET)/release/libnccl_profiler_gpu_numa.so
# The plugins as they are shipped: for any glibc from 2.28, EL 8's, which is also what older containers have.
FLOOR_TARGET := $(shell uname -m)-unknown-linux-gnu
FLOOR := $(TARGET)/$(FLOOR_TARGET)/release

.PHONY: help demo deps cargo build test test-fast test-abi test-nccl test-slurm test-slurm-2411 test-releases test-vm test-rpm \
	test-packages test-recorded test-fuzz fuzz bench load lint rpm deb floor

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

demo: cargo ## see a job's tasks bound to their GPUs, on a virtual two-socket server (5 to 10 minutes)
	@tests/demo

test: test-fast test-fuzz test-abi test-nccl test-slurm test-slurm-2411 test-rpm test-vm ## everything, under 40 minutes on 2 cores

test-fast: deps ## unit and property tests of every crate
	$(CARGO) test --workspace --exclude gpu-numa-tests

test-fuzz: deps ## every reader of others' bytes under libFuzzer, 5 seconds each
	fuzz/run 5

fuzz: deps ## the same for as long as you like: make fuzz FUZZ_SECONDS=600 FUZZ_TARGETS="snapshot from"
	fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

test-abi: deps build ## the Slurm plugin under C hosts that stand for Slurm
	GPU_NUMA_SPANK_SO=$(PLUGIN) $(CARGO) test -p gpu-numa-tests --test abi

test-nccl: deps build ## the NCCL plugin under a C host that stands for NCCL, and in NVIDIA's own libnccl (300 MB from PyPI)
	library=$$(tests/nccl/libnccl $(TARGET)) && GPU_NUMA_LIBNCCL=$$library GPU_NUMA_NCCL_SO=$(NCCL_PLUGIN) \
		$(CARGO) test -p gpu-numa-tests --test nccl

test-slurm: deps build ## the plugin under a real Slurm on this host, with the fault table and under valgrind
	tests/slurm/checks
	tests/slurm/faults
	tests/slurm/memory

test-slurm-2411: deps build ## the same under Slurm 24.11, in a Debian 13 of its own below target/
	SLURM_EXPECTED=24.11 tests/slurm/in-debian trixie
	tests/slurm/in-debian trixie /src/tests/slurm/faults --sample

test-releases: deps build ## the same under the newest Slurm that Debian has (26.05 in November 2026); not in `make test`
	tests/slurm/in-debian sid
	tests/slurm/in-debian sid /src/tests/slurm/faults --sample

test-vm: deps build ## the plugin under Slurm on virtual GPU servers
	tests/vm/check

test-rpm: deps build floor ## the packages of the plugins as shipped, installed into an empty root, and under a Slurm at work
	cp -p $(TARGET)/release/gpu-numa $(FLOOR)/
	GPU_NUMA_RPM_PREBUILT=$(FLOOR) packaging/build-rpm $(TARGET)/rpm-test
	packaging/check-rpm $(TARGET)/rpm-test
	GPU_NUMA_PLUGINS=$(PLUGIN):$(FLOOR)/libgpu_numa_bind.so packaging/check-slurm
	packaging/check-containers

test-recorded: deps ## what other people recorded, in the folder GPU_NUMA_TOPOLOGIES (../shared/topologies), which must be there; not in `make test`
	$(CARGO) test -p gpu-numa-tests --test recorded

test-packages: deps build ## whole builds: again from the source package, the same bytes; aarch64, Debian, rpmlint (most of an hour)
	packaging/check-packages $(TARGET)/packages

bench: deps build ## how long a task's start takes longer, on a made-up host of 256 CPUs and 8 GPUs
	GPU_NUMA_SPANK_SO=$(PLUGIN) $(CARGO) test -p gpu-numa-tests --test abi -- --ignored --nocapture speed

load: deps build ## a thousand steps, and steps of 256 tasks, without and with the plugin in turn (a quarter of an hour)
	tests/slurm/load
	GPU_NUMA_PLUGIN=$(PLUGIN) GPU_NUMA_CLI=$(TARGET)/release/gpu-numa tests/vm/run-vm --timeout 900 -- tests/vm/load

lint: deps ## formatting, clippy, shell syntax, licences and sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	tests/lint-shell
	packaging/check-supply

rpm: deps ## build the RPMs: one set for EL 8, 9, 10 and SUSE
	packaging/build-rpm

deb: deps floor ## build the Debian packages, for Debian 11, Ubuntu 20.04 and younger
	$(FLOOR_BUILD) -p gpu-numa
	packaging/build-deb $(TARGET)/deb

# In the target folder of everything else, whose build scripts and macros it shares.  The libhwloc here may need a younger
# C library than the floor; where the program runs, that host's own is taken.
FLOOR_BUILD = RUSTFLAGS="-C link-arg=-Wl,--build-id=sha1 -C link-arg=-Wl,--allow-shlib-undefined" packaging/with-zig \
	$(CARGO) zigbuild --release --target $(FLOOR_TARGET).2.28
floor: deps
	$(FLOOR_BUILD) -p gpu-numa-spank -p gpu-numa-nccl-profiler

build: cargo
	$(CARGO) build --release --workspace --exclude gpu-numa-tests --exclude gpu-numa-models --exclude gpu-numa-fuzz

deps: cargo ## install the Debian packages that are missing
	@tests/install-packages $(DISTRO_PACKAGES)

cargo:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.88 or newer from https://rustup.rs" >&2; exit 1; }
