#!/usr/bin/env bash
# Has schemathesis make up requests from the document that the admin server serves, for a bounded time, and judge the
# answers: no 5xx, nothing that the document does not say.
#
# usage: tests/foreign/schemathesis.sh URL TOKEN [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${CARGO_TARGET_DIR:-$PWD/target}/foreign/fuzzer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# Left out: that whatever fits the document is accepted. JSON Schema cannot say what a receiver's URL or a SQL/JSON path is;
# what Postgres refuses of it is answered with 422.
"$dir/bin/schemathesis" run "$1/v1/openapi.json" --header "Authorization: Bearer $2" --max-time "${3:-30}" --seed 1 \
    --exclude-checks positive_data_acceptance --continue-on-failure --no-color --warnings off
