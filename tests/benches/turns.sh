#!/usr/bin/env bash
# Compares the cost of capture between several installations of the extension. Short measurements
# take turns, so a noisy machine disturbs all sides equally. Prints one line for each figure: the
# value of each side in a good round, and its ratio to the first side (above 1: better).
#
#   bulk      microseconds for each row of a bulk insert into a watched table
#   tps       transactions for each second of processor time of the server: single-row inserts by
#             16 clients into a watched table
#   base      the same for a table without a watch; it shows the precision of the measurement
#
# usage: tests/benches/turns.sh NAME=BIN NAME=BIN…     BIN: a bin directory that scripts/sandbox.sh has made
#        ROUNDS=20 ROWS=100000 SECONDS_PER_RUN=2
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 2 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
rounds=${ROUNDS:-20} rows=${ROWS:-100000} seconds=${SECONDS_PER_RUN:-2}
top=$(mktemp -d "${TMPDIR:-/tmp}/pg_webhook.turns.XXXXXX")
chmod 755 "$top"
declare -A bins servers
names=()
for side in "$@"; do
    name=${side%%=*}
    names+=("$name")
    bins[$name]=${side#*=}
done

# Runs a cluster in a process of its own, which answers each name of a measurement with a number,
# until "end".
serve() {
    bin=$1
    CONF=$'fsync = off\nautovacuum = off\nmax_wal_size = 8GB'
    # shellcheck source=scripts/cluster.sh
    source scripts/cluster.sh >&2
    sql >&2 <<'SQL'
create extension pg_webhook;
create table base (id bigint generated always as identity primary key, name text, amount int, at timestamptz default now());
create table watched (like base including all);
create table bulk (id bigint primary key, name text, amount int, at timestamptz);
select webhook_watch('watched'), webhook_watch('bulk');
SQL
    for table in base watched; do
        echo "insert into $table (name, amount) values ('name of a person', 42)" >"$work/$table.sql"
    done
    postmaster=$(head -n 1 "$data/postmaster.pid")
    # Processor time of the backends that have ended, in ticks.
    ticks() { awk '{ print $16 + $17 }' "/proc/$postmaster/stat"; }
    while read -r what && [ "$what" != end ]; do
        sql -c 'truncate base, watched, bulk, webhook.event' -c checkpoint >&2
        case $what in
        bulk)
            sql -c "\\timing on" -c "insert into bulk select i, 'name of a person', i, now() from generate_series(1, $rows) i" |
                awk -v rows="$rows" '/^Time/ { print $2 * 1000 / rows }' ;;
        *)
            while pgrep -P "$postmaster" -f '\[local\]' >/dev/null; do :; done
            before=$(ticks)
            count=$("$bin/pgbench" -n -M prepared -c 16 -j 2 -T "$seconds" -f "$work/$what.sql" postgres 2>&1 |
                sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p')
            # Their time counts after the postmaster has noticed their end.
            while pgrep -P "$postmaster" -f '\[local\]' >/dev/null; do :; done
            after=$(ticks)
            awk -v n="$count" -v t=$((after - before)) 'BEGIN { print n * 100 / t }' ;;
        esac
    done
}
for name in "${names[@]}"; do
    mkfifo "$top/$name.in" "$top/$name.out"
    serve "${bins[$name]}" <"$top/$name.in" >"$top/$name.out" 2>"$top/$name.log" &
    servers[$name]=$!
    exec {input}>"$top/$name.in" {output}<"$top/$name.out"
    declare "in_$name=$input" "out_$name=$output"
done
trap 'rm -rf "$top"' EXIT
order=("${names[@]}")
for round in $(seq 0 "$rounds"); do
    for what in bulk base watched; do
        for name in "${order[@]}"; do
            input="in_$name" output="out_$name"
            echo "$what" >&"${!input}"
            read -r value <&"${!output}" || { cat "$top/$name.log" >&2; exit 1; }
            # The first round warms up.
            [ "$round" = 0 ] || echo "$value" >>"$top/$what.$name"
        done
    done
    order=("${order[@]:1}" "${order[0]}")
done
for name in "${names[@]}"; do
    input="in_$name"
    echo end >&"${!input}"
    wait "${servers[$name]}" || true
done
# Prints the figure of a good round. Other users can slow the machine down but never speed it up.
best() {
    local order=-n
    [ "$1" = bulk ] || order=-rn
    sort $order "$top/$1.$2" | sed -n "$((rounds / 10 + 1))p"
}
for what in bulk base watched; do
    line=$what
    first=$(best "$what" "${names[0]}")
    for name in "${names[@]}"; do
        value=$(best "$what" "$name")
        line+=$(awk -v name="$name" -v v="$value" -v f="$first" -v what="$what" 'BEGIN {
            printf "  %s %.4g (%.3f)", name, v, what == "bulk" ? f / v : v / f }')
    done
    echo "$line"
done
