#!/usr/bin/env bash
# Measures the figures of docs/BENCHMARKS.md: release builds of both halves, a throw-away cluster,
# everything on loopback. Prints a table, and writes bench-out/bench.json. Arguments name single
# benchmarks; without arguments, all run.
set -euo pipefail
cd "$(dirname "$0")/.."
PGW_BIN=$(PROFILE=release scripts/sandbox.sh "${TMPDIR:-/tmp}/pg_webhook-$(id -un)/release")
export PGW_BIN
cargo build --release --package webhookd
export PGW_WEBHOOKD=$PWD/target/release/webhookd
cargo run --release --package e2e --bin bench -- "$@"
