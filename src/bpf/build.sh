#!/bin/sh
# Builds the object of each BPF program beside its source; objects are committed, so that building Portcullis needs no clang.
#   build.sh          build them
#   build.sh --check  build them aside and compare with the committed ones (same major version of clang, else the comparison says nothing)
set -eu
cd "$(dirname "$0")"
CLANG=${CLANG:-clang}
KNOWN=$(cat clang.version)
# The gate, and the port of `portcullis bench`.
PROGRAMS="gate.bpf ../../crates/traffic/src/bpf/port.bpf"
compile() { (cd "$(dirname "$1")" && "$CLANG" -target bpf -mcpu=v3 -O2 -g -Wall -Werror -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
	-idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$(basename "$1").c" -o "$2"); }
version=$("$CLANG" --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p')
if [ "${1:-}" = --check ]; then
	if [ "$version" != "$KNOWN" ]; then
		echo "built by clang $KNOWN, here is clang $version: not compared" >&2
		exit 0
	fi
	out=$(mktemp)
	trap 'rm -f "$out"' EXIT
	for program in $PROGRAMS; do
		compile "$program" "$out"
		cmp "$out" "$program.o" && echo "$(basename "$program").o: the same as its source builds"
	done
else
	for program in $PROGRAMS; do
		compile "$program" "$(basename "$program").o"
	done
	echo "$version" > clang.version
fi
