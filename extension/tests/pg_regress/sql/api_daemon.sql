-- The daemon's functions disable, confirm and tell, and their effects on views and receivers.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create role regress_daemon;
select webhook_grant('regress_daemon', 'dispatcher');
select id from webhook_subscribe('https://example.com', name => 'one') \gset
select id as other from webhook_subscribe('https://example.org', name => 'other') \gset

\echo -- disable: works once, and is reported once
insert into webhook.receiver (subscription_id, circuit, consecutive_failures, failing_since, warned_at, allowed_rate) values (:id, 'open', 12, now(), now(), 2.5);
set local role regress_daemon;
select webhook.disable_subscription(:id, 'the receiver answered 410 Gone');
select webhook.disable_subscription(:id, 'again');
select webhook.disable_subscription(-1, 'no such id');
reset role;
select enabled, paused_reason from webhook.subscription where id = :id;
select type, table_name, key = :'id' as key, payload::jsonb - 'id' as payload, subscription_id from webhook.event where type = 'webhook.subscription.disabled' and xid = webhook.current_xid();
\echo -- resume: clears the failures, and keeps the rate that the receiver allows
select circuit, consecutive_failures, failing_since is not null as failing, allowed_rate from webhook.subscription_stats where id = :id;
select webhook_resume(:id);
select enabled, paused_reason, circuit, consecutive_failures, failing_since is not null as failing, allowed_rate from webhook.subscription_stats where id = :id;
select warned_at from webhook.receiver where subscription_id = :id;

\echo -- confirm: only for the URL that was asked, and only for subscriptions with verification
set local role regress_daemon;
select webhook.confirm_subscription(:id, 'https://example.com/', 10);
reset role;
update webhook.subscription set verification = 'ping' where id = :id;
set local role regress_daemon;
select webhook.confirm_subscription(:id, 'https://example.net/', 10);
select webhook.confirm_subscription(-1, 'https://example.com/', 10);
select webhook.confirm_subscription(:id, 'https://example.com/', 10);
reset role;
select verification, verified_at is not null as verified, allowed_rate from webhook.subscription_stats where id = :id;
\echo -- without a stated rate there is no limit
select webhook.confirm_subscription(:id, 'https://example.com/');
select verified_at is not null as verified, allowed_rate from webhook.subscription_stats where id = :id;
\echo -- another URL or another verification voids the confirmation, other changes do not; another
\echo -- URL is another receiver
update webhook.subscription set timeout = '1 s', url = url, verification = verification where id = :id;
select verified_at is not null as verified, allowed_rate from webhook.subscription_stats where id = :id;
update webhook.subscription set verification = 'handshake' where id = :id;
select verified_at is not null as verified, allowed_rate from webhook.subscription_stats where id = :id;
select webhook.confirm_subscription(:id, 'https://example.com/', 5);
update webhook.subscription set url = 'https://example.com/b' where id = :id;
select verified_at is not null as verified, allowed_rate from webhook.subscription_stats where id = :id;
select count(*) from webhook.receiver;

\echo -- tell: three event types, for all subscriptions that name them
set local role regress_daemon;
select webhook.tell('webhook.delivery.exhausted', :id, '{"event_id":"evt_1"}'), webhook.tell('webhook.subscription.failing', :id, '{}'), webhook.tell('webhook.subscription.recovered', :id, '{}');
select by_hand.fails(format('select webhook.tell(%s)', arguments)) from unnest(array['''order.created'', 1, ''{}''', '''webhook.ping'', 1, ''{}''', 'null, 1, ''{}''', '''webhook.delivery.exhausted'', null, ''{}''']) arguments;
reset role;
select type, table_name, key = :'id' as key, payload, subscription_id, webhook.pattern_matches('{webhook.*}', type) as by_prefix, webhook.pattern_matches('{*}', type) as by_star
from webhook.event where xid = webhook.current_xid() and type similar to 'webhook.(delivery|subscription).(exhausted|failing|recovered)' order by id;

\echo -- pending respects origin and filter; delivery and the figures count blocked deliveries
update webhook.subscription set filter = '$.data.total > 100', exclude_origin = '{erp}' where id = :id;
delete from webhook.subscription where id = :other;
set local webhook.origin = 'erp';
select webhook_emit('order.paid', '{"total": 500}') is not null;
set local webhook.origin = '';
select webhook_emit('order.paid', '{"total": 5}') is not null, webhook_emit('order.paid', '{"total": 501}') is not null;
select e.payload from webhook.pending p join webhook.event e on e.id = p.sequence where p.subscription_id = :id and e.type = 'order.paid';
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, retry_from, state, next_at, order_key)
select :id, e.id, e.xid, e.slot, case when n = 1 then 2 else 0 end, 0, case when n = 1 then 'waiting' else 'blocked' end, case when n = 1 then now() end, 0
from (select *, row_number() over (order by id) as n from webhook.event where type = 'order.paid' and xid = webhook.current_xid()) e;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at)
select q.event_id, q.event_xid, q.subscription_id, now(), 1, webhook.ring_slot(now()), a, 500, 'http_error', now() from webhook.queue q, generate_series(1, 2) a where q.state = 'waiting' and q.subscription_id = :id;
select state, attempts from webhook.delivery where subscription_id = :id and type = 'order.paid' order by sequence;
select retrying, queued, blocked from webhook.subscription_stats where id = :id;
select circuits_open from webhook.health;
insert into webhook.receiver (subscription_id, circuit, failing_since) values (:id, 'open', now());
select circuits_open from webhook.health;
\pset format aligned
\pset tuples_only off
rollback;
