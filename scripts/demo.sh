#!/usr/bin/env bash
# Runs pgbench on a throw-away cluster. The webhooks arrive at `webhookd listen`, which verifies and
# prints them, and SQL shows the deliveries. Ends by itself if it is not at a terminal. Changes only
# its temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n\033[1m── %s\033[0m\n' "$*"; }
show() { printf '\033[2m%s\033[0m\n' "$1"; psql -X -q -P border=1 -c "$1"; }

step "Building (a few minutes the first time)"
log=$(mktemp)
bin=$(scripts/sandbox.sh 2>"$log") || { cat "$log" >&2; exit 1; }
rm -f "$log"
cargo build --quiet --profile quick --package webhookd
webhookd=$PWD/target/quick/webhookd

step "A throw-away cluster with pgbench's tables"
source scripts/cluster.sh >/dev/null
export PATH=$bin:$PATH
stop() {
    [ -z "${daemon:-}" ] || kill "$daemon" 2>/dev/null || true
    [ -z "${listener:-}" ] || kill "$listener" 2>/dev/null || true
    wait 2>/dev/null || true
    server_stop immediate >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT
pgbench --initialize --quiet --scale=1 2>/dev/null
show "create extension pg_webhook"

step "Watch two tables and subscribe a receiver"
secret="whsec_$(head -c 32 /dev/urandom | base64)"
WEBHOOKD_LISTEN_SECRET=$secret "$webhookd" listen --bind 127.0.0.1:0 >"$work/listen.out" 2>"$work/listen.err" &
listener=$!
tail -n +1 -F --pid="$listener" "$work/listen.err" "$work/listen.out" 2>/dev/null | grep -m 1 -oE 'http://[0-9.:]+' >"$work/url" || true
url=$(cat "$work/url")
[ -n "$url" ] || { cat "$work/listen.err" >&2; exit 1; }
show "select relation, noun, key_columns from webhook_watch('pgbench_accounts', noun => 'account', exclude => '{filler}')"
show "select relation, noun, key_columns from webhook_watch('pgbench_history', noun => 'transfer', columns => '{tid,bid,aid,delta,mtime}')"
psql -X -q -v url="$url" -v secret="$secret" <<'SQL' >/dev/null
select webhook_subscribe(:'url', events => '{account.*,transfer.created}', name => 'demo', secret => :'secret');
SQL
printf '\033[2m%s\033[0m\n' "select webhook_subscribe('$url', events => '{account.*,transfer.created}', name => 'demo', secret => …)"
"$webhookd" run --database-url "host=$PGHOST user=postgres dbname=postgres" --allow-net 127.0.0.0/8 \
    --admin 127.0.0.1:0 --admin-open-as postgres 2>"$work/webhookd.err" &
daemon=$!
page=$(tail -n +1 -F --pid="$daemon" "$work/webhookd.err" 2>/dev/null | grep -m 1 'admin\.listens' | grep -oE 'http://[0-9.:]+/') || true
[ -n "$page" ] || { cat "$work/webhookd.err" >&2; exit 1; }

step "Traffic: pgbench, 8 transactions a second for 3 seconds; what the receiver prints"
tail -n +1 -F --pid="$listener" "$work/listen.out" 2>/dev/null &
printer=$!
pgbench --no-vacuum --client=2 --rate=8 --time=3 >/dev/null 2>"$work/pgbench.err" || { cat "$work/pgbench.err" >&2; exit 1; }
psql -X -q -c "begin" -c "update pgbench_accounts set abalance = -1 where aid = 1" -c "rollback"
for _ in $(seq 100); do
    [ "$(psql -XAtc "select count(*) from webhook.delivery where state <> 'delivered'")" = 0 ] && break
    read -rt 0.1 <> <(:) || true
done
read -rt 0.5 <> <(:) || true
kill "$printer" 2>/dev/null || true

step "Did they get it? Ask in SQL"
show "select type, count(*) as events from webhook.event group by type order by type"
show "select state, count(*) as deliveries, max(attempts) as attempts from webhook.delivery group by state"
show "select event_id, type, key, state, last_status, round(extract(epoch from delivered_at - created_at) * 1000, 1) as ms
from webhook.delivery order by sequence desc limit 5"
show "select name, delivered_1h, failed_attempts_1h, duration_ms_p50_1h, duration_ms_p99_1h from webhook.subscription_stats"
show "select armed, dispatcher_running, gate, pending, queued from webhook.health"

lost=$(psql -XAtc "select count(*) from webhook.event e where type !~ '^webhook\.' and not exists
    (select from webhook.delivery d where d.sequence = e.id and d.state = 'delivered')")
[ "$lost" = 0 ] || { echo "demo: $lost events were not delivered" >&2; cat "$work/webhookd.err" >&2; exit 1; }

step "The same on a page"
# Without a client of HTTP, which a bare machine does not have.
authority=${page#http://}; authority=${authority%/}
{
    printf 'GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$authority" >&3
    timeout 10 cat <&3 >"$work/page.html"
} 3<>"/dev/tcp/${authority%:*}/${authority##*:}"
head -n 1 "$work/page.html" | grep -q '^HTTP/1.1 200 '
grep -q '<title>' "$work/page.html"
echo "$page"

if [ -t 0 ] && [ -t 1 ]; then
    step "Still running: look at the page. In another terminal: psql -h $PGHOST -U postgres postgres"
    read -rp "Enter ends the demo and removes the cluster. " || true
fi
