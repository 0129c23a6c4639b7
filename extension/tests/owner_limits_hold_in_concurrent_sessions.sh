#!/usr/bin/env bash
# Two sessions that subscribe for one owner at the same time do not exceed webhook.owner_limit, at
# any isolation level. Sessions of other owners do not wait.
#
# usage: PG_BIN=… extension/tests/owner_limits_hold_in_concurrent_sessions.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

fail() { echo "$*" >&2; exit 1; }
export PGOPTIONS='-c client_min_messages=warning'

sql <<'SQL' >"$work/void"
create extension pg_webhook;
create role anna login;
create role bert login;
select webhook_grant('anna', 'subscriber'), webhook_grant('bert', 'subscriber');
insert into webhook.owner_limit (owner, subscriptions) values ('*', 1);
-- The first subscription of a database creates the checkpoint, for which the next one waits.
select count(*) from webhook_subscribe('https://example.com/');
SQL

# A session that reads its commands line by line, and prints a word after each command.
mkfifo "$work/in" "$work/out"
"$bin/psql" -X -q -A -t -U anna <"$work/in" >"$work/out" 2>&1 &
exec 3>"$work/in" 4<"$work/out"
other() {
    local line
    printf '%s;\nselect %s;\n' "$1" "'done'" >&3
    while read -r -t 60 -u 4 line; do
        case $line in
            done) return ;;
            *ERROR*) fail "the other session: $line" ;;
        esac
    done
    fail "the other session does not answer"
}
as() { "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -U "$1" -c "$2" 2>&1; }
subscribe="select count(*) from webhook_subscribe('https://example.com/')"

for level in 'read committed' 'repeatable read' serializable; do
    sql -c 'select webhook_unsubscribe(id) from webhook.subscription' >"$work/void"
    other "begin isolation level $level; $subscribe"
    answer=$(as bert "set lock_timeout = '10s'; $subscribe") || true
    [ "$answer" = 1 ] || fail "$level: another owner waits: $answer"

    # The snapshot of this session is older than the commit of the other one.
    as anna "begin isolation level $level; select count(*) from webhook.subscription; $subscribe; commit" >"$work/answer" &
    waiter=$!
    for ((i = 0; i < 600; i++)); do
        waiting=$(sql -c "select count(*) from pg_locks where not granted and locktype = 'advisory'")
        [ "$waiting" = 0 ] || break
        kill -0 "$waiter" 2>/dev/null || fail "$level: the second session does not wait"
        sleep 0.1
    done
    other commit
    wait "$waiter" && fail "$level: two subscriptions of one owner"
    # Postgres itself may find the conflict at the highest level, and ask for a retry.
    refusals='can have at most 1'
    [ "$level" != serializable ] || refusals+='|could not serialize access'
    grep -qE "$refusals" "$work/answer" || fail "$level: $(cat "$work/answer")"
    [ "$(sql -c "select count(*) from webhook.subscription where owner = 'anna'")" = 1 ] || fail "$level: not one subscription"
done
exec 3>&-
