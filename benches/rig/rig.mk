# Forwarding rates side by side (benches/rig/README.md). Some ten minutes, as root, on a machine that does nothing else.
# RIG_ARGS is passed on: make bench-rig RIG_ARGS="--rounds 1 --no-save"
.PHONY: bench-rig
bench-rig: ## Forwarding rates side by side: the gate, Linux bridges and filters, XDP, DPDK testpmd, a bare AF_XDP loop
	@deploy/setup.sh build rig
	cargo build --release --locked -p portcullis -p bench-rig
	$(SUDO) "$${CARGO_TARGET_DIR:-target}/release/bench-rig" $(RIG_ARGS)
