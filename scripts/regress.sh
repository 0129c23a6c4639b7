#!/usr/bin/env bash
# Runs the SQL tests of the extension: every extension/tests/pg_regress/sql/*.sql, in order of
# names, in a throw-away cluster, with Postgres's own pg_regress. Then runs extension/tests/*.sh,
# which damage servers of their own.
#
# usage: scripts/regress.sh [FILE…]     sql files without .sql (default: all, and the shell tests)
#   PG_BIN    a bin directory with the extension installed beside it (default: from scripts/sandbox.sh)
#   ACCEPT=1  store the results as the expected output (read the diff before you commit it)
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${PG_BIN:-$(scripts/sandbox.sh)}
CONF=$'max_prepared_transactions = 5\nfsync = off'
# shellcheck source=scripts/cluster.sh
source scripts/cluster.sh

here=extension/tests/pg_regress
"$bin/createdb" regress
sql -d regress -c 'create extension pg_webhook' -f "$here/setup.sql"

files=("$@")
if [ $# = 0 ]; then
    for file in "$here"/sql/*.sql; do files+=("$(basename "$file" .sql)"); done
fi
# A new file has no expected output yet.
for file in "${files[@]}"; do touch -a "$here/expected/$file.out"; done
mkdir "$work/out"
pg_regress=$(dirname "$("$bin/pg_config" --pgxs)")/../test/regress/pg_regress
if ! "$pg_regress" --use-existing --dbname=regress --bindir="$bin" --host="$PGHOST" --user=postgres \
    --inputdir="$PWD/$here" --outputdir="$work/out" "${files[@]}"; then
    if [ "${ACCEPT:-}" = 1 ]; then
        # A file may have more expected outputs for other versions of Postgres: file_1.out etc.
        for file in "${files[@]}"; do
            for known in "$here/expected/$file".out "$here/expected/$file"_[0-9].out; do
                ! cmp -s "$work/out/results/$file.out" "$known" || continue 2
            done
            cp "$work/out/results/$file.out" "$here/expected/"
        done
    else
        cat "$work/out/regression.diffs" >&2 || true
    fi
    exit 1
fi

if [ $# = 0 ]; then
    for test in extension/tests/*.sh; do
        echo "== $test"
        PG_BIN=$bin "$test"
    done
fi
