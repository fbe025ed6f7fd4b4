#!/usr/bin/env bash
# Counts instructions and branches of the rule table's lookup under callgrind, and writes them down.
#
#   benches/classbench/branches.sh [--no-save]       needs valgrind and an optimised build of the bin `branches`
#
# callgrind counts every instruction that the lookup runs and asks a simulated branch predictor, so the figures hold on
# a busy machine too and are the same each time. valgrind knows no AVX-512: the kernels are the portable one and AVX2.
# BRANCHES_PACKETS, BRANCHES_SIZES, BRANCHES_PROFILES and BRANCHES_KERNELS say what is run; JOBS how many at once.
set -euo pipefail
cd "$(dirname "$0")/../.."

program=${CARGO_TARGET_DIR:-target}/release/branches
packets=${BRANCHES_PACKETS:-8192}
read -ra sizes <<<"${BRANCHES_SIZES:-16 128 1000 10000}"
read -ra profiles <<<"${BRANCHES_PROFILES:-acl fw}"
read -ra kernels <<<"${BRANCHES_KERNELS:-portable avx2}"
orders=(random sorted same)
jobs=${JOBS:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One run: its totals go to $work/<name>.out, the shape of the table to $work/<name>.shape.
count() {
  local kernel=$1 profile=$2 rules=$3 order=$4 name=$1-$2-$3-$4
  valgrind --tool=callgrind --branch-sim=yes --cache-sim=no --collect-atstart=no --toggle-collect='*measured*' \
    --callgrind-out-file="$work/$name.out" \
    "$program" --profile "$profile" --rules "$rules" --packets "$packets" --order "$order" --kernel "$kernel" \
    >"$work/$name.shape" 2>"$work/$name.log" || { cat "$work/$name.log" >&2; return 1; }
  printf 'branches: %s %s, %s rules, %s\n' "$kernel" "$profile" "$rules" "$order" >&2
}

# The totals of one run for each packet: instructions, conditional branches, those mispredicted, indirect jumps.
per_packet() {
  awk -v packets="$packets" '
    /^events:/ { for (i = 2; i <= NF; i++) column[$i] = i }
    /^totals:/ { printf "%.1f %.3f %.3f %.3f\n", $column["Ir"] / packets, $column["Bc"] / packets,
                        $column["Bcm"] / packets, $column["Bi"] / packets; seen = $column["Ir"] }
    END { exit !seen }' "$1" || { echo "branches: callgrind counted nothing in $1" >&2; return 1; }
}

running=()
for kernel in "${kernels[@]}"; do for profile in "${profiles[@]}"; do
  for rules in "${sizes[@]}"; do for order in "${orders[@]}"; do
    count "$kernel" "$profile" "$rules" "$order" &
    running+=($!)
    if [ ${#running[@]} -ge "$jobs" ]; then wait "${running[0]}"; running=("${running[@]:1}"); fi
  done; done
done; done
for one in "${running[@]}"; do wait "$one"; done

processor=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)
processor=${processor:-$(uname -m)}
machine="$processor, $(nproc) cores"
date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
changed=$([ -z "$(git status --porcelain)" ] || echo ', with changes')
build='release profile'
[ -z "${CARGO_PROFILE_RELEASE_LTO:-}" ] || build+=", lto = $CARGO_PROFILE_RELEASE_LTO"
[ -z "${CARGO_PROFILE_RELEASE_CODEGEN_UNITS:-}" ] || build+=", codegen-units = $CARGO_PROFILE_RELEASE_CODEGEN_UNITS"

report() {
  cat <<END
# Branches of the rule table's lookup

| | |
|---|---|
| date | $date |
| commit | $(git rev-parse HEAD)$changed |
| command | make bench-branches |
| processor | $machine |
| kernel | $(uname -r) |
| rustc | $(rustc --version) |
| build | $build |
| valgrind | $(valgrind --version) |
| packets | $packets of each trace, seed 1, in bursts of 32 |

Counted by callgrind in the function that looks the trace up, as \`benches/classbench/branches.sh\` runs it, and divided by
the packets: Ir, Bc, Bcm and Bi of its totals. Mispredictions are those of callgrind's simulated predictor.
*random* is the trace as it was drawn, *sorted* the same packets in the order of the rules that decide them, *same* its
first packet over and over.

END
  local kernel profile rules order name shape figures
  for kernel in "${kernels[@]}"; do
    printf '## %s\n\n' "$kernel"
    printf '| set | rules | words of a bitset | chunks in lists | order | instructions | conditional branches | mispredicted | indirect jumps |\n'
    printf '|---|--:|--:|--:|---|--:|--:|--:|--:|\n'
    for profile in "${profiles[@]}"; do for rules in "${sizes[@]}"; do for order in "${orders[@]}"; do
      name=$kernel-$profile-$rules-$order
      shape=$(sed 's/^bitset words \([0-9]*\), chunks of lists \([0-9]*\),.*/\1 | \2/' "$work/$name.shape")
      figures=$(per_packet "$work/$name.out")
      printf '| %s | %s | %s | %s | %s |\n' "$profile" "$rules" "$shape" "$order" "${figures// / | }"
    done; done; done
    echo
  done
}

report >"$work/report.md"
cat "$work/report.md"
if [ "${1:-}" != --no-save ]; then
  slug=$(tr -cs '[:alnum:]' - <<<"$machine" | tr '[:upper:]' '[:lower:]' | sed 's/^-*//; s/-*$//')
  file=benches/results/${date//:/}-$slug-branches.md
  cp "$work/report.md" "$file"
  echo "branches: wrote $file" >&2
fi
