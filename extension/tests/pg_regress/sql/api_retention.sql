-- Retention: when the ring turns, when slots are emptied, what keeps them, and what happens to
-- undelivered events.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
set local timezone = 'UTC';
-- Remove the rows of other tests.
truncate webhook.event, webhook.attempt;
\pset format unaligned
\pset tuples_only on

\echo -- the length of a turn is a twelfth of the retention period, and at least a minute
create function period(retention_period interval) returns interval language plpgsql as $$
begin
    update webhook.setting s set retention_period = period.retention_period;
    return webhook.slot_period();
end $$;
select period, period(period) from unnest(array['35 days', '1 day', '1 hour', '1 second', '0', '30 days']::interval[]) period;

\echo -- settings: within the limits of the ring
select retention, retention_period, max_age, ring_bytes_max from webhook.setting;
select by_hand.fails(statement) from unnest(array[
    'update webhook.setting set retention_period = ''36 days'', max_age = ''36 days''', 'update webhook.setting set max_age = ''38 days''',
    'update webhook.setting set max_age = ''29 days''', 'update webhook.setting set retention_period = ''-1 second''',
    'update webhook.setting set singleton = false', 'update webhook.setting set ring_bytes_max = 67108863',
    'select webhook.retire_slot(16)', 'select webhook.retire_slot(-1)']) statement;
\echo -- the row of a dump replaces the existing row
insert into webhook.setting (retention_period, ring_bytes_max) values ('7 days', null);
select retention_period, max_age, ring_bytes_max from webhook.setting;
update webhook.setting set retention_period = default, ring_bytes_max = default;

\echo -- an empty slot does not turn; a slot with an event turns on request, or when its period is
\echo -- over
create table moment as select clock_timestamp() as now, present::integer as slot from webhook.ring_head;
create function head() returns table (present integer, open integer[]) language sql as $$
    select mod(16 + h.present - m.slot, 16), array(select mod(16 + o - m.slot, 16) from unnest(h.open) o) from webhook.ring_head h, moment m $$;
-- Returns the slot that follows the first one at this distance.
create function slot(after integer) returns integer language sql as $$ select mod(m.slot + after, 16) from moment m $$;
select webhook.turn_ring(true);
select * from head();
select webhook_emit('order.paid', '{"n": 1}') is not null;
select webhook.turn_ring();
select webhook.retire_slot(slot(0)), (select state from webhook.ring where slot = slot(0));
update webhook.ring_turn set began_at = began_at - interval '60 hours' where slot = slot(0);
select webhook.turn_ring() = slot(1);
select * from head();
select webhook_emit('order.paid', '{"n": 2}') is not null;
select mod(16 + slot - slot(0), 16), payload from webhook.event order by id;

\echo -- a clock that was ahead is corrected: the slot begins now at the latest
update webhook.ring_turn set began_at = clock_timestamp() + interval '400 days' where slot = slot(1);
select webhook.turn_ring(true) = slot(2), (select began_at <= clock_timestamp() from webhook.ring_turn where slot = slot(1));

\echo -- a slot is closed when no transaction can write to it; then it is counted, and stays for 30
\echo -- days
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select e.id, e.xid, 1, m.now, 1, m.slot, 1, 200, 'succeeded' from webhook.event e, moment m where e.slot = m.slot;
insert into webhook.cursor (snapshot, system_identifier, database_oid, saved_at)
select '3:3:', system_identifier, (select oid from pg_database where datname = current_database()), m.now from pg_control_system(), moment m;
select webhook.retire_slot(slot(0)), webhook.retire_slot(slot(1));
select * from head();
select webhook.retire_slot(slot(0));
select rows, first_at between now and clock_timestamp(), last_at = first_at, ended_at > last_at, held from webhook.ring_turn, moment where ring_turn.slot = moment.slot;
create table ended as select webhook.slot_ended_at(slot, clock_timestamp()) as at from moment;
select webhook.retire_slot_at(slot, at + interval '30 days' - interval '1 second') from moment, ended;
\echo -- the daemon has not read the event
select webhook.retire_slot_at(slot, at + interval '31 days') from moment, ended;
select webhook.slot_is_held(kind, slot, at + interval '36 days') from moment, ended, unnest(array['event', 'attempt']) kind;
select held from webhook.ring where slot = slot(0);
select ring_bytes > 0, ring_bytes_max, ring_held_bytes > 0 from webhook.health;
update webhook.cursor set snapshot = format('%1$s:%1$s:', webhook.current_xid() + 1)::pg_snapshot;
\echo -- a queued delivery keeps its event until max_age; its attempts are removed earlier
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state)
select s, e.id, e.xid, e.slot, 2, 'backlog' from webhook.event e, generate_series(1, 3) s where e.slot = slot(0);
savepoint undelivered;
select webhook.retire_slot_at(slot, at + interval '31 days') from moment, ended;
select count(*) from webhook.event where type = 'order.paid';
select count(*) from webhook.attempt;
select webhook.retire_slot_at(slot, at + interval '35 days' - interval '1 second') from moment, ended;
\echo -- no subscription receives the report
select webhook.exhaust_slot(slot, '35 days', 1) from moment;
select count(*) from webhook.queue;
select count(*) from webhook.event where type = 'webhook.delivery.exhausted';
select id as operator from webhook_subscribe('https://example.com', '{webhook.*}') \gset
\echo -- a subscription receives the report
select webhook.retire_slot_at(slot, at + interval '35 days') from moment, ended;
select attempt, outcome, status, next_at, error, response from webhook.attempt where outcome = 'refused';
select key::integer between 1 and 3 as key, payload::jsonb - 'event_id' - 'sequence' - 'subscription_id' as payload, payload ->> 'event_id' like 'evt_%' as event_id
from webhook.event where type = 'webhook.delivery.exhausted';
select d.state, d.attempts from webhook.delivery d join webhook.event e on e.id = d.sequence where e.slot = slot(0);
select count(*) from webhook.queue;
rollback to undelivered;
delete from webhook.queue;
\echo -- delivered: the rows are removed, and the table can be used again
select webhook.retire_slot_at(slot, at + interval '31 days') from moment, ended;
select webhook.retire_slot_at(slot, at + interval '31 days') from moment, ended;
select count(*) from webhook.event where slot = slot(0);
select count(*) from webhook.attempt where slot = slot(0);
select sum(pg_relation_size(format('webhook.event_%s', slot)::regclass) + pg_relation_size(format('webhook.attempt_%s', slot)::regclass)) from moment;

\echo -- an event is found by its public id, in any slot and with any time
select (webhook.find_event(webhook.public_id(e.id, e.created_at))).payload from webhook.event e where e.slot = slot(1);
update webhook.event set created_at = created_at - interval '1 year' where slot = slot(1);
update webhook.ring_turn set rows = null where slot = slot(1);
select webhook.count_slot(slot(1)) is not null;
select (webhook.find_event(webhook.public_id(e.id, e.created_at))).payload from webhook.event e where e.slot = slot(1);
select webhook.ring_slots(created_at, created_at) @> array[slot], webhook.ring_slots(created_at - interval '2 days', created_at - interval '1 day') @> array[slot]
from webhook.event where slot = slot(1);
\echo -- the ring begins with its oldest event
create table gone as select created_at from webhook.event where slot = slot(1);
select webhook.ring_begins() < created_at, webhook.retire_slot(slot(1)) from gone;
select webhook.ring_begins() between ended.at and clock_timestamp() from ended;

\echo -- a row that is inserted by hand opens a slot whose turn is over; present_slot() returns an
\echo -- open slot
select * from head();
insert into webhook.event (type, payload, slot) values ('order.noted', '{}', slot(7)), ('order.noted', '{}', slot(7));
select * from head();
select webhook.present_slot() = slot(2), webhook.slot_is_open(slot(2)::smallint), webhook.slot_is_open(slot(7)::smallint), webhook.slot_is_open(slot(8)::smallint);
savepoint opened;
insert into webhook.event (type, payload, slot) values ('order.noted', '{}', slot(8));
select webhook.slot_is_open(slot(8)::smallint);
rollback to opened;
select webhook.slot_is_open(slot(8)::smallint);
\echo -- a row from a dump opens no slot
insert into webhook.event (type, payload, slot, xid) values ('order.noted', '{}', slot(9), 5);
select webhook.slot_is_open(slot(9)::smallint), (select xid from webhook.event where slot = slot(9));
delete from webhook.event where slot = slot(9);

\echo -- an attempt with a time in the future does not keep a slot longer
select webhook.retire_slot(slot(7));
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select 1, 1, 1, m.now + interval '400 days', 1, slot(7), 1, 200, 'succeeded' from moment m;
update webhook.cursor set snapshot = format('%1$s:%1$s:', webhook.current_xid() + 1)::pg_snapshot;
select webhook.retire_slot_at(slot(7), now + interval '29 days') from moment;
select webhook.retire_slot_at(slot(7), now + interval '31 days') from moment;
select count(*) from webhook.attempt where slot = slot(7);

\echo -- retention is off
update webhook.setting set retention = false;
select webhook.retire_slot(slot(0));
update webhook.setting set retention = true;

\echo -- over ring_bytes_max: delivered events are removed, the oldest first, and undelivered
\echo -- events stay
create function fill(count integer) returns bigint language sql as $$
    insert into webhook.event (type, payload) select 'order.full', json_build_object('x', repeat('x', 1000)) from generate_series(1, count);
    select count(*) from webhook.event where slot = (select present from webhook.ring_head) $$;
select bytes_max, held_bytes, retired, in_use from webhook.relieve_ring();
update webhook.setting set ring_bytes_max = 67108864;
select fill(5000);
\echo -- a sixteenth is full, so the slot turns
select webhook.turn_ring() = slot(3);
select fill(30000);
select webhook.turn_ring() = slot(4);
select fill(30000);
select webhook.turn_ring() = slot(5);
select fill(1);
select webhook.retire_slot(slot(2)), webhook.retire_slot(slot(3)), webhook.retire_slot(slot(4));
select problem, relation, repair from webhook_check();
\echo -- no daemon has read the events
savepoint full_of_undelivered;
update webhook.cursor set snapshot = '3:3:';
select bytes > bytes_max, held_bytes > 67108864, cardinality(retired) from webhook.relieve_ring();
select problem from webhook_check();
select count(*) from webhook.event where type = 'order.full';
rollback to full_of_undelivered;
update webhook.cursor set snapshot = format('%1$s:%1$s:', webhook.current_xid() + 1)::pg_snapshot;
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state)
select 1, e.id, e.xid, e.slot, 2, 'backlog' from webhook.event e where e.slot = slot(2) limit 1;
select bytes > bytes_max, bytes < 67108864, held_bytes > 0, array(select mod(16 + r - slot(0), 16) from unnest(retired) r) from webhook.relieve_ring();
select array_agg(distinct mod(16 + slot - slot(0), 16)) from webhook.event where type = 'order.full';
select mod(16 + slot - slot(0), 16), state, held from webhook.ring where state <> 'empty' or held is not null order by 1;
select problem from webhook_check();

\echo -- the views for operators
select webhook_emit('order.paid', '{"n": 3}') is not null;
select count(*), count(*) filter (where r.ended_at > now() and r.retires_at = r.ended_at + interval '30 days' and r.state = 'present'),
       bool_and(r.event_bytes > 0 and r.attempt_bytes > 0) from webhook.ring r;
select ring_bytes > 0, ring_oldest_at is not null from webhook.health;

\echo -- the daemon empties slots, but only by the real clock
create role regress_daemon;
select webhook_grant('regress_daemon', 'dispatcher');
set local role regress_daemon;
select webhook.retire_slot(webhook.ring_slot(now()));
select webhook.turn_ring(), retired from webhook.relieve_ring();
select by_hand.fails('select webhook.retire_slot_at(0, now())');
select by_hand.fails('select webhook.close_slot(0)');
select by_hand.fails('truncate webhook.event_0');
select by_hand.fails('update webhook.ring_head set present = 3');
select by_hand.fails('update webhook.setting set retention_period = ''0''');
select ring_bytes > 0 from webhook.health;
reset role;
rollback;
