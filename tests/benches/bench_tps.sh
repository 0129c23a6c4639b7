#!/usr/bin/env bash
# Measures the cost of a watch for an application that inserts single rows from many connections.
#
#   unwatched    no trigger
#   watched      the trigger; the daemon is awake (no session holds the gate)
#
# usage: tests/benches/bench_tps.sh     CLIENTS="16 64" SECONDS_PER_RUN=10
source "$(dirname "$0")/cluster.sh"
seconds=${SECONDS_PER_RUN:-10}

sql <<'SQL'
create extension pg_webhook;
create table unwatched (id bigint generated always as identity primary key, name text, amount int, at timestamptz default now());
create table watched (like unwatched including all);
SQL
watch_inserts watched
for table in unwatched watched; do
    echo "insert into $table (name, amount) values ('name of a person', 42)" >"$work/$table.sql"
done

# Prints the transactions per second. Arguments: table, clients.
measure() {
    "$bin/pgbench" -n -M prepared -c "$2" -j 2 -T "$seconds" -f "$work/$1.sql" postgres 2>"$work/pgbench.err" |
        sed -n 's/^tps = \([0-9.]*\) (without.*/\1/p'
}

for clients in ${CLIENTS:-16 64}; do
    for table in unwatched watched; do measure "$table" "$clients" >/dev/null; done
    for _ in $(seq "$rounds"); do
        sql -c "truncate unwatched, watched, webhook.event" -c checkpoint
        measure unwatched "$clients" >>"$work/unwatched.$clients"
        measure watched "$clients" >>"$work/watched.$clients"
    done
    unwatched=$(median "$work/unwatched.$clients")
    watched=$(median "$work/watched.$clients")
    report "tps_unwatched_${clients}_clients" "$unwatched" tps
    report "tps_watched_${clients}_clients" "$watched" tps
    report "tps_ratio_watched_to_unwatched_${clients}_clients" "$(awk -v a="$watched" -v b="$unwatched" 'BEGIN { print a / b }')" ratio
done
