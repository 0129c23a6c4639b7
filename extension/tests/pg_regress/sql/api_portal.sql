-- Tokens, links to the page of an owner, and the events of an owner.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create role regress_tenants; create role regress_ops; create role regress_clerk; create role regress_ann;
select webhook_grant('regress_tenants', 'subscriber'), webhook_grant('regress_ops', 'admin'), webhook_grant('regress_clerk', 'reader');
select webhook_grant('regress_ann', 'subscriber');

\echo -- only an admin makes tokens and links
set local role regress_ops;
select id is not null from webhook.create_token('one', sha256('1'), 'regress_tenants', 't1', now() + interval '5 minutes') as id;
select name, role, owner, created_by, expires_at - created_at from webhook.token;
select ends - now() from webhook.create_portal_link(sha256('a'), 'regress_tenants', 't1', 5) as ends;
select role, owner, created_by, expires_at - created_at, used_at, session_sha256 from webhook.portal_link;
reset role;
savepoint s;
\set ON_ERROR_STOP off
set local role regress_clerk;
select webhook.create_token('x', sha256('2'), 'regress_tenants', null, null);
\echo :SQLSTATE
rollback to s;
set local role regress_ann;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', 't1', 5);
\echo :SQLSTATE
rollback to s;
set local role regress_ann;
select count(*) from webhook.portal_link;
\echo :SQLSTATE
rollback to s;

\echo -- mistakes are named
select webhook.create_token('x', sha256('2'), 'regress_clerk', 't1', null);
rollback to s;
select webhook.create_token('x', sha256('2'), 'no_such_role', null, null);
rollback to s;
select webhook.create_token('x', sha256('2'), null, null, null);
rollback to s;
select by_hand.fails(format('select webhook.create_token(''x'', sha256(''2''), ''regress_tenants'', %L, null)', o)) from unnest(array['*', '', ' ', E'a\nb', repeat('x', 201)]) o;
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_clerk', 't1', 5);
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', '', 5);
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', '*', 5);
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', null, 5);
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', 't1', 0);
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', 't1', 1441);
rollback to s;
select webhook.create_portal_link(sha256('b'), 'regress_tenants', 't1', null);
rollback to s;
\set ON_ERROR_STOP on

\echo -- expired links are kept for a day, and the newest 1000 of an owner
update webhook.portal_link set created_at = now() - interval '49 hours', expires_at = now() - interval '25 hours';
select count(webhook.create_portal_link(sha256(i::text::bytea), 'regress_tenants', 't2', 5)) from generate_series(1, 1001) i;
select owner, count(*), bool_or(token_sha256 = sha256('1')), bool_or(token_sha256 = sha256('1001')) from webhook.portal_link group by owner;

\echo -- a link follows its roles, and ends with them
select webhook.create_portal_link(sha256('ann'), 'regress_tenants', 'regress_ann', 5) is not null;
alter role regress_ann rename to regress_anna;
alter role regress_tenants rename to regress_customers;
select webhook.follow_roles();
select role, owner, owner_role = 'regress_anna'::regrole from webhook.portal_link where token_sha256 = sha256('ann');
drop owned by regress_anna;
drop role regress_anna;
select webhook.follow_roles();
select owner_role from webhook.portal_link where token_sha256 = sha256('ann');

\echo -- the events of an owner: own ones and announcements, without internal types
delete from webhook.event;
insert into webhook.event_type (type, internal) values ('fraud.scored', true);
insert into webhook.event (id, xid, slot, type, key, payload, owner)
select i, 100, 0, case i when 5 then 'fraud.scored' else 'order.created' end, i::text, '{}', owner
from unnest(array['t1', 't2', '*', null, 't1', 'regress_clerk', 'regress_customers']) with ordinality as o (owner, i);
create function t_events() returns text language sql as
    $$ select string_agg(e.key, ' ' order by e.sequence) from webhook.owned_event e $$;
select webhook.act_for('t1', null);
set local role regress_customers;
select t_events();
reset role;
select webhook.act_for('t3', null);
set local role regress_customers;
select t_events();
reset role;
select webhook.act_for(null, null);
\echo -- a role has its own, a reader all
set local role regress_customers;
select t_events();
set local role regress_clerk;
select t_events();
reset role;

\echo -- an armed copy has neither tokens nor links of its original
select webhook_subscribe('https://example.com') is not null;
update webhook.cursor set database_oid = 1;
savepoint kept;
select webhook_arm(keep_tokens => true);
select count(*) > 0 from webhook.portal_link;
rollback to kept;
select webhook_arm();
select count(*) from webhook.token;
select count(*) from webhook.portal_link;
rollback;
