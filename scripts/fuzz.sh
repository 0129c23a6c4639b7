#!/usr/bin/env bash
# Fuzzes the parsers of foreign bytes, guided by coverage, with the stable toolchain and a C++
# compiler (libFuzzer is compiled in). It writes findings to fuzz/artifacts, and new inputs to a
# scratch directory. The corpus in the tree does not change.
#
# usage: scripts/fuzz.sh SECONDS [TARGET…]     default: every target
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET…]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || for file in fuzz/fuzzer/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done

# What cargo-fuzz passes, without a sanitizer: those need nightly.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Clink-dead-code"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --manifest-path fuzz/fuzzer/Cargo.toml --release --target "$host"

mkdir -p fuzz/artifacts
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
    mkdir -p "$scratch/$target"
    printf '\n── %s, %s s\n' "$target" "$seconds"
    "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 \
        -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target-" "$scratch/$target" "fuzz/corpus/$target" 2>&1 |
        grep -E '^(stat::|SUMMARY|==|#.*(INITED|DONE)|thread|assertion|panicked)|panicked' || true
    if compgen -G "fuzz/artifacts/$target-*" >/dev/null; then
        echo "findings: fuzz/artifacts/$target-*" >&2
        exit 1
    fi
done
