# Forwarding rates side by side (benches/rig): needs root, iproute2 and ethtool, and nftables for the comparison with it.
# RIG_ARGS is passed on: make bench-rig RIG_ARGS="--rounds 1 --no-save"
.PHONY: bench-rig
bench-rig: ## Forwarding rates side by side: the gate, a Linux bridge, a bare AF_XDP loop
	cargo build --release --locked -p portcullis -p bench-rig
	"$${CARGO_TARGET_DIR:-target}/release/bench-rig" $(RIG_ARGS)
