#!/usr/bin/env bash
# Runs tests that were not written for this project (docs/RELEASE.md, "Torture"): Postgres' own
# suites with every table watched, sqlsmith, and the outbox against an audit under random tables,
# triggers and transactions.
#
# usage: scripts/torture.sh [all|suites|sqlsmith|differential|short]
#   SECONDS_MAX   time limit of the differential; sqlsmith takes a third of it per role (default: 600)
#   SEED          seed of both (default: random, and printed)
#   OPTIONS       options of the differential, such as "--nested none" (tests/src/bin/torture/main.rs)
#   PG            major version of Postgres
#   PGW_BIN       a bin directory with the extension (default: from scripts/sandbox.sh)
#   OUT           folder that keeps the output of the suites and of sqlsmith
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
seconds=${SECONDS_MAX:-600}
[ "$what" != short ] || seconds=${SECONDS_MAX:-15}
PGW_BIN=${PGW_BIN:-$(PROFILE=quick scripts/sandbox.sh)}
export PGW_BIN PG_BIN=$PGW_BIN
read -r -a options <<<"${OPTIONS:-}"
failed=()
step() { # NAME COMMAND…
    local name=$1
    shift
    "$@" || failed+=("$name")
}
# The same packages as in scripts/test.sh, so that nothing is compiled again.
differential() {
    cargo build --quiet --profile quick --workspace --exclude pg_webhook --bin torture &&
        target/quick/torture "$seconds" ${SEED:+"$SEED"} "$@"
}

# Regression tests that take seconds, need each other at most, and write to tables in many ways.
short=(test_setup copy insert insert_conflict update merge foreign_key returning with)
short_suites() {
    local major
    major=$("$PGW_BIN/pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    if scripts/postgres_source.sh "$major" >/dev/null; then
        tests/torture/suites.sh "${short[@]}"
    else
        echo "torture: Postgres' own tests: NOT RUN, because the source package of Postgres $major cannot be fetched"
    fi
}

case $what in
    suites) step suites tests/torture/suites.sh ;;
    sqlsmith) step sqlsmith tests/torture/sqlsmith.sh 100000 "$((seconds / 3))" ${SEED:+"$SEED"} ;;
    differential) step differential differential "${options[@]}" ;;
    short)
        SEED=${SEED:-1}
        step differential differential "${options[@]}"
        step suites short_suites
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
