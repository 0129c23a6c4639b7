#!/usr/bin/env bash
# Installs the Standard Webhooks libraries of two other languages under target/foreign, for foreign_verifiers_accept.rs:
# Python from PyPI into a venv, JavaScript from npm. Does nothing when they are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${CARGO_TARGET_DIR:-target}/foreign
mkdir -p "$dir"

if ! "$dir/venv/bin/python" -c 'import standardwebhooks' 2>/dev/null; then
    rm -rf "$dir/venv"
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'standardwebhooks==1.1.0'
fi
if [ ! -d "$dir/node/node_modules/standardwebhooks" ]; then
    mkdir -p "$dir/node"
    npm install --prefix "$dir/node" --silent --no-audit --no-fund --no-save 'standardwebhooks@1.1.1' >&2
fi
