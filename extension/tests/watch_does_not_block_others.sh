#!/usr/bin/env bash
# webhook_watch() and webhook_unwatch() do not wait for a watch or drop of another table, and do not
# make readers wait. Each statement that must not wait has a lock_timeout, so a wait shows as an
# error.
#
# usage: PG_BIN=… extension/tests/watch_does_not_block_others.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

fail() { echo "$*" >&2; exit 1; }
expect() { [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"; }
export PGOPTIONS='-c client_min_messages=warning'
at_once() { PGOPTIONS="$PGOPTIONS -c lock_timeout=10s" sql -c "$1" >"$work/answer" || fail "waits: $1"; }

sql <<'SQL' >"$work/void"
create extension pg_webhook;
create table a1 (id int primary key);
create table a2 (id int primary key);
create table a3 (id int primary key);
create table a4 (id int primary key);
create table read (id int primary key);
create table open (id int primary key);
create table parted (id int primary key) partition by range (id);
create table parted_1 partition of parted for values from (0) to (100);
select webhook_watch(t::regclass) from unnest('{a1,a2,read,open,parted}'::text[]) t;
SQL

# A session that reads its commands line by line, and prints a word after each command.
mkfifo "$work/in" "$work/out"
"$bin/psql" -X -q -A -t <"$work/in" >"$work/out" 2>&1 &
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
triggers() { sql -c "select string_agg(concat(tgname, ' ', tgenabled), ',' order by tgname) from pg_trigger where tgrelid = '$1'::regclass"; }

# Calls on different tables do not wait for each other.
other 'begin; drop table a1'
at_once "select webhook_watch('a3')"
at_once "select webhook_watch('a2', verbs => '{\"insert\":\"made\"}')"
at_once "drop table a2"
other 'rollback'
other "begin; select webhook_watch('a4')"
at_once "select webhook_unwatch('a3')"
at_once "select webhook_watch('a3')"
at_once "drop table a3"
other 'rollback'

# An idle reader: the watch ends meanwhile, other sessions continue to read, and the remaining
# triggers do nothing.
other 'begin; select count(*) from read; select count(*) from parted_1'
at_once "select webhook_watch('read', verbs => '{\"insert\":\"created\"}')"
at_once "select webhook_unwatch('read')"
at_once "select webhook_unwatch('parted')"
at_once 'select count(*) from read'
at_once 'insert into read values (1)'
at_once 'insert into parted values (1)'
expect "no events" 0 "$(sql -c "select count(*) from webhook.event where type ~ '^(read|parted)'")"
expect "left over" 'webhook_delete D,webhook_insert D,webhook_statement D,webhook_truncate D,webhook_update D' "$(triggers read)"
expect "listed" 10 "$(sql -c "select count(*) from webhook_check() where problem = 'trigger does not belong to a watch'")"
other 'commit'
sql -c "select format('%s;', repair) from webhook_check() where problem = 'trigger does not belong to a watch'" | sql
expect "repaired" '' "$(triggers read)$(triggers parted)$(triggers parted_1)"

# An open transaction ends a watch: other sessions continue to read, and no trigger remains after
# the commit.
other "begin; select webhook_unwatch('open')"
at_once 'select count(*) from open'
other 'commit'
expect "gone" '' "$(triggers open)"

# A writer stays: the wait is limited.
sql -c "select webhook_watch('open')" >"$work/answer"
other 'begin; insert into open values (2)'
if sql -c "select webhook_watch('open', noun => 'other')" >"$work/answer" 2>&1; then fail "did not wait for the writer"; fi
grep -q 'lock timeout' "$work/answer" || fail "$(cat "$work/answer")"
other 'commit'
