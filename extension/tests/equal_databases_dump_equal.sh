#!/usr/bin/env bash
# Databases with equal tables and watches have equal schema dumps. A restore can lose rows of
# webhook.watch: of the schema only, or without a watched table. The statements of webhook_check()
# repair it.
#
# usage: PG_BIN=… extension/tests/equal_databases_dump_equal.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

fail() { echo "$*" >&2; exit 1; }
expect() { [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"; }
dump() { "$bin/pg_dump" -d "$1" "${@:2}" | grep -v '^\\\(un\)\?restrict '; }
problems() { sql -d "$1" -c "select string_agg(distinct problem, ', ' order by problem) from webhook_check()"; }
repair() { printf 'select repair from webhook_check() \\gexec\n' | sql -d "$1" >"$work/void"; }

fill() {
    sql -d "$1" <<'SQL' >"$work/void"
create extension pg_webhook;
create table orders (id int primary key, total int, note text, secret text);
create table log (id int, at date, primary key (id, at)) partition by range (at);
create table log_1 partition of log for values from ('2026-01-01') to ('2027-01-01');
create table base (id int primary key, kind text);
create table child (gap int) inherits (base);
select webhook_watch('orders', noun => 'shop.order', exclude => '{secret}', condition => 'new.total > 100', verbs => '{"insert":"placed","update":"changed"}');
select webhook_watch('log');
select webhook_watch('base', columns => '{kind}');
SQL
}
"$bin/createdb" one
sql -d one -c 'create table makes_other_oids (a int)' -c 'drop table makes_other_oids'
fill one
"$bin/createdb" two
fill two
dump one --schema-only >"$work/one"
dump two --schema-only >"$work/two"
diff "$work/one" "$work/two" || fail "equal databases dump differently"
expect "different tables" t "$(sql -c "select '$(sql -d one -c "select 'orders'::regclass::oid")' <> '$(sql -d two -c "select 'orders'::regclass::oid")'")"

# The schema alone: the dump restores the triggers without their watches.
"$bin/createdb" schema_only
sql -d schema_only <"$work/one" >"$work/void"
expect "without watches" 'watch is missing' "$(problems schema_only)"
sql -d schema_only -c "insert into orders values (1, 200, 'a', 'secret'), (2, 50, 'a', 'secret')" -c "insert into child (id, kind) values (1, 'x')"
expect "captured without watches" '{"id":1,"total":200,"note":"a"} {"kind":"x"}' \
    "$(sql -d schema_only -c "select string_agg(payload::text, ' ' order by id) from webhook.event")"
repair schema_only
expect "repaired" '' "$(problems schema_only)"
watches="select string_agg(concat(relation, noun, verbs, columns, exclude, on_columns, payload, key_columns), ' ' order by relation::text) from webhook.watch"
expect "the watches" "$(sql -d one -c "$watches")" "$(sql -d schema_only -c "$watches")"
sql -d schema_only -c "insert into orders values (3, 300, 'b', 'secret')"
expect "captured" '{"id":3,"total":300,"note":"b"}' \
    "$(sql -d schema_only -c 'select payload from webhook.event order by id desc limit 1')"

# Without a watched table: its name in the data of webhook.watch is unknown, so no row of
# webhook.watch is restored.
"$bin/createdb" partial
dump one --exclude-table=base --exclude-table=child | "$bin/psql" -X -q -d partial >"$work/void" 2>&1 || true
expect "lost" 0 "$(sql -d partial -c 'select count(*) from webhook.watch')"
expect "listed" 'watch is missing' "$(problems partial)"
repair partial
expect "repaired" '' "$(problems partial)"
expect "the watches" 'log,orders' "$(sql -d partial -c "select string_agg(relation::text, ',' order by relation::text) from webhook.watch")"

# The whole database: only names count in the copy, and nothing needs a repair.
"$bin/createdb" whole
dump one | sql -d whole >"$work/void"
expect "whole" '' "$(problems whole)"
expect "numbers of another table" t "$(sql -d whole -c "select webhook.numbers_hold('orders'::regclass, webhook.watch_definition('orders'::regclass)) is null")"
