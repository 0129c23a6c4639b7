-- webhook_watch() and webhook_unwatch(): the triggers and rows that they create and remove.
\encoding UTF8
begin;
set local client_min_messages = warning;
set local search_path = public;
\pset format unaligned
\pset tuples_only on
create function pg_temp.triggers(rel regclass) returns setof text language sql as $$
    select replace(pg_get_triggerdef(oid), format('"oid":%s', tgrelid), '"oid":OID') from pg_trigger where tgrelid = rel and not tgisinternal order by tgname
$$;
create table orders (id bigint, line integer, total numeric, note text, secret text,
                     primary key (line, id) include (total));

\echo -- all defaults: the noun from the table; the key from the primary key, in key order, without
\echo -- included columns
select relation, noun, verbs, columns, exclude, on_columns, condition, payload, key_columns
from webhook_watch('orders');
select pg_temp.triggers('orders');
table webhook.event_type order by type;

\echo -- a second, narrower call: the same triggers are redefined, the others are removed, event
\echo -- types follow
select relation, noun, verbs, columns, exclude, on_columns, condition, payload, key_columns
from webhook_watch(
    rel => 'orders', noun => 'sales.order', verbs => '{"insert":"placed","update":"changed","delete":null}',
    columns => '{id,total,note}', on_columns => '{note,total}', condition => 'new.total > 100 -- dear ones only',
    key_columns => '{id}');
select pg_temp.triggers('orders');
table webhook.event_type order by type;
select count(*) from webhook.watch where relation = 'orders'::regclass;

\echo -- exclude; no key
select exclude, key_columns from webhook_watch('orders', exclude => '{secret}', key_columns => '{}');
\echo -- an empty exclude is stored as null
select exclude is null from webhook_watch('orders', exclude => '{}');

\echo -- a renamed trigger of ours does not capture twice
alter trigger webhook_insert on orders rename to zzz;
select noun from webhook_watch('orders', verbs => '{"insert":"created"}');
select tgname from pg_trigger where tgrelid = 'orders'::regclass order by 1;

\echo -- conditions on old, on both rows, on neither; names resolve as they do for the caller
create schema app;
create function app.dear(numeric) returns boolean language sql immutable return $1 > 100;
set local search_path = public, app;
select noun from webhook_watch('orders', verbs => '{"delete":"gone","truncate":"emptied"}', condition => 'dear(old.total)');
select pg_temp.triggers('orders');
select noun from webhook_watch('orders', verbs => '{"update":"moved"}', condition => 'old.note is distinct from new.note');
select noun from webhook_watch('orders', condition => 'current_user <> ''importer''');
set local search_path = public;

\echo -- a payload function: named with its schema; it cannot be dropped while a trigger uses it
create function app."Order as JSON"(orders) returns json language sql stable return row_to_json($1);
select payload from webhook_watch('orders', payload => 'app."Order as JSON"', verbs => '{"insert":"created"}');
select pg_temp.triggers('orders');
savepoint s;
drop function app."Order as JSON"(orders);
rollback to s;
create function orders_jsonb(orders) returns jsonb language sql stable return to_jsonb($1);
select payload from webhook_watch('orders', payload => 'orders_jsonb', verbs => '{"insert":"created"}');
drop function app."Order as JSON"(orders);
select webhook_unwatch('orders');
drop function orders_jsonb(orders);
select count(*) from pg_trigger where tgrelid = 'orders'::regclass;
select count(*) from webhook.watch;
select count(*) from webhook.event_type;

\echo -- quotes, capitals and accents
create schema "Ö ""x""";
create table "Ö ""x"""."Wéird ""Name""" ("Id" int primary key, "a'b" text);
select relation, columns, key_columns
from webhook_watch('"Ö ""x"""."Wéird ""Name"""', noun => 'weird', columns => array['a''b'],
                   condition => 'new."a''b" <> $q$it''s$q$', verbs => '{"insert":"created"}');
select pg_temp.triggers('"Ö ""x"""."Wéird ""Name"""');
select webhook_unwatch('"Ö ""x"""."Wéird ""Name"""');
select count(*) from pg_temp.triggers('"Ö ""x"""."Wéird ""Name"""');

\echo -- partitioned: Postgres clones the row triggers to present and future partitions
create table part (id int, at date, primary key (id, at)) partition by range (at);
create table part_1 partition of part for values from ('2026-01-01') to ('2027-01-01');
select noun, key_columns from webhook_watch('part', condition => 'new.id > 0', verbs => '{"insert":"created","truncate":"truncated"}');
create table part_2 partition of part for values from ('2027-01-01') to ('2028-01-01');
select tgrelid::regclass, tgname, tgparentid <> 0 as cloned from pg_trigger
where tgrelid in ('part'::regclass, 'part_1'::regclass, 'part_2'::regclass) order by 1, 2;
select noun from webhook_watch('part', noun => 'piece');
select tgrelid::regclass, tgname, tgparentid <> 0 as cloned from pg_trigger
where tgrelid in ('part'::regclass, 'part_1'::regclass, 'part_2'::regclass) order by 1, 2;
select webhook_unwatch('part');
select count(*) from pg_trigger where tgrelid in ('part'::regclass, 'part_1'::regclass, 'part_2'::regclass);

\echo -- inheritance: present child tables get the triggers with their own column numbers; TRUNCATE
\echo -- fires only for the parent
create table base (id int primary key, kind text);
create table gap (other text);
create table child (extra int) inherits (gap, base);
create table grandchild () inherits (child);
select noun from webhook_watch('base', columns => '{kind}');
select pg_temp.triggers('base');
select pg_temp.triggers('child');
select tgname from pg_trigger where tgrelid = 'grandchild'::regclass order by 1;
\echo -- a child of two tables is captured through only one of them
select by_hand.fails('select webhook_watch(''gap'')');
select by_hand.fails('select webhook_unwatch(''gap'')');
select count(*) from pg_temp.triggers('child');
create table late () inherits (base);
select count(*) from pg_temp.triggers('late');
select noun from webhook_watch('base', verbs => '{"insert":"created"}');
select tgrelid::regclass, tgname from pg_trigger
where tgrelid in ('base'::regclass, 'child'::regclass, 'grandchild'::regclass, 'late'::regclass) order by 1, 2;
\echo -- a child table that no longer inherits keeps its triggers until webhook_unwatch()
alter table late no inherit base;
select webhook_unwatch('late');
select webhook_unwatch('base');
select count(*) from pg_trigger
where tgrelid in ('base'::regclass, 'child'::regclass, 'grandchild'::regclass, 'late'::regclass);

\echo -- two tables may emit the same type; the type is removed with the last of them
create table a (id int);
create table b (id int);
select noun from webhook_watch('a', noun => 'thing', verbs => '{"insert":"created","delete":"deleted"}');
select noun from webhook_watch('b', noun => 'thing', verbs => '{"insert":"created"}');
select type, relation from webhook.event_type order by type;
insert into webhook.event_type (type, description) values ('invoice.paid', 'by hand');
select webhook_unwatch('a');
select type, relation, description from webhook.event_type order by type;

\echo -- dropping a table removes its watch
drop table b;
select count(*) from webhook.watch;
table webhook.event_type order by type;
create schema doomed;
create table doomed.t (id int);
select noun from webhook_watch('doomed.t');
drop schema doomed cascade;
select count(*) from webhook.watch;
\pset format aligned
\pset tuples_only off
rollback;
