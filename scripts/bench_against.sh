#!/usr/bin/env bash
# Compares this tree with another revision: runs the benchmarks of both in turns on one machine, and
# prints the ratio of each figure. Both use the benchmark program of this tree, so the other
# revision must offer what it calls.
#
# usage: scripts/bench_against.sh REVISION [PART…]     parts as for scripts/bench.sh
#   BENCH_TURNS      how often each side runs (default: 5); the ratio compares the medians
#   BENCH_PROFILE    cargo profile of both sides (default: release; quick: mostly not optimised)
#   BENCH_BEFORE     a work tree of REVISION (default: target/bench_against, which is created)
# Sizes as for scripts/bench.sh. Results: bench-out/against/.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
revision=$(git rev-parse --verify "$1^{commit}")
shift
profile=${BENCH_PROFILE:-release}
turns=${BENCH_TURNS:-5}
before=${BENCH_BEFORE:-$PWD/target/bench_against}
temporary=${TMPDIR:-/tmp}
out=$PWD/bench-out/against
scripts/setup.sh test

if [ -e "$before" ]; then
    [ "$(git -C "$before" rev-parse HEAD)" = "$revision" ] || git -C "$before" checkout --quiet --detach "$revision"
else
    git worktree add --quiet --detach "$before" "$revision"
fi

# build TREE NAME: the extension and the daemon of one side; prints the bin directory.
build() {
    (cd "$1" && mkdir -p .tools && { [ -e .tools/bin ] || ln -s "$OLDPWD/.tools/bin" .tools/bin; } &&
        TMPDIR=$temporary/pg_webhook-against-$2 && export TMPDIR && mkdir -p "$TMPDIR" && chmod 755 "$TMPDIR" &&
        cargo build --profile "$profile" --package webhookd >&2 && PROFILE=$profile scripts/sandbox.sh)
}
bin_before=$(build "$before" before)
bin_after=$(build "$PWD" after)
# The benchmark program is always optimised.
cargo build --profile "$profile" --config "profile.$profile.package.e2e.opt-level=3" --package e2e --bin bench
bench=$PWD/target/$profile/bench

# measure SIDE BIN DAEMON TURN PART…
measure() {
    local side=$1 bin=$2 daemon=$3 turn=$4 code=0
    shift 4
    PGW_BIN=$bin PGW_WEBHOOKD=$daemon PGW_BENCH_ROUNDS=1 "$bench" "$@" >/dev/null || code=$?
    # 2: a goal was missed. Here only the ratio counts.
    [ "$code" = 0 ] || [ "$code" = 2 ] || exit "$code"
    mv bench-out/bench.json "$out/$side-$turn.json"
}
rm -rf "$out"
mkdir -p "$out"
for turn in $(seq "$turns"); do
    sides="before after"
    [ $((turn % 2)) = 1 ] || sides="after before"
    for side in $sides; do
        if [ "$side" = before ]; then
            measure before "$bin_before" "$before/target/$profile/webhookd" "$turn" "$@"
        else
            measure after "$bin_after" "$PWD/target/$profile/webhookd" "$turn" "$@"
        fi
    done
done
python3 scripts/bench_ratios.py "$out"
