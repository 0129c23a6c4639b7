-- Past events are sent again: redelivery of one, replay of a range, and a dry run.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
set local timezone = 'UTC';
set local datestyle = iso;
\pset format unaligned
\pset tuples_only on
-- Past events: one per hour, committed and routed long ago.
create function pg_temp.past(n int, type text, payload json default '{}', origin text default null, only_for bigint default null) returns void language sql as $$
    insert into webhook.event (id, xid, created_at, slot, type, key, payload, origin, subscription_id)
    values (99000000000 + n, 3, date_trunc('hour', now()) - interval '24 hours' + n * interval '1 hour',
            webhook.ring_slot(date_trunc('hour', now()) - interval '24 hours' + n * interval '1 hour'), type, 'k' || n, payload, origin, only_for);
    -- An insert with another transaction id would count as restored from a dump.
    update webhook.event set xid = 3 where id = 99000000000 + n;
$$;
create function pg_temp.at(n int) returns timestamptz language sql as $$ select date_trunc('hour', now()) - interval '24 hours' + n * interval '1 hour' $$;
create temporary view queued as select q.event_id - 99000000000 as n, q.attempts, q.retry_from, q.state, q.order_key is not null as has_order
from webhook.queue q where q.subscription_id = (select id from webhook.subscription where name = 'one') order by 1;
create temporary view asked as select payload from webhook.event where type = 'webhook.delivery.requested' and xid = webhook.current_xid() order by id;

select id from webhook_subscribe('https://example.com', name => 'one', events => '{order.*}', filter => '$.data.total > 100 || $.type == "order.note"', exclude_origin => '{crm}') \gset
select id as other from webhook_subscribe('https://example.com') \gset
select pg_temp.past(1, 'order.paid', '{"total": 500}'), pg_temp.past(2, 'order.paid', '{"total": 5}'), pg_temp.past(3, 'invoice.paid', '{"total": 500}'),
       pg_temp.past(4, 'order.paid', '{"total": 500}', origin => 'crm'), pg_temp.past(5, 'order.note'), pg_temp.past(6, 'webhook.delivery.requested', only_for => :id),
       pg_temp.past(7, 'order.paid', '{"total": 501}'), pg_temp.past(8, 'order.paid', '{"total": 502}', only_for => :other), pg_temp.past(9, 'order.paid', '{"total": 503}', only_for => :id),
       pg_temp.past(10, 'order.paid', '{"total": 504}', origin => 'erp');
update webhook.cursor set snapshot = pg_current_snapshot();
\echo -- three attempts at the first event, the last of them successful; the seventh event waits
\echo -- for its next attempt
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select 99000000001, 3, :id, now(), 1, webhook.ring_slot(now()), a, case a when 3 then 200 else 500 end, case a when 3 then 'succeeded' else 'http_error' end from generate_series(1, 3) a;
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state, next_at) values (:id, 99000000007, 3, webhook.ring_slot(pg_temp.at(7)), 1, 'waiting', now());

\echo -- dry run: every candidate event, and why it does not match
select sequence - 99000000000 as n, type, key, created_at = pg_temp.at((sequence - 99000000000)::int) as at, event_id = webhook.public_id(sequence, created_at) as id, matches, reason
from webhook_dry_run(:id, pg_temp.at(0)) where sequence between 99000000000 and 99000000100;
\echo -- … for a subscription that is older than the events
update webhook.subscription set created_snapshot = '3:3:' where id = :id;
select sequence - 99000000000 as n, matches, reason from webhook_dry_run(:id, pg_temp.at(3)) where sequence between 99000000000 and 99000000100;
select count(*) from webhook_dry_run(:id, pg_temp.at(11)) where sequence between 99000000000 and 99000000100;
select by_hand.fails(statement) from unnest(array['select webhook_dry_run(-1, now())', 'select webhook_dry_run(null, now())', 'select webhook_dry_run(1, null)']) statement;
select webhook_alter(:id, filter => '$.data.total > 100 || $.type == "order.note"') is null;
update webhook.subscription set created_snapshot = '900000000:900000000:' where id = :id;

\echo -- replay: events that match now, older than the subscription or not; waiting deliveries stay
\echo -- unchanged
select webhook_replay(:id, pg_temp.at(1), pg_temp.at(10));
table queued;
table asked;
\echo -- a second call adds nothing and emits no event
select webhook_replay(:id, pg_temp.at(1), pg_temp.at(10));
select count(*) from asked;
\echo -- other types, by patterns; the range has no end
delete from webhook.queue where subscription_id = :id;
select webhook_replay(:id, pg_temp.at(1), events => '{invoice.*,order.note}');
table queued;
delete from webhook.queue where subscription_id = :id;
select webhook_replay(:id, pg_temp.at(9), pg_temp.at(10)), webhook_replay(:id, pg_temp.at(10) + interval '1 us');
table queued;
delete from webhook.queue where subscription_id = :id;
\echo -- the whole past; with ordering, the queue rows have order keys
select count(*) from webhook_alter(:id, ordering => 'key');
select webhook_replay(:id, '-infinity', 'infinity');
table queued;
select bool_and(q.order_key = webhook.order_key('key', e)) from webhook.queue q join webhook.event e on e.slot = q.event_slot and e.id = q.event_id where q.subscription_id = :id;
\echo -- events that the daemon has not read yet are not sent twice
delete from webhook.queue where subscription_id = :id;
update webhook.subscription set created_snapshot = '3:3:' where id = :id;
update webhook.cursor set snapshot = '3:3:';
select count(*) from webhook.pending p where p.subscription_id = :id and p.sequence between 99000000000 and 99000000100;
select webhook_replay(:id, pg_temp.at(1), pg_temp.at(20));
table queued;
update webhook.cursor set snapshot = pg_current_snapshot();

\echo -- mistakes
update webhook.ring_turn set removed_upto = now() - interval '40 days' where slot = 3;
select by_hand.fails(format('select webhook_replay(%s)', arguments)) from unnest(array['-1, now() - interval ''1 hour''', 'null, now()', '1, null', '1, now() - interval ''1 hour'', null', '1, now()',
    '1, now(), now() - interval ''1 hour''', '1, now() - interval ''41 days''', '1, now() - interval ''1 hour'', events => ''{}''', '1, now() - interval ''1 hour'', events => ''{Order}''']) arguments;
\echo -- the ring: removed events are older, and a slot that was not counted may hold events of any
\echo -- time
select webhook.ring_begins() = now() - interval '40 days', webhook.ring_begins(now() - interval '50 days') = now() - interval '50 days';
select webhook.ring_slots('-infinity', now()) @> array[s.slot], s.slots @> array[s.slot] from (select h.present as slot, webhook.ring_slots(now(), now()) as slots from webhook.ring_head h) s;
select webhook.ring_slot(now()) = present, webhook.ring_slot('2000-01-01') = present from webhook.ring_head;

\echo -- redeliver: two calls make two requests; the order key is kept; a removed event is an error
delete from webhook.event where type = 'webhook.delivery.requested' and xid = webhook.current_xid();
select webhook_redeliver(webhook.public_id(99000000001, pg_temp.at(1)), :id), webhook_redeliver(webhook.public_id(99000000001, pg_temp.at(1)), :id);
table queued;
table asked;
delete from webhook.event where id = 99000000001;
select regexp_replace(by_hand.fails(format('select webhook_redeliver(%L, %s)', webhook.public_id(99000000001, pg_temp.at(1)), :id)), 'evt_[0-9a-f]+', 'evt_N');
\pset format aligned
\pset tuples_only off
rollback;
