-- The options of the delivery policy: stored values, rejected values with their errors, effects of
-- a change.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create temporary view shown as
select id, filter, format, payload_mode, headers, rate_limit, ordering, batch_size, batch_window, compact, exclude_origin, verification, verified_at
from webhook.subscription;

\echo -- defaults: the function and the table agree
select id as plain from webhook_subscribe('https://example.com') \gset
insert into webhook.subscription (url) values ('https://example.com/') returning id as bare \gset
select filter, format, payload_mode, headers, rate_limit, ordering, batch_size, batch_window, compact, exclude_origin, verification, verified_at from shown where id = :plain;
select count(distinct (events, enabled, timeout, retry, max_in_flight, filter::text, format, payload_mode, headers, rate_limit, ordering, batch_size, batch_window, compact, exclude_origin, verification))
from webhook.subscription where id in (:plain, :bare);

\echo -- every option
select id from webhook_subscribe('https://example.com', name => 'all', filter => '$.data.total > 100', format => 'cloudevents-structured', payload_mode => 'changed',
    headers => '{"Authorization": "Bearer hunter2", "X-Tenant": ""}', rate_limit => 0.5, ordering => 'key', batch_size => 1000, batch_window => '1 min', compact => true,
    exclude_origin => '{crm,erp}', verification => 'handshake') \gset
select filter, format, payload_mode, headers, rate_limit, ordering, batch_size, batch_window, compact, exclude_origin, verification, verified_at from shown where id = :id;
\echo -- by position, in the order of the documentation
select count(*) from webhook_subscribe('https://example.com', '{*}', null, null, '1 s', '{}', 1, true, '$', 'form', 'thin', '{}', 1, 'strict', 1, '0', false, '{}', 'ping');
\echo -- alter: omitted options stay, and so do nulls
select (s).headers, (s).batch_window, (s).exclude_origin from (select webhook_alter(:id) s) a;
select filter, rate_limit, ordering, verification from webhook_alter(:id, rate_limit => 100000, ordering => 'none', verification => 'ping');
select filter, format, payload_mode, headers, batch_size, batch_window, compact, exclude_origin from webhook_alter(:id, filter => '$.data.vip', format => 'raw', payload_mode => 'thin',
    headers => '{}', batch_size => 1, batch_window => '0', compact => false, exclude_origin => '{}');
\echo -- what a response must contain
select expected_response, keep_response from webhook_alter(:id, expected_response => '{"ok": true}', keep_response => true);
select expected_response, keep_response from webhook_alter(:id, clear => '{expected_response}');
\echo -- clear
select name, filter, rate_limit from webhook_alter(:id, clear => '{filter}');
select name, filter, rate_limit from webhook_alter(:id, clear => '{name,rate_limit,filter}', filter => null);
select name, filter, rate_limit from webhook_alter(:id, clear => '{}', name => 'all', filter => '$');
select by_hand.fails(format('select webhook_alter(%s, %s)', :id, arguments)) from unnest(array['clear => ''{url}''', 'clear => ''{filter,null}''', 'clear => ''{"a b"}''', 'clear => ''{filter}'', filter => ''$.a''',
    'clear => ''{name,name}''']) arguments;

\echo -- out of range, or an unknown word
create function pg_temp.refused(arguments text) returns text language sql as $$
    select by_hand.fails(format('select webhook_subscribe(''https://example.com'', %s)', arguments))
$$;
select arguments, pg_temp.refused(arguments) from unnest(array[
    'expected_response => ''[1]''', 'expected_response => ''null''', 'expected_response => jsonb_build_object(''a'', repeat(''x'', 4096))',
    'format => ''xml''', 'payload_mode => ''FULL''', 'ordering => ''''', 'verification => ''dns''', 'rate_limit => 0', 'rate_limit => -1', 'rate_limit => 100000.1', 'rate_limit => ''NaN''',
    'rate_limit => 0.00001157', 'batch_size => 0', 'batch_size => 1001', 'batch_window => ''-1 s'', batch_size => 2', 'batch_window => ''61 s'', batch_size => 2',
    'batch_window => ''1 mon'', batch_size => 2', 'exclude_origin => ''{crm,null}''', 'exclude_origin => ''{" "}''', 'exclude_origin => array_fill(''x''::text, array[101])',
    'format => null', 'payload_mode => null', 'headers => null', 'ordering => null', 'batch_size => null', 'batch_window => null', 'compact => null', 'exclude_origin => null', 'verification => null'
]) arguments;
select pg_temp.refused('rate_limit => 1.0 / 86400'), pg_temp.refused('rate_limit => 100000'), pg_temp.refused('batch_size => 2, batch_window => ''1 min''');

\echo -- a filter that is not a path, or has a variable
\echo -- (the messages are those of Postgres)
select arguments, left(pg_temp.refused(arguments), 5) from unnest(array['filter => ''$.data.total >''', 'filter => ''''', 'filter => ''select 1''']) arguments;
select left(by_hand.fails(format('select webhook_alter(%s, filter => ''not a path'')', :id)), 5);
select arguments, pg_temp.refused(arguments) from unnest(array['filter => ''$.data.total > $limit''', 'filter => ''$.a ? (@.b == $"x y")''']) arguments;
select pg_temp.refused('filter => ''$.data.name == "$limit" && $."$x" == 1''');
select bytes, pg_temp.refused(format('filter => ''$.a == "%s"''', repeat('x', bytes))) from unnest(array[8179, 8180]) bytes;

\echo -- headers
select headers, pg_temp.refused(format('headers => %L', headers)) from unnest(array['[]', '"x"', 'null', '{"x-a": 1}', '{"x-a": null}', '{"x-a": {"b": 1}}', '{"": "x"}', '{"a b": "x"}', '{"a:": "x"}',
    '{"größe": "x"}', '{"x-a\nhost": "evil"}', '{"X-A": "1", "x-a": "2"}', '{"x-a": "a\r\nhost: evil"}', '{"x-a": "\t"}', '{"x-a": " padded"}',
    '{"Host": "x"}', '{"Connection": "x"}', '{"Transfer-Encoding": "x"}', '{"Content-Type": "x"}', '{"content-anything": "x"}', '{"WEBHOOK-ID": "x"}', '{"ce-type": "x"}', '{"Svix-Id": "x"}',
    '{"X-Amz-Date": "x"}', '{"Proxy-Authorization": "x"}', '{"X-Forwarded-For": "x"}', '{"User-Agent": "x"}', '{"Cookie": "x"}', '{"traceparent": "x"}']) headers;
select pg_temp.refused(format('headers => %L', json_build_object('x-long', repeat('x', 4097)))), pg_temp.refused(format('headers => %L', json_build_object('x-long', repeat('x', 4096))));
select pg_temp.refused(format('headers => %L', (select json_object_agg('x-' || i, '') from generate_series(1, 21) i))), pg_temp.refused(format('headers => %L', (select json_object_agg('x-' || i, '') from generate_series(1, 20) i)));
\echo -- the error never repeats the value: it may be a password
select pg_temp.refused('headers => ''{"authorization": "hunter2\n"}''') like '%hunter2%' as is_repeated;

\echo -- contradictions
select arguments, pg_temp.refused(arguments) from unnest(array['batch_size => 2, format => ''raw''', 'batch_size => 2, format => ''form''', 'batch_size => 2, format => ''cloudevents-binary''',
    'batch_window => ''1 s''', 'compact => true, ordering => ''strict''']) arguments;
\echo -- … also between changed and unchanged options
select id as batching from webhook_subscribe('https://example.com', batch_size => 10, batch_window => '1 s', compact => true) \gset
select arguments, by_hand.fails(format('select webhook_alter(%s, %s)', :batching, arguments)) from unnest(array['format => ''raw''', 'batch_size => 1', 'ordering => ''strict''',
    'batch_size => 1, batch_window => ''0'', ordering => ''strict''']) arguments;
select by_hand.fails(format('select webhook_alter(%s, batch_size => 1, batch_window => ''0'', compact => false, ordering => ''strict'', format => ''raw'')', :batching));
select format, ordering, batch_size, batch_window, compact from shown where id = :batching;
\echo -- no part of a rejected call is stored
select count(*) from webhook.subscription where url like '%example.com%' and (filter::text like '%limit%' and filter::text not like '%"$limit"%' or format not in ('standard', 'cloudevents-structured', 'raw', 'form'));

\echo -- another URL must be confirmed again
update webhook.subscription set verified_at = now() where id = :id;
select verified_at is not null from webhook_alter(:id, timeout => '2 s', url => 'https://example.com', verification => 'ping');
select verified_at is not null from webhook_alter(:id, verification => 'handshake');
update webhook.subscription set verified_at = now() where id = :id;
select verified_at is not null from webhook_alter(:id, url => 'https://example.org');

\echo -- another ordering, with queued deliveries: keys follow, blocked deliveries join the
\echo -- backlog, and the daemon is notified
select count(*) from webhook_alter(:id, clear => '{filter}');
select webhook_emit('order.paid', '{}', key => 'a') is not null, webhook_emit('order.paid', '{}', key => 'b') is not null, webhook_emit('order.paid', '{}', key => 'a') is not null;
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, next_at, order_key)
select :id, e.id, e.xid, e.slot, case when e.key = 'b' then 'waiting' else 'backlog' end, case when e.key = 'b' then now() end, null from webhook.event e where e.type = 'order.paid' and e.xid = webhook.current_xid();
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, next_at, order_key) values (:id, 1, 3, 0, 'backlog', null, 5);
create temporary view queued as select q.event_id, e.key, q.state, q.next_at is not null as is_due, q.order_key = webhook.order_key('key', e) as is_of_its_key, q.order_key = 0 as is_strict, q.order_key is null as is_free
from webhook.queue q left join webhook.event e on e.slot = q.event_slot and e.id = q.event_id;
create temporary view asked as select count(*) from webhook.event where type = 'webhook.delivery.requested' and xid = webhook.current_xid() and payload::text = '{"backlog":true}';
select count(*) from webhook_alter(:id, ordering => 'key');
select key, state, is_due, is_of_its_key, is_free from queued order by event_id;
select * from asked;
select count(*) from webhook_alter(:id, ordering => 'key');
select * from asked;
update webhook.queue set state = 'blocked' where state = 'backlog' and order_key is not null;
select count(*) from webhook_alter(:id, ordering => 'strict');
select key, state, is_due, is_strict, is_free from queued order by event_id;
select * from asked;
update webhook.queue set state = 'blocked' where state = 'backlog' and order_key is not null;
select count(*) from webhook_alter(:id, ordering => 'none');
select key, state, is_due, is_free from queued order by event_id;
select * from asked;
\pset format aligned
\pset tuples_only off
rollback;
