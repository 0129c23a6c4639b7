#!/usr/bin/env bash
# Checks licences, sources and advisories of all dependencies (deny.toml). Works offline: without
# cargo-deny, it prints a line and does nothing; without the list of advisories, it checks the rest.
#
# usage: scripts/deny.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools/bin:$PATH"

if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: skipped, for cargo-deny is not there (cargo install cargo-deny --locked --root .tools)" >&2
    exit 0
fi
cargo deny --log-level error check licenses bans sources
if ! cargo deny --log-level off fetch db >/dev/null 2>&1; then
    echo "deny: advisories skipped, for their list cannot be fetched" >&2
    exit 0
fi
cargo deny --log-level error check advisories
