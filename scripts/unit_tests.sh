#!/usr/bin/env bash
# The unit tests of the extension. What they test calls nothing of Postgres, but lies in a library that does: linked into a
# program of its own (extension/build.rs), those names stand for nothing. They are given something to stand for.
#
# usage: scripts/unit_tests.sh BIN     a bin directory of Postgres with its pg_config
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${1:?usage: scripts/unit_tests.sh BIN}/pg_config
major=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
# As cargo-pgrx has it, so that what it has compiled serves here too.
flags="target.'cfg(all(target_family = \"unix\", not(target_os = \"macos\")))'.rustflags = [\"-C\", \"link-arg=-Wl,--no-gc-sections\"]"
program=$(PGRX_PG_CONFIG_PATH=$pg_config cargo --config "$flags" test --profile quick --package pg_webhook --lib \
    --no-default-features --features "pg$major" --no-run 2>&1 | tee >(cat >&2) | sed -nE 's/^ *Executable .*\((.*)\)$/\1/p')
[ -x "$program" ] || { echo "unit_tests: cargo has made no program" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --undefined-only "$program" | awk '$1 == "U" && $2 !~ /@/ { print "char " $2 "[64];" }' >"$work/names.c"
cc -shared -fPIC -fno-builtin -w -o "$work/names.so" "$work/names.c"
LD_PRELOAD=$work/names.so "$program"
