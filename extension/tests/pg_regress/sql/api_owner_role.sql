-- Rights depend on the OID of the owner's role: they follow a role that is renamed, and a new role
-- with the name of a dropped one has none of them.
begin;
\set VERBOSITY sqlstate
create role regress_ann;
select webhook_grant('regress_ann', 'subscriber');
set local role regress_ann;
select id as sub from webhook_subscribe('https://example.com/1', name => 'one') \gset
reset role;
select owner, owner_role = 'regress_ann'::regrole as is_hers from webhook.subscription where id = :sub;

\echo -- a rename
alter role regress_ann rename to regress_bea;
set local role regress_bea;
select count(*) from webhook.subscription;
select count(*) from webhook.subscription_stats;
select webhook_pause(:sub);
reset role;
create role regress_ann;
select webhook_grant('regress_ann', 'subscriber');
set local role regress_ann;
select count(*) from webhook.subscription;
savepoint s;
select webhook_pause(:sub);
rollback to s;
\echo -- a name that is her own is free
select id as other from webhook_subscribe('https://example.com/2', name => 'one') \gset
reset role;
select webhook.follow_roles();
select id = :sub as first, owner, owner_role = 'regress_bea'::regrole as is_bea from webhook.subscription order by id;
select count(*) from webhook_check() where problem = 'owner was dropped';

\echo -- a drop, and another role of that name
drop owned by regress_bea;
drop role regress_bea;
create role regress_bea;
select webhook_grant('regress_bea', 'subscriber');
set local role regress_bea;
select count(*) from webhook.subscription;
savepoint s;
select webhook_alter(:sub, url => 'https://example.com/stolen');
rollback to s;
reset role;
select detail, repair from webhook_check() where problem = 'owner was dropped';
select webhook.follow_roles();
select owner, owner_role from webhook.subscription where id = :sub;
select count(*) from webhook_check() where problem = 'owner was dropped';
\echo -- a dump keeps the zero, and finds the others by name
create temp table dumped as table webhook.subscription;
delete from webhook.subscription;
update dumped set owner_role = 1 where owner_role <> 0;
insert into webhook.subscription overriding system value select * from dumped;
select id = :sub as first, owner_role = 0 as nobody, owner_role = 'regress_ann'::regrole as is_ann from webhook.subscription order by id;
\echo -- an admin gives it to another role
select owner from webhook_alter(:sub, owner => 'regress_bea');
set local role regress_bea;
select name from webhook.subscription;
reset role;

\echo -- a tenant with the name of a later role is no role
select id as tenants from webhook_subscribe('https://example.com/3', owner => 'regress_cid') \gset
create role regress_cid;
select webhook_grant('regress_cid', 'subscriber');
set local role regress_cid;
select count(*) from webhook.subscription;
reset role;
select webhook.act_for('regress_cid', null);
set local role regress_cid;
select array_agg(id = :tenants) from webhook.subscription;
select id is not null as made from webhook_subscribe('https://example.com/4', name => 'four');
select count(*), count(owner_role) from webhook.subscription;
reset role;
select webhook.act_for(null, null);

\echo -- long names are not cut
create role regress_a234567890123456789012345678901234567890123456789012345;
select webhook.role_named('regress_a234567890123456789012345678901234567890123456789012345') is not null as role,
       webhook.role_named('regress_a234567890123456789012345678901234567890123456789012345 and more') is null as none;

\echo -- tokens
insert into webhook.token (name, token_sha256, role, owner) values ('t', sha256('t'), 'regress_ann', 'regress_bea');
select role_oid = 'regress_ann'::regrole, owner_role = 'regress_bea'::regrole from webhook.token;
alter role regress_ann rename to regress_dan;
drop owned by regress_bea;
drop role regress_bea;
select webhook.follow_roles();
select role, owner, owner_role, role_oid = 'regress_dan'::regrole from webhook.token;
rollback;
