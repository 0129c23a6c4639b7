#!/usr/bin/env bash
# Type-checks the extension for each supported major version of Postgres, without any installation:
# against the bindings that pgrx ships for its own documentation. With headers, scripts/test.sh
# compiles and runs it.
#
# usage: scripts/check_versions.sh [MAJOR…]     default: 14 15 16 17 18
set -euo pipefail
cd "$(dirname "$0")/.."
versions=("$@")
[ $# -gt 0 ] || versions=(14 15 16 17 18)

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/versions
mkdir -p "$CARGO_TARGET_DIR"
# Other crates mean other things by docsrs, some of which the stable compiler has not.
export RUSTC_WRAPPER=$CARGO_TARGET_DIR/rustc
cat >"$RUSTC_WRAPPER" <<'WRAPPER'
#!/bin/sh
case " $* " in
    *" --crate-name pgrx_pg_sys "*) exec "$@" --cfg docsrs ;;
    *) exec "$@" ;;
esac
WRAPPER
chmod +x "$RUSTC_WRAPPER"
export DOCS_RS=1
for version in "${versions[@]}"; do
    printf '── Postgres %s\n' "$version"
    RUSTFLAGS="-D warnings" cargo check --quiet --package pg_webhook --no-default-features --features "pg$version"
done
