-- Limits of what owners have: subscriptions, requests, the queue, the log, secrets and certificates
-- of the daemon's machine.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create schema t;
grant usage on schema t to public;
create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted $$;
create role regress_anna; create role regress_bert; create role regress_team; create role regress_adm;
grant regress_team to regress_anna;
select webhook_grant('regress_anna', 'subscriber'), webhook_grant('regress_bert', 'subscriber'), webhook_grant('regress_adm', 'admin'), webhook_grant('regress_adm', 'subscriber');
insert into webhook.owner_limit (owner, subscriptions, max_in_flight, queued, log_days, external_secrets, tls_profiles) values ('*', 2, 10, 3, 2, false, false);
insert into webhook.owner_limit (owner, subscriptions, max_in_flight, queued, log_days, external_secrets, tls_profiles) values ('regress_bert', 100, 4096, 1000, 36500, true, true);
select by_hand.fails($$update webhook.owner_limit set subscriptions = -1$$), by_hand.fails($$update webhook.owner_limit set max_in_flight = 0$$), by_hand.fails($$update webhook.owner_limit set log_days = 0$$);

\echo -- subscriptions
select by_hand.tries('regress_anna', 'select webhook_subscribe(''https://example.com'', name => ''anna'')', 'select webhook_subscribe(''https://example.com'', name => ''anna2'')',
    'select webhook_subscribe(''https://example.com'')', 'select webhook_subscribe(''https://example.com'', name => ''team'', owner => ''regress_team'')',
    'select webhook_alter(t.id(''team''), owner => ''regress_anna'')', 'select webhook_unsubscribe(t.id(''anna2''))', 'select webhook_subscribe(''https://example.com'', name => ''anna3'')');
select webhook.act_for('t7', null);
select by_hand.tries('regress_adm', 'select webhook_subscribe(''https://example.com'', name => ''seven'')', 'select webhook_subscribe(''https://example.com'')', 'select webhook_subscribe(''https://example.com'')');
select webhook.act_for(null, null);
\echo -- requests: the limit is the default, and the maximum
select name, max_in_flight from webhook.subscription where name is not null order by 1;
select by_hand.tries('regress_anna', 'select webhook_alter(t.id(''anna''), max_in_flight => 11)', 'select webhook_alter(t.id(''anna''), max_in_flight => 9)');
select by_hand.tries('regress_bert', 'select webhook_subscribe(''https://example.com'', name => ''bert'')', 'select webhook_subscribe(''https://example.com'', name => ''bert2'', max_in_flight => 4096, secret => ''env:WEBHOOKD_SECRET_X'', tls => ''bank'')');
\echo -- secrets and certificates of the daemon's machine
select by_hand.tries('regress_anna', 'select webhook_alter(t.id(''anna''), secret => ''env:WEBHOOKD_SECRET_BILLING'')', 'select webhook_alter(t.id(''anna''), secret => ''file:/etc/passwd'')',
    'select webhook_alter(t.id(''anna''), tls => ''bank'')', 'select webhook_unsubscribe(t.id(''anna3''))', 'select webhook_subscribe(''https://example.com'', secret => ''env:WEBHOOKD_SECRET_BILLING'')',
    'select webhook_subscribe(''https://example.com'', tls => ''bank'')');

\echo -- a null in the row of an owner means what the row of * says
create role regress_cora; select webhook_grant('regress_cora', 'subscriber');
insert into webhook.owner_limit (owner, subscriptions) values ('regress_cora', 3);
select by_hand.tries('regress_cora', 'select webhook_subscribe(''https://example.com'', secret => ''env:WEBHOOKD_SECRET_BILLING'')', 'select webhook_subscribe(''https://example.com'', max_in_flight => 11)',
    'select webhook_subscribe(''https://example.com'', name => ''cora'')', 'select webhook_subscribe(''https://example.com'')', 'select webhook_subscribe(''https://example.com'')');

\echo -- admins may exceed them, the check lists it, and the owner can still change other options
select by_hand.tries('regress_adm', 'select webhook_alter(t.id(''anna''), max_in_flight => 100, tls => ''bank'', secret => ''env:WEBHOOKD_SECRET_BILLING'')',
    'select webhook_subscribe(''https://example.com'', owner => ''regress_anna'', name => ''more'')', 'select webhook_subscribe(''https://example.com'', owner => ''regress_anna'', name => ''even more'')');
select by_hand.tries('regress_anna', 'select webhook_alter(t.id(''anna''), timeout => ''2s'')', 'select webhook_alter(t.id(''anna''), max_in_flight => 99)', 'select webhook_rotate_secret(t.id(''more'')) is null');
select problem, detail, repair from webhook_check() where problem ~ 'limit|too many' order by 1, 2, 3;

\echo -- the queue: what the daemon adds is not limited, and a call adds nothing beyond the limit
insert into webhook.event (type, key, payload, owner) select 'order.paid', 'k' || n, '{}', 'regress_anna' from generate_series(1, 4) n;
update webhook.cursor set snapshot = pg_current_snapshot();
update webhook.subscription set created_snapshot = '3:3:';
create function t.event(wanted text) returns text language sql security definer as
    $$ select webhook.public_id(e.id, e.created_at) from webhook.event e where e.key = wanted and e.xid = webhook.current_xid() and e.type = 'order.paid' $$;
update webhook.cursor set snapshot = '900000000:900000000:';
select by_hand.tries('regress_anna', 'select webhook_replay(t.id(''anna''), now() - interval ''1 hour'', ''infinity'')', 'select webhook_redeliver(t.event(''k1''), t.id(''anna''))',
    'select webhook_redeliver(t.event(''k2''), t.id(''anna''))', 'select webhook_redeliver(t.event(''k3''), t.id(''more''))', 'select webhook_redeliver(t.event(''k4''), t.id(''more''))',
    'select webhook_redeliver(t.event(''k3''), t.id(''more''))');
select count(*) from webhook.queue;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
    select e.id, e.xid, t.id('more'), now(), 1, e.slot, 1, 500, 'http_error' from webhook.event e where e.key = 'k4' and e.xid = webhook.current_xid();
insert into webhook.given_up (subscription_id, event_id, event_slot, given_up_at) select t.id('more'), e.id, e.slot, now() from webhook.event e where e.key = 'k4' and e.xid = webhook.current_xid();
select by_hand.tries('regress_anna', 'select webhook_redeliver_failed(t.id(''more''))');
select by_hand.tries('regress_adm', 'select webhook_redeliver_failed(t.id(''more''))');

\echo -- the log: owners see the last days, and what is still queued
delete from webhook.attempt; delete from webhook.queue; delete from webhook.given_up;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
    select e.id, e.xid, t.id('more'), now() - case e.key when 'k1' then interval '1 day' else interval '3 days' end, 1, e.slot, 1, 500, 'http_error'
    from webhook.event e where e.key in ('k1', 'k2', 'k3') and e.xid = webhook.current_xid();
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state, next_at)
    select t.id('more'), e.id, e.xid, e.slot, 1, 'waiting', now() from webhook.event e where e.key = 'k3' and e.xid = webhook.current_xid();
set local role regress_anna;
select key, state from webhook.delivery d where d.key like 'k_' order by d.sequence;
select count(*) from webhook.attempt;
select v.since = now() - interval '2 days' from webhook.visible_log v where v.subscription_id = t.id('more');
reset role;
set local role regress_cora;
select v.since = now() - interval '2 days' from webhook.visible_log v where v.subscription_id = t.id('cora');
reset role;
set local role regress_adm;
select key, state from webhook.delivery d where d.key like 'k_' and d.subscription_id = t.id('more') order by d.sequence;
select count(*) from webhook.attempt;
reset role;
update webhook.owner_limit set log_days = 2147483647;
set local role regress_anna;
select count(*) from webhook.attempt;
reset role;
rollback;
