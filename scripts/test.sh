#!/usr/bin/env bash
# Every test there is, cheapest first; `make test` has installed what is missing before. One profile for all, so that
# the dependencies are compiled once.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n── %s\n' "$*"; }

step "unit and property tests"
cargo test --profile quick

step "the extension in a private copy of Postgres"
PGW_BIN=$(PROFILE=quick scripts/sandbox.sh)
export PGW_BIN

step "SQL surface (pg_regress)"
scripts/regress.sh

step "verifiers of other languages"
tests/foreign/setup.sh

step "end to end"
cargo build --profile quick --package webhookd
export PGW_WEBHOOKD=$PWD/target/quick/webhookd
cargo test --profile quick --package e2e
