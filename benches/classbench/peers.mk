# The rule table beside DPDK's rte_acl, on the same rule sets (benches/classbench). Some ten minutes; as root rte_acl gets huge
# pages. PEERS_ARGS is passed on: make bench-peers PEERS_ARGS=--quick
.PHONY: bench-peers
bench-peers: ## The rule table and DPDK's rte_acl side by side, into benches/results
	@deploy/setup.sh build peers
	cargo build --release --locked -p classbench --bin bench-peers
	$(SUDO) "$${CARGO_TARGET_DIR:-target}/release/bench-peers" $(PEERS_ARGS)

# Instructions and branches of the lookup for each packet, counted by callgrind. Some minutes; needs no quiet machine.
.PHONY: bench-branches
bench-branches: ## Count the branches of the rule table's lookup under valgrind, into benches/results
	@deploy/setup.sh build peers
	cargo build --release --locked -p classbench --bin branches
	benches/classbench/branches.sh $(BRANCHES_ARGS)

# The rule table beside tuple space search, decision trees and cross-products, on the same rule sets. Some minutes; all memory
# of the program behind huge pages. DESIGNS_ARGS is passed on: make bench-designs DESIGNS_ARGS="--sizes 1000"
.PHONY: bench-designs
bench-designs: ## The rule table and other designs of classifiers side by side, into benches/results
	@deploy/setup.sh build
	cargo build --release --locked -p classbench --bin bench-designs
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 "$${CARGO_TARGET_DIR:-target}/release/bench-designs" $(DESIGNS_ARGS)
