#!/usr/bin/env bash
# When a backend runs out of memory, at any place, the statement succeeds or fails with SQLSTATE
# 53200. The session continues, and no process of the server ends.
#
# Each session runs the same statements under a limit of address space of its own (prlimit): a
# little more than the backend has after its first watched insert. Payloads may have 64 MB, and in
# every second session the default of 256 KiB.
#
# usage: PG_BIN=… extension/tests/memory_runs_out.sh     (scripts/regress.sh runs it)
#   LIMITS   how many limits to try (default 12)
#   REPORT   if set, continues after a crash and only counts
set -euo pipefail
bin=${PG_BIN:?a bin directory with the extension installed beside it}
limits=${LIMITS:-12}
CONF=$'fsync = off\nrestart_after_crash = on\nautovacuum = off\njit = off\nlog_min_messages = warning'
# shellcheck source=scripts/cluster.sh
source "$(dirname "$0")/../../scripts/cluster.sh"

sql >"$work/void" <<'SQL'
create extension pg_webhook;
alter system set webhook.payload_bytes_max = '64MB';
select pg_reload_conf();
create table item (id serial primary key, body text);
create table doc (id serial primary key, body text);
create table small (id serial primary key, body text);
create function doc_json(d doc) returns jsonb language sql stable as
    $$select jsonb_build_object('id', d.id, 'body', d.body, 'parts', (select jsonb_object_agg(g, g) from generate_series(1, 2000) g))$$;
select webhook_watch('item');
select webhook_watch('doc', payload => 'doc_json');
select webhook_subscribe('https://example.com/hook', filter => '$.data.id > 5');
SQL

# One transaction per line; a line is at most 20 MB of work.
cat >"$work/statements.sql" <<'SQL'
insert into item (body) values (repeat('x', 16000000));
insert into item (body) values (repeat('"', 9000000));
update item set body = repeat('y', 15000000) where id = (select max(id) from item);
delete from item where id = (select max(id) from item);
insert into item (body) select repeat('z', 100) from generate_series(1, 2000);
do $$ begin insert into item (body) select 'outer' from generate_series(1, 100); begin insert into item (body) select repeat('i', 3000) from generate_series(1, 100); raise sqlstate 'PT001'; exception when sqlstate 'PT001' then null; end; end $$;
insert into doc (body) values (repeat('d', 5000000));
update doc set body = repeat('e', 5000000) where id = (select max(id) from doc);
select length(webhook_emit('big.one', json_build_object('a', repeat('p', 16000000))));
select length(webhook_emit('big.key', '{}', repeat('k', 1000)));
select length(webhook_sign('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'msg_1', 1, repeat('b', 16000000)));
select webhook_verify('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'msg_1', 1, repeat('b', 16000000), repeat('v1,AAAA ', 100000));
select count(id) from webhook_subscribe('https://example.com/' || repeat('a', 1000), events => array(select 'a' || g || '.b' from generate_series(1, 900) g), headers => (select jsonb_object_agg('x-' || g, repeat('h', 200)) from generate_series(1, 19) g));
select webhook_pause(1, repeat('r', 16000000));
select webhook_resume(1);
select count(*) from webhook_watch('small', verbs => '{"insert": "created"}', condition => 'new.body <> ' || quote_literal(repeat('c', 100000)));
insert into small (body) values ('s');
select webhook_unwatch('small');
select length(webhook_openapi()::text) > 0, length(webhook_asyncapi()::text) > 0;
select count(*) from webhook_dry_run(1, '-infinity');
select count(*) from webhook.event e where webhook.filter_matches(e, '$.data.id == 7');
select webhook_backfill(1, 'item', 'new.id < 5') > 0;
select webhook.backfill_step(b.id, 100) from webhook.backfill b where b.state = 'running' limit 1;
select webhook_backfill_cancel(b.id) from webhook.backfill b where b.state = 'running';
select webhook_replay(1, '-infinity', events => array(select 'e.' || g from generate_series(1, 900) g));
insert into item (body) values ('last');
SQL

# The expected errors: out of memory, the extension's own errors when an earlier line has failed or
# a value is too large, and 58P01, Postgres's error when the remaining memory cannot hold PL/pgSQL's
# library.
known='53200|22023|55000|42704|58P01'
ok=0 clean=0 other=0 crashes=0 lost=0
for ((i = 0; i < limits; i++)); do
    # From 0 to 256 MB; every second step is not a round number.
    delta_kb=$((262144 * i * i / (limits * limits) + (i % 2) * 1237))
    until sql -c 'truncate webhook.event, item, doc' >"$work/void" 2>&1; do :; done
    mkfifo "$work/in" "$work/out"
    "$bin/psql" -X -q -A -t -v VERBOSITY=sqlstate <"$work/in" >"$work/out" 2>&1 &
    psql=$!
    exec 3>"$work/in" 4<"$work/out"
    printf "%s\n" "insert into item (body) values ('first'); select 'pid ' || pg_backend_pid();" >&3
    pid=
    while read -r -t 60 -u 4 word number; do
        [ "$word" != pid ] || { pid=$number; break; }
    done
    [ -n "$pid" ] || { echo "no backend" >&2; exit 1; }
    size_kb=$(awk '$1 == "VmSize:" { print $2 }' "/proc/$pid/status")
    as_owner prlimit --pid "$pid" --as="$(((size_kb + delta_kb) * 1024))"
    # Every second session has the default cap, which cuts long payloads.
    cap=$((i % 2 == 0 ? 67108864 : 262144))
    cat <(echo "set webhook.payload_bytes_max = $cap;") "$work/statements.sql" <(echo "select 'the end';") >&3 &
    exec 3>&-
    cat <&4 >"$work/answers"
    exec 4<&-
    wait "$psql" || true
    rm "$work/in" "$work/out"
    oom=$(grep -c 'ERROR:  53200' "$work/answers" || true)
    strange=$(grep -E 'ERROR:|FATAL:' "$work/answers" | grep -cvE "ERROR:  ($known)" || true)
    clean=$((clean + oom)) other=$((other + strange))
    [ "$strange" = 0 ] || grep -E 'ERROR:|FATAL:' "$work/answers" | grep -vE "ERROR:  ($known)" >&2
    if grep -q 'the end' "$work/answers"; then ok=$((ok + 1)); else lost=$((lost + 1)); fi
    now=$(grep -c 'was terminated by signal' "$work/cluster/log" || true)
    if [ "$now" != "$crashes" ]; then
        crashes=$now
        [ -n "${REPORT:-}" ] || { tail -n 20 "$work/cluster/log" >&2; echo "limit of $delta_kb kB: a backend crashed" >&2; exit 1; }
    fi
done
echo "$limits limits, $(wc -l <"$work/statements.sql") statements each: $crashes crashes, $lost sessions lost, $clean times out of memory, $other other errors"
[ -n "${REPORT:-}" ] || [ "$lost$other" = 00 ] || exit 1
# A run in which no session ran out of memory proves nothing.
[ "$clean" -gt 0 ]
