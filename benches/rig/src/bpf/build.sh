#!/bin/sh
# Builds rig.bpf.o from rig.bpf.c; the object is committed, so that running the rig needs no clang.
#   build.sh          build it
#   build.sh --check  build it aside and compare with the committed one (same major version of clang, else the comparison says nothing)
set -eu
cd "$(dirname "$0")"
CLANG=${CLANG:-clang}
KNOWN=$(cat clang.version)
compile() { "$CLANG" -target bpf -mcpu=v3 -O2 -g -Wall -Werror -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
	-idirafter "/usr/include/$(uname -m)-linux-gnu" -c rig.bpf.c -o "$1"; }
version=$("$CLANG" --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p')
if [ "${1:-}" = --check ]; then
	if [ "$version" != "$KNOWN" ]; then
		echo "rig.bpf.o: built by clang $KNOWN, here is clang $version: not compared" >&2
		exit 0
	fi
	out=$(mktemp)
	trap 'rm -f "$out"' EXIT
	compile "$out"
	cmp "$out" rig.bpf.o && echo "rig.bpf.o: the same as its source builds"
else
	compile rig.bpf.o
	echo "$version" > clang.version
fi
