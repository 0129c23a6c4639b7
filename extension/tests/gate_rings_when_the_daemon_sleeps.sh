#!/usr/bin/env bash
# A commit with events notifies if and only if somebody holds the gate; the gate is not granted while a commit that did
# not notify is still invisible.
#
# usage: PG_BIN=… extension/tests/gate_rings_when_the_daemon_sleeps.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
CONF='max_prepared_transactions = 5'
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

fail() { echo "$*" >&2; exit 1; }
expect() { [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"; }

sql <<'SQL'
create extension pg_webhook;
create table item (id int primary key);
create table other (id int);
create trigger webhook_insert after insert on item for each row execute function
    webhook.capture('{"noun": "item", "verbs": {"insert": "created"}}');
SQL

# The daemon's session: a psql that is told what to do, line by line, and answers with a word when it has done it.
mkfifo "$work/in" "$work/out"
"$bin/psql" -X -q -A -t <"$work/in" >"$work/out" 2>&1 &
exec 3>"$work/in" 4<"$work/out"
# Sends SQL; prints what came back besides the notifications, then their number.
daemon() {
    local line answer='' rings=0
    printf '%s;\nselect %s;\n' "$1" "'done'" >&3
    while read -r -t 60 -u 4 line; do
        case $line in
            done) echo "$answer$rings"; return ;;
            *'notification "pg_webhook" received'*) rings=$((rings + 1)) ;;
            ?*) answer+="$line " ;;
        esac
    done
    fail "the session does not answer"
}
gate() { sql -c 'select gate from webhook.health'; }

expect "listening" 0 "$(daemon 'listen pg_webhook')"

# Awake.
sql -c 'insert into item values (1)'
sql -c 'select webhook.gate_ring()' >"$work/void"
expect "no NOTIFY while the daemon is awake" 0 "$(daemon 'select 1 where false')"

# Asleep: taking the gate twice is taking it once.
expect "taken" 0 "$(daemon 'select webhook.gate_take() \; select webhook.gate_take()')"
expect "gate" asleep "$(gate)"
sql -c 'insert into item values (2)'
expect "a commit rings" 1 "$(daemon 'select 1 where false')"
sql -c 'begin; insert into item values (3), (4); savepoint s; insert into item values (5); commit'
expect "once for a transaction" 1 "$(daemon 'select 1 where false')"
sql -c 'select webhook.gate_ring()' >"$work/void"
expect "gate_ring() rings" 1 "$(daemon 'select 1 where false')"
sql -c 'insert into other values (1)' -c 'select count(*) from webhook.event' >"$work/void"
sql -c 'begin; insert into item values (6); rollback'
expect "nothing emitted, nothing rung" 0 "$(daemon 'select 1 where false')"
sql -c "begin; insert into item values (7); prepare transaction 'p'" -c "commit prepared 'p'"
expect "a prepared transaction neither rings nor fails" 0 "$(daemon 'select 1 where false')"
expect "and is there" 1 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '7'")"
expect "released" 0 "$(daemon 'select webhook.gate_release() \; select webhook.gate_release()')"
expect "gate" awake "$(gate)"
expect "no lock is left" 0 "$(sql -c "select count(*) from pg_locks where locktype = 'advisory'")"
sql -c 'insert into item values (8)'
expect "awake again" 0 "$(daemon 'select 1 where false')"

# A commit that waits for a standby, which does not exist, is not visible yet and has not rung: no gate until it is.
sql -c "alter system set synchronous_standby_names = 'nobody'" -c 'select pg_reload_conf()' >"$work/void"
until [ "$(sql -c 'show synchronous_standby_names')" = nobody ]; do :; done
sql -c 'insert into item values (9)' &
writer=$!
until [ "$(sql -c "select count(*) from pg_stat_activity where wait_event = 'SyncRep'")" = 1 ]; do :; done
expect "not granted" "ERROR: canceling statement due to lock timeout 0" \
    "$(daemon "set lock_timeout = '100ms' \; select webhook.gate_take()" | tr -s ' ')"
expect "not visible" 0 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '9'")"
sql -c 'alter system reset synchronous_standby_names' -c 'select pg_reload_conf()' >"$work/void"
expect "granted" 0 "$(daemon 'set lock_timeout = 0 \; select webhook.gate_take()')"
expect "and then it is visible" 1 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '9'")"
wait "$writer"

# The end of the session opens it.
exec 3>&- 4<&-
until [ "$(gate)" = awake ]; do :; done
echo "the gate rings when it should"
