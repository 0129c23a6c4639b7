-- webhook_forget_owner() removes what belongs to an owner, and nothing of others.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create schema t;
create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted $$;
create role regress_anna; create role regress_sub; create role regress_adm;
select webhook_grant('regress_anna', 'subscriber'), webhook_grant('regress_sub', 'subscriber'), webhook_grant('regress_adm', 'admin'), webhook_grant('regress_adm', 'subscriber');
select count(*) from unnest('{t7,t8,regress_anna}'::text[]) o cross join lateral webhook_subscribe('https://example.com', name => o, owner => o);
insert into webhook.token (name, token_sha256, role, owner) values ('7', sha256('7'), 'regress_sub', 't7'), ('8', sha256('8'), 'regress_sub', 't8'),
    ('anna', sha256('anna'), 'regress_anna', null), ('of anna', sha256('of anna'), 'regress_sub', 'regress_anna'), ('sub', sha256('sub'), 'regress_sub', null);
insert into webhook.owner_limit (owner, subscriptions) values ('*', 5), ('t7', 5), ('t8', 5), ('regress_anna', 5);
insert into webhook.idempotency (caller, key, request_sha256, subscription_id) values ('["regress_sub","t7",null]', '7', '', null), ('["regress_sub","t8",null]', '8', '', null),
    ('', 'made by an admin', '', t.id('t7')), ('["regress_sub","t77",null]', '77', '', null);
insert into webhook.event (type, key, payload, previous, owner) select 'order.paid', o, json_build_object('secret', o), '{"secret": 0}', o from unnest('{t7,t8,regress_anna,*}'::text[]) o;
insert into webhook.event (type, key, payload) values ('order.paid', 'unowned', '{"secret": "unowned"}');
insert into webhook.event (type, key, payload, owner) values ('order.paid', 'erased', json_build_object('secret', 't7'), 't7');
select webhook_erase(null, 'erased');
create view t.own as select * from webhook.event where xid = webhook.current_xid() and type = 'order.paid';
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, response)
    select e.id, e.xid, t.id(s), now(), 1, e.slot, 1, 500, 'http_error', 'echo of ' || e.key from t.own e, unnest('{t7,t8}'::text[]) s where e.key in ('t7', 't8', '*');
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state) select t.id(s), e.id, e.xid, e.slot, 'backlog' from t.own e, unnest('{t7,t8}'::text[]) s where e.key = '*';
insert into webhook.given_up (subscription_id, event_id, event_slot, given_up_at) select t.id(s), e.id, e.slot, now() from t.own e, unnest('{t7,t8}'::text[]) s where e.key = '*';

\echo -- only for admins
select by_hand.tries('regress_sub', 'select webhook_forget_owner(''t7'')');
select by_hand.tries('regress_adm', 'select webhook_forget_owner(null)', 'select webhook_forget_owner(''*'')', 'select webhook_forget_owner(''no such owner'')');
set local role regress_adm;
select webhook_forget_owner('t7');
reset role;
create function t.rest() returns setof text language sql as $$
    select 'subscriptions: ' || string_agg(name, ' ' order by name) from webhook.subscription where owner in ('t7', 't8', 'regress_anna')
    union all select 'secrets: ' || count(*) from webhook.secret k where k.subscription_id in (select id from webhook.subscription where owner in ('t7', 't8', 'regress_anna'))
    union all select 'tokens: ' || string_agg(name, ' ' order by name) from webhook.token
    union all select 'limits: ' || string_agg(owner, ' ' order by owner) from webhook.owner_limit
    union all select 'keys: ' || string_agg(key, ' ' order by key) from webhook.idempotency
    union all select 'events: ' || string_agg(key || ' ' || payload, ', ' order by id) from t.own
    union all select 'queue: ' || string_agg(s.name, ' ') from webhook.queue q join webhook.subscription s on s.id = q.subscription_id
    union all select 'given up: ' || count(*) from webhook.given_up
    union all select 'responses: ' || string_agg(a.response, ', ' order by a.subscription_id, a.event_id) from webhook.attempt a
    union all select 'erasures: ' || string_agg(e.key || ' ' || (x.payload_sha256 = sha256(convert_to(json_build_object('secret', coalesce(nullif(e.key, 'erased'), 't7'))::text, 'UTF8'))), ', ' order by e.id)
        from webhook.erasure x join t.own e on e.id = x.event_id
$$;
select t.rest();
\echo -- an owner that is a role, under its present name
alter role regress_anna rename to regress_anne;
select webhook_forget_owner('regress_anna');
select t.rest();
select webhook_forget_owner('regress_anne');
select t.rest();
\echo -- a role that can read every event is no owner, and keeps its token
create role regress_boss;
select webhook_grant('regress_boss', 'admin');
insert into webhook.token (name, token_sha256, role) values ('boss', sha256('boss'), 'regress_boss');
select webhook_forget_owner('regress_boss');
select name from webhook.token where role = 'regress_boss';
\echo -- a second call has nothing to do
select webhook_forget_owner('t7');
rollback;
