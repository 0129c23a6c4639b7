-- The views for operators end within seconds, with thousands of subscriptions and events that the
-- daemon has not reached, and say when a number is a lower bound.
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
update webhook.cursor set snapshot = webhook.snapshot_before_this_transaction();
create view pg_temp.health as
select pending, pending_is_lower_bound, queued, queued_is_lower_bound, lag > interval '0' as lags from webhook.health;

\echo -- few events: every number is exact
select count(*) from webhook_subscribe('https://example.com/1', name => 'all');
select count(*) from webhook_subscribe('https://example.com/2', name => 'some', events => '{order.*,order.paid,note.made}', filter => '$.data.n > 1');
select count(*) from webhook_subscribe('https://example.com/3', name => 'other', events => '{x.y}', enabled => false);
table pg_temp.health;
select count(webhook_emit('order.paid', json_build_object('n', n), key => n::text)) from generate_series(1, 3) n;
select count(webhook_emit('note.made', '{}')), count(webhook_ping(s.id)) from webhook.subscription s where s.name = 'other';
table pg_temp.health;
select s.name, e.type, case when e.type <> 'webhook.ping' then e.key end from webhook.pending p join webhook.subscription s on s.id = p.subscription_id join webhook.event e on e.xid = p.event_xid and e.id = p.sequence
order by p.sequence, s.id;
\echo -- an attempt or a row of the queue resolves them
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state)
select p.subscription_id, p.sequence, p.event_xid, p.event_slot, 'backlog' from webhook.pending p join webhook.subscription s on s.id = p.subscription_id where s.name = 'all';
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select p.sequence, p.event_xid, p.subscription_id, now(), 1, p.event_slot, 1, 200, 'succeeded' from webhook.pending p join webhook.subscription s on s.id = p.subscription_id where s.name = 'other';
table pg_temp.health;
select s.name, d.type, case when d.type <> 'webhook.ping' then d.key end, d.state from webhook.delivery d join webhook.subscription s on s.id = d.subscription_id order by d.sequence, s.id;

\echo -- 2000 subscriptions, whose patterns match and whose filters do not, and 20000 events
set local statement_timeout = '15s';
insert into webhook.subscription (name, url, scope, events, filter)
select 'many ' || i, 'http://127.0.0.1:9/' || i, 'all', case i % 3 when 0 then '{order.*}'::text[] when 1 then '{*}' else '{order.paid,order.made}' end, '$.data.n == -1'
from generate_series(1, 2000) i;
insert into webhook.event (type, payload) select 'order.paid', json_build_object('n', i) from generate_series(1, 20000) i;
select pending >= 0, pending_is_lower_bound, queued, lags from pg_temp.health;
select count(*) <= 20001, count(*) filter (where p is null) from webhook.pending p;
select count(*) from webhook.search_pending();
\echo -- one subscription, one event, one state
select d.state, count(*) from webhook_deliveries((select id from webhook.subscription where name = 'many 1')) d group by 1;
select d.state, count(*) from webhook_deliveries((select id from webhook.subscription where name = 'some'), rows_max => 7) d group by 1;
select count(*) from webhook.delivery d where d.sequence = (select max(e.id) from webhook.event e);
select count(*) from webhook.delivery d where d.state = 'exhausted';
select count(*) from webhook.delivered_event d where d.sequence = (select max(e.id) from webhook.event e) and d.subscription_id = (select id from webhook.subscription where name = 'all');
select count(*) = (select count(*) from webhook.subscription) from webhook.subscription_stats;
select count(*) = (select count(*) from webhook.subscription) from webhook.subscription_health;
select count(*) from webhook_check() where problem !~ 'trigger|watch';

\echo -- and all of them match: more pairs than the views examine
update webhook.subscription set filter = null where name like 'many %';
select pending between 1 and 20000, pending_is_lower_bound, lags from pg_temp.health;
select count(*) between 2 and 20001, count(*) filter (where p is null) from webhook.pending p;
select count(*) from webhook.delivery d where d.sequence = (select max(e.id) from webhook.event e where e.type = 'order.paid') and d.state = 'queued';
rollback;

-- 2000 subscriptions of one owner, whose patterns do not match: events without an owner, events of
-- the owner, and announcements.
-- The index on patterns has the rows that were rolled back, until a vacuum.
vacuum webhook.subscription;
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
update webhook.cursor set snapshot = webhook.snapshot_before_this_transaction();
set local statement_timeout = '15s';
select count(*) from webhook_subscribe('https://example.com/1', name => 'all');
insert into webhook.subscription (name, url, scope, owner, events)
select 'many ' || i, 'http://127.0.0.1:9/' || i, 'own', 'o', case i % 2 when 0 then '{fax.*}'::text[] else '{order.made,note.*}' end from generate_series(1, 2000) i;
delete from webhook.event where type = 'webhook.subscription.created';
insert into webhook.event (type, payload) select 'order.paid', json_build_object('n', i) from generate_series(1, 20000) i;
select pending between 1 and 20000, pending_is_lower_bound from webhook.health;
select count(*) from webhook_deliveries((select id from webhook.subscription where name = 'many 1'));
update webhook.event set owner = 'o' where type = 'order.paid';
select pending between 1 and 20000, pending_is_lower_bound from webhook.health;
select count(*) from webhook_deliveries((select id from webhook.subscription where name = 'many 1'));
update webhook.event set owner = '*' where type = 'order.paid';
select pending between 1 and 20000, pending_is_lower_bound from webhook.health;
select count(*) from webhook_deliveries((select id from webhook.subscription where name = 'many 1'));
select count(*) from webhook.delivery d where d.sequence = (select max(e.id) from webhook.event e where e.type = 'order.paid');
rollback;

-- Owners and tenants see their own deliveries only, also those that the daemon has not reached.
begin;
set local client_min_messages = warning;
set local search_path = public;
update webhook.cursor set snapshot = webhook.snapshot_before_this_transaction();
create role regress_one;
create role regress_two;
grant usage on schema public to regress_one, regress_two;
select webhook_grant(r, 'subscriber') from unnest('{regress_one,regress_two}'::regrole[]) r;
select id as one from webhook_subscribe('https://example.com/1', owner => 'regress_one') \gset
select id as two from webhook_subscribe('https://example.com/2', owner => 'regress_two') \gset
-- So many numbers that webhook_deliveries() leaves out those that the daemon has not reached.
select webhook.skip_numbers(webhook.last_number());
select count(webhook_emit('order.paid', '{}', owner => o)) from generate_series(1, 2), unnest('{regress_one,regress_two}'::text[]) o;
select count(webhook_emit('order.paid', '{}'));
set local role regress_one;
select count(*), bool_and(subscription_id = :one) as own from webhook.delivery;
select count(*), bool_and(subscription_id = :one) as own from webhook.delivered_event;
select count(*) from webhook_deliveries(:one);
select count(*) from webhook_deliveries(:two);
reset role;
select webhook.act_for('regress_two', 'regress_two'::regrole);
set local role regress_two;
select count(*), bool_and(subscription_id = :two) as own from webhook.delivery;
select count(*) from webhook.recorded_delivery;
savepoint s;
select * from webhook.search_pending();
rollback to s;
select * from webhook.unresolved;
rollback;
