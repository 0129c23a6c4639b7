#!/usr/bin/env bash
# Concurrent writers roll back transactions and savepoints, and kill -9 ends the whole server. The
# events are exactly the committed changes, and every index of the outbox agrees with its table.
#
# Ordinary triggers record the true changes in an ordinary table, in the same transactions.
#
# usage: PG_BIN=… extension/tests/capture_survives_crashes.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
clients=${CLIENTS:-8}
transactions=${TRANSACTIONS:-300}

CONF='max_prepared_transactions = 5'
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

sql <<'SQL'
create extension pg_webhook;
create extension amcheck;
create table item (id int primary key, n int not null, filler text);
insert into item select g, 0, repeat('x', g) from generate_series(1, 200) g;
create table truth (type text, key text, n int);
create function record_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old is not distinct from new then
        return null;
    end if;
    if tg_op = 'DELETE' then new := old; end if;
    insert into truth values ('item.' || lower(tg_op), new.id, new.n);
    return null;
end
$$;
create trigger record_change after insert or update or delete on item for each row execute function record_change();
do $$
declare
    definition text := '{"noun": "item", "key": [{"name": "id", "number": 1}],
        "verbs": {"insert": "insert", "update": "update", "delete": "delete"}}';
    operation text;
begin
    foreach operation in array array['insert', 'update', 'delete'] loop
        execute format('create trigger webhook_%s after %s on item for each row execute function webhook.capture(%L)',
            operation, operation, definition);
    end loop;
end
$$;
SQL

# A transaction of one or many changes. A fifth of the transactions are rolled back, and each has a
# savepoint that is rolled back.
cat >"$work/mixed.sql" <<'SQL'
\set id random(1, 200)
\set rows random(1, 300)
\set fate random(1, 10)
begin;
insert into item values (nextval('fresh'), 0, 'new') on conflict do nothing;
update item set n = n + 1 where id = :id;
savepoint s;
update item set n = n + 1000 where id between 201 and 200 + :rows;
rollback to s;
savepoint t;
update item set n = n + 1, filler = repeat('y', :rows * 10) where id = (select min(id) from item where id > 200);
delete from item where id = (select max(id) from item where id > 200) and :fate = 3;
release t;
\if :fate <= 2
rollback;
\else
commit;
\endif
SQL
sql -c 'create sequence fresh start 201'

check() {
    local wrong
    wrong=$(sql <<'SQL'
with e as (select type, key, (payload->>'n')::int as n from webhook.event)
select (select count(*) from (select * from e except all table truth) x) + (select count(*) from (table truth except all select * from e) x),
       (select count(*) from truth), (select count(*) = count(distinct id) from webhook.event);
SQL
)
    case $wrong in 0\|????*\|t) echo "$1: $(cut -d '|' -f 2 <<<"$wrong") events, equal to the changes" ;; *) echo "$1: events differ from changes: $wrong" >&2; exit 1 ;; esac
    sql -o "$work/amcheck" -c "
        select bt_index_check(c.oid, heapallindexed => true) from pg_class c join pg_index i on i.indexrelid = c.oid
        where i.indrelid::regclass::text like 'webhook.event%' and c.relkind = 'i' and c.relam = (select oid from pg_am where amname = 'btree')"
}

# Starts writers in the background, and returns when they have written.
begin_writing() {
    local before
    before=$(sql -c 'select count(*) from truth')
    "$bin/pgbench" -n -c "$clients" -j 2 -t 100000 -f "$work/mixed.sql" postgres >"$work/pgbench" 2>&1 &
    pgbench=$!
    until [ "$(sql -c 'select count(*) from truth')" -gt "$((before + 200))" ]; do
        kill -0 "$pgbench" || { cat "$work/pgbench" >&2; exit 1; }
    done
}

"$bin/pgbench" -n -c "$clients" -j 2 -t "$transactions" -f "$work/mixed.sql" postgres >"$work/pgbench" 2>&1 || { cat "$work/pgbench" >&2; exit 1; }
check "concurrent writers"

# kill -9 ends every process of the server while writers are at work.
for round in 1 2 3; do
    # An acknowledged commit, and a transaction that is only prepared.
    sql -c "insert into item values (-$round, 0, 'acknowledged')"
    sql -c "begin; insert into item values (-10$round, 0, 'prepared'); prepare transaction 'p$round'"
    begin_writing
    postmaster=$(head -n 1 "$data/postmaster.pid")
    # shellcheck disable=SC2046 # one word per process
    kill -9 "$postmaster" $(ps -o pid= --ppid "$postmaster") 2>"$work/kill" || true
    wait "$pgbench" || true
    while kill -0 "$postmaster" 2>/dev/null; do :; done
    server_start >"$work/start"
    sql -c "commit prepared 'p$round'"
    [ "$(sql -c "select count(*) from webhook.event where key in ('-$round', '-10$round')")" = 2 ] ||
        { echo "an acknowledged event is lost" >&2; exit 1; }
    check "kill -9, round $round"
done

# One backend dies. The other backends lose their open transactions with events in memory, and
# nothing else.
begin_writing
victim=
until [ -n "$victim" ]; do
    victim=$(sql -c "select pid from pg_stat_activity where application_name = 'pgbench' and backend_xid is not null limit 1")
done
kill -9 "$victim"
wait "$pgbench" || true
until sql -c 'select 1' >/dev/null 2>&1; do :; done
check "kill -9 of a backend"
