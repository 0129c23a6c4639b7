#!/usr/bin/env bash
# Tests that were not written for this project, and random ones that no one wrote (docs/RELEASE.md, "Torture"): Postgres' own
# suites with every table watched, sqlsmith, and the outbox against an audit under random tables, triggers and transactions.
#
# usage: scripts/torture.sh [all|suites|sqlsmith|differential|short]
#   SECONDS_MAX   of the differential, and of each role of sqlsmith (default: 600)
#   SEED          of both (default: one of its own, which is printed)
#   OPTIONS       of the differential, such as "--nested none" (tests/src/bin/torture/main.rs)
#   PG            major version of Postgres; PGW_BIN: a bin directory that has the extension already
#   OUT           folder that keeps what the suites and sqlsmith have printed
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
seconds=${SECONDS_MAX:-600}
[ "$what" != short ] || seconds=${SECONDS_MAX:-20}
PGW_BIN=${PGW_BIN:-$(PROFILE=quick scripts/sandbox.sh)}
export PGW_BIN PG_BIN=$PGW_BIN
read -r -a options <<<"${OPTIONS:-}"
failed=()
step() { # NAME COMMAND…
    local name=$1
    shift
    "$@" || failed+=("$name")
}
differential() { cargo run --quiet --profile quick --package e2e --bin torture -- "$seconds" ${SEED:+"$SEED"} "$@"; }

# Regression tests that need a minute together and no C functions of their own beside test_setup's.
short=(test_setup copy insert_conflict merge foreign_key partition_prune rowsecurity)

case $what in
    suites) step suites tests/torture/suites.sh ;;
    sqlsmith) step sqlsmith tests/torture/sqlsmith.sh 100000 "$seconds" ${SEED:+"$SEED"} ;;
    differential) step differential differential "${options[@]}" ;;
    short)
        SEED=${SEED:-1} step differential differential "${options[@]}"
        ;;
    all)
        step suites tests/torture/suites.sh
        step sqlsmith tests/torture/sqlsmith.sh 100000 "$((seconds / 3))" ${SEED:+"$SEED"}
        step differential differential "${options[@]}"
        ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
[ ${#failed[@]} = 0 ] || { echo "torture: ${failed[*]} failed"; exit 1; }
