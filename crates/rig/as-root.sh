#!/bin/sh
# A cargo runner: starts by sudo the test binaries that make namespaces, all others as they are.
case ${1##*/} in
  # This one calls cargo, which has its things at home.
  whole_box_package-*)
    if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then exec sudo --preserve-env=HOME,CARGO_HOME,RUSTUP_HOME -- "$@"; fi ;;
  whole_box*|veth-*|sinks-*)
    if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then exec sudo -- "$@"; fi ;;
esac
exec "$@"
