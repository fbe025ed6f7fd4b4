#!/bin/sh
# Builds each .bpf.o from its .bpf.c; the objects are committed, so that running the rig needs no clang.
#   build.sh          build them
#   build.sh --check  build them aside and compare with the committed ones (same major version of clang, else that says nothing)
set -eu
cd "$(dirname "$0")"
CLANG=${CLANG:-clang}
KNOWN=$(cat clang.version)
compile() { "$CLANG" -target bpf -mcpu=v3 -O2 -g -Wall -Werror -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
	-idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$1" -o "$2"; }
version=$("$CLANG" --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p')
if [ "${1:-}" = --check ]; then
	if [ "$version" != "$KNOWN" ]; then
		echo "the rig's objects: built by clang $KNOWN, here is clang $version: not compared" >&2
		exit 0
	fi
	out=$(mktemp)
	trap 'rm -f "$out"' EXIT
	for source in *.bpf.c; do
		object=${source%.c}.o
		compile "$source" "$out"
		cmp "$out" "$object" && echo "$object: the same as its source builds"
	done
else
	for source in *.bpf.c; do compile "$source" "${source%.c}.o"; done
	echo "$version" > clang.version
fi
