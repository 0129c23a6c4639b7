-- A database of pg_webhook 0.2.0 for the tests: watches, subscriptions with every option, secrets,
-- event types, and events that are delivered, failing, deferred, blocked, or not read yet. The
-- script inserts rows and does not call the SQL API, so they stay as 0.2.0 wrote them.
--
-- {receiver} is the URL of the test's receiver, {secret} the signing secret that it expects.

create table public.orders (id bigint primary key, customer text not null, total numeric not null default 0, note text);
comment on table public.orders is 'What customers have ordered';
create schema "Üb ""er";
create table "Üb ""er"."Ding" ("Id" integer primary key, secret text, "a'b" text);
create table public.invoice (id integer primary key, amount numeric);
create function public."Invoice as JSON"(public.invoice) returns json
    language sql stable as 'select json_build_object(''number'', ($1).id, ''amount'', ($1).amount)';

create role upgrade_publisher login;
create role upgrade_subscriber login;
create role upgrade_reader login;
create role upgrade_dispatcher login;
create role upgrade_admin login;
select webhook_grant('upgrade_publisher', 'publisher');
select webhook_grant('upgrade_subscriber', 'subscriber');
select webhook_grant('upgrade_reader', 'reader');
select webhook_grant('upgrade_dispatcher', 'dispatcher');
select webhook_grant('upgrade_admin', 'admin');

-- -- Watches, with their triggers -----------------------------------------------------------------

insert into webhook.watch (relation, noun, verbs, columns, exclude, on_columns, condition, payload, key_columns, numbered_for) values
    ('public.orders', 'order', '{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"}',
     null, '{note}', '{total,customer}', null, null, '{id}', array['public.orders'::regclass::oid]),
    ('"Üb ""er"."Ding"', 'stock.thing', '{"insert":"added"}', '{Id,"a''b"}', null, null, 'new."a''b" is not null', null, '{Id}', array['"Üb ""er"."Ding"'::regclass::oid]),
    ('public.invoice', 'invoice', '{"insert":"issued"}', null, null, null, null, 'public."Invoice as JSON"', '{id}', array['public.invoice'::regclass::oid]);
insert into webhook.event_type (type, relation, derived, description)
    select d.type, d.relation::regclass, d.derived, d.derived
    from (values
        ('order.created', 'public.orders', 'A row was inserted into public.orders. What customers have ordered'),
        ('order.updated', 'public.orders', 'A row of public.orders was updated. What customers have ordered'),
        ('order.deleted', 'public.orders', 'A row of public.orders was deleted. What customers have ordered'),
        ('order.truncated', 'public.orders', 'public.orders was emptied. What customers have ordered'),
        ('stock.thing.added', '"Üb ""er"."Ding"', 'A row was inserted into "Üb ""er"."Ding".'),
        ('invoice.issued', 'public.invoice', 'A row was inserted into public.invoice.')) as d (type, relation, derived);
insert into webhook.event_type (type, description) values ('shop.closed', 'Entered by hand');
update webhook.event_type set description = 'Written by somebody' where type = 'order.deleted';

create trigger webhook_insert after insert on public.orders for each row execute function webhook.capture(
    '{"noun":"order","verbs":{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"},"exclude":[{"name":"note","number":4}],"on_columns":[{"name":"total","number":3},{"name":"customer","number":2}],"key":[{"name":"id","number":1}],"table":{"name":["public","orders"],"columns":["id","customer","total","note"]}}');
create trigger webhook_update after update on public.orders for each row execute function webhook.capture(
    '{"noun":"order","verbs":{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"},"exclude":[{"name":"note","number":4}],"on_columns":[{"name":"total","number":3},{"name":"customer","number":2}],"key":[{"name":"id","number":1}],"table":{"name":["public","orders"],"columns":["id","customer","total","note"]}}');
create trigger webhook_delete after delete on public.orders for each row execute function webhook.capture(
    '{"noun":"order","verbs":{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"},"exclude":[{"name":"note","number":4}],"on_columns":[{"name":"total","number":3},{"name":"customer","number":2}],"key":[{"name":"id","number":1}],"table":{"name":["public","orders"],"columns":["id","customer","total","note"]}}');
create trigger webhook_truncate after truncate on public.orders for each statement execute function webhook.capture(
    '{"noun":"order","verbs":{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"},"exclude":[{"name":"note","number":4}],"on_columns":[{"name":"total","number":3},{"name":"customer","number":2}],"key":[{"name":"id","number":1}],"table":{"name":["public","orders"],"columns":["id","customer","total","note"]}}');
create trigger webhook_statement before insert or delete or update or truncate on public.orders for each statement execute function webhook.capture(
    '{"noun":"order","verbs":{"insert":"created","update":"updated","delete":"deleted","truncate":"truncated"},"exclude":[{"name":"note","number":4}],"on_columns":[{"name":"total","number":3},{"name":"customer","number":2}],"key":[{"name":"id","number":1}],"table":{"name":["public","orders"],"columns":["id","customer","total","note"]}}');
create trigger webhook_insert after insert on "Üb ""er"."Ding" for each row when ((new."a'b" is not null)) execute function webhook.capture(
    '{"noun":"stock.thing","verbs":{"insert":"added"},"columns":[{"name":"Id","number":1},{"name":"a''b","number":3}],"key":[{"name":"Id","number":1}],"table":{"name":["Üb \"er","Ding"],"columns":["Id","secret","a''b"]}}');
create trigger webhook_statement before insert on "Üb ""er"."Ding" for each statement execute function webhook.capture(
    '{"noun":"stock.thing","verbs":{"insert":"added"},"columns":[{"name":"Id","number":1},{"name":"a''b","number":3}],"key":[{"name":"Id","number":1}],"table":{"name":["Üb \"er","Ding"],"columns":["Id","secret","a''b"]}}');
create trigger webhook_insert after insert on public.invoice for each row execute function webhook.capture(
    '{"noun":"invoice","verbs":{"insert":"issued"},"key":[{"name":"id","number":1}],"payload":"public.\"Invoice as JSON\"","table":{"name":["public","invoice"],"columns":["id","amount"]}}');
create trigger webhook_statement before insert on public.invoice for each statement execute function webhook.capture(
    '{"noun":"invoice","verbs":{"insert":"issued"},"key":[{"name":"id","number":1}],"payload":"public.\"Invoice as JSON\"","table":{"name":["public","invoice"],"columns":["id","amount"]}}');

-- -- Subscriptions: each option at least once -----------------------------------------------------

begin;
insert into webhook.subscription (name, url, events, timeout, retry, max_in_flight, filter, format, payload_mode, headers,
    exclude_origin, rate_limit, ordering, batch_size, batch_window, compact, verification, verified_at, signature, owner) values
    ('plain', '{receiver}/ok', '{*}', default, default, default, null, 'standard', 'full', '{}', '{}', null, 'none', 1, '0', false,
        'none', null, '{standard}', 'postgres'),
    ('keyed', '{receiver}/ok/keyed', '{order.*}', '20 seconds', '{1s,2s,3s,1h}', 8, null, 'standard', 'changed', '{"x-shop":"7"}', '{legacy}',
        1000, 'key', 1, '0', false, 'none', null, '{standard}', 'upgrade_subscriber'),
    ('strict', '{receiver}/ok/strict', '{order.created}', default, '{1s,2s}', default, '$.data.total > 10', 'standard', 'thin', '{}', '{}', null,
        'strict', 1, '0', false, 'none', null, '{standard,svix}', 'tenant seven'),
    ('batched', '{receiver}/ok/batched', '{order.created,invoice.issued}', default, default, default, null, 'cloudevents-structured', 'full', '{}', '{}',
        null, 'none', 50, '100 milliseconds', true, 'none', null, '{standard}', 'postgres'),
    ('binary', '{receiver}/ok/binary', '{order.*}', default, '{}', default, null, 'cloudevents-binary', 'full', '{}', '{}', null, 'none', 1, '0', false,
        'none', null, '{standard}', 'postgres'),
    ('form', '{receiver}/ok/form', '{order.*}', default, default, default, null, 'form', 'full', '{}', '{}', null, 'none', 1, '0', false,
        'none', null, '{standard}', 'postgres'),
    ('raw', '{receiver}/ok/raw', '{stock.*}', default, default, default, null, 'raw', 'full', '{}', '{}', null, 'none', 1, '0', false,
        'ping', now(), '{standard}', 'postgres');
insert into webhook.subscription (name, url, enabled, paused_reason, verification, tls, signature) values
    ('paused', '{receiver}/ok/paused', false, 'on holiday', 'handshake', 'bank', '{github,stripe}');
insert into webhook.secret (subscription_id, secret, expires_at)
    select s.id, '{secret}', null from webhook.subscription s order by s.id;
insert into webhook.secret (subscription_id, secret, expires_at)
    select s.id, '{secret}', now() + interval '1 day' from webhook.subscription s where s.name = 'keyed';
insert into webhook.receiver (subscription_id, circuit, consecutive_failures, failing_since)
    select s.id, 'closed', 3, now() - interval '1 hour' from webhook.subscription s where s.name = 'strict';
insert into webhook.backfill (subscription_id, relation, requested_by, search_path, state, rows_done)
    select s.id, 'public.orders', 'postgres', 'public', 'done', 12 from webhook.subscription s where s.name = 'plain';
commit;

-- -- Events before the checkpoint: delivered, waiting, deferred, blocked --------------------------

begin;
insert into webhook.event (type, table_name, key, actor, origin, payload)
    select 'order.created', 'public.orders', i::text, 'user:7', null, json_build_object('id', i, 'customer', 'c', 'total', 100 + i)
    from generate_series(1, 20) i;
insert into webhook.event (type, table_name, key, payload, previous)
    select 'order.updated', 'public.orders', i::text, json_build_object('id', i, 'customer', 'd', 'total', 100 + i), '{"customer":"c"}'
    from generate_series(1, 3) i;
commit;

begin;
insert into webhook.cursor (snapshot, system_identifier, database_oid)
    select webhook.snapshot_before_this_transaction(), c.system_identifier, d.oid
    from pg_control_system() c, pg_database d where d.datname = current_database();
update webhook.cursor set epoch = 3;
-- The outcome of each matching subscription, by the number of the order.
create temporary table dealt on commit drop as
    select s.id as subscription_id, s.name, s.ordering, e, (e).key::integer as n
    from webhook.subscription s join webhook.event e on webhook.mismatch(e, s) is null and e.type like 'order.%';
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
    select (d.e).id, (d.e).xid, d.subscription_id, now(), 3.5, webhook.present_slot(), 1, 200, 'succeeded'
    from dealt d where d.name <> 'paused' and d.n > 5;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error)
    select (d.e).id, (d.e).xid, d.subscription_id, now(), 3.5, webhook.present_slot(), 1, 503, 'http_error', now() + interval '1 second', 'HTTP 503'
    from dealt d where d.name = 'keyed' and d.n = 1 and (d.e).type = 'order.created';
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state, next_at, last_status, last_error, order_key)
    select d.subscription_id, (d.e).id, (d.e).xid, (d.e).slot, 1, 'waiting', now() + interval '1 second', 503, 'HTTP 503', webhook.order_key(d.ordering, d.e)
    from dealt d where d.name = 'keyed' and d.n = 1 and (d.e).type = 'order.created';
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, order_key)
    select d.subscription_id, (d.e).id, (d.e).xid, (d.e).slot,
           case when d.name = 'keyed' and d.n = 1 then 'blocked' else 'backlog' end, webhook.order_key(d.ordering, d.e)
    from dealt d where d.n <= 5 or d.name = 'paused'
    on conflict do nothing;
commit;

-- -- Events after it ------------------------------------------------------------------------------

insert into public.orders select i, 'c', 10 * i, 'not told' from generate_series(101, 105) i;
update public.orders set total = total + 1 where id < 104;
delete from public.orders where id = 105;
insert into "Üb ""er"."Ding" values (1, 'not told', 'told'), (2, 'not told', null);
insert into public.invoice values (1, 9.90);
select webhook_emit('shop.closed', '{"at":"22:00"}', 'shop');
