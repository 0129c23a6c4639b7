#!/usr/bin/env bash
# A commit with events wakes a session that sleeps in webhook.gate_sleep(), and nothing else does.
# The gate does not shut while a commit that found it open is still invisible. A frozen daemon costs
# one wake-up. A full notification queue fails no commit.
#
# usage: PG_BIN=… extension/tests/gate_rings_when_the_daemon_sleeps.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
major=$("$bin/pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
CONF=$'max_prepared_transactions = 5\njit = off'
# Before Postgres 17 the notification queue has 8 GB, too much to fill in a test.
[ "$major" -lt 17 ] || CONF+=$'\nmax_notify_queue_pages = 64'
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

# The daemon's session: a psql that reads its commands line by line, and prints a word after each
# command.
start_session() {
    rm -f "$work/in" "$work/out"
    mkfifo "$work/in" "$work/out"
    "$bin/psql" -X -q -A -t <"$work/in" >"$work/out" 2>&1 &
    session=$!
    exec 3>"$work/in" 4<"$work/out"
}
end_session() {
    exec 3>&- 4<&-
    wait "$session" 2>"$work/void" || true
}
send() { printf '%s;\nselect %s;\n' "$1" "'done'" >&3; }
# Prints the answer: "slept" if the session has slept.
answer() {
    local line answer=''
    while read -r -t 60 -u 4 line; do
        case $line in
            done) echo "${answer% }"; return ;;
            *'pg_webhook: asleep') answer+='slept ' ;;
            ?*) answer+="$line " ;;
        esac
    done
    fail "the session does not answer"
}
daemon() { send "$1"; answer; }
gate() { sql -c 'select gate from webhook.health'; }
until_gate() { until [ "$(gate)" = "$1" ]; do :; done; }
start_session

# ── A daemon that sleeps in the server ──────────────────────────────────────────────────────────
sql -c 'insert into item values (1)'
expect "awake" awake "$(gate)"
expect "a sleep that times out" slept "$(daemon 'call webhook.gate_sleep(1)')"

send 'call webhook.gate_sleep(0)'
until_gate asleep
sql -c 'insert into other values (1)' -c 'select count(*) from webhook.event' >"$work/void"
sql -c 'begin; insert into item values (2); rollback'
sql -c "begin; insert into item values (3); prepare transaction 'p'" -c "commit prepared 'p'"
expect "nothing emitted, or prepared: asleep" asleep "$(gate)"
expect "the prepared event exists" 1 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '3'")"
sql -c 'begin; insert into item values (4), (5); savepoint s; insert into item values (6); commit'
expect "a commit wakes it" slept "$(answer)"
expect "and opens the gate" awake "$(gate)"

send 'call webhook.gate_sleep(0)'
until_gate asleep
sql -c 'select webhook.gate_ring()' >"$work/void"
expect "gate_ring() wakes it" slept "$(answer)"

# A cancelled sleep leaves the gate open. The call fails in a transaction block.
refused=$(sql -c begin -c 'call webhook.gate_sleep(1)' 2>&1 || true)
[[ $refused == *"webhook.gate_sleep() cannot run in a transaction block"* ]] || fail "in a block: $refused"
expect "a timeout" "" "$(daemon "set statement_timeout = '100ms'")"
# The timer may fire early. Then it only ends the sleep.
until [[ $(daemon 'call webhook.gate_sleep(0)') == "slept ERROR:"*"canceling statement due to statement timeout" ]]; do :; done
expect "no lock is left" 0 "$(sql -c "select count(*) from pg_locks where locktype = 'advisory'")"
# The backend's timer may still run, and would end the next sleep. A new backend has none.
end_session
start_session

# The daemon is frozen. Its backend opens the gate at the first commit, and no later commit finds
# the gate shut.
send 'call webhook.gate_sleep(0)'
until_gate asleep
kill -STOP "$session"
sql -c 'insert into item values (7)'
until_gate awake
expect "a commit beside a frozen daemon finds the gate open" 1 "$(sql <<'SQL'
begin;
insert into item values (8);
set constraints all immediate;
create temporary table seen on commit drop as select 1 as x;
commit;
select count(*) from webhook.health where gate = 'awake';
SQL
)"
expect "no notification is queued" 0 "$(sql -c 'select pg_notification_queue_usage()')"
kill -CONT "$session"
expect "the daemon is notified when it continues" slept "$(answer)"

# A commit has found the gate open and waits for a standby, which does not exist. The daemon does
# not sleep until the commit is visible.
hold_commits() {
    sql -c "alter system set synchronous_standby_names = 'absent'" -c 'select pg_reload_conf()' >"$work/void"
    until [ "$(sql -c 'show synchronous_standby_names')" = absent ]; do :; done
}
let_commits_go() { sql -c 'alter system reset synchronous_standby_names' -c 'select pg_reload_conf()' >"$work/void"; }
until_held() { until [ "$(sql -c "select count(*) from pg_stat_activity where wait_event = 'SyncRep'")" = 1 ]; do :; done; }
hold_commits
sql -c 'insert into item values (9)' &
writer=$!
until_held
expect "no sleep" "" "$(daemon 'call webhook.gate_sleep(0)')"
expect "not visible" 0 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '9'")"
let_commits_go
wait "$writer"
expect "it is visible" 1 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '9'")"

# A commit has found the gate shut. It becomes visible after the daemon has woken and fallen asleep
# again.
hold_commits
send 'call webhook.gate_sleep(0)'
until_gate asleep
sql -c 'insert into item values (10)' &
writer=$!
until_held
# Another signal wakes the backend.
sql -c "select pg_log_backend_memory_contexts(pid) from pg_stat_activity where wait_event_type = 'Extension'" >"$work/void"
expect "awake for a moment" slept "$(answer)"
send 'call webhook.gate_sleep(0)'
until_gate asleep
expect "not visible" 0 "$(sql -c "select count(*) from webhook.event where payload->>'id' = '10'")"
let_commits_go
expect "the commit wakes the daemon again" slept "$(answer)"
wait "$writer"

# The end of the client ends the sleep and its session.
send 'call webhook.gate_sleep(0)'
until_gate asleep
kill -9 "$session"
{ wait "$session" || true; } 2>"$work/void"
until_gate awake
until [ "$(sql -c "select count(*) from pg_stat_activity where wait_event_type = 'Extension'")" = 0 ]; do :; done
end_session

start_session
if [ "$major" -ge 17 ]; then
    # A session listens in a transaction that stays open, and other sessions notify until the queue
    # is full.
    mkfifo "$work/listener"
    "$bin/psql" -X -q <"$work/listener" >"$work/void" 2>&1 &
    exec 5>"$work/listener"
    echo 'listen elsewhere; begin; select 1;' >&5
    until [ "$(sql -c "select count(*) from pg_stat_activity where state = 'idle in transaction' and query = 'select 1;'")" = 1 ]; do :; done
    while sql -c "select count(pg_notify('elsewhere', g || repeat('x', 7000))) from generate_series(1, 10) g" >"$work/void" 2>&1; do :; done
    for g in $(seq 200); do sql -c "select pg_notify('elsewhere', '$g')" >"$work/void" 2>&1 || break; done
    grep -q 'too many notifications' <(sql -c "select pg_notify('elsewhere', repeat('x', 7000))" 2>&1) || fail "the queue is not full"
    sql -c 'insert into item values (17)' || fail "a full queue has failed a commit"
    send 'call webhook.gate_sleep(0)'
    until_gate asleep
    sql -c 'insert into item values (18)' || fail "a full queue has failed a commit"
    expect "a commit wakes the daemon" slept "$(answer)"
    exec 5>&-
fi

end_session
until_gate awake
echo "the gate rings when it should"
