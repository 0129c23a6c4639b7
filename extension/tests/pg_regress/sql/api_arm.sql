-- webhook_arm: a copy of the database stays silent until it is adopted.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on

\echo -- nothing to arm before the first subscription
select webhook_arm();
select count(*) from webhook.cursor;

select id as sub from webhook_subscribe('https://example.com') \gset
select snapshot as snapshot, epoch as epoch from webhook.cursor \gset
select armed from webhook.health;
select webhook_arm();
select snapshot::text = :'snapshot', epoch = :epoch from webhook.cursor;

\echo -- a copy within the cluster: transaction ids go on
update webhook.cursor set database_oid = 1;
select armed from webhook.health;
select webhook_arm();
select armed from webhook.health;
select snapshot::text = :'snapshot', epoch - :epoch from webhook.cursor;
select created_snapshot::text <> '3:3:' from webhook.subscription where id = :sub;

\echo -- restored into another cluster: everything in the ring is looked at
update webhook.cursor set system_identifier = 1;
select armed from webhook.health;
select webhook_arm();
select armed from webhook.health;
select snapshot, epoch - :epoch from webhook.cursor;
select created_snapshot from webhook.subscription where id = :sub;

\echo -- not for everyone
create role regress_nobody;
set local role regress_nobody;
\set ON_ERROR_STOP off
select webhook_arm();
\echo :SQLSTATE
rollback;
