-- The health of receivers in one row each, and the redelivery of what was given up.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
set local timezone = 'UTC';
set local datestyle = iso;
\pset format unaligned
\pset tuples_only on
create view pg_temp.health as
select name, state, severity, since is not null as has_since, reason, last_outcome, last_status, last_error, next_attempt_at is not null as has_next,
       oldest_waiting_at is not null as has_oldest, waiting, retrying, given_up, rejected, redeliverable
from webhook.subscription_health order by severity, id;
create function pg_temp.subscription(name text) returns bigint language sql as $$
    select s.id from webhook.subscription s where s.name = subscription.name
$$;
-- Past events, one each minute.
create function pg_temp.past(n int) returns void language sql as $$
    insert into webhook.event (id, xid, created_at, slot, type, key, payload)
    values (99000000000 + n, 3, now() - interval '1 hour' + n * interval '1 minute', webhook.ring_slot(now()), 'order.paid', 'k' || n, '{}');
    -- An insert with another transaction id would count as restored from a dump.
    update webhook.event set xid = 3 where id = 99000000000 + n;
$$;
create function pg_temp.attempt(name text, n int, attempt int, status int, outcome text, next_at timestamptz, error text default null) returns void language sql as $$
    insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error)
    values (99000000000 + n, 3, pg_temp.subscription(name), now() - interval '30 minutes' + attempt * interval '1 minute', 5, webhook.ring_slot(now()),
            attempt, status, outcome, next_at, error);
    insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state, next_at, last_status, last_error)
    select pg_temp.subscription(name), 99000000000 + n, 3, webhook.ring_slot(now()), attempt, 'waiting', next_at, status, error where next_at is not null
    on conflict (subscription_id, event_id) do update set attempts = excluded.attempts, next_at = excluded.next_at, last_status = excluded.last_status;
    -- As the ledger does.
    insert into webhook.given_up (subscription_id, event_id, event_slot, given_up_at, status)
    select pg_temp.subscription(name), 99000000000 + n, webhook.ring_slot(now()), now() - interval '30 minutes' + attempt * interval '1 minute', status
    where next_at is null and outcome <> 'succeeded';
$$;
select count(*) from unnest(array['healthy', 'failing', 'disabled', 'gave up', 'rejecting', 'blocked', 'held', 'paused', 'slow', 'retrying', 'unconfirmed']) name,
    lateral webhook_subscribe('https://example.com/' || replace(name, ' ', '-'), name => name, events => '{order.*}', ordering => case name when 'gave up' then 'key' else 'none' end,
                              verification => case name when 'unconfirmed' then 'ping' else 'none' end);
select count(pg_temp.past(n)) from generate_series(1, 20) n;
update webhook.cursor set snapshot = pg_current_snapshot();

\echo -- without a failure
table pg_temp.health;
select pg_temp.attempt('healthy', 1, 1, 200, 'succeeded', null);
select pg_temp.attempt('failing', 1, 1, 503, 'http_error', now() + interval '1 hour'), pg_temp.attempt('failing', 2, 1, null, 'timeout', null, 'no answer within 15 s');
insert into webhook.receiver (subscription_id, circuit, consecutive_failures, failing_since, probe_interval)
values (pg_temp.subscription('failing'), 'open', 12, now() - interval '10 minutes', '1 minute');
select webhook.disable_subscription(pg_temp.subscription('disabled'), 'the receiver answered 410 Gone');
select pg_temp.attempt('gave up', n, 1, 500, 'http_error', null) from generate_series(3, 5) n;
select pg_temp.attempt('gave up', 6, 1, 422, 'http_error', null);
select pg_temp.attempt('rejecting', 7, 1, 422, 'http_error', now() + interval '1 hour'), pg_temp.attempt('rejecting', 8, 1, 413, 'http_error', null);
select pg_temp.attempt('blocked', 9, 1, null, 'refused', now() + interval '1 hour', 'address 10.1.2.3 is private');
insert into webhook.receiver (subscription_id, held_because) values (pg_temp.subscription('held'), 'secret: environment variable X is not set');
select webhook_pause(pg_temp.subscription('paused'), 'maintenance');
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state) values (pg_temp.subscription('slow'), 99000000010, 3, webhook.ring_slot(now()), 'backlog');
select pg_temp.attempt('retrying', 11, 1, 500, 'http_error', now() + interval '1 hour');
\echo -- each in its state
table pg_temp.health;
\echo -- the next probe: a minute after the last attempt
select next_attempt_at - last_failure_at, now() - since from webhook.subscription_health where state = 'failing';
\echo -- the statuses that reject the content of an event
select array_agg(s) from generate_series(100, 599) s where webhook.is_rejection(s::smallint);

\echo -- redelivery of what was given up: counted, and a part of it
select webhook_redeliver_failed(pg_temp.subscription('gave up'), dry_run => true);
select webhook_redeliver_failed(pg_temp.subscription('gave up'), since => now(), dry_run => true);
select webhook_redeliver_failed(pg_temp.subscription('gave up'), until => now() - interval '1 hour', dry_run => true);
select payload from webhook.event where type = 'webhook.delivery.requested' and xid = webhook.current_xid();
select webhook_redeliver_failed(pg_temp.subscription('gave up'));
select event_id - 99000000000 as n, attempts, retry_from, state, last_status, order_key is not null from webhook.queue where subscription_id = pg_temp.subscription('gave up') order by 1;
select payload from webhook.event where type = 'webhook.delivery.requested' and xid = webhook.current_xid();
select name, state, waiting, retrying, given_up, rejected, redeliverable from webhook.subscription_health where name = 'gave up';
\echo -- there is nothing to redeliver a second time
select webhook_redeliver_failed(pg_temp.subscription('gave up'));
\echo -- redelivery of one, and a replay, take theirs out too
select webhook_redeliver((select webhook.public_id(id, created_at) from webhook.event where id = 99000000002), pg_temp.subscription('failing'));
select state, given_up, redeliverable from webhook.subscription_health where name = 'failing';
select webhook_replay(pg_temp.subscription('rejecting'), now() - interval '1 hour', now());
select state, given_up, rejected, redeliverable from webhook.subscription_health where name = 'rejecting';
\echo -- an event that is gone cannot be redelivered, and does not count
select pg_temp.attempt('healthy', 12, 1, 500, 'http_error', null);
update webhook.event set xid = 4 where id = 99000000012;
select webhook_redeliver_failed(pg_temp.subscription('healthy'), dry_run => true), webhook_redeliver_failed(pg_temp.subscription('healthy'));
\echo -- mistakes
select by_hand.fails(statement) from unnest(array['select webhook_redeliver_failed(-1)', 'select webhook_redeliver_failed(null)', 'select webhook_redeliver_failed(1, null)',
    'select webhook_try_now(-1)', 'select webhook_try_now(null)', 'select webhook_try_now(1, null)']) statement;

\echo -- try now: a request to the daemon, but not for a paused subscription
select webhook_try_now(pg_temp.subscription('failing')), webhook_try_now(pg_temp.subscription('slow'), ignore_retry_after => true);
select payload, subscription_id = pg_temp.subscription('failing') from webhook.event where type = 'webhook.delivery.requested' and payload::text like '%try_now%' and xid = webhook.current_xid() order by id;
select regexp_replace(by_hand.fails(format('select webhook_try_now(%s)', pg_temp.subscription(name))), '\d+ is', 'N is') from unnest(array['paused', 'disabled']) name;

\echo -- pauses and resets
select enabled, paused_at is not null, disabled_at is not null, failures_reset_at is not null from webhook.subscription where name in ('disabled', 'paused', 'healthy') order by name;
select webhook_resume(id) from webhook.subscription where name in ('disabled', 'paused') order by name;
select enabled, paused_at is not null, disabled_at is not null, failures_reset_at is not null from webhook.subscription where name in ('disabled', 'paused', 'healthy') order by name;
select webhook_alter(id, url => url || '/x') is null, webhook_alter(id, url => url) is null from webhook.subscription where name = 'healthy';
select failures_reset_at is not null from webhook.subscription where name = 'healthy';
select webhook_unsubscribe(pg_temp.subscription('healthy'));
select count(*) from webhook.given_up g where not exists (select from webhook.subscription s where s.id = g.subscription_id);
rollback;
