#!/usr/bin/env bash
# The first watched statement of a session loads the library while it runs. It waits and fails as a
# later statement does. A ROLLBACK never waits for the outbox, and a COMMIT that cannot write to the
# outbox ends the transaction.
#
# usage: PG_BIN=… extension/tests/first_statement_behaves_as_a_later_one.sh     (scripts/regress.sh runs it)
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
CONF='fsync = off'
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

fail() { echo "$*" >&2; exit 1; }

sql >"$work/void" <<'SQL'
create extension pg_webhook;
create table item (id int primary key, region text);
create table part (id int, region text) partition by list (region);
create table part_eu partition of part for values in ('eu');
insert into part values (1, 'eu');
select webhook_watch('item'), webhook_watch('part');
-- The triggers of an earlier version.
create table former (id int primary key);
select webhook_watch('former');
drop trigger if exists webhook_statement on former;
SQL

# Runs a statement in a transaction, and ends the transaction with END. Prints both SQLSTATEs, and
# whether the transaction has ended.
# usage: outcome LOAD STATEMENT END
outcome() {
    "$bin/psql" -X -q -A -t 2>"$work/void" <<SQL | tr '\n' ' '
$1
set lock_timeout = '50ms';
begin;
$2
\\echo :SQLSTATE
$3;
\\echo :SQLSTATE
select now() = statement_timestamp();
SQL
}

# usage: expect WHAT EXPECTED LOAD STATEMENT END
expect() {
    local got
    got=$(outcome "$3" "$4" "$5")
    [ "$got" = "$2 " ] || fail "$1, $5: expected '$2', got '$got': $4"
}

statements=("insert into item values (2);" "insert into former values (2);" "update part_eu set id = 2;"
    "copy item from program 'printf 3,eu' (format csv);" "with i as (insert into item values (4) returning *) select from i;")

# The extension holds the events of a trigger's own changes back during a COPY. No hook reports the
# end of a first COPY. The rollback of a later savepoint must not remove the held events.
sql >"$work/void" <<'SQL'
create table nest (id int, n int);
create function renew() returns trigger language plpgsql as $$
begin
    if new.n = 0 then
        delete from nest where id = new.id;
        insert into nest values (new.id, 1);
    end if;
    return null;
end
$$;
create trigger a_renew after insert on nest for each row execute function renew();
select webhook_watch('nest');
SQL
for load in "" "load 'pg_webhook';"; do
    sql -c 'truncate nest; delete from webhook.event' >"$work/void"
    "$bin/psql" -X -q -A -t 2>"$work/void" <<SQL
$load
begin;
copy nest from program 'printf 7,0' (format csv);
savepoint s;
insert into item values (null);
rollback to s;
commit;
SQL
    got=$(sql -c "select string_agg(type || ' ' || payload::text, ', ' order by id) from webhook.event where type like 'nest.%'")
    want='nest.created {"id":7,"n":0}, nest.deleted {"id":7,"n":0}, nest.created {"id":7,"n":1}'
    [ "$got" = "$want" ] || fail "COPY and a savepoint, after '$load': expected '$want', got '$got'"
done
sql -c 'delete from webhook.event' >"$work/void"

# A session that holds the outbox.
mkfifo "$work/in" "$work/out"
"$bin/psql" -X -q -A -t <"$work/in" >"$work/out" 2>&1 &
exec 3>"$work/in" 4<"$work/out"
holder() {
    local line
    printf '%s;\nselect %s;\n' "$1" "'done'" >&3
    read -r -t 60 -u 4 line || fail "the session does not answer"
    [ "$line" = done ] || fail "$line"
}
holder 'begin; lock table webhook.event in access exclusive mode'
for statement in "${statements[@]}"; do
    for end in rollback commit; do
        expect "first" "55P03 00000 t" "" "$statement" "$end"
        expect "later" "55P03 00000 t" "load 'pg_webhook';" "$statement" "$end"
    done
done
holder rollback
for statement in "${statements[@]}"; do
    expect "first" "00000 00000 t" "" "$statement" rollback
    expect "later" "00000 00000 t" "load 'pg_webhook';" "$statement" rollback
done

# The outbox rejects the events. The events of a first COPY are written with the next statement.
sql -c "do \$\$ begin
    for i in 0 .. 15 loop execute format('create unique index on webhook.event_%s (type)', i); end loop;
end \$\$"
copy="copy item from program 'printf 5,eu\\\\n6,eu' (format csv);"
expect "first" "00000 00000 t" "" "$copy" rollback
expect "first" "00000 23505 t" "" "$copy" commit
expect "later" "23505 00000 t" "load 'pg_webhook';" "$copy" rollback
expect "later" "23505 00000 t" "load 'pg_webhook';" "$copy" commit
insert='insert into item values (5), (6);'
for load in "" "load 'pg_webhook';"; do
    expect "insert" "23505 00000 t" "$load" "$insert" rollback
    expect "insert" "23505 00000 t" "$load" "$insert" commit
done
[ "$(sql -c 'select count(*) from item')" = 0 ] || fail "a row is left over"
