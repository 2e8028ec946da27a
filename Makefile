# What a person and the CI run. Every target installs what it lacks first (`make setup`), from Debian's packages.

MUSL := x86_64-unknown-linux-musl
AGENT := target/$(MUSL)/release/ka-agent
STATIC_KACTL := target/static/$(MUSL)/release/kactl
KACTL ?= target/release/kactl
DENY := target/tools/bin/cargo-deny
PYTHON := target/tools/python
NODES ?=
SCENARIO ?= default
SUITE ?=
KEEP ?=
CASES ?= all
DESTDIR ?=

# What the scripts of the image read.
LISTS := initramfs/tools initramfs/by-name

# Tools of the build, of the image, of the tests' judges, and of the virtual cluster. Never qemu-utils: only
# qemu-system-x86 is needed, and on machines with backports the two come from different versions.
PACKAGES := make ca-certificates gcc libc6-dev binutils musl-tools file python3 shellcheck \
	busybox-static klibc-utils cpio efibootmgr kmod procps xz-utils zstd e2fsprogs xfsprogs jfsutils reiserfsprogs btrfs-progs \
	dosfstools partclone fdisk gdisk parted util-linux tar attr acl \
	qemu-system-x86 openssh-client ovmf mmdebstrap dnsmasq-base pxelinux syslinux-common ipxe iproute2 \
	ipmitool openipmi openssl curl python3-venv kea-dhcp4-server python3-scapy nftables libarchive-tools quota systemd f2fs-tools squashfs-tools exfatprogs lvm2 \
	swtpm tpm2-tools libtss2-tcti-swtpm0

export DEBIAN_FRONTEND := noninteractive
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

# Rust from wherever it is; Debian's packages when there is none that can read this workspace.
RUST_IS_THERE = cargo metadata --no-deps --offline --format-version 1
MUSL_IS_THERE = ls "$$(rustc --print target-libdir --target $(MUSL))"/libstd-*.rlib

.PHONY: setup build agent static-kactl manual deb test-deb dist test qemu-test bench fuzz lint advisories install

setup:
	@wanted="$(PACKAGES)"; \
	$(RUST_IS_THERE) >/dev/null 2>&1 || wanted="$$wanted cargo-web rustc-web rust-web-clippy rustfmt-web"; \
	$(MUSL_IS_THERE) >/dev/null 2>&1 || wanted="$$wanted cargo-web rustc-web rust-web-src libunwind-14-dev"; \
	missing=$$(for p in $$wanted; do \
		dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -n "$$missing" ] || exit 0; \
	echo "setup: installing" $$missing; \
	if [ "$$(id -u)" = 0 ]; then as=; else as="sudo --preserve-env=DEBIAN_FRONTEND"; fi; \
	said=$$(mktemp); \
	{ $$as apt-get update -q && $$as apt-get install -q -y --no-remove --no-install-recommends $$missing; } >"$$said" 2>&1 || \
		{ cat "$$said" >&2; rm "$$said"; exit 1; }; \
	rm "$$said"
	@$(MAKE) --no-print-directory $(PYTHON)/bin/sushy-emulator || \
		echo "setup: ******** THE PYTHON PACKAGE INDEX CANNOT BE REACHED: THE TESTS OF REDFISH WILL FAIL ********"

build: setup
	cargo build --release --locked -p kactl

agent: setup
	initramfs/build-agent

# For golden nodes that are older than this machine: `make static-kactl install KACTL=$(STATIC_KACTL)`.
static-kactl: setup
	PROFILE=release initramfs/build-agent -p kactl --bin kactl

# The man pages and completions, from the definitions of the command lines. None is kept, so none can drift.
manual: setup
	rm -rf target/manual
	cargo run --quiet --locked -p kactl --example manual -- target/manual
	cargo run --quiet --locked -p ka-agent --example manual -- target/manual

# The Debian packages ka and ka-agent, in target/deb.
deb: agent build manual
	packaging/build-deb

# Lintian, and install, upgrade, remove and purge in a chroot.
test-deb: PACKAGES += lintian
test-deb: setup
	packaging/test-deb

# The sources as a tarball, in target/dist.
dist:
	@. packaging/version.sh && mkdir -p target/dist && \
	git archive --prefix="ka-$$version/" --format=tar HEAD | xz -T0 >"target/dist/ka-$$version.tar.xz" && \
	ls -l "target/dist/ka-$$version.tar.xz"

# The static agent is tested too, so it is built first.
test: agent
	cargo build --workspace --locked
	cargo test --workspace --locked
	python3 -m unittest discover -s qemu
	python3 -m unittest discover -s tests/bench
	@echo "OK: every test has passed"

qemu-test: agent build
	SCENARIO=$(SCENARIO) SUITE=$(SUITE) NODES=$(NODES) KEEP=$(KEEP) qemu/run

# Peers to measure against, and only for that.
bench: PACKAGES += iperf3 mbuffer udpcast aria2 opentracker mktorrent
bench: agent build
	cargo build --release --locked -p ka-tests --example aead_cost --example proof_cost --example pack_cost --example faults --example hostile --example heartbeats
	initramfs/build-agent --example unpack_cost
	SEED="$(SEED)" COUNT="$(COUNT)" tests/bench/run --cases "$(CASES)" --nodes "$(NODES)" --rate "$(RATE)" --size "$(SIZE)" --runs "$(RUNS)"

# Beyond the packages, a nightly toolchain: `rustup toolchain install nightly`.
fuzz: PACKAGES += g++
fuzz: setup
	TIME="$(or $(TIME),60)" TARGETS="$(TARGETS)" JOBS="$(or $(JOBS),2)" tests/fuzz/run

# A tool that this machine cannot have is named loudly; the others must be content.
lint: setup $(DENY) advisories
	@$(call lint,cargo fmt,cargo fmt --version,cargo fmt --all --check)
	@$(call lint,cargo clippy,cargo clippy --version,cargo clippy --workspace --all-targets --locked -- -D warnings)
	@$(call lint,cargo doc,rustdoc --version,RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --locked)
	@$(call lint,the fuzz targets' lock file,cargo --version,cargo metadata --quiet --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null)
	@$(call lint,prose,python3 --version,tests/lint/prose)
	@$(call lint,cargo deny,$(DENY) --version,cargo fetch --quiet --locked && $(DENY) --offline check bans licenses sources)
	@$(call lint,shellcheck,shellcheck --version,shellcheck -x -P SCRIPTDIR $$(grep -rlE --exclude='*.py' '^#!/bin/(ba)?sh|^# shellcheck shell=' .ci initramfs packaging qemu tests/fuzz/run controller/tests/unit))

# Known faults of the dependencies. The list of them is fetched each time: an old one would be silent about the new ones.
# Where it cannot be had, nothing was checked, and that is said.
advisories: $(DENY)
	@echo "lint: cargo deny, advisories"; \
	if $(DENY) fetch db; then $(DENY) --offline check --disable-fetch advisories; else \
		echo "lint: ******** THE ADVISORY DATABASE CANNOT BE REACHED: KNOWN FAULTS OF DEPENDENCIES WERE NOT CHECKED ********"; fi

# A Redfish emulator, which judges the tests. In no Debian package.
$(PYTHON)/bin/sushy-emulator:
	python3 -m venv $(PYTHON)
	$(PYTHON)/bin/pip install --quiet --disable-pip-version-check sushy-tools==2.2.0

# In no Debian package. Not optimised: it is built for seconds of work.
$(DENY):
	cargo install --quiet --locked --debug --root target/tools cargo-deny@0.20.2

define lint
if $(2) >/dev/null 2>&1; then echo "lint: $(1)"; $(3); else \
	echo "lint: ******** $(1) IS NOT INSTALLED: WHAT IT CHECKS WAS NOT CHECKED ********"; fi
endef

# Installs what was built; on a golden node, a compiler would travel to every clone.
install:
	@for built in $(KACTL) $(AGENT); do \
		test -e $$built || { echo "install: $$built is missing: run make build agent" >&2; exit 1; }; done
	install -D -m 755 $(KACTL) $(DESTDIR)/usr/bin/kactl
	install -D -m 755 $(AGENT) $(DESTDIR)/usr/lib/ka/ka-agent
	install -D -m 644 systemd/ka-pxe.service $(DESTDIR)/usr/lib/systemd/system/ka-pxe.service
	install -d $(DESTDIR)/usr/lib/ka/initramfs
	install -m 755 $(filter-out %.sh %/build-agent $(LISTS),$(wildcard initramfs/*)) $(DESTDIR)/usr/lib/ka/initramfs
	install -m 644 $(wildcard initramfs/*.sh) $(LISTS) $(DESTDIR)/usr/lib/ka/initramfs
