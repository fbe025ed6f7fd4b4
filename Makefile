# portcullis: one command each. `make` alone says which.

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Only what needs root gets it; whoever is root already has no need of sudo.
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)
# STAY=1 and JSON=1 for the demo.
DEMO_FLAGS := $(if $(filter-out 0,$(STAY)),--stay) $(if $(filter-out 0,$(JSON)),--json)

.DEFAULT_GOAL := help
.PHONY: help setup build deb demo drill soak test test-table lint deny

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20
	@echo '  make demo STAY=1  the same, left up until Enter; JSON=1 prints JSON'

setup: ## Install the Debian packages that building, demo and tests need (asks sudo)
	@deploy/setup.sh build demo test vm

build: ## Build the gate, release
	cargo build --release --locked --bin portcullis

# cargo-deb makes the package; the man pages and completions come from the command line's own definitions.
CARGO_DEB := $(if $(shell command -v cargo-deb),,cargo-deb)

.PHONY: cargo-deb
cargo-deb:
# Without what an optimized build takes three minutes for: it packs files.
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
		cargo install --locked cargo-deb

deb: $(CARGO_DEB) ## Build the Debian package, into target/debian
	@deploy/setup.sh build deb
	cargo build --release --locked --bin portcullis
	rm -rf $(TARGET)/release/manual
	cargo run --locked --quiet -p manual -- $(TARGET)/release/manual
	gzip -9nf $(TARGET)/release/manual/man/*.1
	cargo deb --locked --no-build --strip

# The rig is built for debugging, whatever the gate is: the release profile aborts on panic, and the rig takes its
# namespaces down by unwinding.
demo: ## Run real clients against real servers through the gate, in network namespaces
	@deploy/setup.sh build demo
	@cargo build --release --locked --quiet --bin portcullis
	@cargo build --locked --quiet -p rig --bin portcullis-demo
	@$(SUDO) $(TARGET)/debug/portcullis-demo --gate $(TARGET)/release/portcullis $(DEMO_FLAGS)

drill: ## Kill, starve, stop and stick the gate a hundred times each under traffic, and say what passed (some ten minutes)
	@deploy/setup.sh build demo
	@cargo build --release --locked --quiet --bin portcullis
	@cargo build --locked --quiet -p rig --bin portcullis-drill
	@$(SUDO) $(TARGET)/debug/portcullis-drill --gate $(TARGET)/release/portcullis --results benches/results

soak: ## Half an hour of reloads, flaps, floods, malformed frames, stops and kills; memory flat, every frame accounted for
	@deploy/setup.sh build demo test
	@cargo build --release --locked --quiet --bin portcullis
	@cargo build --locked --quiet -p rig --bin portcullis-soak
	@$(SUDO) $(TARGET)/debug/portcullis-soak --gate $(TARGET)/release/portcullis

# cargo-nextest where there is one. Test binaries named whole_box* and veth need root: where make has none, as-root.sh starts
# them by sudo, and where that cannot be, each of their tests says that it was not run.
CARGO_TEST ?= $(if $(shell command -v cargo-nextest),cargo nextest run,cargo test)
HOST       := $(shell rustc -vV | sed -n 's/^host: //p')
RUNNER     := CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER

test: $(CARGO_DEB) ## Run every test: unit, property, replay, whole-box (the last as root)
	@deploy/setup.sh build demo test vm
	@$(if $(SUDO),$(RUNNER)=$(CURDIR)/crates/rig/as-root.sh) $(CARGO_TEST) --workspace --locked --no-fail-fast

# Ours optimized as what is shipped, over the dependencies of an ordinary test build: these are built once for both, and take the most time.
OPTIMIZED := $(foreach package,portcullis classbench proptest,--config profile.dev.package.$(package).opt-level=3) \
             $(foreach check,debug-assertions overflow-checks,--config profile.dev.package.portcullis.$(check)=false)
test-table: ## Compare the rule table with the rules read one by one: ten million random pairs, optimized
	cargo test --workspace --locked $(OPTIMIZED) --test policy_table -- --show-output

lint: ## Check the formatting, and clippy with warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: ## Ask cargo-deny for advisories, licences, duplicates and sources of what is built upon
	deploy/deny.sh

include benches/rig/rig.mk
include benches/classbench/peers.mk
include vm/vm.mk
