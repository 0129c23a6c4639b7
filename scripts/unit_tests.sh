#!/usr/bin/env bash
# Runs the unit tests of the extension. The tests call nothing of Postgres, but they are in a
# library that does. Linked into a program of their own (extension/build.rs), these names are
# undefined. The script defines them.
#
# usage: scripts/unit_tests.sh BIN     a bin directory of Postgres with its pg_config
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${1:?usage: scripts/unit_tests.sh BIN}/pg_config
major=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
# The flags of cargo-pgrx, so that cargo reuses its results.
flags="target.'cfg(all(target_family = \"unix\", not(target_os = \"macos\")))'.rustflags = [\"-C\", \"link-arg=-Wl,--no-gc-sections\"]"
program=$(PGRX_PG_CONFIG_PATH=$pg_config cargo --config "$flags" test --profile quick --package pg_webhook --lib \
    --no-default-features --features "pg$major" --no-run 2>&1 | tee >(cat >&2) | sed -nE 's/^ *Executable .*\((.*)\)$/\1/p')
[ -x "$program" ] || { echo "unit_tests: cargo has made no program" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --undefined-only "$program" | awk '$1 == "U" && $2 !~ /@/ { print "char " $2 "[64];" }' >"$work/names.c"
cc -shared -fPIC -fno-builtin -w -o "$work/names.so" "$work/names.c"
LD_PRELOAD=$work/names.so "$program"
