# Three virtual machines (vm/README.md). As root, for a network namespace and taps. VM_ARGS is passed on: make vm VM_ARGS="--mode all --json"
.PHONY: vm vm-links vm-faults

VM_LAB = $(SUDO) $(TARGET)/debug/vm-lab --cache $(TARGET)/vm

vm: vm-lab ## Boot lan, gate and uplink as virtual machines, the gate from its Debian package: the demo's traffic, Prometheus, throughput
	$(VM_LAB) demo $(VM_ARGS)

vm-links: vm-lab ## The same machines, in copy mode and in zero copy on virtio-net and igb: full-size frames, links that flap, a pause
	$(VM_LAB) links --mode all $(VM_ARGS)

vm-faults: vm-lab ## The same machines: kill -9, cable out, pause and reload in the middle of a load
	$(VM_LAB) faults $(VM_ARGS)

# Built for debugging, as the demo is: it takes everything down by unwinding.
.PHONY: vm-lab
vm-lab: deb
	@deploy/setup.sh build vm
	cargo build --locked --quiet -p vm-lab
