#!/usr/bin/env bash
# The SQL tests of the extension: every extension/tests/pg_regress/sql/*.sql, in name order, in a throw-away cluster,
# by Postgres's own pg_regress; then extension/tests/*.sh, which need a server of their own to hurt.
#
# usage: scripts/regress.sh [FILE…]     names of sql files without .sql (default: all, and the shell tests)
#   PG_BIN    a bin directory with the extension installed beside it (default: what scripts/sandbox.sh makes)
#   ACCEPT=1  take the results as the expected output (read the diff before you commit it)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
bin=${PG_BIN:-$(scripts/sandbox.sh)}

work=$(mktemp -d "${TMPDIR:-/tmp}/pg_webhook-regress.XXXXXX")
chmod 755 "$work"
mkdir "$work/cluster" "$work/out"
# Postgres refuses to run as root.
as_owner() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work/cluster"
    as_owner() { su postgres -s /bin/bash -c "$(printf '%q ' "$@")"; }
fi
finish() {
    as_owner "$bin/pg_ctl" -D "$work/cluster/data" -m immediate -s stop 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

as_owner "$bin/initdb" -D "$work/cluster/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$work/initdb.log"
cat >>"$work/cluster/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$work/cluster'
max_prepared_transactions = 5
fsync = off
CONF
# A server that inherits this would add Rust's call stack to its errors.
unset RUST_BACKTRACE
as_owner "$bin/pg_ctl" -D "$work/cluster/data" -l "$work/cluster/log" -w -s start
export PGHOST=$work/cluster PGUSER=postgres
unset PGPORT PGDATABASE PGOPTIONS PGSERVICE

"$bin/createdb" regress
"$bin/psql" -X -q -v ON_ERROR_STOP=1 -d regress -c 'create extension pg_webhook' \
    -f extension/tests/pg_regress/setup.sql

files=("$@")
if [ $# = 0 ]; then
    for file in extension/tests/pg_regress/sql/*.sql; do files+=("$(basename "$file" .sql)"); done
fi
pg_regress=$(dirname "$("$bin/pg_config" --pgxs)")/../test/regress/pg_regress
[ -x "$pg_regress" ] || pg_regress=$("$bin/pg_config" --pkglibdir)/pgxs/src/test/regress/pg_regress
# A new file has no expected output yet.
for file in "${files[@]}"; do touch -a "extension/tests/pg_regress/expected/$file.out"; done
passed=0
if "$pg_regress" --use-existing --dbname=regress --bindir="$bin" --host="$PGHOST" --user=postgres \
    --inputdir="$root/extension/tests/pg_regress" --outputdir="$work/out" "${files[@]}"; then
    passed=1
elif [ "${ACCEPT:-}" = 1 ]; then
    for file in "${files[@]}"; do cp "$work/out/results/$file.out" "extension/tests/pg_regress/expected/"; done
else
    cat "$work/out/regression.diffs" >&2 || true
fi
[ "$passed" = 1 ] || exit 1

if [ $# = 0 ]; then
    for test in extension/tests/*.sh; do
        [ -e "$test" ] || continue
        echo "== $test"
        PG_BIN=$bin "$test"
    done
fi
