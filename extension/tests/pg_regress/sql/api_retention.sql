-- Retention: which slots of the ring are emptied and when, what keeps them, and what becomes of what was never delivered.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
set local timezone = 'UTC';
\pset format unaligned
\pset tuples_only on

\echo -- a slot's turn: 2.5 days, again after 40; the last that has begun counts
select webhook.ring_slot('2026-11-22 03:38Z'), webhook.slot_ended_at(7, '2026-11-22 03:38Z') at time zone 'UTC',
       webhook.slot_ended_at(6, '2026-11-22 03:38Z') at time zone 'UTC', webhook.slot_ended_at(8, '2026-11-22 03:38Z') at time zone 'UTC';
select bool_and(webhook.ring_slot(webhook.slot_ended_at(n, t) - interval '1 second') = n
                and webhook.slot_ended_at(n, t) > t - interval '37.5 days' and webhook.slot_ended_at(n, t) <= t + interval '2.5 days')
from generate_series(0, 15) n, generate_series(timestamptz '2026-01-01', '2026-04-01', '7 hours') t;

\echo -- settings: within what the ring can do
select retention, retention_period, max_age from webhook.setting;
select by_hand.fails(statement) from unnest(array[
    'update webhook.setting set retention_period = ''36 days'', max_age = ''36 days''', 'update webhook.setting set max_age = ''38 days''',
    'update webhook.setting set max_age = ''29 days''', 'update webhook.setting set retention_period = ''-1 second''',
    'update webhook.setting set singleton = false', 'select webhook.retire_slot(16)', 'select webhook.retire_slot(-1)']) statement;
\echo -- the row of a dump replaces it
insert into webhook.setting (retention_period) values ('7 days');
select retention_period, max_age from webhook.setting;
update webhook.setting set retention_period = default;

\echo -- an event and an attempt of now: nobody may touch them before 30 days after the end of the turn
create table moment as select clock_timestamp() as now, webhook.ring_slot(clock_timestamp())::integer as slot;
select webhook_emit('order.paid', '{"n": 1}') is not null;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select e.id, e.xid, 1, m.now, 1, m.slot, 1, 200, 'succeeded' from webhook.event e, moment m where e.type = 'order.paid';
insert into webhook.cursor (snapshot, system_identifier, database_oid, saved_at)
select '3:3:', system_identifier, (select oid from pg_database where datname = current_database()), m.now from pg_control_system(), moment m;
select webhook.retire_slot(slot) from moment;
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days' - interval '1 second') from moment;
\echo -- the daemon has not come to it
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days') from moment;
select webhook.slot_is_held(kind, slot, webhook.slot_ended_at(slot, now) + interval '36 days') from moment, unnest(array['event', 'attempt']) kind;
update webhook.cursor set snapshot = format('%1$s:%1$s:', webhook.current_xid() + 1)::pg_snapshot;
\echo -- it has, and waits in the queue: until max_age, with its attempts told and gone
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state)
select s, e.id, e.xid, e.slot, 2, 'backlog' from webhook.event e, generate_series(1, 3) s where e.type = 'order.paid';
savepoint undelivered;
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days') from moment;
select count(*) from webhook.event where type = 'order.paid';
select count(*) from webhook.attempt;
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '35 days' - interval '1 second') from moment;
\echo -- nobody has asked to be told
select webhook.exhaust_slot(slot, '35 days', 1) from moment;
select count(*) from webhook.queue;
select count(*) from webhook.event where type = 'webhook.delivery.exhausted';
select id as told from webhook_subscribe('https://example.com', '{webhook.*}') \gset
\echo -- somebody has
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '35 days') from moment;
select attempt, outcome, status, next_at, error, response from webhook.attempt where outcome = 'refused';
select key::integer between 1 and 3 as key, payload::jsonb - 'event_id' - 'sequence' - 'subscription_id' as payload, payload ->> 'event_id' like 'evt_%' as event_id
from webhook.event where type = 'webhook.delivery.exhausted';
select state, attempts from webhook.delivery where type = 'order.paid';
select count(*) from webhook.queue;
rollback to undelivered;
delete from webhook.queue;
\echo -- delivered: gone, the table is empty and goes on
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days') from moment;
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days') from moment;
select count(*) from webhook.event;
select count(*) from webhook.attempt;
select sum(pg_relation_size(format('webhook.event_%s', slot)::regclass) + pg_relation_size(format('webhook.attempt_%s', slot)::regclass)) from moment;
select webhook_emit('order.paid', '{"n": 2}') is not null;
select count(*) from webhook.event;

\echo -- the clock was ahead when it was written: what counts is how old it is
insert into webhook.event (type, payload, slot, created_at)
select 'order.ahead', '{}', (slot + 2) % 16, now + interval '5 days' from moment;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select 1, 1, 1, m.now + interval '5 days', 1, (slot + 2) % 16, 1, 200, 'succeeded' from moment m;
select webhook.slot_ended_at((slot + 2) % 16, now) < now - interval '30 days', webhook.retire_slot((slot + 2) % 16) from moment;
select webhook.retire_slot_at((slot + 2) % 16, now + interval '29 days') from moment;

\echo -- the slot has come round again while the daemon was away: old and new share it, and both stay until the new are old
insert into webhook.event (type, payload, slot, created_at) select 'order.old', '{}', slot, now - interval '40 days' from moment;
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days' - interval '1 second') from moment;
select count(*) from webhook.event e, moment m where e.slot = m.slot;
select webhook.retire_slot_at(slot, webhook.slot_ended_at(slot, now) + interval '30 days') from moment;
select count(*) from webhook.event e, moment m where e.slot = m.slot;

\echo -- off
update webhook.setting set retention = false;
select webhook.retire_slot(0);
update webhook.setting set retention = true;

\echo -- what operators see
select webhook_emit('order.paid', '{"n": 3}') is not null;
select count(*), count(*) filter (where r.ended_at > now() and r.retires_at = r.ended_at + interval '30 days'),
       count(*) filter (where r.oldest_event_at is not null), bool_and(r.event_bytes > 0 and r.attempt_bytes > 0) from webhook.ring r, moment;
select ring_bytes > 0, ring_oldest_at is not null from webhook.health;

\echo -- the daemon empties slots, by the real clock only
create role regress_daemon;
select webhook_grant('regress_daemon', 'dispatcher');
set local role regress_daemon;
select webhook.retire_slot(webhook.ring_slot(now()));
select by_hand.fails('select webhook.retire_slot_at(0, now())');
select by_hand.fails('truncate webhook.event_0');
select by_hand.fails('update webhook.setting set retention_period = ''0''');
select ring_bytes > 0 from webhook.health;
reset role;
rollback;
