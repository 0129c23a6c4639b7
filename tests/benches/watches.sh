#!/usr/bin/env bash
# Measures the milliseconds per webhook_watch(), per webhook_unwatch() and per drop of a watched
# table, with 10, 100, 1 000 and 5 000 other watches, and webhook_check() at the end. Each figure is
# the median of 5.
#
# usage: PG_BIN=DIR tests/benches/watches.sh [COUNT…]
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${PG_BIN:-$(PROFILE=release scripts/sandbox.sh)}
CONF=$'fsync = off\nmax_locks_per_transaction = 256'
# shellcheck source=scripts/cluster.sh
source scripts/cluster.sh
export PGOPTIONS='-c client_min_messages=warning'
sql -c 'create extension pg_webhook' -c 'create schema others'
sql <<'SQL'
create procedure grow(target int) language plpgsql as $$
declare
    present int := (select count(*) from webhook.watch);
begin
    for at in present + 1 .. target loop
        execute format('create table others.t_%s (id int primary key, a text)', at);
        perform webhook_watch(format('others.t_%s', at)::regclass);
        if at % 50 = 0 then commit; end if;
    end loop;
end
$$;
create function timed(statement text) returns numeric language plpgsql as $$
declare
    began timestamptz := clock_timestamp();
begin
    execute statement;
    return extract(epoch from clock_timestamp() - began) * 1000;
end
$$;
SQL
median() { sort -n | sed -n 3p; }
timed() { for at in 1 2 3 4 5; do sql -c "select round(timed('${1//AT/$at}'), 2)"; done | median; }
printf '%8s %10s %10s %10s %10s\n' watches watch_ms again_ms unwatch_ms drop_ms
read -ra counts <<<"${*:-10 100 1000 5000}"
for count in "${counts[@]}"; do
    sql -c "call grow($count)"
    for at in 1 2 3 4 5; do
        sql -c "drop table if exists fresh_$at; create table fresh_$at (id int primary key, a text)"
        sql -c "drop table if exists gone_$at; create table gone_$at (id int primary key, a text)" -c "select webhook_watch('gone_$at')" >/dev/null
    done
    watch=$(timed "select webhook_watch(''fresh_AT'')")
    again=$(timed "select webhook_watch(''fresh_AT'')")
    unwatch=$(timed "select webhook_unwatch(''fresh_AT'')")
    drop=$(timed "drop table gone_AT")
    printf '%8s %10s %10s %10s %10s\n' "$count" "$watch" "$again" "$unwatch" "$drop"
done
printf 'webhook_check: %s ms\n' "$(sql -c "select round(timed('select * from webhook_check()'))")"
