-- Backfills send existing rows as noun.snapshot events, step by step, with the same payload as
-- capture and with the rights of the requesting role.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
set local jit = off;
\pset format unaligned
\pset tuples_only on
create table orders (id bigint primary key, total numeric, secret text, note text);
insert into orders select i, i * 100, 'hush', 'n' || i from generate_series(1, 5) i;
select count(*) from webhook_watch('orders', noun => 'order', exclude => '{secret}');
select id from webhook_subscribe('https://example.com', events => '{nothing.else}', name => 'one', filter => '$.data.total != 300') \gset
create temporary view sent as
select e.type, e.table_name, e.key, e.payload, e.previous, e.truncated, e.subscription_id = (select id from webhook.subscription where name = 'one') as for_it
from webhook.event e where e.type like '%.snapshot' and e.xid = webhook.current_xid() order by e.id;
create temporary view reported as
select e.type, e.key is not null as has_key, e.payload::jsonb - 'id' - 'subscription_id' as payload, e.subscription_id from webhook.event e
where e.type like 'webhook.backfill.%' and e.xid = webhook.current_xid() order by e.id;

\echo -- steps of two in key order; rows that the filter rejects are left out and not counted
select webhook_backfill(:id, 'orders') as backfill \gset
select relation, condition, requested_by = current_user as by_me, search_path, state, after_key, rows_done, last_event_id, error from webhook.backfill where id = :backfill;
select webhook.backfill_step(:backfill, 2);
select after_key, rows_done, state from webhook.backfill where id = :backfill;
select webhook.backfill_step(:backfill, 2);
select after_key, rows_done, state, last_event_id = (select max(id) from webhook.event where type = 'order.snapshot') as last from webhook.backfill where id = :backfill;
select webhook.backfill_step(:backfill, 2);
select after_key, rows_done, state from webhook.backfill where id = :backfill;
\echo -- a step after the end does nothing
select webhook.backfill_step(:backfill, 2), webhook.backfill_step(-1, 2);
table sent;
table reported;
\echo -- the events match their own subscription with any patterns, and no other subscription
select count(*) from webhook.pending p join webhook.event e on e.id = p.sequence where e.type = 'order.snapshot' and p.subscription_id = :id;
delete from webhook.event where type like '%.snapshot' or type like 'webhook.backfill.%';

\echo -- the payload equals the payload of an insert, byte for byte
create table kinds (a text, b int, c timestamptz, d numeric(10, 2), e jsonb, f json, g text[], h bytea, i interval, "J k" float8, dropped int, l boolean, primary key (b, a));
alter table kinds drop column dropped;
alter table kinds add column m text default 'late';
select count(*) from webhook_watch('kinds', noun => 'shop.kind');
insert into kinds values ('x "y"', 1, '2026-11-22 03:38+00', 1.5, '{"b": 1, "a": [2]}', '{"b":1,  "a":2}', '{p,NULL}', '\x00ff', '1 day', 'NaN', true), (E'\\ü', -2, null, null, null, null, null, null, null, null, null);
select webhook_alter(:id, clear => '{filter}') is null;
select webhook_backfill(:id, 'kinds') as backfill \gset
select webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1);
select after_key, state, error from webhook.backfill where id = :backfill;
select s.payload, s.key, s.payload::text = c.payload::text and s.key = c.key and s.table_name = c.table_name as as_inserted
from webhook.event s join webhook.event c on c.key = s.key and c.type = 'shop.kind.created' where s.type = 'shop.kind.snapshot' order by s.id;
delete from webhook.event where type like '%.snapshot';

\echo -- a payload function, a null result, the cap
create function brief(o orders) returns json language sql stable as $$ select case when o.id <> 2 then json_build_object('no', o.id, 'at', current_user = session_user) end $$;
select count(*) from webhook_watch('orders', noun => 'order', payload => 'brief');
select webhook_backfill(:id, 'orders') as backfill \gset
select webhook.backfill_step(:backfill, 100);
select key, payload from sent;
select rows_done, after_key, state from webhook.backfill where id = :backfill;
delete from webhook.event where type like '%.snapshot';
alter function brief(orders) rename to short;
savepoint gone;
select webhook_backfill(:id, 'orders');
\echo :SQLSTATE
rollback to gone;
select count(*) from webhook_watch('orders', noun => 'order');
update orders set note = repeat('x', 2000) where id = 3;
set local webhook.payload_bytes_max = '1kB';
select webhook_backfill(:id, 'orders', 'new.id = 3') as backfill \gset
select webhook.backfill_step(:backfill, 100);
select key, payload, truncated from sent;
set local webhook.payload_over_cap = strict;
select webhook_backfill(:id, 'orders', 'id = 3') as backfill \gset
select webhook.backfill_step(:backfill, 100);
select state, error, rows_done from webhook.backfill where id = :backfill;
reset webhook.payload_bytes_max; reset webhook.payload_over_cap;
delete from webhook.event where type like '%.snapshot' or type like 'webhook.backfill.%';

\echo -- conditions: columns with or without new, subqueries, a comment; names resolve in the
\echo -- search path of the requesting role
create schema t;
create function t.wanted(n bigint) returns boolean language sql as $$ select n % 2 = 1 $$;
set local search_path = public, t;
select webhook_backfill(:id, 'orders', 'wanted(id) and new.total <= (select max(total) from orders) -- odd ones') as backfill \gset
set local search_path = public;
select webhook.backfill_step(:backfill, 2), webhook.backfill_step(:backfill, 2), webhook.backfill_step(:backfill, 2);
select key from sent;
select search_path, rows_done, state, error from webhook.backfill where id = :backfill;
select by_hand.fails(format('select webhook_backfill(%s, ''orders'', %L)', :id, condition)) from unnest(array['', 'id = 1; drop table orders', 'id = 1) or (true', 'nowhere = 1', 'id', 'old.id = 1', 'true limit 1', 'count(*) > 1', 'id = 1, 2']) condition;

\echo -- partitions and child tables
create table part (id int, k text, primary key (id, k)) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
create table part_2 (k text, id int not null, primary key (k, id));
alter table part_2 drop constraint part_2_pkey;
alter table part attach partition part_2 for values from (10) to (20);
insert into part values (11, 'b'), (1, 'z'), (1, 'a'), (10, 'y');
create table child () inherits (orders);
insert into child values (1, 1, 'x', 'of the child');
select count(*) from webhook_watch('part') a, webhook_watch('orders', noun => 'order') b;
delete from webhook.event where type like '%.snapshot';
select webhook_backfill(:id, 'part') as backfill \gset
select webhook.backfill_step(:backfill, 3), webhook.backfill_step(:backfill, 3);
select table_name, key, payload from sent;
delete from webhook.event where type like '%.snapshot';
select webhook_backfill(:id, 'orders') as backfill \gset
select webhook.backfill_step(:backfill, 100);
select count(*), count(distinct key) from sent;
\echo -- keys that do not sort like their text, and operators outside pg_catalog
create type mood as enum ('sad', 'ok', 'glad');
create function t.less(mood, mood) returns boolean language sql immutable as $$ select enum_lt($1, $2) $$;
create operator t.> (leftarg = mood, rightarg = mood, function = t.less);
create table moods (m mood, f float8, b bytea, at timestamptz, primary key (m, f, b, at));
insert into moods values ('glad', 0.1::float8 + 0.2, '\xff', '2026-11-22 03:38:00.123456+02'), ('ok', -1e300, '\x00', 'infinity'), ('ok', 'NaN', '', '-infinity'), ('sad', 10, '\x01', '2026-01-01'), ('sad', 9, '\x01', '2026-01-01');
select count(*) from webhook_watch('moods');
delete from webhook.event where type like '%.snapshot';
set local search_path = t, public;
set local datestyle = 'SQL, DMY';
select webhook_backfill(:id, 'public.moods') as backfill \gset
select webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1);
reset datestyle;
set local search_path = public;
select payload->>'m' as m, payload->>'f' as f, payload->>'b' as b from sent;
select rows_done, state, error from webhook.backfill where id = :backfill;

\echo -- rights: SELECT is enough, and no code runs with more rights
create role regress_asker; create role regress_owner; create role regress_none;
grant usage on schema public to regress_asker, regress_owner, regress_none;
select webhook_grant('regress_asker', 'subscriber'), webhook_grant('regress_none', 'subscriber'), webhook_grant('regress_owner', 'publisher');
-- owners_of_backfills.sql is about scope own.
select owner from webhook_alter(:id, owner => 'regress_asker', scope => 'all');
create table his (id int primary key, v int);
create table hidden (id int);
insert into his values (1, 10), (2, 20), (3, 30);
create function whoami(v int) returns boolean language plpgsql as $$
begin
    perform set_config('work_mem', '1MB', false);
    raise warning 'read as %, work_mem %', current_user, current_setting('work_mem');
    return true;
end
$$;
alter table his owner to regress_owner;
grant select on his to regress_asker;
select count(*) from webhook_watch('his');
create function t.as_role(role name, statement text) returns text language plpgsql as $$
declare result text;
begin
    execute format('set local role %I', role);
    begin
        execute statement into result;
    exception when others then
        result := sqlstate || ' ' || regexp_replace(sqlerrm, '(subscription|number) \d+', '\1 N');
    end;
    reset role;
    return result;
end
$$;
select t.as_role('regress_none', format('select webhook_backfill(%s, ''his'')', :id));
select t.as_role('regress_asker', format('select webhook_backfill(%s, ''his'', ''exists (select from hidden)'')', :id));
select t.as_role('regress_asker', format('select webhook_backfill(%s, ''his'', ''new.v > 10 and whoami(v)'')', :id)) as backfill \gset
delete from webhook.event where type like '%.snapshot';
set local work_mem = '7MB';
select webhook.backfill_step(:backfill, 100);
select current_user = session_user, current_setting('work_mem');
select key, payload from sent;
\echo -- row security of the requesting role; its SELECT right is revoked; the role is renamed; it is dropped, and another has its name
alter table his enable row level security;
create policy mine on his for select to regress_asker using (v <> 20);
select t.as_role('regress_asker', format('select webhook_backfill(%s, ''his'')', :id)) as backfill \gset
delete from webhook.event where type like '%.snapshot';
select webhook.backfill_step(:backfill, 100);
select key from sent;
select t.as_role('regress_asker', format('select webhook_backfill(%s, ''his'')', :id)) as backfill \gset
revoke select on his from regress_asker;
select webhook.backfill_step(:backfill, 100);
select state, error, rows_done from webhook.backfill where id = :backfill;
grant select on his to regress_asker;
select t.as_role('regress_asker', format('select webhook_backfill(%s, ''his'')', :id)) as backfill \gset
alter role regress_asker rename to regress_renamed;
select webhook.backfill_step(:backfill, 100);
select state, error from webhook.backfill where id = :backfill;
alter role regress_renamed rename to regress_asker;
create role regress_brief in role regress_asker;
select t.as_role('regress_brief', format('select webhook_backfill(%s, ''his'')', :id)) as backfill \gset
drop role regress_brief;
create role regress_brief in role regress_asker;
select webhook.backfill_step(:backfill, 100);
select state, error from webhook.backfill where id = :backfill;
drop role regress_brief;

\echo -- removed during the backfill: a column, the watch, the table; an error in the condition
delete from webhook.event where type like 'webhook.backfill.%';
create table going (id int primary key, v int);
insert into going values (1, 1), (2, 0), (3, 3);
select count(*) from webhook_watch('going');
select webhook_backfill(:id, 'going', '6 / v > 0') as backfill \gset
delete from webhook.event where type like '%.snapshot';
select webhook.backfill_step(:backfill, 1), webhook.backfill_step(:backfill, 1);
select state, error, rows_done, after_key from webhook.backfill where id = :backfill;
select webhook_backfill(:id, 'going', 'v > 0') as backfill \gset
select webhook.backfill_step(:backfill, 1);
alter table going drop column v;
select webhook.backfill_step(:backfill, 1);
select state, error, rows_done from webhook.backfill where id = :backfill;
select webhook_backfill(:id, 'going') as backfill \gset
select webhook_unwatch('going');
select webhook.backfill_step(:backfill, 1);
select state, error from webhook.backfill where id = :backfill;
select count(*) from webhook_watch('going');
select webhook_backfill(:id, 'going') as backfill \gset
drop table going;
select webhook.backfill_step(:backfill, 1);
select state, regexp_replace(error, '\d+', 'N') from webhook.backfill where id = :backfill;
select key from sent;
select type, payload->>'rows' as rows from reported where type <> 'webhook.backfill.requested';

\echo -- cancel; one backfill at a time per table and subscription; unsubscribing removes
\echo -- everything
select webhook_backfill(:id, 'orders') as backfill \gset
select regexp_replace(by_hand.fails(format('select webhook_backfill(%s, ''orders'')', :id)), 'subscription \d+', 'subscription N');
select webhook_backfill_cancel(:backfill), webhook_backfill_cancel(:backfill);
select state, error from webhook.backfill where id = :backfill;
select webhook.backfill_step(:backfill, 1);
select webhook_backfill(:id, 'orders') as backfill \gset
select webhook_unsubscribe(:id);
select count(*) from webhook.backfill where id = :backfill;
select webhook.backfill_step(:backfill, 1);

\echo -- mistakes
select id from webhook_subscribe('https://example.com') \gset
create table unkeyed (id int); create table unwatched (id int primary key); create view v as select 1 as id;
create table long (id int primary key);
select count(*) from webhook_watch('unkeyed') a, webhook_watch('long', noun => repeat('n', 195), verbs => '{"insert":"in"}') b;
select by_hand.fails(statement) from unnest(array['select webhook_backfill(-1, ''orders'')', 'select webhook_backfill(null, ''orders'')', 'select webhook_backfill(1, null)',
    format('select webhook_backfill(%s, ''unkeyed'')', :id), format('select webhook_backfill(%s, ''unwatched'')', :id), format('select webhook_backfill(%s, ''v'')', :id),
    format('select webhook_backfill(%s, ''part_1'')', :id), format('select webhook_backfill(%s, ''webhook.event'')', :id), format('select webhook_backfill(%s, 0)', :id),
    'select webhook_backfill_cancel(-1)', 'select webhook_backfill_cancel(null)', 'select webhook.backfill_step(null, 1)', 'select webhook.backfill_step(1, null)']) statement;
select regexp_replace(by_hand.fails(format('select webhook_backfill(%s, ''long'')', :id)), 'n{100,}', 'nnn');
\pset format aligned
\pset tuples_only off
rollback;

begin isolation level repeatable read;
select webhook.backfill_step(1, 1);
rollback;
