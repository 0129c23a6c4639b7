-- webhook_arm(): a copy of the database sends nothing until an operator arms it.
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
-- Updates of tables without a replica identity fail while this publication exists, so the test
-- shows that every table has one. Hide the warning that wal_level is too low to publish.
set local client_min_messages = error;
create publication everything for all tables;
set local client_min_messages = warning;

\echo -- before the first subscription there is nothing to arm
select webhook_arm();
select count(*) from webhook.cursor;

select id as sub from webhook_subscribe('https://example.com') \gset
select snapshot as snapshot, epoch as epoch from webhook.cursor \gset
select armed from webhook.health;
select webhook_arm();
select snapshot::text = :'snapshot', epoch = :epoch from webhook.cursor;

\echo -- a copy within the cluster: transaction ids continue; the tokens of the original do not work
insert into webhook.token (name, token_sha256, role) values ('one', sha256('one'), current_user);
update webhook.cursor set database_oid = 1;
select armed from webhook.health;
select webhook_arm(keep_tokens => true);
select count(*) from webhook.token;
update webhook.cursor set database_oid = 1, epoch = epoch - 1;
set local client_min_messages = notice;
select webhook_arm();
set local client_min_messages = warning;
select count(*) from webhook.token;
select armed from webhook.health;
select snapshot::text = :'snapshot', epoch - :epoch from webhook.cursor;
select created_snapshot::text <> '3:3:' from webhook.subscription where id = :sub;

\echo -- a database that pg_upgrade moved: another cluster, the same transaction ids
update webhook.cursor set system_identifier = 1;
select armed from webhook.health;
select webhook_arm();
select armed from webhook.health;
select snapshot::text = :'snapshot', epoch - :epoch, restored_at from webhook.cursor;
select created_snapshot::text <> '3:3:' from webhook.subscription where id = :sub;

\echo -- another instance: a copy is detected when it refuses a daemon; a running daemon keeps its
\echo -- database
update webhook.cursor set instance = 'db.example:5432/shop';
select armed, instance, disarmed_because from webhook.health;
update webhook.cursor set refused_instance = 'staging';
select armed, instance, disarmed_because from webhook.health;
select webhook_arm();
select armed, instance, disarmed_because from webhook.health;
select instance, refused_instance, snapshot::text = :'snapshot', epoch - :epoch from webhook.cursor;
update webhook.cursor set instance = 'db.example:5432/shop', refused_instance = 'staging';
-- No function of SQL can take it: any role could.
select pg_advisory_lock(1885820776, 1);
select dispatcher_running from webhook.health;
select webhook.try_daemon_lock('leader');
select armed, disarmed_because from webhook.health;
set local client_min_messages = notice;
select webhook_arm();
set local client_min_messages = warning;
select instance, refused_instance from webhook.cursor;
select webhook.release_daemon_lock('leader'), pg_advisory_unlock(1885820776, 1);
savepoint bad;
\set ON_ERROR_STOP off
\set VERBOSITY terse
update webhook.cursor set instance = '';
rollback to bad;
update webhook.cursor set refused_instance = E'a\nb';
rollback to bad;
\set VERBOSITY default
\set ON_ERROR_STOP on
\echo -- a copy in another cluster is armed for no instance, although its original was armed
update webhook.cursor set system_identifier = 1;
select disarmed_because from webhook.health;
select webhook_arm();
select instance, refused_instance from webhook.cursor;

\echo -- a dump, loaded by COPY, is silent at once, even in its own database; restored
\echo -- subscriptions emit no event
create table the as select e.slot from webhook.event e limit 1;
update webhook.cursor set snapshot = '99900:100000:99905';
create table dumped as select * from webhook.cursor;
delete from webhook.cursor;
insert into webhook.cursor select * from dumped;
select armed from webhook.health;
delete from webhook.event;
insert into webhook.subscription (name, url, scope, created_at, created_snapshot) values ('early', 'https://example.com/1', 'all', now() - interval '1 day', '99890:99890:'), ('late', 'https://example.com/2', 'all', now() - interval '1 hour', '100002:100002:');
insert into webhook.secret (subscription_id, secret, created_at) select id, 'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=', created_at from webhook.subscription where name = 'early';
select count(*) from webhook.event;
delete from webhook.subscription where id = :sub;
delete from webhook.event;
\echo -- 99900: seen and delivered; 99905, 100001: beyond its checkpoint; 99904: queued; 100003:
\echo -- beyond it, delivered to one of two
insert into webhook.event (id, xid, slot, type, payload, created_at) select x - 94000, x, the.slot, 'order.' || case x when 99905 then 'b' else 'a' end, '{}', now() - interval '3 hours' from the, unnest(array[99900, 99904, 99905, 100001, 100003]) x;
insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
select 6003, 100003, id, now(), 1, the.slot, 1, 200, 'succeeded' from webhook.subscription, the where name = 'early';
insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, attempts, state, next_at) select id, 5904, 99904, the.slot, 1, 'waiting', now() from webhook.subscription, the where name = 'early';
\echo -- meanwhile the application of the copy emits events of its own
select webhook_emit('order.own', '{}') is not null;
select xid, count(*) from webhook.event where xid < 0 group by xid order by xid;
select count(*) from webhook.pending;
select webhook_arm();
select armed from webhook.health;
select snapshot, restored_at from webhook.cursor;
select xid, id, type from webhook.event where xid = 2 order by id;
select s.name, q.event_id, q.event_xid, q.state, q.attempts from webhook.queue q join webhook.subscription s on s.id = q.subscription_id order by q.event_id, s.name;
select event_id, event_xid from webhook.attempt;
select name, created_snapshot from webhook.subscription order by name;
select type, s.name from webhook.pending p join webhook.event e on e.id = p.sequence join webhook.subscription s on s.id = p.subscription_id order by s.name;
select state, count(*) from webhook.delivery group by state order by state;

\echo -- a role without the right gets an error
create role regress_nobody;
set local role regress_nobody;
\set ON_ERROR_STOP off
select webhook_arm();
\echo :SQLSTATE
rollback;
