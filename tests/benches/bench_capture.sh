#!/usr/bin/env bash
# Measures the cost of capture per row of a bulk insert, compared with PL/pgSQL triggers that insert
# row_to_json(new) into a table:
#
#   plpgsql           the smallest table: create table t (payload json). It has no order, and no event
#                     can be found in it.
#   plpgsql_outbox    a handwritten outbox that events can be delivered from: a number, the
#                     transaction, the time, the payload, and an index on number and on transaction,
#                     as in webhook.event.
#
# usage: tests/benches/bench_capture.sh     ROWS=200000
source "$(dirname "$0")/cluster.sh"
rows=${ROWS:-200000}

sql <<'SQL'
create extension pg_webhook;
create table bare (id bigint primary key, name text, amount int, at timestamptz);
create table watched (like bare including all);
create table plpgsql (like bare including all);
create table plpgsql_outbox (like bare including all);
create table t (payload json);
create table o (
    id bigint generated always as identity primary key,
    xid xid8 not null default pg_current_xact_id(),
    created_at timestamptz not null default clock_timestamp(),
    payload json not null
);
create index on o (xid);
create function into_t() returns trigger language plpgsql as $$
begin
    insert into t (payload) values (row_to_json(new));
    return null;
end
$$;
create function into_o() returns trigger language plpgsql as $$
begin
    insert into o (payload) values (row_to_json(new));
    return null;
end
$$;
create trigger copy_row after insert on plpgsql for each row execute function into_t();
create trigger copy_row after insert on plpgsql_outbox for each row execute function into_o();
SQL
watch_inserts watched

# Prints the milliseconds of one bulk insert, in a session of its own with warm caches.
measure() {
    sql <<SQL | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
truncate $1, t, o, webhook.event;
insert into $1 select g, 'name of ' || g, g % 100, now() from generate_series(1, 1000) g;
truncate $1, t, o, webhook.event;
checkpoint;
\timing on
insert into $1 select g, 'name of ' || g, g % 100, now() from generate_series(1, $rows) g;
SQL
}

variants="bare watched plpgsql plpgsql_outbox"
for variant in $variants; do measure "$variant" >/dev/null; done
for _ in $(seq "$rounds"); do
    for variant in $variants; do measure "$variant" >>"$work/$variant"; done
done

bare=$(median "$work/bare")
us_per_row() { awk -v t="$(median "$work/$1")" -v b="$2" -v n="$rows" 'BEGIN { print (t - b) * 1000 / n }'; }
report capture_bulk_bare "$(us_per_row bare 0)" us/row
for variant in watched plpgsql plpgsql_outbox; do
    report "capture_bulk_cost_$variant" "$(us_per_row "$variant" "$bare")" us/row
done
for variant in plpgsql plpgsql_outbox; do
    report "capture_bulk_ratio_to_$variant" \
        "$(awk -v a="$(us_per_row watched "$bare")" -v b="$(us_per_row "$variant" "$bare")" 'BEGIN { print a / b }')" ratio
done
