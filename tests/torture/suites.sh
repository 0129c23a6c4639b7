#!/usr/bin/env bash
# Runs Postgres' own regression and isolation suites twice, in a plain database and in a database
# where every table is watched, and compares the results. A rule of explained.tsv must explain each
# line that differs. The server must not crash, and must not report an internal error that the plain
# run does not report.
#
# usage: tests/torture/suites.sh [TEST…]     names of regression tests, in order (default: both suites)
#   PG_BIN      a bin directory with the extension installed beside it (default: what scripts/sandbox.sh makes)
#   OUT         folder that keeps results, differences and server logs (default: nothing is kept)
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${PG_BIN:-$(scripts/sandbox.sh)}
major=$("$bin/pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
source=$(scripts/postgres_source.sh "$major")
here=$PWD/tests/torture
pgxs=$(dirname "$("$bin/pg_config" --pgxs)")/..
tests=("$@")
suites=(regress isolation)
[ $# = 0 ] || suites=(regress)

kept=${OUT:-}
own=$(mktemp -d "${TMPDIR:-/tmp}/torture.XXXXXX")
trap 'rm -rf "$own"' EXIT
chmod 755 "$own"
out=${kept:-$own}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# The tests load C functions of their own; two modules of contrib/spi are in the server's package.
mkdir "$own/lib"
cc -shared -fPIC -O1 -w -I"$("$bin/pg_config" --includedir-server)" -o "$own/lib/regress.so" "$source/src/test/regress/regress.c"
for module in refint autoinc; do
    module=$("$bin/pg_config" --pkglibdir)/$module.so
    [ ! -f "$module" ] || cp "$module" "$own/lib/"
done

# Runs one suite in a database of its own.
run_suite() { # SUITE KIND
    local suite=$1 kind=$2 status=0 database=regression program=$pgxs/test/regress/pg_regress schedule=parallel_schedule
    if [ "$suite" = isolation ]; then
        database=isolation_regression program=$pgxs/test/isolation/pg_isolation_regress schedule=isolation_schedule
    fi
    local results=$out/$kind/$suite chosen=("--schedule=$source/src/test/$suite/$schedule")
    [ ${#tests[@]} = 0 ] || chosen=("${tests[@]}")
    # Newer versions read expected results from another folder by default.
    if "$program" --help | grep -q expecteddir; then chosen+=("--expecteddir=$source/src/test/$suite"); fi
    mkdir -p "$results/results" "$results/testtablespace"
    # Some tests write to this folder through the server.
    [ "$(id -u)" != 0 ] || chown -R postgres "$results"
    # The database is as pg_regress creates it, but it can hold the extension before the tests
    # begin.
    sql -d postgres -c "create database $database template template0"
    for setting in "lc_messages to 'C'" "lc_monetary to 'C'" "lc_numeric to 'C'" "lc_time to 'C'" "bytea_output to 'hex'" "timezone_abbreviations to 'Default'"; do
        sql -d postgres -c "alter database $database set $setting"
    done
    if [ "$kind" = watched ]; then
        sql -d "$database" -c 'create schema pgw' -c 'create extension pg_webhook schema pgw' -f "$here/watch_all.sql"
    fi
    nice -n 5 "$program" --use-existing --dbname="$database" --bindir="$bin" --host="$PGHOST" --user=postgres --dlpath="$own/lib" \
        --inputdir="$source/src/test/$suite" --outputdir="$results" --max-connections=8 "${chosen[@]}" >"$results/run.log" 2>&1 || status=$?
    # Status 1 means that some tests differ from Postgres' expected results. That is acceptable,
    # because the two runs are compared with each other.
    [ "$status" -le 1 ] || { tail -n 20 "$results/run.log" >&2; return 1; }
    if [ "$kind" = watched ]; then
        sql -d "$database" -F $'\t' -f - >"$results/watched.tsv" <<'SQL'
select count(*), 'tables were watched' from torture.watched
union all
select count(*), 'tables were not: ' || sqlstate || ' ' || regexp_replace(message, '\S*[".]\S*|t\d{4,}', '…', 'g')
from torture.skipped group by 2
union all
select count(*), 'events are in the outbox' from webhook.event;
SQL
    fi
}

run_kind() (
    kind=$1
    CONF=$'fsync = off\nmax_prepared_transactions = 2\nmax_connections = 40\nlog_line_prefix = \'%p %e %d \'\nautovacuum = off'
    # shellcheck source=scripts/cluster.sh
    source scripts/cluster.sh
    mkdir -p "$out/$kind"
    rm -rf "${out:?}/$kind"/*
    for suite in "${suites[@]}"; do run_suite "$suite" "$kind"; done
    cp "$work/cluster/log" "$out/$kind/log"
)
for kind in plain watched; do
    echo "torture: Postgres $major's own ${suites[*]} suite, $kind"
    run_kind "$kind"
done

# Prints the expressions of explained.tsv for a test.
rules() { awk -F '\t' -v name="$1" '!/^#/ && NF >= 3 && $1 == name { print $2 }' "$here/explained.tsv"; }
# Prints a result without the parts that always differ: the run's folder, the width of tables, and
# lines that rules for "*" match.
rules '*' >"$own/ignored"
normal() {
    sed -E "s#$out/(plain|watched)/##g; s/[[:space:]]+/ /g; s/-{2,}/--/g; s/ \$//" "$1" | grep -vE -f "$own/ignored"
}
unexplained=0
for suite in "${suites[@]}"; do
    cat "$out/watched/$suite/watched.tsv"
    run=0 differing=0 open=0
    for result in "$out/plain/$suite"/results/*.out; do
        name=$(basename "$result" .out)
        run=$((run + 1))
        other=$out/watched/$suite/results/$name.out
        [ -f "$other" ] || { echo "$suite/$name has no result in the watched run"; open=$((open + 1)); continue; }
        cmp -s "$result" "$other" && continue
        differing=$((differing + 1))
        rules "$suite/$name" >"$own/rules"
        { diff <(normal "$result") <(normal "$other") || true; } | sed -n '/^[<>]/p' >"$own/lines"
        grep -vE -f "$own/rules" "$own/lines" >"$out/$suite.$name.unexplained" || { rm "$out/$suite.$name.unexplained"; continue; }
        open=$((open + 1))
        echo "$suite/$name: lines that no rule explains (< plain, > watched)"
        head -n 12 "$out/$suite.$name.unexplained" | sed 's/^/    /'
    done
    printf '%-10s %4d tests run, %4d differ, %4d of them with lines that no rule explains\n' "$suite" "$run" "$differing" "$open"
    unexplained=$((unexplained + open))
done

# The server's own log: crashes, and internal errors and messages about the extension that the plain
# run does not have.
crashes=$(grep -cE 'terminated by signal|PANIC|was terminated|database system was interrupted' "$out/watched/log" || true)
messages() { sed -nE 's/^[0-9]+ (XX...|53...|58...|57P0[23]) [^ ]* *(ERROR|FATAL|PANIC|WARNING): +/\1 /p' "$1" | sed -E 's/[0-9]+/N/g' | sort -u; }
internal=$(comm -13 <(messages "$out/plain/log") <(messages "$out/watched/log"))
ours=$(grep -E '(ERROR|FATAL|PANIC|WARNING):.*(webhook|captur)' "$out/watched/log" | grep -vE -f <(rules log) | sort | uniq -c || true)
printf 'server     %4d crashes, %4d internal errors of its own, %4d messages about the extension\n' "$crashes" "$(grep -c . <<<"$internal" || true)" "$(grep -c . <<<"$ours" || true)"
[ -z "$internal" ] || sed 's/^/    /' <<<"$internal"
[ -z "$ours" ] || head -n 20 <<<"$ours" | sed 's/^/    /'
[ "$unexplained" = 0 ] && [ "$crashes" = 0 ] && [ -z "$internal" ] && [ -z "$ours" ]
