-- The extension's own tables: dropped, disabled and changed parts are reported with the statement
-- that repairs them. The extension's own triggers fire with any session_replication_role.
\pset format unaligned
\pset tuples_only on
begin;
\set VERBOSITY terse
set local client_min_messages = warning;
create view problem as
    select problem, detail, repair from webhook_check() where problem like 'part of pg_webhook%' order by 1, 2;
create function repair() returns void language plpgsql as $$
declare
    statement text;
begin
    for statement in select p.repair from problem p loop
        execute statement;
    end loop;
end $$;
select count(*) from problem;
\echo -- indexes
drop index webhook.event_xid_id_idx;
drop index webhook.queue_next_at_idx;
create index queue_next_at_idx on webhook.queue (next_at);
table problem;
select repair();
select count(*) from problem;
select count(*) from pg_inherits where inhparent = 'webhook.event_xid_id_idx'::regclass;
\echo -- an index that a failed REINDEX CONCURRENTLY left invalid
update pg_index set indisvalid = false where indexrelid = 'webhook.attempt_3_event_id_subscription_id_idx'::regclass;
table problem;
update pg_index set indisvalid = true where indexrelid = 'webhook.attempt_3_event_id_subscription_id_idx'::regclass;
\echo -- triggers and event triggers
alter table webhook.subscription disable trigger tell;
alter table webhook.secret enable trigger tell;
drop trigger forget on webhook.subscription;
alter table webhook.event_7 disable trigger open_slot;
alter event trigger webhook_forget_dropped_tables enable;
alter event trigger webhook_follow_owners disable;
table problem;
select repair();
select count(*) from problem;
select tgrelid::regclass, tgname, tgenabled from pg_trigger
where tgname in ('tell', 'forget', 'open_slot') and tgrelid in ('webhook.subscription'::regclass, 'webhook.secret'::regclass, 'webhook.event_7'::regclass)
order by tgrelid::regclass::text, tgname;
\echo -- row security
alter table webhook.attempt disable row level security;
drop policy of_owner on webhook.backfill;
alter policy of_owner on webhook.subscription using (true);
table problem;
select repair();
select count(*) from problem;
\echo -- constraints
alter table webhook.queue drop constraint state_is_known;
table problem;
select repair();
select count(*) from problem;
\echo -- settings of the calling session do not matter
set local quote_all_identifiers = on;
set local intervalstyle = iso_8601;
set local search_path = webhook, public;
set local datestyle = german;
select count(*) from public.problem;
reset quote_all_identifiers;
reset search_path;
\echo -- with session_replication_role = replica the daemon is notified of every change
set local session_replication_role = replica;
select id as id, secret is not null as has_secret from webhook_subscribe('https://example.com/a', name => 'a') \gset
select webhook_pause(:id, 'a test');
select webhook_resume(:id);
select (webhook_alter(:id, url => 'https://example.com/b')).url;
select count(*) from webhook_rotate_secret(:id);
insert into webhook.receiver (subscription_id, held_because) values (:id, 'x');
select webhook_unsubscribe(:id);
reset session_replication_role;
select type, count(*) from webhook.event where type like 'webhook.subscription.%' group by 1 order by 1;
select (select count(*) from webhook.secret), (select count(*) from webhook.receiver);
create table gone (id int primary key);
select noun from webhook_watch('gone');
set local session_replication_role = replica;
drop table gone;
reset session_replication_role;
select count(*) from webhook.watch;
rollback;
