-- webhook_emit, webhook_ping, webhook_redeliver.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
select id as sub from webhook_subscribe('https://example.com') \gset
select id as other from webhook_subscribe('https://example.com') \gset

\echo -- the bytes of the payload are kept; the id finds the row
set local webhook.actor = 'user:7';
set local webhook.origin = 'crm';
set local webhook.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
select webhook_emit('order.paid', '{"b": 1.50,  "a":[1e3,"ü"], "b":2}', 'order 7') as e1 \gset
reset webhook.actor;
reset webhook.origin;
reset webhook.traceparent;
select type, payload, previous, key, table_name, actor, origin, traceparent, truncated, subscription_id, xid = pg_current_xact_id()::text::bigint
from webhook.event where id = webhook.event_sequence(:'e1');
select :'e1' ~ '^evt_[0-9a-f]{15,}$', :'e1' = webhook.public_id(id, created_at) from webhook.event where id = webhook.event_sequence(:'e1');
select webhook_emit('sales.order.paid', 'null') as e2 \gset
select type, payload, key, actor from webhook.event where id = webhook.event_sequence(:'e2');
select webhook.event_sequence(:'e2') > webhook.event_sequence(:'e1');

\echo -- over the cap: only the key, and a mark
set local webhook.payload_bytes_max = 1024;
select webhook_emit('order.paid', to_json(repeat('x', 1023)), 'order "8"') as e3 \gset
select webhook_emit('order.paid', to_json(repeat('x', 1023))) as e4 \gset
select webhook_emit('order.paid', to_json(repeat('x', 1022))) as e5 \gset
select left(payload::text, 40), key, truncated from webhook.event
where id in (webhook.event_sequence(:'e3'), webhook.event_sequence(:'e4'), webhook.event_sequence(:'e5')) order by id;
reset webhook.payload_bytes_max;

\echo -- rolled back to a savepoint: removed
select count(*) as before from webhook.event \gset
savepoint s;
select webhook_emit('order.paid', '{}') is not null;
rollback to s;
select count(*) = :before from webhook.event;

\echo -- a ping goes to one subscription, paused or not
select webhook_pause(:sub);
select webhook_ping(:sub) as ping \gset
select type, subscription_id = :sub, key = :'sub', payload::text = format('{"subscription_id":%s}', :sub) from webhook.event
where id = webhook.event_sequence(:'ping');

\echo -- redelivery of an event that was never attempted: a queue row that is due now, and an event
\echo -- for the daemon
select webhook_redeliver(:'e1', :sub);
select event_id = webhook.event_sequence(:'e1'), event_slot = webhook.ring_slot(clock_timestamp()), attempts, retry_from, state,
       next_at between now() and clock_timestamp(), last_status, last_error
from webhook.queue where subscription_id = :sub;
select type, subscription_id = :sub, payload::text = format('{"sequence":%s}', webhook.event_sequence(:'e1'))
from webhook.event order by id desc limit 1;

\echo -- redelivery after the last attempt: attempts keep counting, and the schedule starts again
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error)
select webhook.event_sequence(:'e2'), webhook.current_xid(), :sub, now() + n * interval '1 s', 5, 0, n, 500 + n, 'http_error', null, 'status ' || 500 + n
from generate_series(1, 3) n;
select webhook_redeliver(:'e2', :sub);
select attempts, retry_from, state, last_status, last_error from webhook.queue where event_id = webhook.event_sequence(:'e2');
\echo -- redelivery of a delivery that waits or is in the backlog: due now
update webhook.queue set state = 'backlog', next_at = null, attempts = 5, retry_from = 2 where event_id = webhook.event_sequence(:'e2');
select webhook_redeliver(:'e2', :sub);
select attempts, retry_from, state, next_at <= clock_timestamp(), last_status from webhook.queue where event_id = webhook.event_sequence(:'e2');
\echo -- two calls emit two events
select count(*) from webhook.event where type = 'webhook.delivery.requested' and subscription_id = :sub;

\echo -- a ping goes only to its own subscription; a request to the daemon goes to none
savepoint s;
do $$
declare
    ping text; request text; one bigint; two bigint;
begin
    select webhook.public_id(e.id, e.created_at), e.subscription_id into ping, one from webhook.event e where e.type = 'webhook.ping';
    select webhook.public_id(e.id, e.created_at) into request from webhook.event e where e.type = 'webhook.delivery.requested' limit 1;
    select max(id) into two from webhook.subscription;
    begin
        perform webhook_redeliver(ping, two);
    exception when invalid_parameter_value then
        raise warning '%', replace(replace(sqlerrm, ping, 'evt_…'), one::text, 'N');
    end;
    begin
        perform webhook_redeliver(request, one);
    exception when invalid_parameter_value then
        raise warning '%', replace(sqlerrm, request, 'evt_…');
    end;
    perform webhook_redeliver(ping, one);
end
$$;
\echo -- the number alone does not identify an event: the time must match
\set VERBOSITY sqlstate
select webhook_redeliver('evt_00000000000001' || to_hex(webhook.event_sequence(:'e1')), :sub);
\set VERBOSITY default
rollback to s;
select count(*) from webhook.queue where subscription_id = :other;
\pset format aligned
\pset tuples_only off
rollback;
