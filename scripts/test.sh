#!/usr/bin/env bash
# Runs all tests, the cheapest first. `make test` installs missing requirements before. All use one
# profile, so that the dependencies are compiled once.
#
# PG: the major version of Postgres under test (scripts/postgres.sh; default: newest installed one)
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n── %s\n' "$*"; }

step "programs that scripts and tests call"
scripts/check_programs.py

# All steps select the same packages. The features of the dependencies follow from the selection,
# and another one compiles most of them again.
packages="--profile quick --workspace --exclude pg_webhook"

step "unit and property tests"
# All programs but the end-to-end tests.
programs=$(ls -d crates/*/tests/* dispatcher/tests/* fuzz/tests/* | sed -E 's,.*/,,; s/\.rs$//' | sort -u)
cargo test $packages --lib --bins $(printf ' --test %s' $programs)
cargo test $packages --doc

step "the extension in a private copy of Postgres"
PGW_BIN=$(PROFILE=quick scripts/sandbox.sh)
export PGW_BIN
major() { "$1/pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }
version=$(major "$PGW_BIN")

step "unit tests of the extension"
scripts/unit_tests.sh "$PGW_BIN"

step "SQL surface (pg_regress)"
PG_BIN=$PGW_BIN scripts/regress.sh

step "verifiers of other languages"
tests/foreign/setup.sh

step "end to end"
cargo build $packages --bin webhookd
export PGW_WEBHOOKD=$PWD/target/quick/webhookd
# More threads than processors, because the tests mostly wait for clusters and clocks.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
cargo test $packages --test all

step "a short torture: the outbox against an audit, and tests of Postgres' own"
scripts/torture.sh short

# With another version than the system's own there are two, and what pg_upgrade does can be tested.
from=
if [ -n "${PG:-}" ] && compgen -G '/usr/lib/postgresql/*/bin/pg_config' >/dev/null; then
    from=$(PG='' PG_CONFIG='' PROFILE=quick scripts/sandbox.sh)
fi
if [ -n "$from" ] && [ "$(major "$from")" -lt "$version" ]; then
    step "pg_upgrade from $(major "$from") to $version"
    PGW_BIN_FROM=$from cargo test $packages --test all pg_upgrade_continues -- --ignored
else
    step "pg_upgrade: NOT RUN, for it needs an older Postgres beside the one under test (make test PG=17)"
fi
