-- webhook.act_for() limits one transaction to one owner's subscriptions, with any rights of the
-- role.
begin;
create role regress_tenants;
select webhook_grant('regress_tenants', 'subscriber');
select id is not null as made from webhook_subscribe('https://example.com/1', name => 'one', owner => 't1');
select id is not null as made from webhook_subscribe('https://example.com/2', name => 'two', owner => 't2');
select webhook.tenant();

-- New subscriptions belong to the tenant, and subscriptions of other owners do not exist.
select webhook.act_for('t1', null);
set local role regress_tenants;
select webhook.tenant(), webhook.may_see_all(), webhook.may_see('t1', null), webhook.may_see('t2', null), webhook.may_see('regress_tenants', 'regress_tenants'::regrole);
select id is not null as made from webhook_subscribe('https://example.com/3', name => 'three');
select name, owner from webhook.subscription order by name;
-- The name of another owner's subscription is free, so a caller who tries it learns nothing.
select id is not null as made from webhook_subscribe('https://example.com/5', name => 'two');
select name, owner from webhook_alter((select id from webhook.subscription where name = 'three'), name => 'two''s');
savepoint n;
select webhook_subscribe('https://example.com/6', name => 'one');
rollback to n;
select webhook_alter((select id from webhook.subscription where name = 'two''s'), name => 'two');
rollback to n;
select name from webhook.subscription_stats order by name;
select name from webhook.subscription_health order by name;
savepoint s;
select webhook_pause(s.id) from generate_series(1, (select max(id) from webhook.subscription)) as s (id) where not exists (select from webhook.subscription x where x.id = s.id) limit 1;
rollback to s;
select webhook_try_now(s.id) from generate_series(1, (select max(id) from webhook.subscription)) as s (id) where not exists (select from webhook.subscription x where x.id = s.id) limit 1;
rollback to s;
select webhook_redeliver_failed(s.id) from generate_series(1, (select max(id) from webhook.subscription)) as s (id) where not exists (select from webhook.subscription x where x.id = s.id) limit 1;
rollback to s;
-- What was given up is not readable, and what the view counts is the tenant's.
select count(*) from webhook.given_up;
rollback to s;
select webhook_subscribe('https://example.com/4', owner => 't2');
rollback to s;
-- No caller can leave the tenant or become another one.
set local webhook.tenant = 't2';
rollback to s;
select set_config('webhook.tenant', '', true);
rollback to s;
select webhook.act_for('t2', null);
rollback to s;

-- Null: the role decides again.
reset role;
select webhook.act_for(null, null);
set local role regress_tenants;
select webhook.tenant(), count(*) from webhook.subscription group by 1;
reset role;
select webhook.tenant(), array_agg(name order by name) from webhook.subscription;
-- An owner cannot get a subscription whose name it uses already, unless the call clears the name.
savepoint n;
select webhook_alter((select id from webhook.subscription where name = 'two' and owner = 't1'), owner => 't2');
rollback to n;
select name, owner from webhook_alter((select id from webhook.subscription where name = 'two' and owner = 't1'), owner => 't2', clear => '{name}');
select name, owner from webhook_alter((select id from webhook.subscription where name = 'two''s'), owner => 't2');
rollback;

-- What a tenant sees of events, event types, its log and its limits; and what it cannot call.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create role regress_tenants;
select webhook_grant('regress_tenants', 'subscriber');
create schema t;
grant usage on schema t to public;
create function t.id(wanted text) returns bigint language sql stable security definer as $$ select id from webhook.subscription where name = wanted $$;
create table visit (id int primary key, tenant text);
create table setup (id int primary key);
select noun from webhook_watch('visit', owner_column => 'tenant', verbs => '{"insert": "created"}');
select noun from webhook_watch('setup', verbs => '{"insert": "created"}');
insert into webhook.event_type (type, description, internal) values ('fraud.scored', 'fraud scores', true), ('order.paid', 'An order was paid.', false);
select count(*) from unnest('{t1,t2}'::text[]) o cross join lateral webhook_subscribe('https://example.com/', name => o, owner => o, events => '{order.*}', locked => '{url}');
insert into webhook.owner_limit (owner, subscriptions, log_days) values ('t1', 1, 2), ('t2', 7, 7);
select webhook.create_token('of ' || o, sha256(o::bytea), 'regress_tenants', o, null) is not null, webhook.create_portal_link(sha256(o::bytea), 'regress_tenants', o, 5) is not null from unnest('{t1,t2}'::text[]) o;
delete from webhook.event where xid = webhook.current_xid();
insert into webhook.event (type, key, payload, owner) values
    ('order.paid', 'own', '{}', 't1'), ('order.paid', 'other', '{"secret": 2}', 't2'), ('order.paid', 'unowned', '{}', null), ('order.paid', 'everyone', '{}', '*'),
    ('fraud.scored', 'internal', '{}', 't1'), ('fraud.scored', 'internal to all', '{}', '*'), ('fax.sent', 'no pattern', '{}', 't1');
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, response)
    select e.id, e.xid, t.id(o), now() - case when e.key = 'everyone' and o = 't1' then interval '3 days' else '0' end, 1, e.slot, 1, 500, 'http_error', 'echo of ' || o || ' ' || e.key
    from webhook.event e cross join unnest('{t1,t2}'::text[]) o where e.xid = webhook.current_xid() and e.type = 'order.paid' and e.owner in (o, '*');
create function t.event(wanted text) returns text language sql stable security definer as
    $$ select webhook.public_id(e.id, e.created_at) from webhook.event e where e.key = wanted and e.xid = webhook.current_xid() and e.type not like 'webhook.%' $$;
-- t.event() runs as its owner.
grant execute on all functions in schema t to public;
create function t.tries(variadic statements text[]) returns setof text language sql as $$
    select regexp_replace(regexp_replace(r, 'subscription \d+', 'subscription N'), 'evt_[0-9a-f]+', 'evt_N', 'g') from by_hand.tries('regress_tenants', variadic statements) r
$$;
select webhook.act_for('t1', null);
set local role regress_tenants;
select string_agg(e.key, ', ' order by e.sequence) from webhook.owned_event e;
select string_agg(m.key, ', ' order by m.sequence) from webhook.matching_event m where m.type not like 'webhook.%';
select string_agg(d.key || ' ' || d.state, ', ' order by d.sequence) from webhook.delivery d;
select string_agg(d.key || ' ' || d.state, ', ' order by d.sequence) from webhook_deliveries(t.id('t1')) d;
select count(*) from webhook_deliveries(t.id('t2'));
select string_agg(a.response, ', ') from webhook.attempt a;
select string_agg(d.key || coalesce(' ' || d.reason, ''), ', ' order by d.sequence) from webhook_dry_run(t.id('t1'), now() - interval '1 hour') d where d.type not like 'webhook.%';
select count(*), bool_and(v.since = now() - interval '2 days') from webhook.visible_log v;
select webhook.visible_log_starts() ? t.id('t2')::text;
select string_agg(o, ' ' order by o) from webhook.offered_types() o;
select string_agg(e.type, ' ' order by e.type) from webhook.event_type e;
select webhook.owns_event('t1'), webhook.owns_event('t2'), webhook.owns_event('*'), webhook.owns_event(null), webhook.owns_event('regress_tenants');
reset role;
select t.tries('select from webhook.event', 'select from webhook.queue', 'select from webhook.owner_limit', 'select from webhook.token', 'select from webhook.portal_link', 'select from webhook.erasure',
    'select from webhook.watch', 'select from webhook.unresolved', 'select from webhook.pending', 'update webhook.event_type set internal = true', 'insert into webhook.event_type (type) values (''a.b'')',
    'select webhook.limit_of(''t1'', null)', 'select webhook.exceeded_limit(s) from webhook.subscription s', 'select webhook.blank_events(''owner'', ''t2'')', 'select webhook_forget_owner(''t1'')',
    'select webhook_erase(null, ''other'')', 'select webhook_arm(keep_tokens => true)', 'select webhook.check_token_role(''regress_tenants'', ''t1'')',
    'select webhook.create_token(''x'', sha256(''x''), ''regress_tenants'', ''t1'', null)', 'select webhook.create_portal_link(sha256(''x''), ''regress_tenants'', ''t1'', 5)',
    'select webhook_emit(''order.paid'', ''{}'', owner => ''t2'')', 'select webhook.tell(''webhook.subscription.failing'', t.id(''t1''), ''{}'')', 'select webhook.find_event(t.event(''other''))');
select t.tries('select webhook_subscribe(''https://example.com/'')', 'select webhook_alter(t.id(''t1''), scope => ''all'')', 'select webhook_alter(t.id(''t1''), url => ''https://example.com/x'')',
    'select webhook_alter(t.id(''t1''), locked => ''{}'')', 'select webhook_alter(t.id(''t1''), owner => ''t2'')', 'select webhook_alter(t.id(''t2''), events => ''{*}'')',
    'select webhook_redeliver(t.event(''own''), t.id(''t1''))', 'select webhook_redeliver(t.event(''other''), t.id(''t1''))', 'select webhook_redeliver(t.event(''other''), t.id(''t2''))', 'select webhook_redeliver(t.event(''unowned''), t.id(''t1''))',
    'select webhook_redeliver(t.event(''internal''), t.id(''t1''))', 'select webhook_redeliver(t.event(''no pattern''), t.id(''t1''))',
    'select webhook_replay(t.id(''t2''), now() - interval ''1 hour'')', 'select webhook_dry_run(t.id(''t2''), now() - interval ''1 hour'')', 'select webhook_redeliver_failed(t.id(''t2''))',
    'select webhook_backfill(t.id(''t1''), ''setup'')', 'select webhook_event_schema(''setup.created'')', 'select webhook_event_schema(''fraud.scored'')');
set local role regress_tenants;
select webhook_replay(t.id('t1'), now() - interval '1 hour', 'infinity');
reset role;
-- All that was queued is the tenant's.
select string_agg(e.key, ', ' order by e.id) from webhook.queue q join webhook.event e on e.id = q.event_id and e.xid = q.event_xid;
\pset format aligned
\pset tuples_only off
rollback;
