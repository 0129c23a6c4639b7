#!/usr/bin/env bash
# Writes sql/pg_webhook--A--B.sql, the script of ALTER EXTENSION … UPDATE, for the last pair of
# versions in extension/upgrade/A--B.sql. That file is written by hand, and contains the changes of
# tables and rows. Its line "-- @code@" is replaced by those statements of a fresh installation that
# can be repeated: functions, views, triggers, policies, comments, the contents of a dump.
# docs/RELEASE.md says when to run it.
#
# usage: scripts/upgrade.sh     (PG_BIN: a bin directory with this tree's extension; default: sandbox)
set -euo pipefail
cd "$(dirname "$0")/.."
by_hand=$(ls -v extension/upgrade/*--*.sql | grep -v 'pg_webhook--' | tail -n 1)
pair=$(basename "$by_hand" .sql)
bin=${PG_BIN:-$(scripts/sandbox.sh)}
fresh=$("$bin/pg_config" --sharedir)/extension/pg_webhook--${pair#*--}.sql
[ -f "$fresh" ] || { echo "upgrade: $by_hand leads to ${pair#*--}, which is not this tree's version" >&2; exit 1; }
code=$(mktemp)
trap 'rm -f "$code"' EXIT

# One statement at a time. It ends with a line that ends in ";", outside of $$ … $$ and of
# begin atomic … end.
awk '
    function told(    first) {
        first = statement
        if (first ~ /^create (schema|sequence|table|index|unique index|event trigger|domain)/ || first ~ /^(insert|set)/) return
        if (first ~ /^do/ && first ~ /create table/) return
        if (match(first, /^create policy [a-z_]+ on [a-z_.]+/)) {
            split(substr(first, RSTART, RLENGTH), word, " ")
            printf "drop policy if exists %s on %s;\n", word[3], word[5]
        }
        sub(/^create (function|view|trigger)/, "create or replace &", first)
        sub(/replace create /, "replace ", first)
        printf "%s", first
        if (first !~ /^(comment|select|revoke|alter)/) return
        printf "\n"
    }
    BEGIN { statement = "" }
    statement == "" && (/^[ \t]*$/ || /^--/ || /^\/\*.*\*\/$/) { next }
    statement == "" && /^\/\*$/ { in_comment = 1 }
    in_comment { if (/\*\//) in_comment = 0; next }
    {
        statement = statement $0 "\n"
        in_dollars = (in_dollars + gsub(/\$\$/, "$$")) % 2
        if ($0 == "begin atomic") in_atomic = 1
        if ($0 == "end;") in_atomic = 0
        if (!in_dollars && !in_atomic && /;$/) { told(); statement = "" }
    }
    END { if (statement != "") { print "upgrade: the last statement does not end" > "/dev/stderr"; exit 1 } }
' "$fresh" >"$code"
sed -e "/^-- @code@$/{
    r $code
    d
}" "$by_hand" >"sql/pg_webhook--$pair.sql"
echo "sql/pg_webhook--$pair.sql"
