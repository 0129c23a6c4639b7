#!/usr/bin/env bash
# Random faults under random traffic (tests/src/bin/chaos), on a throw-away cluster.
#
# usage: scripts/chaos.sh FAULTS SECONDS [SEED]     default: a seed of its own, which it prints; ends with whichever of the two comes first
set -euo pipefail
cd "$(dirname "$0")/.."
PGW_BIN=${PGW_BIN:-$(PROFILE=quick scripts/sandbox.sh)}
export PGW_BIN
cargo build --profile quick --package webhookd
export PGW_WEBHOOKD=$PWD/target/quick/webhookd
cargo run --profile quick --package e2e --bin chaos -- "$@"
