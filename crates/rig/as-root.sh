#!/bin/sh
# A cargo runner: starts by sudo the test binaries that make namespaces, all others as they are.
case ${1##*/} in
  whole_box*|veth-*|sinks-*)
    if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then exec sudo -- "$@"; fi ;;
esac
exec "$@"
