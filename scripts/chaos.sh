#!/usr/bin/env bash
# Random faults under random traffic (tests/src/bin/chaos), on a throw-away cluster. Ends after
# FAULTS faults or SECONDS seconds.
#
# usage: scripts/chaos.sh FAULTS SECONDS [SEED]     default: a random seed, which it prints
set -euo pipefail
cd "$(dirname "$0")/.."
PGW_BIN=${PGW_BIN:-$(PROFILE=quick scripts/sandbox.sh)}
export PGW_BIN
cargo build --profile quick --package webhookd
export PGW_WEBHOOKD=$PWD/target/quick/webhookd
cargo run --profile quick --package e2e --bin chaos -- "$@"
