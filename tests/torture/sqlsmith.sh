#!/usr/bin/env bash
# Runs sqlsmith's random queries against a database with watched tables, subscriptions and events:
# as a superuser, as a role with every part of webhook_grant except admin, and as a role with rights
# on its tables only. The server must not crash, and the extension must not raise an internal error
# (SQLSTATE XX…).
#
# usage: tests/torture/sqlsmith.sh [QUERIES] [SECONDS] [SEED]     of each role; the first limit ends the run (default: 3000 300, a random seed)
#   PG_BIN      a bin directory with the extension installed beside it (default: what scripts/sandbox.sh makes)
#   OUT         folder that keeps the server log and sqlsmith's output (default: nothing is kept)
set -euo pipefail
cd "$(dirname "$0")/../.."
queries=${1:-3000} seconds=${2:-300} seed=${3:-$RANDOM}
command -v sqlsmith >/dev/null || { echo "sqlsmith is missing (scripts/setup.sh torture installs it)" >&2; exit 1; }
bin=${PG_BIN:-$(scripts/sandbox.sh)}
# The log shows which role got which error, and where the error was raised.
CONF=$'fsync = off\njit = off\nmax_prepared_transactions = 5\nlog_error_verbosity = verbose\nlog_line_prefix = \'%p %u \'\nlog_min_error_statement = error'
# shellcheck source=scripts/cluster.sh
source scripts/cluster.sh
"$bin/createdb" smith
sql -d smith -c 'create extension pg_webhook' -f tests/torture/sqlsmith.sql >/dev/null
out=${OUT:-$work/out}
mkdir -p "$out"
echo "torture: sqlsmith, seed $seed; to repeat: make torture WHAT=sqlsmith SEED=$seed"

transactions() { sql -d postgres -c "select pg_stat_force_next_flush(), xact_commit + xact_rollback from pg_stat_database where datname = 'smith'" | cut -d '|' -f 2; }
# sqlsmith exits with 1 if the server ends, and by a signal if its time is up.
for role in postgres member plain; do
    status=0
    begun=$(transactions)
    nice -n 5 timeout "$seconds" sqlsmith --target="host=$PGHOST dbname=smith user=$role" --seed="$seed" --max-queries="$queries" \
        --exclude-catalog --verbose >"$out/$role.log" 2>&1 || status=$?
    [ "$status" = 0 ] || [ "$status" = 124 ] || { echo "sqlsmith as $role ended with $status:"; tail -n 3 "$out/$role.log" | sed 's/^/    /'; }
    ended=$(transactions)
    printf '%-9s %6d transactions\n' "$role" $((ended - begun))
done
cp "$work/cluster/log" "$out/log"

crashes=$(grep -cE 'terminated by signal|PANIC' "$out/log" || true)
# Joins each error with the line after it that shows its place in the source.
internal=$(awk '
    / (ERROR|FATAL|PANIC):  XX/ { error = $0; next }
    /LOCATION:/ && error != "" { print error " @ " $0; error = "" }
    / (ERROR|FATAL|PANIC):  [^X]/ { error = "" }' "$out/log" | sed -E 's/^[0-9]+ //; s/ @ [0-9]+ \S+ LOCATION: +/ @ /' | sort | uniq -c | sort -rn)
ours=$(grep -E '@ .*(\.rs|webhook)|ERROR.*(webhook|panicked|pgrx)' <<<"$internal" || true)
[ -z "$internal" ] || { echo "internal errors, including Postgres' own:"; head -n 20 <<<"$internal" | cut -c 1-300 | sed 's/^/    /'; }
printf 'server    %4d crashes, %4d kinds of internal errors of ours; events: %s\n' "$crashes" "$(grep -c . <<<"$ours" || true)" "$(sql -d smith -c 'select count(*) from webhook.event' 2>/dev/null || echo '?')"
[ "$crashes" = 0 ] && [ -z "$ours" ]
